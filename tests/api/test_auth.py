"""Logins over HTTP: what is refused, with which problem; tiers; revocations."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import trio

from decentraspace.records.schema import Revocation
from decentraspace.records.signing import sign_revocation
from decentraspace.records.verdict import NetworkRules
from tests.api.small_node import Person, SmallNode
from tests.records.factory import make_session

LOGIN = "/auth/login/"


def slug(answer: httpx.Response) -> str:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    return str(answer.json()["type"]).rpartition(":")[2]


async def test_a_login_gives_a_token_for_this_node_alone(
    client: httpx.AsyncClient, node: SmallNode, make_node: Callable[..., SmallNode]
) -> None:
    person = Person(node)
    challenge = (await client.get(LOGIN)).json()
    assert challenge["audience"] == node.key.peer_id
    assert challenge["network"] == "devnet"
    body = person.login_body(challenge)
    answer = (await client.post(LOGIN, json=body)).json()
    assert answer["owner"] == person.wallet.address
    headers = {"Authorization": f"Bearer {answer['token']}"}
    assert (await client.get("/auth/tier/", headers=headers)).json()["owner"] == person.wallet.address

    replayed = await client.post(LOGIN, json=body)
    assert (replayed.status_code, slug(replayed)) == (401, "replayed-nonce")

    other = make_node()
    async with other.serving() as elsewhere:
        refused = await elsewhere.get("/auth/tier/", headers=headers)
        assert (refused.status_code, slug(refused)) == (401, "bad-token")
        theirs = (await elsewhere.get(LOGIN)).json()
        proof = await elsewhere.post(LOGIN, json=person.login_body(theirs, audience=node.key.peer_id))
        assert (proof.status_code, slug(proof)) == (401, "wrong-audience")
        assert (await elsewhere.post(LOGIN, json=person.login_body(theirs))).status_code == 200

    assert (await client.delete(LOGIN, headers=headers)).status_code == 204
    assert (await client.get("/auth/tier/", headers=headers)).status_code == 401


def other_rules(**changes: Any) -> NetworkRules:
    return NetworkRules(
        **{"name": "devnet", "chain_id": 31337, "siwe_domain": "decentraspace.localhost", **changes}
    )


@pytest.mark.parametrize(
    ("session", "expected"),
    [
        ({"rules": other_rules(siwe_domain="evil.example")}, (401, "wrong-domain")),
        ({"rules": other_rules(chain_id=1)}, (401, "wrong-chain")),
        ({"issued_at": 1_600_000_000, "expires_at": 1_600_000_100}, (401, "expired-delegation")),
        ({"issued_at": int(time.time()) + 9000}, (401, "early-delegation")),
        ({"issued_at": 1_600_000_000, "expires_at": 1_900_000_000}, (400, "malformed-message")),
        ({"scope": "everything"}, (400, "malformed-message")),
    ],
)
async def test_delegations_that_do_not_hold(
    client: httpx.AsyncClient, node: SmallNode, session: dict[str, Any], expected: tuple[int, str]
) -> None:
    person = Person(node)
    rules = session.pop("rules", node.rules)
    person.key, person.delegation = make_session(person.wallet, rules, **session)
    answer = await client.post(LOGIN, json=person.login_body((await client.get(LOGIN)).json()))
    assert (answer.status_code, slug(answer)) == expected
    assert answer.json()["detail"]


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"message": ""}, 400),
        ({"message": "hello"}, 400),
        ({"message": "x" * 5000}, 400),
        ({"message": None}, 400),
        ({"signature": "0x" + "00" * 65}, 401),
        ({"signature": "0x" + "ff" * 65}, 401),
        ({"signature": "0x12"}, 400),
        ({"signature": "zz" * 65}, 400),
        ({"nonce": "made-up"}, 401),
        ({"nonce": "0" * 100}, 401),
        ({"nonce": "\u00e9"}, 401),
        ({"nonce": ""}, 401),
        ({"audience": "12D3KooWsomeoneelse"}, 401),
        ({"issued_at": 0}, 401),
        ({"issued_at": -1}, 400),
        ({"issued_at": 10**30}, 401),
        ({"issued_at": True}, 400),
        ({"issued_at": "now"}, 400),
        ({"issued_at": 1.5}, 400),
        ({"proof": "AAAA"}, 401),
        ({"proof": "not base64!"}, 400),
        ({"proof": ""}, 401),
        ({"extra": 1}, 400),
    ],
)
async def test_tampered_logins(
    client: httpx.AsyncClient, node: SmallNode, changes: dict[str, Any], status: int
) -> None:
    body = Person(node).login_body((await client.get(LOGIN)).json(), **changes)
    answer = await client.post(LOGIN, json=body)
    assert answer.status_code == status, answer.text
    assert slug(answer)
    assert answer.json()["status"] == status
    assert "token" not in answer.json()


ODD = [
    "",
    "\x00",
    "\ud800",
    "\u20ac" * 50,
    "x" * 60_000,
    None,
    True,
    -1,
    10**400,
    1.5,
    [],
    ["x"],
    {},
    {"x": []},
]


@pytest.mark.parametrize("field", ["message", "signature", "nonce", "audience", "issued_at", "proof"])
async def test_nothing_in_a_login_is_more_than_a_refusal(
    client: httpx.AsyncClient, node: SmallNode, field: str
) -> None:
    body = Person(node).login_body((await client.get(LOGIN)).json())
    for value in ODD:
        answer = await send(client, {**body, field: value})
        assert answer.status_code in (400, 401), (value, answer.text)
        assert slug(answer)
    missing = await send(client, {name: given for name, given in body.items() if name != field})
    assert (missing.status_code, slug(missing)) == (400, "bad-input")
    assert field in missing.json()["detail"]
    # None of it used the challenge up.
    assert (await send(client, body)).status_code == 200


async def send(client: httpx.AsyncClient, body: Any) -> httpx.Response:
    """As ASCII: httpx would refuse to send half a surrogate pair, an attacker does not."""
    return await client.post(
        LOGIN, content=json.dumps(body).encode("ascii"), headers={"Content-Type": "application/json"}
    )


@pytest.mark.parametrize(
    ("content", "media", "status"),
    [
        (b"", "application/json", 400),
        (b"null", "application/json", 400),
        (b"[]", "application/json", 400),
        (b'"login"', "application/json", 400),
        (b"{", "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b"[" * 5000, "application/json", 400),
        (b'{"issued_at": NaN}', "application/json", 400),
        (b'{"issued_at": ' + b"9" * 10_000 + b"}", "application/json", 400),
        (b" " * 70_000, "application/json", 413),
        (b"{}", "text/plain", 415),
        (b"nonce=x", "application/x-www-form-urlencoded", 415),
    ],
)
async def test_bodies_that_are_no_login(
    client: httpx.AsyncClient, content: bytes, media: str, status: int
) -> None:
    answer = await client.post(LOGIN, content=content, headers={"Content-Type": media})
    assert answer.status_code == status, answer.text
    assert slug(answer)
    assert answer.json()["status"] == status


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_other_methods(client: httpx.AsyncClient, method: str) -> None:
    answer = await client.request(method, LOGIN)
    assert answer.status_code == 405
    assert slug(answer)
    assert {"GET", "POST", "DELETE"} <= set(answer.headers["allow"].split(", "))


async def test_the_signature_with_or_without_0x(client: httpx.AsyncClient, node: SmallNode) -> None:
    person = Person(node)
    plain = person.delegation.signature.hex()
    for signature in (plain, plain.upper(), "0x" + plain.upper()):
        body = person.login_body((await client.get(LOGIN)).json(), signature=signature)
        assert (await client.post(LOGIN, json=body)).status_code == 200
    for signature in ("0X" + plain, "0x" + plain[:-1], " " + plain, plain + "\n", plain[:-1] + "\u0661"):
        body = person.login_body((await client.get(LOGIN)).json(), signature=signature)
        answer = await client.post(LOGIN, json=body)
        assert (answer.status_code, slug(answer)) == (400, "bad-input")


async def test_logins_at_once_with_one_nonce_give_one_token(
    client: httpx.AsyncClient, node: SmallNode
) -> None:
    body = Person(node).login_body((await client.get(LOGIN)).json())
    answers: list[httpx.Response] = []

    async def log_in() -> None:
        answers.append(await client.post(LOGIN, json=body))

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(log_in)
    assert sorted(answer.status_code for answer in answers) == [200] + [401] * 7
    assert {slug(answer) for answer in answers if answer.status_code == 401} == {"replayed-nonce"}


async def test_a_stolen_delegation_is_useless_without_its_key(
    client: httpx.AsyncClient, node: SmallNode
) -> None:
    owner, thief = Person(node), Person(node)
    thief.delegation = owner.delegation
    answer = await client.post(LOGIN, json=thief.login_body((await client.get(LOGIN)).json()))
    assert (answer.status_code, slug(answer)) == (401, "bad-proof")


@pytest.mark.parametrize(
    "header",
    ["Bearer", "Bearer x", "Basic eDp4", "x", "Bearer " + "A" * 10_000, "Bearer \u00ff"],
)
async def test_tokens_that_are_none(client: httpx.AsyncClient, header: str) -> None:
    answer = await client.get("/auth/tier/", headers={"Authorization": header.encode("latin-1")})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert slug(answer)


async def test_tiers_are_set_by_administrators_only(make_node: Callable[..., SmallNode]) -> None:
    node = make_node()
    async with node.serving() as client:
        person = await Person(node).log_in(client)
        admin = await Person(node).log_in(client)
        change = {"owner": person.wallet.address, "tier": "paid"}
        refused = await client.patch("/auth/tier/", json=change, headers=person.headers)
        assert (refused.status_code, slug(refused)) == (403, "forbidden")
        object.__setattr__(node.config.node, "admins", (admin.wallet.address,))
        done = await client.patch("/auth/tier/", json=change, headers=admin.headers)
        assert done.json()["tier"] == "paid"
        mine = (await client.get("/auth/tier/", headers=person.headers)).json()
        assert mine["tier"] == "paid"
        assert mine["limits"]["sites"] == node.config.limits.paid_sites
        assert mine["used"] == {"sites": 0, "bytes": 0}
        seen = await client.get("/auth/tier/", params={"owner": person.wallet.address}, headers=admin.headers)
        assert seen.json()["owner"] == person.wallet.address
        peek = await client.get("/auth/tier/", params={"owner": admin.wallet.address}, headers=person.headers)
        assert peek.status_code == 403
        bad = await client.patch("/auth/tier/", json={**change, "tier": "gold"}, headers=admin.headers)
        assert bad.status_code == 400


async def test_a_suspended_wallet_is_shut_out(client: httpx.AsyncClient, node: SmallNode) -> None:
    person = await Person(node).log_in(client)
    node.sessions.suspend(person.address, True, person.address)
    answer = await client.get("/auth/tier/", headers=person.headers)
    assert (answer.status_code, slug(answer)) == (403, "suspended")


async def test_a_revoked_key_no_longer_publishes(
    client: httpx.AsyncClient, node: SmallNode, person: Person
) -> None:
    newer = make_session(person.wallet, node.rules, issued_at=int(time.time()) - 10)
    revocation = Revocation(
        owner=person.address,
        key=person.key.public_key().public_bytes_raw(),
        site=None,
        after=0,
        created=int(time.time()),
    )
    record = sign_revocation(revocation, *newer, node.rules)
    body = {"record": base64.b64encode(record).decode()}
    other = await Person(node).log_in(client)
    assert (await client.post("/auth/revoke/", json=body, headers=other.headers)).status_code == 403
    site = await client.post("/auth/revoke/", json=person.site(b"\x01\x55\x00\x00"), headers=person.headers)
    assert site.status_code == 400
    answer = await client.post("/auth/revoke/", json=body, headers=person.headers)
    assert answer.status_code == 204, answer.text
    assert node.records.counts()["revocation"] == 1
