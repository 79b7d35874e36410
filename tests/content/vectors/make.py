"""Writes the vectors beside this file with a real Kubo: `python -m tests.content.vectors.make`.

unixfs.json: the CID of each recipe of tests/content/recipes.py.
foreign.json: small CARs of content laid out in other ways than ours, with what they must read as.
"""

from __future__ import annotations

import base64
import json
import tempfile
from pathlib import Path

from tests.content.kubo import ADD, Kubo
from tests.content.recipes import RECIPES, File, Tree, to_disk

HERE = Path(__file__).parent
_SITE: Tree = {"a": {"b.txt": File(500, "b")}, "c": File(40, "c")}

# name: (options of `ipfs add`, what is added)
FOREIGN: dict[str, tuple[list[str], Tree]] = {
    "CIDv0 and dag-pb leaves": (["--cid-version=0", "--chunker=size-100"], File(1000, "v0")),
    "dag-pb leaves": (["--cid-version=1", "--raw-leaves=false", "--chunker=size-64"], File(777, "pb")),
    "one dag-pb leaf": (["--cid-version=1", "--raw-leaves=false"], File(50, "one")),
    "trickle": (["--cid-version=1", "--trickle", "--chunker=size-10"], File(3000, "trickle")),
    "trickle, dag-pb leaves": (["--trickle", "--raw-leaves=false", "--chunker=size-50"], File(2000, "t")),
    "inlined": (["--cid-version=1", "--inline", "--inline-limit=64"], _SITE),
    "folder, CIDv0": (["--cid-version=0"], _SITE),
    "uneven chunks": (["--cid-version=1", "--chunker=rabin-128-256-512"], File(9000, "rabin")),
    "blake2b": (["--cid-version=1", "--hash=blake2b-256"], _SITE),
    "sha2-512": (["--cid-version=1", "--hash=sha2-512"], _SITE),
    "three links a node": (["--cid-version=1", "--max-file-links=3", "--chunker=size-20"], File(999, "3")),
    "narrow shards": (
        ["--cid-version=1", "--max-directory-links=2", "--max-hamt-fanout=16"],
        {f"file {n}": File(n, str(n)) for n in range(40)},
    ),
}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        kubo = Kubo(here / "repo")
        found = {}
        for number, (name, tree) in enumerate(RECIPES.items()):
            path = here / str(number)
            to_disk(tree, path)
            found[name] = kubo.cid(path)
        command = f"Kubo {kubo.version}: ipfs {' '.join(ADD)} --only-hash"
        _write("unixfs.json", {"made_with": command, "cids": found})
        foreign = {}
        for number, (name, (options, tree)) in enumerate(FOREIGN.items()):
            path = here / f"foreign{number}"
            to_disk(tree, path)
            cid = kubo.add(path, *options)
            car = kubo.run("dag", "export", "--progress=false", cid)
            foreign[name] = {"options": options, "cid": cid, "car": base64.b64encode(car).decode()}
        _write("foreign.json", {"made_with": f"Kubo {kubo.version}: ipfs add, dag export", "cars": foreign})


def _write(name: str, value: object) -> None:
    (HERE / name).write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
