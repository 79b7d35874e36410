#!/usr/bin/env python3
"""Put the documentation that a pinned package carries into `.demo/site`: the real site of `make demo`."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / ".demo" / "site"
DOCS = "pygame/docs/generated/"


def main() -> int:
    if (SITE / "index.html").exists():
        return 0
    SITE.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=SITE.parent) as folder:
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
        ]
        result = subprocess.run(
            [
                *command,
                "--only-binary=:all:",
                "--require-hashes",
                "-r",
                "requirements/demo.txt",
                "-d",
                folder,
            ],
            cwd=ROOT,
            check=False,
        )
        if result.returncode:
            print("The demo's site could not be downloaded; pip's reason is above.", file=sys.stderr)
            return 2
        [wheel] = Path(folder).glob("*.whl")
        unpacked = Path(folder, "site")
        with zipfile.ZipFile(wheel) as archive:
            for info in archive.infolist():
                if info.is_dir() or not info.filename.startswith(DOCS):
                    continue
                target = unpacked / PurePosixPath(info.filename).relative_to(DOCS)
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(info) as source, target.open("wb") as sink:
                    shutil.copyfileobj(source, sink)
        shutil.rmtree(SITE, ignore_errors=True)
        unpacked.rename(SITE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
