"""/node/leave/: leaving the network in good order, for administrators."""

from __future__ import annotations

from dataclasses import dataclass

import trio

from decentraspace.api.routing import Call, RouteTable
from decentraspace.api.schemas import attr
from decentraspace.errors import Forbidden, Unauthorized
from decentraspace.leaving import Progress

table = RouteTable()


@dataclass(frozen=True)
class LeaveAnswer:
    leaving: bool = attr("Whether this node is leaving.")
    safe: bool = attr("Whether it may be stopped: the others have heard that it leaves, and nothing waits.")
    others: int = attr("Other nodes that take sites now.")
    sites: int = attr("Versions held here since the leave began, or now: of each channel the newest.")
    waiting: int = attr(
        "Those of them that too few others hold. Once the node leaves, who holds one has to show it: by a "
        "random block of it, and by answering still."
    )
    waiting_bytes: int = attr("Bytes of those that wait.")
    named: list[str] = attr("Some that wait: `SITE/CHANNEL`.")
    silent: list[str] = attr("Peer ids of nodes that have signed for what waits, and have not shown it yet.")


_FACTS = {
    "tag": "node",
    "login": True,
    "admin": True,
    "answers": {200: LeaveAnswer},
    "problems": (Unauthorized, Forbidden),
}


@table.add("GET", "/node/leave/", **_FACTS)
async def progress(call: Call) -> LeaveAnswer:
    """How far this node's leave is (administrators)"""
    return _answer(await trio.to_thread.run_sync(call.node.hosting.leaving.progress))


@table.add("POST", "/node/leave/", **_FACTS)
async def leave(call: Call) -> LeaveAnswer:
    """Leave the network in good order (administrators)

    From now on the node takes no deploys and no share of the network's sites. It goes on serving, and keeps
    what it holds until enough others hold it. Repeating it changes nothing; a restart takes it back.
    """
    await call.node.hosting.leaving.set(True)
    return await progress(call)


@table.add("DELETE", "/node/leave/", **_FACTS)
async def stay(call: Call) -> LeaveAnswer:
    """Stay after all (administrators)"""
    await call.node.hosting.leaving.set(False)
    return await progress(call)


def _answer(found: Progress) -> LeaveAnswer:
    return LeaveAnswer(
        found.leaving,
        found.safe,
        found.others,
        found.sites,
        found.waiting,
        found.waiting_bytes,
        [f"{head.site_id}/{head.channel}" for head in found.named],
        list(found.silent),
    )
