"""What one node has to do, from the plan's rates, the mesh and the costs; and which limit that reaches first."""

from __future__ import annotations

from dataclasses import dataclass
from math import erf, exp, log, sqrt

from bench.scaling.costs import Costs, Sizes
from bench.scaling.mesh import Mesh
from bench.scaling.plan import (
    ANNOUNCE_EVERY,
    DAY,
    IDS_A_REQUEST,
    LOOK_EVERY,
    QUOTA,
    SEEN_MOST,
    SPONSOR_RECORDS,
    SYNC_EVERY,
    Plan,
)

_AROUND = 42  # bytes beside a record in a message: the topic's name, and lengths
_ID = 34  # bytes of a message's id in a list
_LISTED_FOR = 3  # heartbeats of a second for which a new record is told of
_CIRCLES = 10.0  # seconds within which a record may come again
_LINK = 100e6 / 8  # bytes a second each way of a node's line
_DISK = 100e9  # bytes for the records' database
_OWN_SIGNS = 1.5  # receipts of the node that took a deploy: one at once, another when the others' are there


@dataclass(frozen=True)
class Records:
    """New records a second in the whole network."""

    manifests: float
    receipts: float
    announcements: float

    @property
    def all(self) -> float:
        return self.manifests + self.receipts + self.announcements


def records(plan: Plan) -> Records:
    """Per deploy a manifest and the holders' receipts; per copy that moves a receipt, its naming by the node
    that took the deploy, and for half of them (nodes that join) the taking back by who is displaced."""
    moves = 2 * plan.leaving_rate * plan.sites * min(plan.copies, plan.nodes) / plan.nodes
    receipts = plan.deploy_rate * (plan.mean_copies - 1 + _OWN_SIGNS) + moves * 2.5
    return Records(plan.deploy_rate, receipts, plan.nodes / ANNOUNCE_EVERY)


@dataclass(frozen=True)
class Load:
    """Of one node on average; bytes a second in and as many out, unless it says otherwise."""

    records: Records
    messages: float  # a second in, repeated ones included
    gossip: float
    control: float  # telling of ids
    sync: float
    content: float  # copies of new versions
    repair: float  # copies because nodes came or went
    outages: float  # copies made in vain, if every node is away for too long once in 30 days
    stored: float  # bytes, all versions kept
    sites: float
    kept: float  # records when the network has its age
    database: float  # bytes
    names: float  # bytes of memory: the tree of their names
    cpu: float  # share of one core: records verified and stored
    placing: float  # share of one core: scores, when only what changes is worked out
    look: float  # seconds of a core for one look at all sites, as copies.py does it every `check_every`
    listing: float  # share of one core: reading the list of nodes after each announcement
    joining: float  # seconds until a new node has all records, at 5,000 a second or what the core gives
    filling: float  # seconds until it has its sites
    sponsored: float  # records a day that a node answers for
    sponsored_joining: float  # on its first day


def load(plan: Plan, mesh: Mesh, sizes: Sizes, costs: Costs) -> Load:
    new = records(plan)
    weight = (
        new.manifests * sizes.site + new.receipts * sizes.receipt + new.announcements * sizes.announcement
    ) / new.all + _AROUND
    # A node's own records go to all its peers, the others' to the mesh but for where they came from.
    messages = new.all * ((1 - 1 / plan.nodes) * mesh.sends + mesh.peers / plan.nodes)
    rounds = mesh.peers / SYNC_EVERY
    mean = mean_bytes(plan)
    copies = min(plan.copies, plan.nodes)
    share = plan.sites * copies / plan.nodes
    departed = plan.age / plan.node_life  # generations of nodes whose receipts stay
    manifests = plan.sites * plan.versions_ever
    receipts = plan.sites * (plan.mean_copies + departed * 2 * copies)
    kept = manifests + receipts + plan.nodes * (1 + departed)
    # Each site's score of a node that joins; for one that goes, all nodes' scores of its sites.
    changes = plan.sites + share * plan.nodes
    per_record = new.manifests * costs.add_site + (new.receipts + new.announcements) * costs.add_receipt
    on_average = per_record / new.all
    return Load(
        records=new,
        messages=messages,
        gossip=messages * weight,
        control=new.all * _LISTED_FOR * _ID * mesh.lazy,
        # Both directions of a round are counted in its bytes; half of them come in.
        sync=rounds * plan.sync_bytes / 2 + new.all * plan.gossip_lost * weight,
        content=plan.deploy_rate * (plan.mean_copies - 1) * mean * plan.changed_share / plan.nodes,
        repair=2 * plan.leaving_rate * share * mean * plan.held_factor / plan.nodes,
        outages=share * mean * plan.held_factor / (30 * DAY),
        stored=plan.sites * plan.mean_copies / plan.nodes * mean * plan.held_factor,
        sites=plan.sites * plan.mean_copies / plan.nodes,
        kept=kept,
        database=manifests * costs.site_disk + (kept - manifests) * costs.receipt_disk,
        names=kept * costs.name_memory,
        cpu=per_record,
        placing=(new.manifests * plan.nodes + plan.leaving_rate * changes) * costs.hash,
        look=plan.sites * (plan.nodes * costs.hash + costs.look),
        listing=new.announcements * plan.nodes * costs.read_node,
        joining=kept * max(on_average, 1 / 5000),
        filling=share * mean * plan.held_factor / plan.copy_rate,
        sponsored=new.all * DAY / plan.nodes,
        sponsored_joining=new.all * DAY / plan.nodes + share,
    )


def mean_bytes(plan: Plan) -> float:
    """Of a site: the mean of the distribution that `plan.sizes` draws from, worked out."""

    def normal(x: float) -> float:
        return (1 + erf(x / sqrt(2))) / 2

    most, sigma = plan.most_bytes, plan.sigma
    z = (log(most) - log(plan.median_bytes)) / sigma
    body = plan.median_bytes * exp(sigma**2 / 2) * normal(z - sigma) + most * (1 - normal(z))
    a, k = plan.tail_index, plan.tail_from
    tail = k * (a - (k / most) ** (a - 1)) / (a - 1)
    return (1 - plan.tail_share) * body + plan.tail_share * tail


def limits(load: Load) -> dict[str, float]:
    """What is asked of a node, divided by what it has; what is above 1 breaks."""
    return {
        "content, of the default quota (10 GiB)": load.stored / QUOTA,
        "records' database, of 100 GB": load.database / _DISK,
        "the tree of their names, of 1 GB of memory": load.names / 1e9,
        "verifying and storing records, of a core": load.cpu,
        "placing only what changes, of a core": load.placing,
        "a look at all sites, of the time until the next": load.look / LOOK_EVERY,
        "reading the list of nodes, of a core": load.listing,
        "bytes of records, of a 100 Mbit/s line": (load.gossip + load.control + load.sync) / _LINK,
        "bytes of content, of a 100 Mbit/s line": (load.content + load.repair) / _LINK,
        "records a sponsor may bring in a day": load.sponsored / SPONSOR_RECORDS,
        "the same on the first day": load.sponsored_joining / SPONSOR_RECORDS,
        "ids told of at once, of a request's": load.records.all * _LISTED_FOR / IDS_A_REQUEST,
        "records that may come again, of those remembered": load.records.all * _CIRCLES / SEEN_MOST,
        "joining, of a day": (load.joining + load.filling) / DAY,
    }
