"""Blocks, reports and log over real HTTP, as administrators, strangers and spammers use them."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from decentraspace.content import cid as cids
from decentraspace.identity.ethereum import checksum_address
from decentraspace.moderation.takedowns import verify_log
from tests.api.small_node import Person, SmallNode
from tests.moderation.conftest import World

CID = cids.to_text(cids.make(cids.RAW, b"x"))
REPORT = {
    "url": "https://site.example/a?b=c",
    "category": "malware",
    "text": "It is bad.",
    "contact": "a@b.example",
}


@pytest.fixture
async def admin_of() -> Callable[..., Any]:
    async def make(node: SmallNode, client: httpx.AsyncClient) -> dict[str, str]:
        person = await Person(node).log_in(client)
        object.__setattr__(node.config.node, "admins", (checksum_address(person.address),))
        return person.headers

    return make


@pytest.fixture
async def client(world: World) -> AsyncIterator[httpx.AsyncClient]:
    async with world.node.serving() as client:
        yield client


@pytest.fixture
async def admin(world: World, client: httpx.AsyncClient, admin_of: Callable[..., Any]) -> dict[str, str]:
    return dict(await admin_of(world.node, client))


async def test_block_list_and_unblock(world: World, client: httpx.AsyncClient, admin: dict[str, str]) -> None:
    body = {"cid": CID, "status": 451, "reason": "a court said so"}
    made = (await client.post("/moderation/blocks/", json=body, headers=admin)).json()
    assert made == {**made, "kind": "cid", "target": CID, "status": 451, "hidden": False}
    assert (made["changed"], made["before"]) == (True, None)
    again = (await client.post("/moderation/blocks/", json=body, headers=admin)).json()
    assert again == {**made, "changed": False}
    other = {**body, "reason": "another court"}
    second = (await client.post("/moderation/blocks/", json=other, headers=admin)).json()
    assert second["changed"]
    assert second["before"] == {k: v for k, v in made.items() if k not in ("changed", "before")}
    made = (await client.post("/moderation/blocks/", json=body, headers=admin)).json()
    await client.post("/moderation/blocks/", json={"site": "blog--" + "a" * 16}, headers=admin)
    owner = checksum_address(world.address)
    await client.post("/moderation/blocks/", json={"owner": owner, "hidden": True}, headers=admin)
    page = (await client.get("/moderation/blocks/?limit=2", headers=admin)).json()
    assert [b["kind"] for b in page["blocks"]] == ["cid", "site"]
    rest = (await client.get(f"/moderation/blocks/?cursor={page['next']}", headers=admin)).json()
    assert [(b["kind"], b["target"]) for b in rest["blocks"]] == [("owner", owner)]
    assert rest["next"] is None

    gone = await client.delete(f"/moderation/blocks/?owner={owner}&reason=wrong+one", headers=admin)
    assert gone.json()["kind"] == "owner"
    assert (await client.delete(f"/moderation/blocks/?id={made['id']}", headers=admin)).status_code == 200
    assert (await client.delete(f"/moderation/blocks/?id={made['id']}", headers=admin)).status_code == 404


@pytest.mark.parametrize("status", [410, 451])
async def test_a_deploy_is_refused_with_a_problem_document(
    status: int, world: World, client: httpx.AsyncClient, admin: dict[str, str]
) -> None:
    person = await Person(world.node).log_in(client)
    root = world.store({"index.html": b"hello"})
    body = {"cid": cids.to_text(root), "status": status, "reason": "no"}
    await client.post("/moderation/blocks/", json=body, headers=admin)
    answer = await client.post("/hosting/deploy/", json=person.site(root), headers=person.headers)
    assert answer.status_code == status
    problem = answer.json()
    slug = "blocked" if status == 410 else "blocked-by-law"
    assert problem["type"] == f"urn:decentraspace:problem:{slug}"
    assert problem["by"] == "operator"
    assert "no" in problem["detail"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"cid": CID, "site": "a" * 16},
        {"cid": "x"},
        {"owner": "0x1"},
        {"cid": CID, "status": 404},
        {"cid": CID, "reason": "x" * 501},
        {"cid": CID, "reason": "\x00"},
        {"cid": CID, "more": 1},
    ],
)
async def test_what_is_no_block(
    body: dict[str, Any], client: httpx.AsyncClient, admin: dict[str, str]
) -> None:
    answer = await client.post("/moderation/blocks/", json=body, headers=admin)
    assert answer.status_code == 400
    assert (await client.get("/moderation/log/")).json()["entries"] == []


async def test_only_administrators_decide_and_read_reports(
    world: World, client: httpx.AsyncClient, admin: dict[str, str]
) -> None:
    stranger = (await Person(world.node).log_in(client)).headers
    calls: list[tuple[str, str, Any]] = [
        ("POST", "/moderation/blocks/", {"cid": CID}),
        ("GET", "/moderation/blocks/", None),
        ("DELETE", "/moderation/blocks/?id=1", None),
        ("GET", "/moderation/reports/", None),
        ("PATCH", "/moderation/reports/", {"id": 1, "decision": ""}),
    ]
    for method, path, body in calls:
        for headers, status in ((stranger, 403), ({}, 401)):
            answer = await client.request(method, path, json=body, headers=headers)
            assert answer.status_code == status, (method, path)
    assert (await client.get("/moderation/log/")).json()["entries"] == []


async def test_the_log_is_public_paged_and_verifiable(
    world: World, client: httpx.AsyncClient, admin: dict[str, str]
) -> None:
    for number in range(5):
        body = {"cid": cids.to_text(cids.make(cids.RAW, bytes((number,)))), "hidden": number == 3}
        await client.post("/moderation/blocks/", json=body, headers=admin)
    entries, cursor = [], ""
    while cursor is not None:
        page = (await client.get(f"/moderation/log/?limit=2&cursor={cursor}")).json()
        assert page["peer_id"] == world.node.key.peer_id
        entries += page["entries"]
        cursor = page["next"]
    verified = verify_log([base64.b64decode(e["entry"]) for e in entries], peer_id=world.node.key.peer_id)
    assert verified.entries == 5
    assert verified.head.hex() == entries[-1]["hash"]
    for cursor in ("-1", "x", "9" * 19):
        assert (await client.get(f"/moderation/log/?cursor={cursor}")).status_code == 400


# -- reports


async def test_a_report_and_its_end(client: httpx.AsyncClient, admin: dict[str, str]) -> None:
    made = (await client.post("/moderation/reports/", json=REPORT)).json()
    v0 = {"cid": "QmVTF1yEejXd9iMgoRTFDxBv7HAz9kuZcQNBzHrceuK9HR", "category": "objection"}
    assert (await client.post("/moderation/reports/", json=v0)).status_code == 200
    page = (await client.get("/moderation/reports/?limit=1", headers=admin)).json()
    assert page["reports"][0] == {**page["reports"][0], "id": made["id"], "target": REPORT["url"], "times": 1}
    rest = (await client.get(f"/moderation/reports/?cursor={page['next']}", headers=admin)).json()
    assert rest["reports"][0]["target"] == "bafybeidjwik6im54nrpfg7osdvmx7zojl5oaxqel5cmsz46iuelwf5acja"
    body = {"id": made["id"], "decision": "It is blocked."}
    closed = (await client.patch("/moderation/reports/", json=body, headers=admin)).json()
    assert closed["decision"] == "It is blocked."
    assert [r["id"] for r in (await client.get("/moderation/reports/", headers=admin)).json()["reports"]] == [
        2
    ]
    found = (await client.get("/moderation/reports/?closed=1", headers=admin)).json()["reports"]
    assert [r["id"] for r in found] == [made["id"]]
    missing = {"id": 999, "decision": ""}
    assert (await client.patch("/moderation/reports/", json=missing, headers=admin)).status_code == 404


async def test_the_form_and_the_page_work_without_scripts(
    client: httpx.AsyncClient, admin: dict[str, str]
) -> None:
    page = await client.get("/moderation/")
    assert page.headers["content-type"].startswith("text/html")
    assert "script" not in page.text
    assert "form-action 'self'" in page.headers["content-security-policy"]
    for where in (REPORT["url"], CID):
        form = {"where": where, "category": "spam", "text": "so much", "contact": ""}
        answer = await client.post("/moderation/reports/", data=form)
        assert answer.status_code == 200
        assert "has the number" in answer.text
    found = (await client.get("/moderation/reports/", headers=admin)).json()["reports"]
    assert [r["target"] for r in found] == [REPORT["url"], CID]


@pytest.mark.parametrize(
    "change",
    [
        {"url": None},
        {"cid": CID},
        {"url": "javascript:alert(1)"},
        {"url": "https://a b"},
        {"url": "https://a/\x1b[2J"},
        {"url": "https://" + "a" * 2048},
        {"category": "nonsense"},
        {"text": "x" * 4001},
        {"text": "\x1b]0;title\x07"},
        {"text": "a\x00b"},
        {"contact": "x" * 201},
        {"contact": "line\nline\x9b"},
        {"admin": True},
    ],
)
async def test_hostile_reports_are_refused(
    change: dict[str, Any], client: httpx.AsyncClient, admin: dict[str, str]
) -> None:
    body = {k: v for k, v in {**REPORT, **change}.items() if v is not None}
    answer = await client.post("/moderation/reports/", json=body)
    assert answer.status_code == 400, answer.text
    assert (await client.get("/moderation/reports/", headers=admin)).json()["reports"] == []


@pytest.mark.parametrize(
    ("content", "media", "status"),
    [
        (b"{" + b" " * 70_000 + b"}", "application/json", 413),
        (b"where=" + b"x" * 70_000, "application/x-www-form-urlencoded", 413),
        (b"a=b&" * 30, "application/x-www-form-urlencoded", 400),
        (b"category=spam&category=spam&where=https://a", "application/x-www-form-urlencoded", 400),
        (b"\xff\xfe", "application/x-www-form-urlencoded", 400),
        (b"", "application/x-www-form-urlencoded", 400),
        (b"<x/>", "text/xml", 415),
        (b"[" * 60_000, "application/json", 400),
    ],
)
async def test_hostile_bodies(content: bytes, media: str, status: int, client: httpx.AsyncClient) -> None:
    answer = await client.post("/moderation/reports/", content=content, headers={"Content-Type": media})
    assert answer.status_code == status


async def test_one_address_is_limited_and_others_are_not(
    client: httpx.AsyncClient, admin: dict[str, str]
) -> None:
    """Addresses as a proxy on this machine tells them. What a client wrote before its own does not count."""

    waits: list[int] = []

    async def send(number: int, forwarded: str) -> int:
        body = {**REPORT, "text": f"number {number}"}
        headers = {"X-Forwarded-For": forwarded}
        answer = await client.post("/moderation/reports/", json=body, headers=headers)
        if answer.status_code == 429:
            waits.append(int(answer.headers["retry-after"]))
            assert answer.json()["retry_after"] == waits[-1]
        return answer.status_code

    statuses = [await send(n, f"10.0.0.{n}, 203.0.113.7") for n in range(7)]
    assert statuses == [200] * 5 + [429] * 2
    assert await send(8, "203.0.113.8") == 200
    six = [await send(10 + n, f"2001:db8::{n}") for n in range(7)]
    assert six == [200] * 5 + [429] * 2, "one network of IPv6 is one sender"
    assert len(waits) == 4
    assert all(3000 < wait <= 3600 for wait in waits), "until the first of the five is an hour old"
    assert await send(20, "2001:db8:0:1::1") == 200


async def test_the_same_again_fills_nothing(client: httpx.AsyncClient, admin: dict[str, str]) -> None:
    for number in range(20):
        headers = {"X-Forwarded-For": f"203.0.113.{number}"}
        assert (await client.post("/moderation/reports/", json=REPORT, headers=headers)).json() == {"id": 1}
    [one] = (await client.get("/moderation/reports/", headers=admin)).json()["reports"]
    assert one["times"] == 20


def test_all_addresses_together_are_limited_and_the_inbox_is(world: World, tmp_path: Path) -> None:
    from decentraspace.errors import QuotaExceeded, TooMany
    from decentraspace.moderation import reports

    inbox = world.moderation.reports
    now = 0.0
    for number in range(reports._ALL):
        inbox.add(CID, "spam", str(number), "", f"203.0.{number // 250}.{number % 250}", now)
    with pytest.raises(TooMany):
        inbox.add(CID, "spam", "more", "", "198.51.100.1", now)
    inbox.add(CID, "spam", "later", "", "198.51.100.1", now + 3601)
    with world.moderation.decisions.writing() as db:
        db.executemany(
            "INSERT INTO reports (created, last, times, same, target, category, text, contact) "
            "VALUES (0, 0, 1, ?, '', 'spam', '', '')",
            [(number.to_bytes(4, "big"),) for number in range(reports._OPEN_MOST)],
        )
    with pytest.raises(QuotaExceeded):
        inbox.add(CID, "spam", "no room", "", "198.51.100.2", now + 90_000)
    addresses = b"".join(path.read_bytes() for path in tmp_path.rglob("moderation.sqlite*"))
    assert b"198.51.100.1" not in addresses
