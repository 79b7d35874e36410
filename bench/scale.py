"""1,000 nodes and 1,000,000 sites, as a model: traffic, storage, repair, and what breaks first beyond that.

No process is started but for measuring what one record costs here. What is assumed is in scaling/plan.py;
what it means is in docs/discussion/scale.md, whose tables and plots this writes:

    python -m bench.scale [--quick] [--seed N] [--plots docs/discussion]

The plots follow from the seed alone. Of the tables, the lines that depend on this machine say so.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from bench.scaling import churn, costs, holders, loads, mesh, report
from bench.scaling.plan import DAY, SITES_PER_NODE, Plan

_SCALES = (10, 100, 1_000, 10_000)
_HASHES = 10_000_000  # scores worked out for a sample of sites; 1,000 nodes: 7,500 sites
_SAMPLE_MOST = 3_000  # sites, of fewer nodes
_DAYS = {10: 1800.0, 100: 600.0, 1_000: 120.0, 10_000: 60.0}  # enough for some deaths each
_SLOW = DAY  # seconds after which a death is noticed, in the comparison


@dataclass(frozen=True)
class Figures:
    """All that the model says. By number of nodes: `loads`, and `risk` for deaths that are noticed as now and
    after `_SLOW`. `denser`: with ten times the sites."""

    plan: Plan
    sizes: costs.Sizes
    costs: costs.Costs
    fairness: holders.Fairness
    balance: holders.Balance
    skewed: holders.Balance
    meshes: dict[int, mesh.Mesh]
    loads: dict[int, loads.Load]
    denser: loads.Load
    risk: dict[int, tuple[churn.History, churn.History]]
    seconds: float


def model(plan: Plan, *, quick: bool = False) -> Figures:
    began = time.perf_counter()
    less = 20 if quick else 1
    hashes = _HASHES // less
    sizes, cost = costs.sizes(), costs.measure(quick)
    built = {nodes: mesh.build(nodes, plan.seed) for nodes in _SCALES}
    load, risk = {}, {}
    for nodes in _SCALES:
        here = replace(plan, nodes=nodes, sites=nodes * SITES_PER_NODE)
        load[nodes] = loads.load(here, built[nodes], sizes, cost)
        days = _DAYS[nodes] / (2 if quick else 1)
        ever = nodes * (1 + days * DAY / plan.node_life)
        most = _SAMPLE_MOST // less if nodes < 1000 else hashes
        world = churn.world(here, max(100, min(most, int(hashes / ever))), days)
        if nodes == plan.nodes:
            placed = [ranking[: plan.copies] for ranking in holders.rankings(
                holders.site_ids(plan, len(world.ranking)), holders.node_keys(plan, nodes), plan.copies
            )]  # fmt: skip
            fair = holders.fairness(placed, nodes)
        slowly = replace(here, noticed_after=_SLOW)
        risk[nodes] = (churn.Simulation(world).run(), churn.Simulation(world, slowly).run())
    denser = replace(plan, sites=10 * plan.sites)
    whole = replace(plan, sites=plan.sites // less)
    return Figures(
        plan=plan,
        sizes=sizes,
        costs=cost,
        fairness=fair,
        balance=holders.balance(whole),
        skewed=holders.balance(whole, skew=0.8),
        meshes=built,
        loads=load,
        denser=loads.load(denser, built[plan.nodes], sizes, cost),
        risk=risk,
        seconds=time.perf_counter() - began,
    )


def run(quick: bool = False) -> list[dict[str, Any]]:
    return results(model(Plan(), quick=quick))


def results(found: Figures) -> list[dict[str, Any]]:
    plan, load = found.plan, found.loads[found.plan.nodes]
    now, slow = found.risk[plan.nodes]
    name = f"model of {plan.nodes:,} nodes and {plan.sites:,} sites"
    common = {"version": "", "command": "python -m bench.scale", "goal": "", "seed": plan.seed}
    spread = found.balance.bytes
    tight = max(loads.limits(load).items(), key=lambda item: item[1])
    return [
        {
            **common,
            "name": f"{name}: the fullest node",
            "ratio": round(spread.most / spread.mean, 3),
            "peer": "an even share of the bytes",
            "least_gb": round(spread.least / 1e9, 1),
            "median_gb": round(spread.median / 1e9, 1),
            "p99_gb": round(spread.p99 / 1e9, 1),
            "most_gb": round(spread.most / 1e9, 1),
            "least_sites": int(found.balance.sites.least),
            "median_sites": int(found.balance.sites.median),
            "p99_sites": int(found.balance.sites.p99),
            "most_sites": int(found.balance.sites.most),
            "placement_even_p": round(found.fairness.p, 4),
        },
        {
            **common,
            "name": f"{name}: bytes of records a node receives",
            "ratio": round((load.gossip + load.control + load.sync) / (load.content + load.repair), 3),
            "peer": "bytes of content it receives",
            "messages_per_s": round(load.messages, 2),
            "new_records_per_s": round(load.records.all, 3),
            "gossip_bytes_per_s": round(load.gossip + load.control),
            "reconciliation_bytes_per_s": round(load.sync),
            "new_content_bytes_per_s": round(load.content),
            "repair_bytes_per_s": round(load.repair),
            "database_gb": round(load.database / 1e9, 2),
            "share_of_a_core": round(load.cpu, 5),
        },
        {
            **common,
            "name": f"{name}: sites with fewer than {plan.copies} live copies",
            "ratio": round(now.risk_share / slow.risk_share, 4) if slow.risk_share else None,
            "peer": f"the same when a death is noticed after {_SLOW / 3600:g} h",
            "per_million": round(now.risk_share * 1e6, 1),
            "repair_hours": round(fmean(now.repair_seconds) / 3600, 2),
            "lost_a_year_expected": report.lost_a_year(plan, now),
            "sampled_sites": now.sites,
        },
        {
            **common,
            "name": f"{name}: the limit most used: {tight[0]}",
            "ratio": round(tight[1], 3),
            "peer": "the limit",
            **{f"limits_{n}_nodes": report.rounded(loads.limits(found.loads[n])) for n in _SCALES},
        },
    ]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a smaller sample; for trying it out")
    parser.add_argument("--seed", type=int, default=Plan.seed)
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="where the SVG files go")
    asked = parser.parse_args()
    found = model(Plan(seed=asked.seed), quick=asked.quick)
    if asked.plots:
        for name, text in report.plots(found).items():
            (asked.plots / name).write_text(text)
    print(report.tables(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
