"""Prices and purchases, at a stand-in that follows Gandi's published API: no key buys twice, whatever is cut off."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import trio
from plugins.dns_registrar.tests.conftest import OWNER, STRANGER, Managed, Node
from plugins.dns_registrar.tests.gandi import TOKEN, Answer, Gandi, fault

from decentraspace.errors import BadInput, TooMany, Unavailable
from decentraspace.testing import Workbench

CONTACT = {
    "given": "Aurelia",
    "family": "Quillfeather",
    "email": "aurelia@quillfeather.example",
    "streetaddr": "5 Rue Inconnue",
    "city": "Arles",
    "zip": "13200",
    "country": "FR",
    "phone": "+33.123456789",
    "type": "individual",
}
PERSONAL = [value for value in CONTACT.values() if value not in ("FR", "individual")]
NAME = "new-name.example"


@pytest.fixture
def settings(gandi: Gandi, tmp_path: Path) -> dict[str, Any]:
    token = tmp_path / "gandi.token"
    token.write_text(TOKEN + "\n")
    token.chmod(0o600)
    return {"registrar": "gandi", "key_file": str(token), "api": gandi.url, "api_timeout": 5, "fee_bps": 500}


@pytest.fixture
async def shop(managed: Managed, settings: dict[str, Any]) -> Node:
    return await managed(**settings)


async def quote(node: Node, name: str = NAME, years: int = 1) -> dict[str, Any]:
    found: dict[str, Any] = await node.ask("name_quote", name=name, years=years)
    return found


async def buy(
    node: Node,
    key: str = "k1",
    *,
    name: str = NAME,
    years: int = 1,
    owner: str = OWNER,
    contact: dict[str, str] | None = CONTACT,
) -> dict[str, Any]:
    found: dict[str, Any] = await node.ask(
        "name_purchase", name=name, years=years, owner=owner, key=key, contact=contact
    )
    return found


async def test_a_name_is_bought_once_and_proves_its_buyer(
    gandi: Gandi, managed: Managed, settings: Any
) -> None:
    node = await managed(**settings, addresses=["192.0.2.80", "2001:db8::80"])
    found = await quote(node, years=2)
    # 2 years at 15.50 USD, 5 % on top.
    assert (found["available"], found["credits"], found["years"]) == (True, 32_550_000, 2)
    assert 0 < found["valid_until"] - time.time() <= 900
    bought = await buy(node, years=2)
    assert bought["status"] == "done"
    assert bought["expires"] == 1858413858  # 2028-11-21T10:04:18Z
    assert gandi.orders == [("create", {"fqdn": NAME, "duration": 2, "currency": "USD", "owner": CONTACT})]
    assert gandi.records == {
        (NAME, "_decentraspace", "TXT"): [f'"decentraspace-owner={OWNER}"'],
        (NAME, "@", "A"): ["192.0.2.80"],
        (NAME, "@", "AAAA"): ["2001:db8::80"],
    }
    for contact in (CONTACT, None):
        assert await buy(node, years=2, contact=contact) == bought
    node = await managed(**settings)
    assert await buy(node, years=2) == bought
    assert len(gandi.orders) == 1
    with pytest.raises(BadInput, match="key"):
        await buy(node, years=1)
    with pytest.raises(BadInput, match="key"):
        await buy(node, years=2, owner=STRANGER)


async def test_a_name_of_the_account_is_renewed(gandi: Gandi, shop: Node) -> None:
    gandi.domains[NAME] = 2027
    found = await quote(shop, years=3)
    assert (found["available"], found["credits"]) == (
        False,
        48_825_000,
    )  # it is not to be had, but to be renewed
    renewed = await buy(shop, years=3, contact=None)
    assert (renewed["status"], renewed["expires"]) == ("done", 1921485858)
    assert gandi.orders == [("renew", {"duration": 3})]
    assert await buy(shop, years=3, contact=None) == renewed
    assert (gandi.domains[NAME], len(gandi.orders)) == (2030, 1)


async def test_who_was_told_that_it_is_free_renews_nothing_of_others(gandi: Gandi, shop: Node) -> None:
    await quote(shop)
    await quote(shop)
    assert (await buy(shop))["status"] == "done"
    assert (await quote(shop))["available"] is False  # somebody looks at what renewing it costs
    late = await buy(shop, "k2", owner=STRANGER)
    assert (late["status"], "moment ago" in late["detail"]) == ("refused", True)
    assert len(gandi.orders) == 1


async def test_the_registrar_takes_its_time(
    gandi: Gandi, shop: Node, managed: Managed, settings: Any
) -> None:
    gandi.slow = True
    await quote(shop)
    assert (await buy(shop))["status"] == "pending"
    assert (await buy(shop, contact=None))["status"] == "pending"
    # Until it is known what came of it, nobody else begins.
    assert (await quote(shop))["available"] is False
    assert (await buy(shop, "k2"))["status"] == "refused"
    node = await managed(**settings)
    gandi.settle()
    assert (await buy(node, contact=None))["status"] == "done"
    assert len(gandi.orders) == 1


@pytest.mark.parametrize("taken", [True, False])
async def test_an_answer_that_is_lost(taken: bool, gandi: Gandi, managed: Managed, settings: Any) -> None:
    never = threading.Event()
    never.set()  # the connection is cut
    gandi.slow = not taken
    node = await managed(**settings, lost_after=2)
    await quote(node)
    dry = {"seen": 0}

    def cut(method: str, path: str) -> Answer | None:
        if method == "POST":
            dry["seen"] += 1
            return Answer(wait=never) if dry["seen"] == 2 else None  # the first is the rehearsal
        return None

    gandi.mischief = cut
    first = await buy(node)
    assert first["status"] == "pending"
    gandi.mischief = None
    node = await managed(**settings, lost_after=2)
    if taken:
        assert (await buy(node, contact=None))["status"] == "done"
    else:
        with trio.fail_after(30):
            while (await buy(node, contact=None))["status"] == "pending":
                await trio.sleep(0.1)
        assert (await buy(node, contact=None))["status"] == "refused"
    assert len(gandi.orders) == 1


async def test_what_became_of_it_may_stay_unclear(
    gandi: Gandi, managed: Managed, settings: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    node = await managed(**settings, lost_after=1)
    gandi.slow = True
    await quote(node)
    assert (await buy(node))["status"] == "pending"
    gandi.taken.add(NAME)  # neither free nor in the account
    with trio.fail_after(30):
        while "operator" not in (found := await buy(node, contact=None))["detail"]:
            await trio.sleep(0.1)
    assert found["status"] == "pending"
    await buy(node, contact=None)
    out = capfd.readouterr()
    assert (out.out + out.err).count("domain_purchase_unclear") == 1


@pytest.mark.parametrize("step", ["before", "after"])
async def test_killed_on_the_way(
    step: str, gandi: Gandi, bench: Workbench, managed: Managed, settings: Any
) -> None:
    """SIGKILL while the registrar is being asked: taken by it, or not."""
    bench.parts(**settings, lost_after=1)  # the configuration
    never, posts = threading.Event(), [0]

    def hold(method: str, path: str) -> Answer | None:
        posts[0] += method == "POST"
        return Answer(wait=never) if posts[0] == 2 and method == "POST" else None

    gandi.mischief = hold
    gandi.slow = step == "before"
    script = str(Path(__file__).with_name("cut_off.py"))
    command = [
        sys.executable,
        script,
        str(bench.file),
        str(bench.data),
        NAME,
        OWNER,
        "k1",
        json.dumps(CONTACT),
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        with trio.fail_after(60):
            while not gandi.orders:
                assert process.poll() is None
                await trio.sleep(0.05)
    finally:
        process.kill()
        await trio.to_thread.run_sync(process.wait)
    gandi.mischief = None
    never.set()
    kept = b"".join(path.read_bytes() for path in bench.data.rglob("*") if path.is_file())
    assert b"asked" in kept
    assert not [
        value
        for value in CONTACT.values()
        if len(value) > 3 and value.encode() in kept and value != "individual"
    ]
    node = await managed(**settings, lost_after=1)
    with trio.fail_after(60):
        while (found := await buy(node, contact=None))["status"] == "pending":
            await trio.sleep(0.1)
    assert found["status"] == ("refused" if step == "before" else "done")
    assert len(gandi.orders) == 1


async def test_nothing_of_a_person_is_logged_kept_or_repeated(
    gandi: Gandi, shop: Node, bench: Workbench, capfd: pytest.CaptureFixture[str]
) -> None:
    await quote(shop)
    refused = await buy(shop, contact={**CONTACT, "zip": ""})
    assert refused["status"] == "refused"
    assert "owner.zip" in refused["detail"]
    assert gandi.orders == []
    await quote(shop)
    assert (await buy(shop, "k2"))["status"] == "done"
    await quote(shop, "other.example")
    gandi.mischief = lambda method, path: (
        Answer(500, json.dumps(CONTACT).encode()) if method == "POST" else None
    )
    with pytest.raises(Unavailable):
        await buy(shop, "k3", name="other.example")
    gandi.mischief = None
    out = capfd.readouterr()
    kept = b"".join(path.read_bytes() for path in bench.data.rglob("*") if path.is_file())
    for value in (*PERSONAL, TOKEN):
        assert value not in out.out + out.err + refused["detail"]
        assert value.encode() not in kept


@pytest.mark.parametrize(
    "change",
    [
        {"email": "nobody"}, {"phone": "0123456789"}, {"country": "France"}, {"type": "robot"}, {"type": "company"},
        {"given": ""}, {"given": "x" * 201}, {"city": "a\nb"}, {"passport": "1"},
    ],
)  # fmt: skip
async def test_contacts_that_are_none(change: dict[str, str], gandi: Gandi, shop: Node) -> None:
    await quote(shop)
    found = await buy(shop, contact={**CONTACT, **change})
    assert (found["status"], gandi.orders) == ("refused", [])
    assert "owner's" in found["detail"] or "contact" in found["detail"]


async def test_prices_are_kept_to(gandi: Gandi, managed: Managed, settings: Any) -> None:
    node = await managed(**settings)
    assert "price" in (await buy(node, "a"))["detail"]  # never asked for
    await quote(node)
    gandi.price = 15.51
    assert "risen" in (await buy(node, "b"))["detail"]
    assert "price" in (await buy(node, "c", years=2))["detail"]
    gandi.price = 12
    assert (await buy(node, "d"))["status"] == "done"
    node = await managed(**settings)  # with a fresh count of requests
    for price in (0, -1, "15", True, None, 1e12):
        gandi.price = price
        assert (await quote(node, "odd.example"))["available"] is False
    gandi.price = 15.5
    node = await managed(**settings)
    assert (await quote(node, "premium.example"))["available"] is False
    assert (await quote(node, "odd.example", 10))["available"] is False  # Gandi sells 9 years
    assert (await quote(node, "odd.example", 11))["available"] is False
    gandi.taken.add("odd.example")
    assert (await quote(node, "odd.example"))["available"] is False
    node = await managed(**settings, most=1_000_000)
    assert "dearer" in (await quote(node, "fine.example"))["detail"]
    node = await managed(**settings, most_daily=20_000_000)
    await quote(node, "fine.example")
    assert "today" in (await buy(node, "e", name="fine.example"))["detail"]
    assert len(gandi.orders) == 1


async def test_trouble_at_the_registrar(gandi: Gandi, managed: Managed, settings: Any) -> None:
    node = await managed(**settings)
    for answer in (
        Answer(500), Answer(302, headers=(("location", "http://127.0.0.1:1/"),)), Answer(200, b"<html>"),
        Answer(200, b"[" * 100_000), Answer(200, b"{}"), Answer(200, b" " * 1_100_000), Answer(429),
        fault(401, f"wrong {TOKEN}", "Unauthorized", "HTTPUnauthorized"),
    ):  # fmt: skip
        node = await managed(**settings)  # with a fresh count of requests
        gandi.mischief = lambda method, path, answer=answer: answer
        with pytest.raises(Unavailable) as caught:
            await quote(node)
        assert TOKEN not in caught.value.detail
    gandi.mischief = None
    gandi.close()
    node = await managed(**settings)
    with pytest.raises(Unavailable, match="reached"):
        await quote(node)


async def test_no_more_is_asked_than_the_registrar_takes(gandi: Gandi, shop: Node) -> None:
    gandi.slow = True
    for _ in range(8):
        await quote(shop)
    with pytest.raises(TooMany):  # who looks at prices leaves room for who buys
        await quote(shop)
    assert len(gandi.asked) == 16
    assert (await buy(shop))["status"] == "pending"
    with pytest.raises(Unavailable, match="Too much"):  # noqa: PT012 until it is too much
        while True:
            await buy(shop, contact=None)
    assert len(gandi.asked) == 25


async def test_without_a_registrar_nothing_is_sold(managed: Managed) -> None:
    node = await managed()
    assert await node.ask("name_quote", name=NAME, years=1) is None
    assert await node.ask("name_purchase", name=NAME, years=1, owner=OWNER, key="k", contact=None) is None


async def test_a_token_that_others_may_read(managed: Managed, settings: Any) -> None:
    Path(settings["key_file"]).chmod(0o644)
    node = await managed(**settings)
    [info] = [one for one in node.manager.describe() if one.name == "dns_registrar"]
    assert info.health == "failing"
    assert "key_file" in info.error
    assert TOKEN not in info.error


def test_importing_the_plugin_imports_nothing_heavy() -> None:
    heavy = "{'httpx', 'dns.dnssec', 'tinydb'}"
    code = f"import decentraspace_dns_registrar, sys; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
