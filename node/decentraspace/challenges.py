"""Spot checks: whether a node that has signed for a copy gives a random block of it, here and now.

Now and then one of the other holders of something held here is asked for one block, by HTTP as any client
would, with `Cache-Control: only-if-cached`: it must not get the block from here first. Where HTTP does not lead to
it, because its address is private say, it is asked by Bitswap, which gives only what is there. The block is verified
by its CID. Who fails three times in a row, over `hosting.refute_after` seconds, does not count as a holder
for this node (shares.py) until it has answered well again. Each node believes its own checks alone. Before this
node lets something go it asks those it relies on, in the same way.

The block is found by a walk from the root: each has a chance, those near the root a better one.
"""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import structlog
import trio

from decentraspace.config import Config
from decentraspace.content import cid as cids
from decentraspace.content import dagpb
from decentraspace.content.blockstore import BlockStore
from decentraspace.errors import DecentraSpaceError
from decentraspace.holdings import Holdings
from decentraspace.network.source import Provider, ProviderFailed, open_source
from decentraspace.records.store import RecordStore

log = structlog.get_logger(__name__)

_STALL = 10.0  # seconds for an answer
_FAILURES = 3  # in a row
_KEPT_MOST = 10_000  # results
_SILENT = 30.0  # seconds for which a node that did not answer is not asked by `confirm`
_TRIES = 8  # to find something to ask for
_LACKS = frozenset({404, 410, 412, 451})  # answers of somebody who is there and does not give it
_random = secrets.SystemRandom()  # a holder must not know what it will be asked for
_V = TypeVar("_V")
_ANY = b""  # in place of a root: the node as a whole does not answer


class Question(NamedTuple):
    """`key` of the node that is asked, at its gateway `provider`, for the block `cid` below `root`."""

    key: bytes
    provider: Provider
    root: bytes
    cid: bytes


@dataclass
class _Failures:
    count: int
    first: float
    last: float


class Challenges:
    """`key` is this node's."""

    def __init__(
        self,
        config: Config,
        key: bytes,
        records: RecordStore,
        blocks: BlockStore,
        holdings: Holdings,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._config, self._key = config, key
        self._records, self._blocks, self._holdings, self._clock = records, blocks, holdings, clock
        self._good: OrderedDict[tuple[bytes, bytes], float] = OrderedDict()
        self._bad: OrderedDict[tuple[bytes, bytes], _Failures] = OrderedDict()
        self._silent: OrderedDict[tuple[bytes, bytes], float] = OrderedDict()
        self._answered = 0.0  # when anybody did
        # (peer id, CID, seconds): whether a peer that is connected gives a block, None if it says nothing.
        self.exchange: Callable[[str, bytes, float], Awaitable[bool | None]] | None = None

    def checked(self, key: bytes, root: bytes) -> float | None:
        """When that node last gave a block of `root` (Unix seconds), None if it has not, as far as is known."""
        return self._good.get((key, root))

    def refuted(self, key: bytes, root: bytes) -> bool:
        """Whether that node does not count as a holder of `root`, whatever it has signed."""
        return any(self._is_refuted(self._bad.get((key, about))) for about in (root, _ANY))

    def _is_refuted(self, failures: _Failures | None) -> bool:
        return (
            failures is not None
            and failures.count >= _FAILURES
            and failures.last - failures.first >= self._config.hosting.refute_after
        )

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await trio.sleep(self._config.hosting.challenge_every * _random.uniform(0.5, 1.5))
            try:
                await self.challenge()
            except DecentraSpaceError as error:  # a block here is damaged, the disk fails
                log.warning("challenge_not_made", reason=str(error))

    async def challenge(self) -> Question | None:
        """Ask one node for one block; what was asked, None when there is nothing to ask for."""
        question = await trio.to_thread.run_sync(self._question)
        if question is not None:
            self._note(question, await self._ask(question))
        return question

    async def confirm(self, key: bytes, root: bytes) -> bool | None:
        """Whether that node gives a block of `root` here and now; None when it does not answer. It counts as a
        spot check."""
        if cids.identity_data(root) is not None:
            return True  # whoever has the CID has the content
        if self._clock() - self._silent.get((key, _ANY), 0.0) < _SILENT:
            return None
        question = await trio.to_thread.run_sync(self._question_about, key, root)
        if question is None:
            return None
        good = await self._ask(question)
        self._note(question, good)
        if good is None:
            _keep(self._silent, (key, _ANY), self._clock())
        return good

    async def confirmed(self, root: bytes, keys: Iterable[bytes], enough: int) -> set[bytes]:
        """Those of the nodes that give a block of `root`, each asked once, until they are `enough`."""
        given: set[bytes] = set()
        for key in _random.sample(left := list(keys), len(left)):
            if len(given) >= enough:
                break
            if await self.confirm(key, root):
                given.add(key)
        return given

    # -- what to ask

    def _question(self) -> Question | None:
        """Every other time a node that has failed lately, so that it is known soon whether it goes on. Blocking."""
        if self._bad and _random.random() < 0.5:
            key, about = _random.choice(list(self._bad))
            question = self._question_to(key, about)
            if question is None:
                self._bad.pop((key, about), None)  # it no longer says that it holds anything of this
            return question
        return self._question_to(None, _ANY)

    def _question_to(self, key: bytes | None, about: bytes) -> Question | None:
        """To that node, or any; about that root, or any."""
        nodes = {n.key: n for n in self._records.nodes(int(self._clock())) if n.body.gateway}
        nodes.pop(self._key, None)
        held = self._holdings.all()
        if not held or not nodes:
            return None
        for _ in range(_TRIES):
            if about:
                root = about
            else:
                [root] = [v.root for v in self._records.versions([_random.choice(held)])] or [b""]
            holders = [k for k in self._records.holders(root) if k in nodes and key in (None, k)]
            cid = self._random_block(root) if holders else None
            if cid is not None:
                asked = nodes[_random.choice(holders)]
                return Question(asked.key, Provider(asked.body.gateway, asked.peer_id), root, cid)
        return None

    def _question_about(self, key: bytes, root: bytes) -> Question | None:
        """None where that node does not say where it answers. Blocking."""
        for node in self._records.nodes(int(self._clock())):
            if node.key == key and node.body.gateway:
                cid = self._random_block(root) or root  # the root's bytes are known by its CID alone
                return Question(key, Provider(node.body.gateway, node.peer_id), root, cid)
        return None

    def _random_block(self, root: bytes) -> bytes | None:
        """None where this node lacks it itself."""
        cid = root
        while True:
            data = self._blocks.get(cid)
            if data is None:
                return None
            links = [link for link in dagpb.links_of(cid, data) if cids.identity_data(link) is None]
            if not links or _random.randrange(len(links) + 1) == 0:
                return cid
            cid = _random.choice(links)

    # -- asking

    async def _ask(self, question: Question) -> bool | None:
        """Whether it gives the block; None when it does not answer at all."""
        good = await self._ask_gateway(question)
        if good is None and self.exchange is not None:
            return await self.exchange(question.provider.peer_id, question.cid, _STALL)
        return good

    async def _ask_gateway(self, question: Question) -> bool | None:
        data = bytearray()
        try:
            async with (
                open_source(question.provider, self._config.network.allow_private, _STALL) as source,
                source.get(question.cid, "raw", "application/vnd.ipld.raw", if_cached=True) as chunks,
            ):
                with trio.fail_after(_STALL):
                    async for chunk in chunks:
                        data += chunk
                        if len(data) > cids.MAX_BLOCK:
                            return False
        except ProviderFailed as error:
            return False if error.status in _LACKS else None
        return cids.digest_matches(question.cid, bytes(data))

    def _note(self, question: Question, good: bool | None) -> None:
        now, pair = self._clock(), (question.key, question.root)
        if good is not None:
            self._answered = now
            self._bad.pop((question.key, _ANY), None)
        elif now - self._answered > max(self._config.hosting.refute_after, _STALL):
            return  # nobody has answered for long: it may be this node that is cut off
        if good:
            self._bad.pop(pair, None)
            _keep(self._good, pair, now)
            return
        about = pair if good is False else (question.key, _ANY)
        failures = self._bad.get(about) or _Failures(0, now, now)
        failures.count, failures.last = failures.count + 1, now
        _keep(self._bad, about, failures)
        log.info(
            "challenge_failed",
            peer=question.provider.peer_id,
            root=cids.to_text(question.root),
            cid=cids.to_text(question.cid),
            answered=good is not None,
            failures=failures.count,
        )


def _keep(kept: OrderedDict[tuple[bytes, bytes], _V], pair: tuple[bytes, bytes], value: _V) -> None:
    kept[pair] = value
    kept.move_to_end(pair)
    if len(kept) > _KEPT_MOST:
        kept.popitem(last=False)
