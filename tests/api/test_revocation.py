"""A session key that was revoked has no access any more, wherever the revocation was taken."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from typing import Any

import httpx

from decentraspace.content import cid as cids
from decentraspace.identity import didkey
from tests.api.small_node import Person, SmallNode
from tests.records.factory import make_revocation, make_session, make_site, take

FILE = {"Content-Type": "application/octet-stream"}


def slug(answer: httpx.Response) -> str:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    return str(answer.json()["type"]).rpartition(":")[2]


def newer_session(person: Person) -> Any:
    return make_session(person.wallet, person.node.rules, issued_at=int(time.time()) - 10)


async def login(client: httpx.AsyncClient, person: Person) -> httpx.Response:
    challenge = (await client.get("/auth/login/")).json()
    return await client.post("/auth/login/", json=person.login_body(challenge))


async def test_a_revoked_key_is_shut_out_at_once(client: httpx.AsyncClient, person: Person) -> None:
    assert (await client.get("/auth/tier/", headers=person.headers)).status_code == 200
    record = make_revocation(person.wallet, newer_session(person), person.key, person.node.rules)
    body = {"record": base64.b64encode(record).decode()}
    answer = await client.post("/auth/revoke/", json=body, headers=person.headers)
    assert answer.status_code == 204, answer.text

    for method, path, more in (
        ("GET", "/auth/tier/", {}),
        ("GET", "/hosting/status/", {}),
        ("POST", "/storage/upload/", {"content": b"x", "headers": FILE}),
        ("POST", "/auth/revoke/", {"json": body}),
    ):
        headers = {**more.pop("headers", {}), **person.headers}  # type: ignore[attr-defined]
        refused = await client.request(method, path, headers=headers, **more)  # type: ignore[arg-type]
        assert (refused.status_code, slug(refused)) == (401, "revoked-key"), (method, path)
    assert list(person.node.blocks.pins()) == []

    again = await login(client, person)
    assert (again.status_code, slug(again)) == (401, "revoked-key")
    person.key, person.delegation = newer_session(person)
    assert (await login(client, person)).status_code == 200


async def test_a_revocation_taken_elsewhere_counts(
    client: httpx.AsyncClient, person: Person, make_node: Callable[..., SmallNode]
) -> None:
    elsewhere = make_node()
    record = make_revocation(person.wallet, newer_session(person), person.key, person.node.rules)
    assert (await client.get("/auth/tier/", headers=person.headers)).status_code == 200
    person.node.records.add(take(record, elsewhere.key), now=int(time.time()))
    refused = await client.get("/auth/tier/", headers=person.headers)
    assert (refused.status_code, slug(refused)) == (401, "revoked-key")
    assert slug(await login(client, person)) == "revoked-key"


async def test_a_revocation_survives_a_restart(make_node: Callable[..., SmallNode]) -> None:
    node = make_node()
    async with node.serving() as client:
        person = await Person(node).log_in(client)
        record = make_revocation(person.wallet, newer_session(person), person.key, node.rules)
        await client.post(
            "/auth/revoke/", json={"record": base64.b64encode(record).decode()}, headers=person.headers
        )
    node.close()
    fresh = SmallNode(node.config.data_dir)
    try:
        async with fresh.serving() as client:
            assert (await client.get("/auth/tier/", headers=person.headers)).status_code == 401
            assert slug(await login(client, person)) == "revoked-key"
    finally:
        fresh.close()


async def test_a_key_revoked_for_one_site_keeps_its_others(
    client: httpx.AsyncClient, node: SmallNode
) -> None:
    everything = await Person(node).log_in(client)
    blog = everything.site_id("blog")
    limited = Person(node, scope=blog)
    limited.wallet, limited.address = everything.wallet, everything.address
    limited.key, limited.delegation = make_session(everything.wallet, node.rules, scope=blog)
    await limited.log_in(client)
    for person in (everything, limited):
        record = make_revocation(
            everything.wallet, newer_session(everything), person.key, node.rules, site=blog, after=2
        )
        node.records.add(take(record, node.key), now=int(time.time()))
    assert (await client.get("/auth/tier/", headers=everything.headers)).status_code == 200
    assert slug(await client.get("/auth/tier/", headers=limited.headers)) == "revoked-key"


async def test_a_revocation_that_changes_nothing_is_refused(
    client: httpx.AsyncClient, node: SmallNode, person: Person
) -> None:
    """Only a newer login takes a key back: not the key itself, none of the same second, none of before."""
    now = int(time.time())
    session = (person.key, person.delegation)
    laptop = Person(node)
    laptop.wallet, laptop.address = person.wallet, person.address
    laptop.key, laptop.delegation = make_session(person.wallet, node.rules, issued_at=now - 30)
    await laptop.log_in(client)

    async def revoke(signer: Any, key: Any) -> httpx.Response:
        record = make_revocation(person.wallet, signer, key, node.rules)
        body = {"record": base64.b64encode(record).decode()}
        return await client.post("/auth/revoke/", json=body, headers=person.headers)

    same_second = make_session(person.wallet, node.rules, issued_at=now - 30)
    before = make_session(person.wallet, node.rules, issued_at=now - 60)
    for signer, key in ((session, person.key), (same_second, laptop.key), (before, laptop.key)):
        refused = await revoke(signer, key)
        assert (refused.status_code, slug(refused)) == (409, "revocation-too-old")
    assert (await client.get("/auth/tier/", headers=laptop.headers)).status_code == 200
    assert (await revoke(newer_session(person), laptop.key)).status_code == 204
    assert slug(await client.get("/auth/tier/", headers=laptop.headers)) == "revoked-key"


async def test_a_key_that_published_without_logging_in_here(
    client: httpx.AsyncClient, node: SmallNode, person: Person
) -> None:
    now = int(time.time())
    thief = make_session(person.wallet, node.rules, issued_at=now - 5)
    record = make_site(person.wallet, thief, node.rules, root=cids.make(cids.RAW, b"x"))
    node.records.add(take(record, node.key), now=now)
    status = (await client.get("/hosting/status/", params={"site": person.site_id()})).json()
    key = status["history"][0]["key"]
    assert didkey.decode(key) == thief[0].public_key().public_bytes_raw()
    older = make_revocation(person.wallet, newer_session(person), thief[0], node.rules)
    refused = await client.post(
        "/auth/revoke/", json={"record": base64.b64encode(older).decode()}, headers=person.headers
    )
    assert (refused.status_code, slug(refused)) == (409, "revocation-too-old")


async def test_one_sees_which_revocations_stand(
    client: httpx.AsyncClient, node: SmallNode, person: Person
) -> None:
    now = int(time.time())
    first, second, third = (
        make_session(person.wallet, node.rules, issued_at=now - age) for age in (50, 40, 30)
    )
    blog = person.site_id("blog")

    def did(session: Any) -> str:
        return didkey.encode(session[0].public_key().public_bytes_raw())

    def add(signer: Any, key: Any, **more: Any) -> None:
        record = make_revocation(person.wallet, signer, key[0], node.rules, **more)
        node.records.add(take(record, node.key), now=int(time.time()))

    async def listed(**query: Any) -> Any:
        answer = await client.get("/auth/revocations/", params=query, headers=person.headers)
        assert answer.status_code == 200, answer.text
        return answer.json()

    assert await listed() == {"revocations": [], "next": None}
    add(second, first)
    add(third, first, site=blog, after=2)
    found = await listed()
    assert [(r["key"], r["signer"], r["site"], r["after"]) for r in found["revocations"]] == [
        (did(first), did(third), blog, 2),
        (did(first), did(second), None, 0),
    ]
    page = await listed(limit=1)
    assert page["revocations"] == found["revocations"][:1]
    last = await listed(limit=1, cursor=page["next"])
    assert (last["revocations"], last["next"]) == (found["revocations"][1:], None)
    add(third, second)
    assert {(r["key"], r["site"]) for r in (await listed())["revocations"]} == {
        (did(second), None),
        (did(first), blog),
    }, "the one that the second had signed has fallen"
    for cursor in ("x", "-1", "9" * 17):
        answer = await client.get("/auth/revocations/", params={"cursor": cursor}, headers=person.headers)
        assert answer.status_code == 400
