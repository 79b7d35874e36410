"""The suite as a program: where it is, its fixtures, its report. It needs Go when it runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

_PROXY = "-proxy-gateway"  # a gateway that is an HTTP proxy for all hosts: ours is none
_DEADLINE = 330.0  # seconds


class Fixtures(NamedTuple):
    """`dnslinks`: host name -> /ipfs/… or /ipns/… path; `records`: files of IPNS records, named by their key."""

    car: Path
    records: list[Path]
    dnslinks: dict[str, str]


class Outcome(NamedTuple):
    """One case. `said`: what it and its checks printed."""

    name: str
    passed: bool
    said: str


def find() -> Path | None:
    """The program that GATEWAY_CONFORMANCE names, or of the PATH; None without it or without Go."""
    found = os.environ.get("GATEWAY_CONFORMANCE") or shutil.which("gateway-conformance")
    return Path(found) if found and shutil.which("go") else None


def extract(tool: Path, folder: Path) -> Fixtures:
    folder.mkdir(parents=True)
    command = [tool, "extract-fixtures", "--merged", "--directory", folder]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=_DEADLINE)
    if done.returncode:
        raise SystemExit(f"The suite gives no fixtures: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    links = json.loads((folder / "dnslinks.json").read_text())["domains"]
    return Fixtures(folder / "fixtures.car", sorted(folder.glob("*.ipns-record")), links)


def run(tool: Path, port: int, report: Path, only: str) -> list[Outcome]:
    """`port`: of the gateway on 127.0.0.1. `only`: a pattern for Go's -run, or empty for all."""
    command: list[str | Path] = [
        tool, "test", "--gateway-url", f"http://127.0.0.1:{port}", "--subdomain-url", f"http://localhost:{port}",
        "--json", report, "--specs", _PROXY,
    ]  # fmt: skip
    # Its own exit code says only that something failed. Without -count, Go would repeat an old result.
    command += ["--", "-count=1", *(["-run", only] if only else [])]
    done = subprocess.run(command, check=False, capture_output=True, timeout=_DEADLINE)
    outcomes = read(report.read_text())
    if not outcomes:
        raise SystemExit(
            f"The suite ran no test: {done.stdout.decode()[-2000:]}{done.stderr.decode()[-2000:]}"
        )
    return outcomes


def read(report: str) -> list[Outcome]:
    """The cases of a report (lines as `go tool test2json` writes them), in its order: a test function's named
    cases, or the function where it has none. What was skipped is no case."""
    said: dict[str, list[str]] = {}
    results: dict[str, bool] = {}
    for line in report.splitlines():
        event = json.loads(line)
        name = event.get("Test")
        if not name:
            continue
        match event["Action"]:
            case "output":  # of a check of the case, too
                said.setdefault(_case(name), []).append(str(event.get("Output", "")))
            case "pass" | "fail" if name == _case(name):
                results[name] = event["Action"] == "pass"
    holders = {name.partition("/")[0] for name in results if "/" in name}
    return [
        Outcome(name, passed, "".join(said.get(name, [])))
        for name, passed in results.items()
        if name not in holders
    ]


def _case(test: str) -> str:
    return "/".join(test.split("/", 2)[:2])
