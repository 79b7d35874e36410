"""Which site a name shows, of those that wallets link to it: the one whose wallet this node finds a proof of.

A link is a record that every node has; whether its wallet has a say in the name each node finds out by its own
resolver, when the name is asked for, and again now and then. So a name works at every node, and no node takes
another's word for it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from urllib.parse import urlsplit

import structlog
import trio

from decentraspace.carrying_on import carrying_on
from decentraspace.config import Config
from decentraspace.errors import DecentraSpaceError
from decentraspace.identity.ethereum import checksum_address, parse_address
from decentraspace.names import proofs
from decentraspace.names.book import Book, Found, found_now
from decentraspace.names.cache import Bounds, Cache
from decentraspace.names.links import Answer, NotResolved
from decentraspace.names.proofs import HELD, Proof, TxtProofs
from decentraspace.records.domains import Link
from decentraspace.records.schema import PRODUCTION, host_label
from decentraspace.records.store import RecordStore

if TYPE_CHECKING:
    from trio_typing import TaskStatus

log = structlog.get_logger(__name__)

_FIRST = 8  # wallets whose claims of one name are looked into at one time
_CLAIMS_MOST = 10_000  # wallets that claim one name, of which those eight are chosen
_AT_ONCE = 8  # proofs that are looked for at one time because it is their turn
_ASKING_MOST = 256  # proofs that are looked for at one time, whoever wants to know
_DEADLINE = 20.0  # seconds for one proof
_TICK_MOST = 60.0  # seconds between looks at whose turn it is


class Plugins(Protocol):
    """What is used of the plugin manager."""

    def having(self, hook: str) -> list[str]: ...
    async def one(self, plugin: str, hook: str, **arguments: Any) -> Any: ...


class Shown(NamedTuple):
    """A link in force whose wallet may say what the name shows."""

    link: Link
    found: Found

    @property
    def host(self) -> str:
        """The host label of the site."""
        return label_of(self.link)


def label_of(link: Link) -> str:
    return host_label(link.label or "", PRODUCTION, link.site or "")


def gateway_host(config: Config) -> str:
    """Where names are to lead, "" for a gateway that only this machine reaches."""
    domain = config.gateway.domain
    if domain != "localhost" and not domain.endswith(".localhost"):
        return domain
    host = urlsplit(config.gateway.public_url).hostname or ""
    return host if "." in host and not host.replace(".", "").isdigit() else ""


class Claims:
    """Use while `run` runs."""

    def __init__(
        self, config: Config, records: RecordStore, plugins: Plugins, book: Book, bounds: Bounds | None = None
    ) -> None:
        self._config, self._records, self._plugins, self._book = config, records, plugins, book
        self.resolvers = dict(text.split("=", 1) for text in config.names.resolvers)
        self.gateway = gateway_host(config)
        self.registrar = config.names.registrar
        self._asking = 0
        self._txt: TxtProofs | None = None
        if config.names.dns:
            from decentraspace.names.dns import Dns

            self._txt = TxtProofs(Dns(config.names.nameservers, config.names.timeout))
        # For its single flight, its deadlines and its share per domain; what was found is in the book.
        self._looking = Cache(
            self._look_into,
            most=config.names.cache,
            deadline=max(config.names.timeout, 1.0),
            bounds=bounds or Bounds(least=5, nothing=5),
        )

    def plugin_of(self, name: str) -> str | None:
        """Who speaks for a name; None: DNS, and nobody else."""
        found = self.resolvers.get(name.rpartition(".")[2]) or self.resolvers.get("*")
        if found is not None:
            return found
        return self.registrar if self.registrar in self._plugins.having("name_verify") else None

    def known(self, name: str, wallet: bytes) -> Found | None:
        """What was found last. Blocking."""
        return self._book.get(name, wallet)

    def remember(self, found: Found) -> None:
        """Blocking."""
        self._book.put(found)

    def stands(self, found: Found) -> bool:
        """Whether links of that wallet and name are shown now."""
        return found.stands(int(time.time()), self._config.names.check_every, self._config.names.grace)

    async def instructions(self, name: str, owner: str, site: str) -> list[dict[str, str]]:
        """Records to enter, as in the hook `name_instructions`."""
        plugin = self.plugin_of(name)
        found = None
        if plugin is not None:
            try:
                found = await self._plugins.one(
                    plugin, "name_instructions", name=name, site=site, owner=owner, gateway=self.gateway
                )
            except DecentraSpaceError as error:
                log.warning("name_not_instructed", name=name, reason=str(error))
                return []
        if found is None and plugin not in self.resolvers.values():
            return proofs.instructions(name, owner, self.gateway)
        return list(found or ())

    # -- what a visitor sees

    async def shown(self, name: str) -> Shown | None:
        """Whose link counts, as far as this node finds a proof of any. Waits for a look-up where it knows nothing."""
        best, unknown, stale = await trio.to_thread.run_sync(self._decide, name)
        if best is not None:
            if stale or unknown:
                self._looking.renew(name)  # it may have been sold since
            return best
        if not unknown and not stale:
            return None
        try:
            await self._looking.get(name)
        except NotResolved as error:
            log.debug("name_not_verified", name=name, reason=str(error))
        best, _, _ = await trio.to_thread.run_sync(self._decide, name)
        return best

    def _decide(self, name: str) -> tuple[Shown | None, bool, bool]:
        """(the link that counts, whether there are claims that nothing is known of, whether something is over).
        Blocking."""
        claimants = self._records.claimants(name, _FIRST + 1)
        if not claimants:
            return None, False, False
        now = int(time.time())
        known = {found.wallet: found for found in self._book.of(name)}
        known |= {w: found for w in claimants[:_FIRST] if (found := self._book.get(name, w)) is not None}
        best: tuple[tuple[bool, int, int, bytes], Shown] | None = None
        unknown = stale = False
        for wallet in dict.fromkeys([*known, *claimants[:_FIRST]]):
            link = self._records.linked(name, wallet)
            if link is None:
                continue
            found = known.get(wallet)
            if found is None:
                unknown = True
                continue
            stale = stale or now >= found.fresh
            if self.stands(found):
                # Whoever is proven now goes before who was; then who linked it last.
                rank = (found.proof.state == HELD, link.created, link.seq, link.cid)
                if best is None or rank > best[0]:
                    best = rank, Shown(link, found)
        if best is None and len(claimants) > _FIRST:
            unknown = True  # it may be one of those behind: see _candidates
        return (best[1] if best else None), unknown, stale

    # -- finding out

    async def verify(
        self, name: str, wallet: bytes, site: str, proof: str = "", *, keep: bool = True
    ) -> Found:
        """Ask now whether `wallet` may have `name` show `site` (a host label). `proof`: that of the link. Unavailable
        when nobody can say. `keep`: remember it; of who has no link of the name that would only fill the book."""
        if self._asking >= _ASKING_MOST:
            raise NotResolved("Too many names are being looked into just now")
        self._asking += 1
        try:
            return await self._verify(name, wallet, site, proof, keep)
        finally:
            self._asking -= 1

    async def _verify(self, name: str, wallet: bytes, site: str, proof: str, keep: bool) -> Found:
        owner = checksum_address(wallet).lower()
        with trio.move_on_after(_DEADLINE):
            said = await self._ask(name, owner, site, proof)
            before = await trio.to_thread.run_sync(self._book.get, name, wallet)
            found = found_now(name, wallet, said, int(time.time()), before)
            if keep:
                await trio.to_thread.run_sync(self._book.put, found)
            return found
        raise NotResolved(f"Nobody said in time whose {name} is")

    async def _ask(self, name: str, owner: str, site: str, proof: str) -> Proof:
        plugin = self.plugin_of(name)
        if plugin is not None:
            value = await self._plugins.one(
                plugin,
                "name_verify",
                name=name,
                owner=owner,
                site=site,
                gateway=self.gateway,
                proof=proof,
            )
            if value is None:
                raise NotResolved(f"The plugin {plugin} has nothing to say about {name}")
            return proofs.from_hook(value)
        if self._txt is None:
            raise NotResolved(
                f"This node asks no name servers about {name}", hint="Set names.dns, or names.resolvers."
            )
        return await self._txt.verify(name, owner, self.gateway)

    async def _look_into(self, name: str) -> Answer:
        """The claims of a name whose turn it is, side by side. NotResolved when nothing could be found out."""
        wallets = await self._candidates(name)
        failures: list[DecentraSpaceError] = []
        asked = 0

        async def look(wallet: bytes, link: Link) -> None:
            try:
                await self.verify(name, wallet, label_of(link), link.proof or "")
            except DecentraSpaceError as error:
                failures.append(error)

        async with trio.open_nursery() as nursery:
            for wallet in wallets:
                link = await trio.to_thread.run_sync(self._records.linked, name, wallet)
                found = await trio.to_thread.run_sync(self._book.get, name, wallet)
                if link is not None and (found is None or time.time() >= found.fresh):
                    asked += 1
                    nursery.start_soon(look, wallet, link)
        if failures and len(failures) == asked:
            raise NotResolved(str(failures[0]))
        return Answer(None, 0)

    async def _candidates(self, name: str) -> Sequence[bytes]:
        """Whose claims to look into. Anybody may claim a name, as many as like; so where there are many, those first
        whom the naming system itself names, and of the others some at each look, in turn: it does not name everybody
        who may link the name, such as a manager, or a wallet that the owner signed for."""
        claimants = await trio.to_thread.run_sync(self._records.claimants, name, _CLAIMS_MOST)
        known = [found.wallet for found in await trio.to_thread.run_sync(self._book.of, name)]
        named: list[bytes] = []
        if len(claimants) > _FIRST:
            named = await self._named(name)
            looked = await trio.to_thread.run_sync(self._book.looked_at, name)
            claimants.sort(key=lambda wallet: looked.get(wallet, 0))
        return list(dict.fromkeys([*named, *known[: 2 * _FIRST], *claimants[:_FIRST]]))

    async def _named(self, name: str) -> list[bytes]:
        plugin = self.plugin_of(name)
        try:
            if plugin is not None:
                owner = await self._plugins.one(plugin, "name_owner", name=name)
                return [parse_address(owner)] if owner else []
            return [parse_address(owner) for owner in await self._txt.owners(name)] if self._txt else []
        except DecentraSpaceError:
            return []

    # -- now and then

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look at proofs again whose turn it is, until cancelled."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._looking.run)
            task_status.started()
            every = self._config.names.check_every
            while True:
                await trio.sleep(min(_TICK_MOST, every / 4))
                with carrying_on(log, "names_not_checked"):
                    await self._check_again(every)
                    await trio.to_thread.run_sync(self._book.tidy, int(time.time()))

    async def _check_again(self, every: float) -> None:
        before = int(time.time() - every) + 1
        after = (-1, "", b"")
        # Each once: those of which nobody can say are asked for again at the next look, and keep no others waiting.
        while due := await trio.to_thread.run_sync(self._book.due, before, _AT_ONCE, after):
            after = due[-1].place
            async with trio.open_nursery() as nursery:
                for found in due:
                    nursery.start_soon(self._check_one, found)

    async def _check_one(self, found: Found) -> None:
        with carrying_on(log, "name_not_checked"):
            link = await trio.to_thread.run_sync(self._records.linked, found.name, found.wallet)
            if link is None:
                await trio.to_thread.run_sync(self._book.forget, found.name, found.wallet)
                return
            try:
                now = await self.verify(found.name, found.wallet, label_of(link), link.proof or "")
            except DecentraSpaceError as error:
                log.warning("name_not_checked", name=found.name, reason=str(error))
                return
            if now.proof.state != found.proof.state:
                log.info("name_changed", name=found.name, was=found.proof.state, now=now.proof.state)
