"""A process that makes node keys: `python -m tests.identity.key_child FOLDER COUNT`.

Makes FOLDER/0.key and so on, each after a line on standard input, or all at once without waiting where COUNT
is 0 (it ends by being killed). Says `NUMBER PEERID` for each that is there.
"""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path

from decentraspace.identity.keys import NodeKey


def main() -> None:
    os.umask(0)  # the key must be safe whatever the operator's is
    folder, count = Path(sys.argv[1]), int(sys.argv[2])
    print("ready", flush=True)
    for number in range(count) if count else itertools.count():
        if count:
            sys.stdin.readline()
        key = NodeKey.load_or_create(folder / f"{number}.key", None)
        print(number, key.peer_id, flush=True)


if __name__ == "__main__":
    main()
