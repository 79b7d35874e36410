"""The plugin's file where the disk takes nothing for a while."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path


def test_a_full_disk_is_named_and_once_it_has_room_it_is_written_again(tmp_path: Path) -> None:
    """In a process of its own, whose files may not grow for a moment."""
    code = """
        import resource, signal, sqlite3, sys
        from pathlib import Path
        from decentraspace_billing_polygon.store import Store

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        store = Store(Path(sys.argv[1]))
        store.put_fact("before", "kept")
        grown = Path(sys.argv[1] + "-wal").stat().st_size
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (grown + 1024, hard))
        try:
            with store.write() as db:  # more than SQLite keeps in memory
                for number in range(100):
                    db.execute("INSERT INTO facts VALUES (?, ?)", (f"meanwhile {number}", "x" * 50_000))
            sys.exit("nothing failed")
        except sqlite3.Error as error:
            print(error)
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        store.put_fact("after", "kept, too")
        print(store.fact("before"), store.fact("meanwhile 0"), store.fact("after"), sep="|")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "polygon.sqlite")],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    said, kept = done.stdout.splitlines()
    assert "disk" in said
    assert kept == "kept||kept, too"
