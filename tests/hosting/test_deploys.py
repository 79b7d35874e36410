"""Taking deploys: what is promised, and what is refused, with real stores and a wallet's signatures."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from decentraspace import retention
from decentraspace.config import load
from decentraspace.content import cid as cids
from decentraspace.content.blockstore import BlockStore
from decentraspace.content.gc import collect
from decentraspace.content.importer import Entry, TreeBuilder
from decentraspace.errors import Conflict, DecentraSpaceError, PaymentRequired, TooLarge, Unprocessable
from decentraspace.hosting import Deployed, Hosting
from decentraspace.identity.keys import NodeKey
from decentraspace.records.schema import Revocation, SiteManifest
from decentraspace.records.signing import sign_revocation, sign_site, sponsor
from decentraspace.records.store import RecordStore
from decentraspace.records.verdict import NetworkRules, verify
from decentraspace.testing import until
from tests.records.factory import make_session, make_wallet


@dataclass
class World:
    hosting: Hosting
    blocks: BlockStore
    records: RecordStore
    rules: NetworkRules
    owner: bytes
    key: Any
    delegation: Any
    wallet: Any
    published: list[bytes]

    def store(self, files: Mapping[str, bytes]) -> Entry:
        writer = self.blocks.writer()
        builder = TreeBuilder(writer.put)
        for path, content in files.items():
            builder.put_file(path, io.BytesIO(content))
        entry = builder.finish()
        writer.flush()
        return entry

    def manifest(self, entry: Entry, **changes: Any) -> SiteManifest:
        label, channel = changes.pop("label", "site"), changes.pop("channel", "production")
        plain = SiteManifest(
            owner=self.owner, label=label, seq=1, root=entry.cid, prev=None, channel=channel, kind="static",
            size=entry.tsize, has_headers=False, has_redirects=False, controllers=(), created=int(time.time()),
        )  # fmt: skip
        head = self.records.head(plain.site_id, channel)
        if head is not None:
            plain = replace(plain, seq=head.seq + 1, prev=head.cid)
        return replace(plain, **changes)

    def sign(self, entry: Entry, **changes: Any) -> bytes:
        return sign_site(self.manifest(entry, **changes), self.key, self.delegation, self.rules)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    config = load(
        environ={},
        overrides={
            "node": {"data_dir": str(tmp_path)},
            "hosting": {"keep_versions": 3, "replicate": False},
            "limits": {"free_bytes": 100_000, "channels": 3},
        },
    )
    rules = NetworkRules.from_config(config)
    wallet, now = make_wallet(), int(time.time())
    key, delegation = make_session(wallet, rules, issued_at=now - 60, expires_at=now + 86400)
    published: list[bytes] = []

    async def publish(envelope: bytes) -> None:
        published.append(envelope)

    async def emit(*_: Any, **__: Any) -> None:
        return None

    with BlockStore.open(tmp_path / "blocks", quota=1 << 26) as blocks:
        records = RecordStore(tmp_path / "records.sqlite", rules, config.records)
        hosting = Hosting(
            config,
            NodeKey.load_or_create(tmp_path / "node.key", None),
            rules,
            blocks,
            records,
            fetcher=None,  # type: ignore[arg-type]  # nothing is fetched: replicate is off
            publish=publish,
            emit=emit,
            tier=lambda owner: "free",
        )
        owner = delegation.verify(rules).owner
        yield World(hosting, blocks, records, rules, owner, key, delegation, wallet, published)
        records.close()


async def test_a_record_that_came_by_gossip_is_not_receipted_before_its_content_is_here(world: World) -> None:
    entry = world.store({"index.html": b"hello"})
    record = world.sign(entry)
    other = NodeKey.generate()
    now = int(time.time())
    for _ in collect(world.blocks, grace=-1):
        pass  # the content is gone again
    world.records.add(sponsor(record, other, now), now=now)
    with pytest.raises(Conflict) as caught:
        await world.hosting.deploy(world.owner, record)
    assert caught.value.problem_slug == "missing-blocks"
    assert world.records.receipts(entry.cid) == []

    world.store({"index.html": b"hello"})
    done = await world.hosting.deploy(world.owner, record)
    assert verify(done.receipt, world.rules).body.root == entry.cid
    for _ in collect(world.blocks, grace=-1):
        pass
    assert world.blocks.missing(entry.cid) == [], "what a receipt was signed for was collected"


async def test_a_manifest_that_understates_its_size_is_refused_and_leaves_nothing(world: World) -> None:
    entry = world.store({"large.bin": bytes(range(256)) * 200})
    with pytest.raises(TooLarge):
        await world.hosting.deploy(world.owner, world.sign(entry, size=10))
    assert list(world.blocks.pins()) == []
    assert world.records.head(world.manifest(entry).site_id) is None
    await world.hosting.deploy(world.owner, world.sign(entry))


async def test_all_channels_count_towards_what_the_tier_stores(world: World) -> None:
    for channel in ("production", "one"):
        entry = world.store({"file": channel.encode() * 5000})
        await world.hosting.deploy(world.owner, world.sign(entry, channel=channel))
    entry = world.store({"file": b"two" * 20_000})
    with pytest.raises(PaymentRequired, match=r"stores 100\.0 kB"):
        await world.hosting.deploy(world.owner, world.sign(entry, channel="two"))


async def test_a_site_has_only_so_many_channels(world: World) -> None:
    entry = world.store({"file": b"x"})
    for channel in ("production", "one", "two"):
        await world.hosting.deploy(world.owner, world.sign(entry, channel=channel))
    with pytest.raises(PaymentRequired, match="at most 3 channels"):
        await world.hosting.deploy(world.owner, world.sign(entry, channel="three"))


@pytest.mark.parametrize(
    ("name", "content"),
    [("_redirects", b"/bad"), ("_headers", b"/\n  no colon"), ("_redirects", b"/a /b 999")],
)
async def test_rule_files_with_a_fault_are_refused_before_anybody_sees_them(
    world: World, name: str, content: bytes
) -> None:
    entry = world.store({"index.html": b"hello", name: content})
    with pytest.raises(Unprocessable, match=f"{name}, line"):
        await world.hosting.deploy(world.owner, world.sign(entry))
    assert list(world.blocks.pins()) == []


async def test_an_owner_is_told_what_has_no_effect(world: World) -> None:
    entry = world.store({"index.html": b"hello", "_headers": b"/*\n  Set-Cookie: a=b\n  X-Mine: yes\n"})
    record = world.sign(entry)
    for _ in range(2):  # the second is the same deploy again
        done = await world.hosting.deploy(world.owner, record)
        [said] = done.warnings
        assert said.startswith("_headers, line 2: Set-Cookie is left out: ")
    done = await world.hosting.deploy(world.owner, world.sign(world.store({"index.html": b"hello"})))
    assert done.warnings == []


async def test_a_request_that_is_broken_off_before_the_commit_leaves_no_pin(world: World) -> None:
    record = world.sign(world.store({"index.html": b"hello"}))
    for steps in range(1, 60):
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_cancel_after, steps, scope)
                await world.hosting.deploy(world.owner, record)
                nursery.cancel_scope.cancel()
        committed = verify(record, world.rules).cid in world.records.ids()
        assert committed or list(world.blocks.pins()) == []
        if committed:
            break
    async with trio.open_nursery() as nursery:
        await nursery.start(world.hosting.run)
        # What is committed is shown, though nobody waits for the answer any more.
        label = world.manifest(world.store({"index.html": b"hello"})).site_id
        await until(lambda: world.hosting.index.get(f"site--{label}") is not None)
        nursery.cancel_scope.cancel()


async def _cancel_after(steps: int, scope: trio.CancelScope) -> None:
    for _ in range(steps):
        await trio.sleep(0.0002)
    scope.cancel()


async def test_a_site_whose_key_was_revoked_is_held_and_shown_no_longer(world: World) -> None:
    entry = world.store({"index.html": b"hello"})
    head = (await world.hosting.deploy(world.owner, world.sign(entry))).head
    preview = world.store({"index.html": b"preview"})
    await world.hosting.deploy(world.owner, world.sign(preview, channel="pr-1"))
    now = int(time.time())
    key, delegation = make_session(world.wallet, world.rules, issued_at=now, expires_at=now + 3600)
    old = world.key.public_key().public_bytes_raw()
    revocation = Revocation(owner=world.owner, key=old, site=None, after=0, created=now)
    await world.hosting.revoke(world.owner, sign_revocation(revocation, key, delegation, world.rules))
    assert world.hosting.index.get(head.host_label) is None
    assert not world.blocks.referenced(entry.cid)
    assert not world.blocks.referenced(preview.cid)
    assert not world.hosting.holdings.holds(head.cid)
    assert world.records.receipts(entry.cid) == [], "the receipt was not taken back"


async def test_versions_beyond_those_kept_are_let_go(world: World) -> None:
    roots = []
    async with trio.open_nursery() as nursery:
        await nursery.start(world.hosting.run)
        for number in range(6):
            entry = world.store({"index.html": b"version %d" % number})
            roots.append(entry.cid)
            await world.hosting.deploy(world.owner, world.sign(entry))
        await until(lambda: [world.blocks.is_pinned(r) for r in roots] == [False] * 3 + [True] * 3)
        nursery.cancel_scope.cancel()


async def test_roots_of_records_may_be_asked_for_and_others_not(world: World) -> None:

    entry, other = world.store({"a": b"a"}), world.store({"b": b"b"})
    await world.hosting.deploy(world.owner, world.sign(entry))
    assert await world.hosting.resolve_host(cids.to_text(entry.cid))
    assert not await world.hosting.resolve_host(cids.to_text(other.cid))


async def test_refusals_are_errors_with_words(world: World) -> None:
    with pytest.raises(DecentraSpaceError):
        await world.hosting.deploy(world.owner, b"not a record")


async def test_what_is_deployed_while_old_versions_are_trimmed_stays(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trimming looks at all sites of an owner, in a thread; another version is deployed in the middle of it."""
    async with trio.open_nursery() as nursery:
        await nursery.start(world.hosting.run)
        first = await world.hosting.deploy(world.owner, world.sign(world.store({"a": b"1"})))
        second = world.sign(world.store({"a": b"2"}), channel="two")
        deployed: list[Deployed] = []
        kept = retention.kept

        def deploys_meanwhile(*arguments: Any, **more: Any) -> set[bytes]:
            found = kept(*arguments, **more)
            if not deployed:
                deployed.append(trio.from_thread.run(world.hosting.deploy, world.owner, second))
            return found

        monkeypatch.setattr(retention, "kept", deploys_meanwhile)
        await world.hosting.holdings.trim(world.owner)
        assert world.hosting.holdings.holds(deployed[0].head.cid)
        assert world.hosting.holdings.holds(first.head.cid)
        nursery.cancel_scope.cancel()


async def test_a_deploy_that_comes_before_a_site_is_let_go_stays(world: World) -> None:
    """No copy of the version before is wanted here; while that waits for its turn, a new one is taken."""
    holdings, copies = world.hosting.holdings, world.hosting.copies
    old, now, other = world.sign(world.store({"a": b"1"})), int(time.time()), NodeKey.generate()
    world.records.add(sponsor(old, other, now), now=now)
    [head] = world.records.all_heads()
    async with trio.open_nursery() as nursery, holdings.lock(head.site_id):
        nursery.start_soon(copies._follow, head, 5.0)
        await trio.testing.wait_all_tasks_blocked(0.1)
        new = world.sign(world.store({"a": b"2"}))
        verified = verify(new, world.rules)
        assert isinstance(verified.body, SiteManifest)
        await world.hosting._take(new, verified.cid, verified.body, verified.owner)
    assert holdings.holds(verified.cid)


async def test_receipts_for_what_a_disk_has_lost_are_taken_back_at_the_start(world: World) -> None:
    kept = await world.hosting.deploy(world.owner, world.sign(world.store({"a": b"1"})))
    lost = await world.hosting.deploy(world.owner, world.sign(world.store({"a": b"2"}), channel="two"))
    await world.hosting.holdings.release(lost.head.root, lost.head.cid)  # its pin is not there any more
    async with trio.open_nursery() as nursery:
        await nursery.start(world.hosting.run)
        assert world.records.receipts(lost.head.root) == []
        assert [r.key for r in world.records.receipts(kept.head.root)] == [world.hosting.key.public]
        nursery.cancel_scope.cancel()


async def test_a_version_that_another_one_takes_precedence_over_leaves_no_pin(world: World) -> None:
    first = world.store({"index.html": b"by the new login"})
    now = int(time.time())
    key, delegation = make_session(world.wallet, world.rules, issued_at=now, expires_at=now + 3600)
    newer = sign_site(world.manifest(first), key, delegation, world.rules)
    await world.hosting.deploy(world.owner, newer)
    for number in range(3):
        entry = world.store({"index.html": b"by the old login %d" % number})
        with pytest.raises(Conflict) as caught:
            await world.hosting.deploy(world.owner, world.sign(entry))
        assert caught.value.problem_slug == "superseded"
    assert [root for root, _ in world.blocks.pins()] == [first.cid]


async def test_deploys_at_the_same_time_have_room_for_one_site_between_them(world: World) -> None:
    entry = world.store({"index.html": b"hello"})
    taken, refused = [], []

    async def deploy(label: str) -> None:
        try:
            taken.append(await world.hosting.deploy(world.owner, world.sign(entry, label=label)))
        except PaymentRequired as error:
            refused.append(error)

    async with trio.open_nursery() as nursery:
        for number in range(6):
            nursery.start_soon(deploy, f"site-{number}")
    assert (len(taken), len(refused)) == (1, 5)


async def test_a_deploy_is_not_confirmed_again_when_the_disk_has_lost_some_of_it(world: World) -> None:
    content = {"index.html": b"hello", "large.bin": bytes(range(256)) * 40}
    entry = world.store(content)
    record = world.sign(entry)
    await world.hosting.deploy(world.owner, record)
    leaf = cids.make(cids.RAW, content["large.bin"])
    with world.blocks.write() as txn:
        txn.put(cids.multihash(leaf), b"damaged", db=world.blocks.db["blocks"])
    assert world.blocks.drop_damaged(cids.multihash(leaf))
    with pytest.raises(Conflict) as caught:
        await world.hosting.deploy(world.owner, record)
    assert caught.value.members["missing"] == [cids.to_text(leaf)]
    # A version that shares what is damaged is not whole either.
    more = world.store({**content, "more.txt": b"more"})
    world.blocks.put_many([(leaf, content["large.bin"])])
    assert (await world.hosting.deploy(world.owner, record)).head.root == entry.cid
    await world.hosting.deploy(world.owner, world.sign(more))


async def test_deploys_go_on_after_the_clock_was_set_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = time.time
    with monkeypatch.context() as ahead:
        ahead.setattr(time, "time", lambda: real() + 3600)
        await world.hosting.deploy(world.owner, world.sign(world.store({"a": b"1"})))
    done = await world.hosting.deploy(world.owner, world.sign(world.store({"a": b"2"})))
    said = verify(done.receipt, world.rules).body
    assert (said.root, said.seq) == (done.head.root, 2)
    assert abs(said.created - real()) < 60
