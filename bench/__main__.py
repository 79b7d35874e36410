"""Run all benchmarks, or those named; print a table, and write bench/results.json."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pkgutil
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bench
from bench.machine import describe, load

RESULTS = Path(__file__).parent / "results.json"
Result = dict[str, Any]
Run = Callable[..., list[Result]]


def benchmarks(*, long: bool = True) -> dict[str, Run]:
    """Name -> run, of every module of this package that has one; `long`: also of those that take an hour."""
    found: dict[str, Run] = {}
    for name in sorted(m.name for m in pkgutil.iter_modules(bench.__path__) if not m.name.startswith("_")):
        module = importlib.import_module(f"bench.{name}")
        run = getattr(module, "run", None)
        if callable(run) and (long or not getattr(module, "LONG", False)):
            found[name] = run
    return found


def held(result: Result) -> bool | None:
    """Whether the ratio is what the goal says; None when there is no goal to compare with."""
    relation, _, bound = str(result.get("goal") or "").replace("≤", "<=").replace("≥", ">=").partition("=")
    try:
        limit, ratio = float(bound), float(result["ratio"])
    except (ValueError, KeyError, TypeError):
        return None
    return {"<": ratio <= limit, ">": ratio >= limit}.get(relation)


def table(results: list[Result]) -> str:
    rows = [("", "ratio", "goal", "", "peer")]
    for result in results:
        verdict = {True: "holds", False: "MISSED", None: "-"}[held(result)]
        ratio = result.get("ratio")
        peer = f"{result.get('peer', '')} {result.get('version', '')}".strip()
        rows.append(
            (
                str(result.get("name", "?")),
                f"{ratio:.2f}" if isinstance(ratio, int | float) else "-",
                str(result.get("goal", "-")),
                verdict,
                peer,
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def kept(names: list[str], path: Path) -> list[Result]:
    """What earlier runs said of benchmarks that are not run now."""
    try:
        earlier = json.loads(path.read_text())["results"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [r for r in earlier if isinstance(r, dict) and r.get("module") not in names]


def write(results: list[Result], path: Path) -> None:
    """Whole or not at all."""
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps({"machine": describe(), "results": results}, indent=2) + "\n")
    fresh.rename(path)


def main() -> int:
    known = benchmarks()
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(known)} (default: all but long ones)"
    )
    parser.add_argument("--quick", action="store_true", help="fewer and smaller runs; for trying it out")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the figures go")
    asked = parser.parse_args()
    if unknown := set(asked.names) - set(known):
        parser.error(f"no benchmark {sorted(unknown)[0]!r}; there are {', '.join(known)}")
    names = asked.names or list(benchmarks(long=asked.quick))
    taken: list[Result] = []
    failures = 0
    done: list[str] = []
    for name in names:
        print(f"{name} …", file=sys.stderr, flush=True)
        common = {"module": name, "taken": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        common |= {"quick": asked.quick, "load_before": load()}
        try:
            results = known[name](quick=asked.quick)
        except bench.Missing as reason:
            print(f"{name}: skipped: {reason}", file=sys.stderr)
            failures += os.environ.get("DECENTRASPACE_REQUIRE_REAL") == "1"
            continue
        except Exception:  # noqa: BLE001 - one broken benchmark must not lose the figures of the others
            traceback.print_exc()
            failures += 1
            continue
        done.append(name)
        taken += [{**result, **common} for result in results]
        write([*kept(done, asked.results), *taken], asked.results)
    print(table(taken))
    missed = [r for r in taken if held(r) is False]
    print(f"{len(taken)} figures, {len(missed)} beyond their goal; written to {asked.results}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
