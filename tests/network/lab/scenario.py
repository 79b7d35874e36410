"""One run of the laboratory: nodes start, faults come and go while sites are deployed, everything heals."""

from __future__ import annotations

import random
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.network.lab import check, plan
from tests.network.lab.nodes import Failed, LabNode, until
from tests.network.lab.owner import Owner
from tests.network.lab.tunnels import CALM, Namespace, NoNamespaces, Switch, Weather

REPLICAS = 3
_HEALED_WITHIN = 75.0  # seconds from the end of the last fault until all is as it should be
_AT_ONCE = 10.0  # for receipts that are under way
_SITES_MOST = 8


@dataclass
class Report:
    """What a run was, and what it found wrong."""

    seed: int
    nodes: int
    network: str
    faults: int = 0
    sites: int = 0
    acknowledged: int = 0
    unclear: int = 0
    refused: int = 0
    healed: float = 0.0
    seconds: float = 0.0
    left: float | None = None  # seconds until one that left could be stopped
    lost: int | None = None
    disk_only: bool = False
    failures: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        how = "came back without its blocks" if self.disk_only else "never came back"
        gone = f", node{self.lost} {how}" if self.lost is not None else ""
        left = f", one left within {self.left:.1f} s" if self.left is not None else ""
        done = (
            f"healed in {self.healed:.1f} s{left}"
            if not self.failures
            else "FAILED: " + "; ".join(self.failures)
        )
        return (
            f"seed {self.seed}: {self.nodes} nodes ({self.network}), {self.faults} faults{gone}, {self.sites} sites, "
            f"{self.acknowledged} versions acknowledged, {self.refused} refused, {self.unclear} unclear, "
            f"{self.seconds:.0f} s: {done}"
        )


class Laboratory:
    """Nodes in `folder`, and the network between them. A context: everything it started ends with it."""

    def __init__(
        self, folder: Path, nodes: int, seed: int, replicas: int = REPLICAS, *, loopback: bool = False
    ) -> None:
        self._stack = ExitStack()
        self.switch: Switch | None = None
        namespaces: list[Namespace | None] = [None] * nodes
        try:
            if loopback:
                raise NoNamespaces("as asked for")
            made: list[Namespace] = []
            for number in range(nodes):
                made.append(Namespace(number))
                self._stack.callback(made[-1].close)
            self.switch = Switch(made, seed)
            self._stack.callback(self.switch.close)
            namespaces = list(made)
            self.network = "namespaces and tunnels"
        except NoNamespaces as error:
            self.network = f"loopback: kills, pauses and clocks only, {error}"
        self.nodes = [LabNode(n, folder / f"node{n}", namespaces[n], replicas) for n in range(nodes)]

    def __enter__(self) -> Laboratory:
        return self

    def __exit__(self, *_: object) -> None:
        with self._stack:
            for node in self.nodes:
                node.stop()

    def weather(self, nodes: tuple[int, ...], weather: Weather, *, one_way: bool = False) -> None:
        """On all links between `nodes` and the rest."""
        if self.switch is None:
            return
        for inside in nodes:
            for outside in set(range(len(self.nodes))) - set(nodes):
                self.switch.set(inside, outside, weather)
                if not one_way:
                    self.switch.set(outside, inside, weather)


def run(seed: int, nodes: int, seconds: float, folder: Path, *, loopback: bool = False) -> Report:
    began = time.monotonic()
    with Laboratory(folder, nodes, seed, loopback=loopback) as lab:
        planned = plan.make(seed, nodes, seconds, network=lab.switch is not None, replicas=REPLICAS)
        report = Report(
            seed, nodes, lab.network, len(planned.faults), lost=planned.lost, disk_only=planned.disk_only
        )
        owner = Owner(random.Random(f"owner {seed}"))
        try:
            _start(lab, planned, owner)
            _live(lab, planned, owner, seed)
            live = _heal(lab)
            report.healed = check.all_is_well(live, owner.sites, REPLICAS, _HEALED_WITHIN)
            if planned.leaves is not None and not lab.nodes[planned.leaves].gone:
                report.left = _leave(lab, lab.nodes[planned.leaves], owner)
        except Failed as error:
            report.failures.append(str(error))
        for node in lab.nodes:
            try:
                node.check_alive()
                node.stop()
            except Failed as error:
                report.failures.append(str(error))
            report.failures += node.complaints()
        versions = [version for site in owner.sites for version in site.versions]
        report.sites = len(owner.sites)
        report.acknowledged = sum(version.acknowledged is True for version in versions)
        report.unclear = len(versions) - report.acknowledged
        report.refused = owner.refused
    report.seconds = time.monotonic() - began
    return report


def _start(lab: Laboratory, planned: plan.Plan, owner: Owner) -> None:
    for node, skew in zip(lab.nodes, planned.skews, strict=True):
        node.skew = skew
        node.configure(
            [lab.nodes[n].address for n in planned.bootstrap[node.number]], node={"admins": [owner.address]}
        )
        node.start()
    for node in lab.nodes:
        node.wait()


def _live(lab: Laboratory, planned: plan.Plan, owner: Owner, seed: int) -> None:
    """Faults as planned, deploys beside them."""
    over = threading.Event()
    failed: list[BaseException] = []

    def deploy() -> None:
        rng = random.Random(f"deploys {seed}")
        takers = [node for node in lab.nodes if node.number != planned.lost]
        try:
            while not over.is_set():
                new = len(owner.sites) < _SITES_MOST and rng.random() < 0.5
                site = owner.new_site() if new or not owner.sites else rng.choice(owner.sites)
                owner.deploy(site, rng.choice(takers))
                over.wait(rng.uniform(0.0, 0.8))
        except BaseException as error:  # noqa: BLE001 - raised again below
            failed.append(error)

    deploying = threading.Thread(target=deploy)
    deploying.start()
    try:
        _suffer(lab, planned)
    finally:
        over.set()
        for node in lab.nodes:
            node.resume()  # or a deploy would wait for it
        deploying.join()
    if failed:
        raise failed[0]


def _suffer(lab: Laboratory, planned: plan.Plan) -> None:
    steps: list[tuple[float, int, Callable[[], None]]] = []

    def step(at: float, action: Callable[[], None]) -> None:
        steps.append((at, len(steps), action))

    for fault in planned.faults:
        node, ends = lab.nodes[fault.nodes[0]], min(fault.at + fault.lasts, planned.seconds)
        match fault.kind:
            case "kill":
                step(fault.at, node.kill)
                step(ends, lambda node=node, skew=fault.skew: _restart(node, skew))
            case "pause":
                step(fault.at, node.pause)
                step(ends, node.resume)
            case kind:
                weather = fault.weather if kind == "weather" else Weather(cut=True)
                step(
                    fault.at, lambda f=fault, w=weather: lab.weather(f.nodes, w, one_way=f.kind == "one-way")
                )
                step(ends, lambda f=fault: lab.weather(f.nodes, CALM))
    if planned.lost is not None:
        lost = lab.nodes[planned.lost]
        step(planned.lost_at, lambda: _lose(lost, planned.disk_only))
    begin = time.monotonic()
    for at, _, action in sorted(steps, key=lambda s: s[:2]):
        time.sleep(max(0.0, begin + at - time.monotonic()))
        for node in lab.nodes:
            node.check_alive()
        action()
    time.sleep(max(0.0, begin + planned.seconds - time.monotonic()))


def _restart(node: LabNode, skew: float) -> None:
    if not node.runs and not node.gone:
        node.skew = skew
        node.start()


def _lose(node: LabNode, disk_only: bool) -> None:
    if node.runs:
        node.kill()
    if disk_only:
        shutil.rmtree(node.folder / "blocks")
        node.start()
    else:
        node.gone = True


def _heal(lab: Laboratory) -> list[LabNode]:
    """Everything works again; the nodes that are there."""
    if lab.switch is not None:
        lab.switch.calm()
    for node in lab.nodes:
        node.resume()
        _restart(node, node.skew)
    live = [node for node in lab.nodes if not node.gone]
    for node in live:
        node.wait()
    return live


def _leave(lab: Laboratory, node: LabNode, owner: Owner) -> float:
    """A node leaves in good order. Seconds until it is safe to stop it; then the others have all, at once."""
    began = time.monotonic()
    until(lambda: bool(owner.leave(node)["safe"]), _HEALED_WITHIN, f"{node} cannot leave")
    seconds = time.monotonic() - began
    node.stop()
    node.gone = True
    rest = [node for node in lab.nodes if not node.gone]
    check.all_is_well(rest, owner.sites, REPLICAS, _AT_ONCE)
    return seconds
