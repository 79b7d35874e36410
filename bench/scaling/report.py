"""The model's figures as Markdown tables and plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import fmean, pstdev
from typing import TYPE_CHECKING

from bench.scaling import churn, loads, svg
from bench.scaling.plan import DAY, Plan

if TYPE_CHECKING:
    from bench.scale import Figures

_HOURS = 6  # of a step of the plot over time
_YEAR = 365 * DAY


def rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: float(f"{value:.3g}") for name, value in values.items()}


def lost_a_year(plan: Plan, history: churn.History) -> float:
    """Sites of the whole network, by the rate of losses with the copies and repairs of a history."""
    repair = fmean(history.repair_seconds) if history.repair_seconds else plan.noticed_after
    total = sum(history.seconds_with.values())
    beside = sum(s for held, s in history.seconds_with.items() if held > plan.copies) / total
    rate = beside * churn.loss_rate(plan, plan.copies + 1, repair)
    rate += (1 - beside) * churn.loss_rate(plan, plan.copies, repair)
    return float(f"{rate * plan.sites * _YEAR:.2g}")


def tables(found: Figures) -> str:
    return "\n\n".join((_costs(found), _balance(found), _per_node(found), _risk(found), _at_once(found),
                        _limits(found), f"{found.seconds:.0f} s, seed {found.plan.seed}"))  # fmt: skip


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _size(value: float) -> str:
    for limit, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= limit:
            return f"{value / limit:.3g} {unit}"
    return f"{value:.3g} B"


def _time(value: float) -> str:
    for limit, unit in ((DAY, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms")):
        if value >= limit:
            return f"{value / limit:.3g} {unit}"
    return f"{value * 1e6:.3g} µs"


def _costs(found: Figures) -> str:
    cost, size = found.costs, found.sizes
    rows = [
        ["verify a manifest, its delegation new", _time(cost.verify_site)],
        ["verify a manifest, its delegation seen before", _time(cost.verify_again)],
        ["verify a receipt", _time(cost.verify_receipt)],
        ["verify and store a manifest", _time(cost.add_site)],
        ["verify and store a receipt", _time(cost.add_receipt)],
        ["the same on the clock, with the disk's sync", _time(cost.add_clock)],
        ["a manifest on the wire · on disk", f"{size.site} B · {_size(cost.site_disk)}"],
        ["a receipt on the wire · on disk", f"{size.receipt} B · {_size(cost.receipt_disk)}"],
        ["a record's name in memory", _size(cost.name_memory)],
        ["one node's score for one site", _time(cost.hash)],
        ["ask who took a site and who holds it", _time(cost.look)],
        ["read one announcement of the list of nodes", _time(cost.read_node)],
    ]
    return _table(["measured on this machine", "each"], rows)


def _balance(found: Figures) -> str:
    rows = []
    for name, balance in (("deploys taken evenly", found.balance), ("by a Zipf law, 0.8", found.skewed)):
        for what, spread, shown in (("sites", balance.sites, "{:,.0f}"), ("GB", balance.bytes, "{:.1f}")):
            scale = 1 if what == "sites" else 1e9
            values = (spread.least, spread.median, spread.p99, spread.most, spread.most / spread.mean * scale)
            rows.append(
                [
                    f"{what}, {name}",
                    *[shown.format(v / scale) for v in values[:4]],
                    f"{values[4] / scale:.2f}",
                ]
            )
    fair = found.fairness
    note = (
        f"Chi-squared of the real placement of {fair.sites:,} sites: {fair.chi_squared:.0f}, p = {fair.p:.2f}"
    )
    return (
        _table(["newest versions on a node", "least", "median", "p99", "most", "most : mean"], rows)
        + "\n"
        + note
    )


def _per_node(found: Figures) -> str:
    all_of = found.loads.values()
    rows = [
        ["peers · of them in the mesh", *[f"{m.peers:.1f} · {m.degree:.1f}" for m in found.meshes.values()]],
        ["hops to the farthest", *[str(m.hops) for m in found.meshes.values()]],
        ["new records a second, network", *[f"{v.records.all:.3g}" for v in all_of]],
        ["messages a second", *[f"{v.messages:.3g}" for v in all_of]],
        ["gossip a second", *[_size(v.gossip + v.control) for v in all_of]],
        ["reconciliation a second", *[_size(v.sync) for v in all_of]],
        ["new content a second", *[_size(v.content) for v in all_of]],
        ["repair a second", *[_size(v.repair) for v in all_of]],
        ["one outage beyond 30 min per node a month", *[_size(v.outages) for v in all_of]],
        ["content held", *[_size(v.stored) for v in all_of]],
        ["records after a year", *[f"{v.kept / 1e6:,.2f} M" for v in all_of]],
        ["their database (disk measured)", *[_size(v.database) for v in all_of]],
        ["getting all records when joining (measured)", *[_time(v.joining) for v in all_of]],
        ["getting one's sites when joining", *[_time(v.filling) for v in all_of]],
    ]
    return _table(["of one node", *[f"{n:,} nodes" for n in found.loads]], rows)


def _risk(found: Figures) -> str:
    rows = []
    for nodes, pair in found.risk.items():
        plan = Plan(nodes=nodes, sites=nodes * found.plan.sites // found.plan.nodes)
        for name, history in zip(("30 min, as now", "24 h"), pair, strict=True):
            share, error = history.risk_share * 1e6, _error(history) * 1e6
            repair = fmean(history.repair_seconds) if history.repair_seconds else 0.0
            worst = max((count for _, count in history.at_risk), default=0)
            rows.append([f"{nodes:,}, noticed after {name}", f"{history.sites:,}", f"{history.deaths}",
                         f"{share:.0f} ± {error:.0f}", f"{worst / history.sites * 1e6:.0f}", _time(repair),
                         str(history.lost), f"{lost_a_year(plan, history):.2g}"])  # fmt: skip
    head = ["nodes", "sampled sites", "deaths", "at risk, per million", "worst moment", "death to repair",
            "lost in the sample", "expected lost a year, all sites"]  # fmt: skip
    return _table(head, rows)


def _error(history: churn.History) -> float:
    """95 %, of the share at risk: over ten stretches of time, which hardly depend on each other."""
    parts = 10
    steps = steps_of(history, history.days * DAY / parts / 20)
    each = len(steps) // parts
    means = [fmean(value for _, value in steps[i * each : (i + 1) * each]) for i in range(parts)]
    return 2.26 * pstdev(means) / (parts - 1) ** 0.5 / history.sites  # Student's t, 9 degrees of freedom


def steps_of(history: churn.History, every: float) -> list[tuple[float, float]]:
    """(time, mean number of sites at risk since the time before)."""
    end = history.days * DAY
    result: list[tuple[float, float]] = []
    changes = [(0.0, 0), *history.at_risk, (end, 0)]
    at, step_end, total = 0.0, every, 0.0
    for (_, value), (until, _) in pairwise(changes):
        while at < until and step_end <= end * (1 + 1e-9):
            stop = min(until, step_end)
            total += value * (stop - at)
            at = stop
            if at >= step_end:
                result.append((step_end, total / every))
                step_end, total = step_end + every, 0.0
    return result


def _at_once(found: Figures) -> str:
    plan = found.plan
    rows = []
    for share in (0.01, 0.05, 0.1, 0.2):
        failed = int(share * plan.nodes)
        three, four = (churn.lost_at_once(plan.nodes, failed, plan.copies + i) * plan.sites for i in (0, 1))
        rows.append([f"{share:.0%}", f"{three:,.3g}", f"{four:,.3g}"])
    return _table(["of the nodes, for good and at once", "sites lost that had 3 copies", "that had 4"], rows)


def _limits(found: Figures) -> str:
    limits = {nodes: loads.limits(load) for nodes, load in found.loads.items()}
    limits[0] = loads.limits(found.denser)
    rows = []
    for name in next(iter(limits.values())):
        values = [limits[nodes][name] for nodes in limits]
        rows.append([name, *[f"**{v:.3g}**" if v > 1 else f"{v:.2g}" for v in values]])
    return _table(
        ["used, of the limit", *[f"{n:,} nodes" for n in found.loads], "1,000, 10 × the sites"], rows
    )


def plots(found: Figures) -> dict[str, str]:
    """File name -> SVG. From the seed alone: nothing that was measured as time is drawn."""
    return {
        "scale-balance.svg": _bars(found),
        "scale-risk.svg": _over_time(found),
        "scale-traffic.svg": _traffic(found),
    }


def _bars(found: Figures) -> str:
    values = [v / 1e9 for v in found.balance.bytes.values]
    width = max(values) / 40
    counts = [0] * 41
    for value in values:
        counts[int(value / width)] += 1
    bars = [(i * width, (i + 1) * width, float(count)) for i, count in enumerate(counts) if count]
    x = svg.linear("GB of newest versions on a node", max(values))
    title = f"How full {found.plan.nodes:,} nodes are"
    return svg.bars(title, x, svg.linear("nodes", max(counts)), bars)


def _over_time(found: Figures) -> str:
    drawn = []
    names = ("a death is noticed after 30 minutes (as now)", "after 24 hours")
    pair = found.risk[found.plan.nodes]
    for name, history in zip(names, pair, strict=True):
        steps = steps_of(history, _HOURS * 3600.0)
        drawn.append(svg.Line(name, [(t / DAY, v / history.sites * 1e6) for t, v in steps], steps=True))
    most = max(value for line in drawn for _, value in line.points)
    days = pair[0].days
    x = svg.Axis("days", 0.0, days, [(days * i / 6, f"{days * i / 6:g}") for i in range(7)])
    title = f"Sites with fewer than {found.plan.copies} live copies"
    return svg.lines(title, x, svg.linear("per million sites", most * 1.25), drawn)


def _traffic(found: Figures) -> str:
    kinds = {
        "gossip": lambda load: load.gossip + load.control,
        "repair": lambda load: load.repair,
        "new content": lambda load: load.content,
        "reconciliation": lambda load: load.sync,
    }
    drawn = [svg.Line(name, [(n, of(load)) for n, load in found.loads.items()]) for name, of in kinds.items()]
    values = [value for line in drawn for _, value in line.points]
    x = svg.powers("nodes, with 1,000 sites each", min(found.loads), max(found.loads))
    y = svg.powers("bytes a second", min(values), max(values))
    return svg.lines("What one node receives", x, y, drawn)
