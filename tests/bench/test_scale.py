"""The model of large networks: what it must keep whatever the seed, and that it follows the node's code."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from bench.__main__ import benchmarks
from bench.scaling import churn, costs, holders, loads, mesh, plan, svg
from bench.scaling.plan import DAY, Plan

from bench import scale
from decentraspace import announcing, placement, shares
from decentraspace.config import HostingConfig
from decentraspace.network import dialling, gossip
from decentraspace.network.gossip import RecordRouter

SMALL = Plan(nodes=40, sites=40_000, node_life=20 * DAY, death_share=0.5)
COSTS = costs.Costs(*[1e-4] * 6, 2000.0, 800.0, 4e-7, 3e-4, 45.0, 3e-5)
SIZES = costs.Sizes(1005, 414, 456)
QUIET = 30 * DAY  # after the last node came or went: every copy is made, every owner has deployed again


def simulated(plan: Plan, *, quiet: float = 0.0, sites: int = 300, days: float = 30.0) -> churn.Simulation:
    simulation = churn.Simulation(churn.world(plan, sites, days))
    simulation.run(days * DAY + quiet)
    return simulation


@pytest.mark.parametrize("seed", range(5))
def test_every_site_has_its_copies_again_when_all_is_quiet(seed: int) -> None:
    """And nobody else has any, but for the node that took the deploy."""
    simulation = simulated(replace(SMALL, seed=seed), quiet=QUIET)
    assert simulation.history.deaths > 5
    assert simulation.alive == simulation.seen
    for site, held in enumerate(simulation.holders):
        if not held:
            continue  # counted below
        wanted = {node for node, _ in simulation.wanted(site)}
        assert len(wanted) == SMALL.copies
        assert held == wanted | ({simulation.home[site]} - {None})
        assert held <= simulation.alive
    assert sum(not held for held in simulation.holders) == simulation.history.lost


def test_repair_gives_a_site_to_whom_the_nodes_own_code_would() -> None:
    plan = replace(SMALL, refusing=0.0)
    simulation = simulated(plan, quiet=QUIET)
    keys = holders.node_keys(plan, len(simulation.world.joins))
    alive = [keys[node] for node in simulation.alive]
    for site, name in enumerate(holders.site_ids(plan, 300)):
        held = {keys[node] for node in simulation.holders[site] - {simulation.home[site]}}
        first = placement.ranked(name, alive)[: plan.copies]
        if simulation.holders[site]:
            home = simulation.home[site]
            assert held | ({keys[home]} & set(first) if home is not None else set()) == set(first)
        assert all(placement.rank(name, alive, key) < plan.copies for key in held)


def test_a_node_that_leaves_in_good_order_puts_no_site_at_risk() -> None:
    simulation = simulated(replace(SMALL, death_share=0.0))
    assert simulation.history.goodbyes > 20
    assert simulation.history.risk_share == 0.0
    assert simulation.history.lost == 0
    assert all(len(held) >= SMALL.copies for held in simulation.holders)


def test_only_the_share_of_who_comes_or_goes_moves() -> None:
    """Each coming and each going moves R of N copies of a site, on average, and no more."""
    plan = replace(SMALL, refusing=0.0, deploy_every=1e12)
    simulation = simulated(plan, sites=1000, quiet=QUIET)
    history = simulation.history
    left = history.deaths + history.goodbyes
    expected = (left + history.joined) * 1000 * plan.copies / plan.nodes
    # The number of nodes wanders a little around its mean.
    assert 0.75 * expected < history.moved < 1.25 * expected


def test_when_one_node_leaves_nothing_else_moves() -> None:
    plan = replace(SMALL, refusing=0.0, node_life=1e15)
    world = churn.world(plan, 1000, 30.0)
    leaves = (DAY, *world.leaves[1:])
    before, after = churn.Simulation(world), churn.Simulation(replace(world, leaves=leaves))
    before.run()
    after.run(60 * DAY)
    moved = 0
    for site, held in enumerate(before.holders):
        if 0 in held:
            moved += 1
            assert held - {0} <= after.holders[site]
        else:
            assert after.holders[site] >= held
            # The other node that may have come is where its owner deploys.
            assert after.holders[site] - held <= {after.home[site]}
    assert moved > 30


@pytest.mark.parametrize("noticed", [3600.0, DAY])
def test_time_is_conserved(noticed: float) -> None:
    """Every site has some number of copies at any time; the plot's steps and the totals say the same."""
    simulation = simulated(replace(SMALL, noticed_after=noticed))
    history = simulation.history
    assert sum(history.seconds_with.values()) == pytest.approx(300 * 30 * DAY)
    below = sum(s for held, s in history.seconds_with.items() if held < SMALL.copies)
    assert history.risk_share == pytest.approx(below / (300 * 30 * DAY))
    steps = scale.report.steps_of(history, DAY)
    assert len(steps) == 30
    assert sum(value for _, value in steps) * DAY == pytest.approx(below)
    assert all(0 <= count <= 300 for _, count in history.at_risk)


def test_bytes_are_conserved() -> None:
    simulation = simulated(SMALL)
    each = (len(held) * size for held, size in zip(simulation.holders, simulation.world.size, strict=True))
    assert sum(simulation.node_bytes().values()) == pytest.approx(sum(each))


def test_the_sooner_a_death_is_noticed_the_fewer_sites_are_at_risk() -> None:
    world = churn.world(replace(SMALL, refusing=0.0), 300, 30.0)
    share = []
    for noticed in (0.0, 3600.0, 6 * 3600.0, DAY):
        history = churn.Simulation(world, replace(world.plan, noticed_after=noticed)).run()
        assert all(seconds >= noticed for seconds in history.repair_seconds)
        share.append(history.risk_share)
    assert share == sorted(share)
    assert share[0] < share[-1] / 5


def test_refusals_are_made_up_for_by_the_next_in_line() -> None:
    plan = replace(SMALL, refusing=0.3)
    simulation = simulated(plan, quiet=QUIET)
    for site, held in enumerate(simulation.holders):
        placed = {node for node, _ in simulation.wanted(site)}
        assert not any(simulation.refuses(site, node) for node in placed)
        assert not held or len(held & placed) == plan.copies
    pairs = [simulation.refuses(site, node) for site in range(300) for node in range(40)]
    assert 0.25 < sum(pairs) / len(pairs) < 0.35


def test_losses_agree_with_their_formula() -> None:
    """Where nodes die so often that a simulation sees losses. A site has three or four copies."""
    lost, least, most = 0, 0.0, 0.0
    for seed in range(3):
        plan = Plan(
            nodes=100, node_life=20 * DAY, death_share=1.0, noticed_after=2 * DAY, refusing=0.0, seed=seed
        )
        history = churn.Simulation(churn.world(plan, 1000, 40.0)).run()
        lost += history.lost
        repair = sum(history.repair_seconds) / len(history.repair_seconds)
        least += churn.loss_rate(plan, 4, repair) * 1000 * 40 * DAY
        most += churn.loss_rate(plan, 3, repair) * 1000 * 40 * DAY
    assert least < lost < most


def test_losses_at_once_are_counted_exactly() -> None:
    assert churn.lost_at_once(5, 3, 2) == pytest.approx(3 / 10)  # three pairs of ten
    assert churn.lost_at_once(5, 5, 3) == 1.0
    assert churn.lost_at_once(5, 2, 3) == 0.0


# -- balance


def test_totals_are_the_sums_over_nodes() -> None:
    plan = Plan(nodes=50, sites=20_000)
    balance = holders.balance(plan)
    sized = plan_sizes(plan)
    assert sum(balance.sites.values) == balance.held
    assert balance.total == pytest.approx(sum(sized))
    assert balance.held / plan.sites == pytest.approx(plan.mean_copies, abs=0.02)
    least, most = plan.copies * balance.total, (plan.copies + 1) * balance.total
    assert least <= sum(balance.bytes.values) <= most
    spread = balance.bytes
    assert spread.least <= spread.median <= spread.p99 <= spread.most


def plan_sizes(of: Plan) -> list[float]:
    return list(plan.sizes(of, of.sites))


def test_few_nodes_hold_what_they_can() -> None:
    balance = holders.balance(Plan(nodes=2, sites=1000))
    assert balance.held == 2000
    assert balance.sites.values == (1000.0, 1000.0)


def test_sizes_have_the_mean_that_loads_reckon_with() -> None:
    of = Plan()
    drawn = plan.sizes(of, 200_000)
    assert max(drawn) <= of.most_bytes
    assert sum(drawn) / len(drawn) == pytest.approx(loads.mean_bytes(of), rel=0.03)
    below = sum(size < of.median_bytes for size in drawn) / len(drawn)
    assert below == pytest.approx(0.5 * (1 - of.tail_share), abs=0.01)


def test_the_real_placement_is_fair_and_an_unfair_one_is_found_out() -> None:
    keys = holders.node_keys(SMALL, 40)
    placed = [list(r) for r in holders.rankings(holders.site_ids(SMALL, 2000), keys, 3)]
    assert holders.fairness(placed, 40).p > 0.001
    biased = [[0, *r[1:]] if i % 8 == 0 and 0 not in r else r for i, r in enumerate(placed)]
    assert holders.fairness(biased, 40).p < 1e-6


# -- the network


def test_the_mesh_is_that_of_the_nodes_router() -> None:
    router = RecordRouter()
    assert (router.degree, router.degree_low, router.degree_high) == (
        plan.DEGREE,
        plan.DEGREE_LOW,
        plan.DEGREE_HIGH,
    )


def test_what_is_private_in_the_node_is_as_the_model_has_it() -> None:
    assert announcing._MOST == plan.ANNOUNCE_EVERY
    assert dialling._WANTED == plan.PEERS_WANTED
    assert gossip._IDS_MOST == plan.IDS_A_REQUEST
    assert gossip._SEEN_MOST == plan.SEEN_MOST
    assert shares._STEP * HostingConfig.check_every == plan.TAKE_OVER_EVERY


@pytest.mark.parametrize("nodes", [3, 30, 500])
def test_the_mesh_keeps_its_bounds_and_reaches_everybody(nodes: int) -> None:
    built = mesh.build(nodes, seed=1)
    assert built.reached == 1.0
    assert min(plan.DEGREE_LOW, nodes - 1) <= built.degree <= plan.DEGREE_HIGH
    assert built.degree <= built.peers <= min(nodes - 1, plan.PEERS_MOST)
    assert built == mesh.build(nodes, seed=1)


def test_what_all_nodes_send_is_what_all_receive() -> None:
    """A new record crosses each link of the mesh that it did not come by: counted from the sending side."""
    here = Plan(nodes=500, sites=500_000)
    built = mesh.build(500, 1)
    load = loads.load(here, built, SIZES, COSTS)
    sent = load.records.all * (built.peers + (here.nodes - 1) * (built.degree - 1))
    assert load.messages * here.nodes == pytest.approx(sent)


def test_loads_follow_what_causes_them() -> None:
    built = mesh.build(1000, 1)
    base = loads.load(Plan(), built, SIZES, COSTS)
    busier = loads.load(replace(Plan(), deploy_every=3 * DAY), built, SIZES, COSTS)
    steady = loads.load(replace(Plan(), node_life=1e15), built, SIZES, COSTS)
    assert busier.records.manifests == pytest.approx(10 * base.records.manifests)
    assert busier.content == pytest.approx(10 * base.content)
    assert steady.repair < 1e-6 * base.repair
    assert steady.records.receipts < base.records.receipts
    assert base.records.all == pytest.approx(
        base.records.manifests + base.records.receipts + base.records.announcements
    )
    assert loads.limits(base).keys() == loads.limits(busier).keys()


def test_repair_traffic_is_what_the_simulation_moves() -> None:
    here = replace(SMALL, refusing=0.0, deploy_every=30 * DAY)
    simulation = simulated(here, sites=2000, days=60.0)
    history = simulation.history
    load = loads.load(here, mesh.build(40, 1), SIZES, COSTS)
    moved = history.moved_bytes * here.sites / history.sites
    assert moved / (60 * DAY) / here.nodes == pytest.approx(load.repair, rel=0.35)


def test_costs_are_those_of_real_records() -> None:
    found = costs.measure(quick=True)
    assert 0 < found.verify_receipt < found.verify_site
    assert found.add_site > found.verify_site
    size = costs.sizes()
    assert size == costs.sizes()
    assert size.site > size.receipt > 300
    assert found.site_disk > size.site
    assert found.receipt_disk > size.receipt


# -- the report


@pytest.fixture(scope="module")
def found() -> scale.Figures:
    return scale.model(Plan(), quick=True)


def test_it_is_a_benchmark_like_the_others(found: scale.Figures) -> None:
    assert benchmarks()["scale"] is scale.run
    for result in scale.results(found):
        assert {"name", "ratio", "goal", "peer", "version", "command"} <= result.keys()


def test_plots_are_images_that_follow_from_the_seed(found: scale.Figures) -> None:
    drawn = scale.report.plots(found)
    again = scale.report.plots(scale.model(Plan(), quick=True))
    other = scale.report.plots(scale.model(Plan(seed=2), quick=True))
    assert drawn == again
    assert drawn["scale-risk.svg"] != other["scale-risk.svg"]
    for text in drawn.values():
        assert ElementTree.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
        assert "nan" not in text
        assert "inf" not in text.replace("infer", "")


def test_the_page_shows_every_plot(found: scale.Figures) -> None:
    folder = Path(scale.__file__).parents[1] / "docs" / "discussion"
    shown = re.findall(r"\]\((scale-[a-z]+\.svg)\)", (folder / "scale.md").read_text())
    assert sorted(shown) == sorted(scale.report.plots(found))
    assert all((folder / name).exists() for name in shown)


def test_axes_end_beyond_what_they_show() -> None:
    for most in (0.3, 1.0, 69.0, 12_345.0):
        axis = svg.linear("", most)
        assert axis.most >= most
        assert axis.part(0) == 0.0
        assert axis.part(axis.most) == 1.0
    axis = svg.powers("", 3.0, 4000.0)
    assert (axis.least, axis.most) == (1.0, 10_000.0)
    assert axis.part(100.0) == pytest.approx(0.5)
