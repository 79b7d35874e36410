"""The reference names every metric of a node that has all its parts, with its type and labels, and no other.

After a change, paste what a failure prints into the page.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.core import Metric

from decentraspace.api.metrics import Metrics
from decentraspace.app import Node
from decentraspace.config import load
from decentraspace.plugins.manager import HookResult

PAGE = Path(__file__).resolve().parents[2] / "docs/reference/metrics.md"


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Metric]]:
    """Of a node as it is assembled, which need not run."""
    folder = tmp_path_factory.mktemp("metrics")
    overrides = {"node": {"data_dir": str(folder)}, "network": {"dht": "wan"}}
    with Node(load(environ={}, overrides=overrides)) as node:
        metrics = Metrics(node)
        metrics.observe("/healthz", "GET", 200, 0.1, 1)
        state = {"service": "s", "reachable": True, "pinned": 1, "queued": 1, "failed": 1}
        metrics.storage = [HookResult("plugin", state)]
        yield list(metrics.registry.collect())


def row(family: Metric) -> str:
    """A metric's line in the reference: name as it is on the page of metrics, type, labels, meaning."""
    name = family.name + ("_total" if family.type == "counter" else "")
    labels = {label for sample in family.samples for label in sample.labels} - {"le"}
    labels |= set(getattr(family, "_labelnames", ()))  # of those that have no samples yet
    shown = ", ".join(f"`{label}`" for label in sorted(labels)) or "–"
    return f"| `{name}` | {family.type} | {shown} | {family.documentation} |"


def test_each_metric_is_documented(families: list[Metric]) -> None:
    lines = PAGE.read_text().splitlines()
    missing = [row(family) for family in families if row(family) not in lines]
    assert not missing, "docs/reference/metrics.md lacks, or differs from:\n" + "\n".join(missing)


def test_no_metric_is_invented(families: list[Metric]) -> None:
    named = re.findall(r"^\| `(decentraspace_\w+)` \|", PAGE.read_text(), re.MULTILINE)
    assert sorted(named) == sorted(row(family).split("`")[1] for family in families)


def test_each_says_what_it_means(families: list[Metric]) -> None:
    for family in families:
        assert family.documentation.endswith("."), family.name
        assert " " in family.documentation, family.name
