"""A preview has a host of its own that shows its newest version, beside the immutable one of each deploy."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

from decentraspace.hosting import Deployed
from decentraspace.moderation import targets
from decentraspace.records.store import SiteHead
from tests.gateway.served import Files, Owner, Served


def preview(site: Owner, files: Files, name: str, before: SiteHead | None = None) -> Deployed:
    """Beside production, whose versions have numbers of their own."""
    production, site._next = (
        site._next,
        {"seq": before.seq + 1 if before else 1, "prev": before and before.cid},
    )
    try:
        return site.deploy(files, channel=name)
    finally:
        site._next = production


def host(url: str) -> str:
    return urlsplit(url).netloc


def test_a_previews_host_follows_it_and_its_versions_stay(served: Served) -> None:
    site = served.site({"index.html": b"production"})
    first = preview(site, {"index.html": b"draft one"}, "pr-7")
    stable = host(first.urls["preview"])
    assert stable == f"pr-7--{site.host}"
    assert "site" not in first.urls
    answer = served.get(stable)
    assert (answer.status, answer.body) == (200, b"draft one")
    assert answer.headers["cache-control"] == "public, max-age=0, must-revalidate"
    second = preview(site, {"index.html": b"draft two"}, "pr-7", first.head)
    assert host(second.urls["preview"]) == stable
    assert served.get(stable).body == b"draft two"
    assert served.get(host(first.urls["version"])).body == b"draft one", "each deploy keeps its own address"
    assert served.get(host(second.urls["version"])).body == b"draft two"
    other = preview(site, {"index.html": b"another"}, "pr-8")
    assert served.get(host(other.urls["preview"])).body == b"another"
    assert (site.get().body, served.get(stable).body) == (b"production", b"draft two")
    assert served.get(f"pr-9--{site.host}").status == 404
    assert served.get(f"pr-7--other--{site.site_id}.localhost:{served.port}").status == 404


def test_a_preview_that_the_index_lacks_is_found(served: Served) -> None:
    """As on a node that was set up before previews had hosts."""
    site = served.site({"index.html": b"production"})
    done = preview(site, {"index.html": b"draft"}, "x--y")
    assert done.head.host_label == f"x--y--{site.label}--{site.site_id}"
    served.node.hosting.index.delete(done.head.host_label)
    assert served.get(host(done.urls["preview"])).body == b"draft"
    entries = dict(served.node.hosting.index.all())
    served.node.hosting.holdings.reconcile()
    assert dict(served.node.hosting.index.all()) == entries, "a restart keeps previews in the index"


def test_what_is_imposed_on_a_site_is_imposed_on_its_previews(serve: Callable[..., Served]) -> None:
    served = serve()
    site = served.site({"index.html": b"production"})
    old = preview(site, {"index.html": b"draft"}, "old")
    target = targets.parse("site", old.head.host_label)
    facts = {"status": 451, "reason": "Order 17", "hidden": False, "by": bytes(20)}

    async def block() -> None:
        await served.node.hosting.moderation.block(target, **facts)

    served.call(block)
    assert served.get(host(old.urls["preview"])).status == 451
    assert site.get().status == 451


def test_a_preview_whose_key_was_revoked_is_shown_no_longer(serve: Callable[..., Served]) -> None:
    served = serve()
    site = served.site({"index.html": b"production"})
    done = preview(site, {"index.html": b"draft"}, "pr-1")
    assert served.get(host(done.urls["preview"])).status == 200
    site.revoke()
    assert served.get(host(done.urls["preview"])).status == 404
