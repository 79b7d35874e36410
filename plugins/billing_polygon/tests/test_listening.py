"""Pushes of RPC providers: whose they are, and what they bring about."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from typing import Any

import pytest
import trio
from eth_utils import keccak
from plugins.billing_polygon.tests.conftest import Managed, World
from plugins.billing_polygon.tests.test_on_chain import ask

from decentraspace.errors import Forbidden, NotFound, TooLarge
from decentraspace.plugins import PluginManager
from decentraspace.public import HttpRequest
from decentraspace_billing_polygon import listening
from decentraspace_billing_polygon.listening import Listener

KEYS = ("first secret", "second secret")
BODY = b'{"webhookId":"wh_1","event":{}}'


def mac(key: str, message: bytes) -> str:
    return hmac.new(key.encode(), message, hashlib.sha256).hexdigest()


def alchemy(key: str, body: bytes = BODY) -> dict[str, str]:
    return {"x-alchemy-signature": mac(key, body)}


def quicknode(key: str, at: float = 0.0, nonce: str = "n1", body: bytes = BODY) -> dict[str, str]:
    when = str(int(time.time() + at))
    signed = nonce.encode() + when.encode() + body
    return {"x-qn-nonce": nonce, "x-qn-timestamp": when, "x-qn-signature": mac(key, signed)}


def moralis(key: str, body: bytes = BODY) -> dict[str, str]:
    return {"x-signature": "0x" + keccak(body + key.encode()).hex()}


@pytest.mark.parametrize("sign", [alchemy, quicknode, moralis])
@pytest.mark.parametrize("key", KEYS)
def test_takes_what_is_signed_once(sign: Any, key: str) -> None:
    listener, headers = Listener(KEYS), sign(key)
    assert listener.push(headers, BODY)
    assert not listener.push(headers, BODY)
    with pytest.raises(Forbidden):
        listener.push(headers, BODY + b" ")
    with pytest.raises(Forbidden):
        Listener(KEYS).push(sign("third secret"), BODY)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-alchemy-signature": ""},
        {"x-alchemy-signature": "0x"},
        {"x-alchemy-signature": "é" * 64},
        {"x-signature": "0x" + 64 * "0"},
        {**quicknode(KEYS[0]), "x-qn-nonce": "n2"},
        {**quicknode(KEYS[0]), "x-qn-timestamp": "²"},
        {**quicknode(KEYS[0]), "x-qn-timestamp": ""},
    ],
)
def test_refuses_the_rest(headers: dict[str, str]) -> None:
    with pytest.raises(Forbidden):
        Listener(KEYS).push(headers, BODY)


@pytest.mark.parametrize("seconds", [-listening.WINDOW - 60, listening.WINDOW + 60])
def test_refuses_other_times(seconds: float) -> None:
    with pytest.raises(Forbidden, match="Timestamp"):
        Listener(KEYS).push(quicknode(KEYS[0], at=seconds), BODY)


def test_bounds() -> None:
    with pytest.raises(NotFound):
        Listener(()).push(alchemy(KEYS[0]), BODY)
    with pytest.raises(TooLarge):
        Listener(KEYS).push(alchemy(KEYS[0]), bytes(listening.BODY_MOST + 1))


async def push(manager: PluginManager, body: bytes) -> Any:
    (mounted,) = await manager.routes()
    assert mounted.route.path == "/blockchain/listener/"
    request = HttpRequest("POST", "/blockchain/listener/", {}, alchemy(KEYS[0], body), body)
    return json.loads((await manager.serve(mounted, request)).body)


async def test_a_push_has_the_chain_looked_at_sooner(
    world: World, managed: Managed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without one the hook would answer long after the test."""
    monkeypatch.setattr(listening, "_WAIT", 100.0)
    manager = await managed(webhook_keys=list(KEYS))
    page = await ask(manager, "chain_events", from_block=0)
    answers: list[Any] = []

    async def look() -> None:
        answers.append(await ask(manager, "chain_events", from_block=page["final_block"] + 1))

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(look)
            world.recharge(777)
            assert not answers
            assert await push(manager, BODY) == {"new": True}
            assert await push(manager, BODY) == {"new": False}
    assert [e["kind"] for e in answers[0]["events"]] == ["recharged"]
