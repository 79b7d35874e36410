"""Callers that are not Paystack, and a Paystack that lies, dawdles or is broken."""

from __future__ import annotations

import gzip
import hashlib
import hmac
import json
import pickle
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
from plugins.billing_paystack.tests.conftest import OWNER, Managed, Node
from plugins.billing_paystack.tests.standin import SECRET, SOURCE, Answer, Paystack, envelope

from decentraspace.errors import BadInput, DecentraSpaceError, Forbidden, TooLarge, Unavailable
from decentraspace.testing import until
from decentraspace_billing_paystack.secret import SecretKey
from decentraspace_billing_paystack.sources import caller, within


async def _paid(node: Node, paystack: Paystack) -> tuple[str, tuple[dict[str, str], bytes]]:
    """A payment that was made; its reference, and the webhook that says so."""
    reference = (await node.recharge())["reference"]
    paystack.pay(reference)
    return reference, paystack.charge_success(reference)


async def test_a_wrong_signature(managed: Managed, paystack: Paystack) -> None:
    node = await managed()
    reference, (headers, body) = await _paid(node, paystack)
    asked = len(paystack.asked)
    signature = headers["x-paystack-signature"]
    for wrong in (
        "",
        "0" * 128,
        signature[:-1] + ("0" if signature[-1] != "0" else "1"),
        "ÿ" * 128,
        signature * 2,
    ):
        with pytest.raises(Forbidden):
            await node.called(({**headers, "x-paystack-signature": wrong}, body))
    with pytest.raises(Forbidden):
        await node.called(({"content-type": "application/json"}, body))
    with pytest.raises(Forbidden):
        await node.called((headers, body + b" "))  # byte by byte
    assert len(paystack.asked) == asked
    assert (await node.standing(reference))["status"] == "pending"
    capitals = {name.title(): value for name, value in headers.items()}
    assert (await node.called((capitals, body)))["status"] == "done"


async def test_only_the_published_addresses_may_call(managed: Managed, paystack: Paystack) -> None:
    node = await managed()
    _, (headers, body) = await _paid(node, paystack)
    for source, forwarded in (
        ("203.0.113.9", ""),
        ("203.0.113.9", SOURCE),  # who is no proxy may write what it likes
        ("127.0.0.1", "203.0.113.9"),
        ("127.0.0.1", f"{SOURCE}, 203.0.113.9"),
        ("", ""),
        ("127.0.0.1", "unknown"),
    ):
        with pytest.raises(Forbidden):
            await node.called(({**headers, "x-forwarded-for": forwarded}, body), source)
    found = await node.called(({**headers, "x-forwarded-for": f"6.6.6.6, {SOURCE}"}, body), "127.0.0.1")
    assert found["status"] == "done"


async def test_without_sources_the_signature_decides(managed: Managed, paystack: Paystack) -> None:
    node = await managed(sources=[])
    _, call = await _paid(node, paystack)
    assert (await node.called(call, "203.0.113.9"))["status"] == "done"


def test_callers() -> None:
    assert caller("::ffff:52.31.139.75", "", ("127.0.0.1",)) == "52.31.139.75"
    assert caller("10.0.0.1", "1.2.3.4, 10.0.0.2", ("10.0.0.0/8",)) == "1.2.3.4"
    assert caller("10.0.0.1", "", ("10.0.0.0/8",)) == "10.0.0.1"
    assert not within("", ("0.0.0.0/0",))


async def test_what_is_no_event(managed: Managed, paystack: Paystack) -> None:
    node = await managed()
    reference, _ = await _paid(node, paystack)

    def signed(body: bytes) -> tuple[dict[str, str], bytes]:
        made = hmac.new(SECRET.encode(), body, hashlib.sha512).hexdigest()
        return {"x-paystack-signature": made}, body

    for body in (
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff",
        b'{"event": 1, "data": {}}',
        b'{"event": "charge.success"}',
    ):
        with pytest.raises(BadInput):
            await node.called(signed(body))
    with pytest.raises(BadInput):
        await node.called(signed(b"[" * 100_000))
    with pytest.raises(TooLarge):
        await node.called(signed(b" " * (256 * 1024 + 1)))
    for kind, data in (
        ("transfer.success", {"reference": reference}),
        ("charge.success", {"reference": "somebody-elses"}),
        ("charge.success", {"reference": {"$ne": ""}}),
        ("refund.processed", {}),
    ):
        assert (await node.called(paystack.call(kind, data)))["status"] == "ignored"
    assert (await node.standing(reference))["status"] == "pending"


async def test_a_webhook_that_lies_about_the_sum_changes_nothing(
    managed: Managed, paystack: Paystack
) -> None:
    node = await managed()
    reference, _ = await _paid(node, paystack)
    data = {
        "reference": reference,
        "amount": 10**12,
        "currency": "USD",
        "metadata": {"owner": "0x" + "66" * 20},
    }
    found = await node.called(paystack.call("charge.success", data))
    assert (found["status"], found["credits"], found["owner"]) == ("done", 5_000_000, OWNER)


async def test_a_refund_that_never_was_changes_nothing(managed: Managed, paystack: Paystack) -> None:
    node = await managed()
    reference, call = await _paid(node, paystack)
    await node.called(call)
    data = {"status": "processed", "transaction_reference": reference, "amount": "800000", "currency": "NGN"}
    found = await node.called(paystack.call("refund.processed", data))
    assert (found["status"], found["reversed"]) == ("done", 0)


def _redirect(url: str) -> Answer:
    return Answer(302, b"", (("location", url),))


_JSON = (("content-type", "application/json"),)


@pytest.mark.parametrize(
    "make",
    [
        lambda raw, url: Answer(200, b"<html><body>Bad Gateway</body></html>", (("content-type", "text/html"),)),
        lambda raw, url: Answer(502, b"<html></html>"),
        lambda raw, url: Answer(503, raw),
        lambda raw, url: Answer(429, envelope(None, "Too many requests", False)),
        lambda raw, url: Answer(200, b""),
        lambda raw, url: Answer(200, b"[" * 200_000),
        lambda raw, url: Answer(200, envelope(None)),
        lambda raw, url: Answer(200, envelope([])),
        lambda raw, url: Answer(200, b'{"status": "success", "data": {}}'),
        lambda raw, url: Answer(200, endless=True),
        lambda raw, url: Answer(200, gzip.compress(raw), (*_JSON, ("content-encoding", "gzip"))),
        lambda raw, url: _redirect(f"{url}/elsewhere"),
        lambda raw, url: Answer(401, envelope(None, f"Invalid key {SECRET}", False)),
        lambda raw, url: Answer(200, raw.replace(b'"NGN"', b'"ngn"')),
        lambda raw, url: Answer(200, raw.replace(b"800000", b"800000.5")),
        lambda raw, url: Answer(200, raw.replace(b"800000", b"-800000")),
        lambda raw, url: Answer(200, raw.replace(b'"success"', b'"paid in full"')),
        lambda raw, url: Answer(200, raw.replace(b'"reference": "ds-', b'"reference": "other-')),
    ],
    ids=[
        "HTML", "502", "503", "429", "nothing", "nested", "null", "list", "status as text", "endless", "gzip",
        "redirect", "401", "currency", "half a subunit", "less than nothing", "unheard-of status", "another reference",
    ],
)  # fmt: skip
async def test_an_answer_that_makes_no_sense_credits_nothing(
    managed: Managed, paystack: Paystack, make: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    node = await managed(poll=1)
    reference = (await node.recharge())["reference"]

    def mischief(method: str, path: str, raw: bytes) -> Answer | None:
        return make(raw, paystack.url) if path.startswith("/transaction/verify/") else None

    paystack.mischief = mischief
    paystack.pay(reference)
    found = await node.called(paystack.charge_success(reference))
    assert found["status"] == "pending"
    assert not [path for _, path in paystack.asked if path == "/elsewhere"]

    # When it comes to its senses, the poll finds what was paid.
    paystack.mischief = None

    async def credited() -> bool:
        return bool((await node.standing(reference))["status"] == "done")

    assert await until(credited)
    said = capsys.readouterr()
    assert SECRET not in said.out + said.err


@pytest.mark.parametrize("path", ["/refund", "/dispute"])
async def test_nothing_is_credited_while_it_is_not_known_what_went_back(
    managed: Managed, paystack: Paystack, path: str
) -> None:
    node = await managed()
    reference, call = await _paid(node, paystack)
    paystack.mischief = lambda method, asked, raw: Answer(500, b"") if asked.startswith(path) else None
    assert (await node.called(call))["status"] == "pending"
    paystack.mischief = None
    assert (await node.called(call))["status"] == "done"
    assert (await node.standing(reference))["credits"] == 5_000_000


async def test_one_that_never_answers_is_not_waited_for(managed: Managed, paystack: Paystack) -> None:
    node = await managed(timeout=1)
    never = threading.Event()
    paystack.mischief = lambda method, path, raw: Answer(200, raw, wait=never)
    with pytest.raises(Unavailable, match="did not answer within 1 s"):
        await node.recharge()
    paystack.mischief = None
    never.set()
    found = await node.recharge()  # the same key: Paystack knew the first reference already
    assert found["url"].startswith("https://checkout.paystack.com/")
    paystack.pay(found["reference"])
    assert (await node.called(paystack.charge_success(found["reference"])))["status"] == "done"
    assert [e["status"] for e in (await node.events())["events"]].count("done") == 1


@pytest.mark.parametrize(
    "url",
    [
        "https://checkout.paystack.com.evil.example/x",
        "https://evil.example/checkout.paystack.com",
        "http://checkout.paystack.com/x",
        "https://checkout.paystack.com@evil.example/x",
        "https://paystack.com:8443/x",
        "javascript:alert(1)",
        "https://checkout.paystack.com/\u202e",
        "https://[",
        7,
    ],
)
async def test_payers_are_sent_to_paystack_alone(managed: Managed, paystack: Paystack, url: Any) -> None:
    def mischief(method: str, path: str, raw: bytes) -> Answer | None:
        document = json.loads(raw)
        if path != "/transaction/initialize" or not document["status"]:
            return None
        document["data"]["authorization_url"] = url
        return Answer(200, json.dumps(document).encode())

    node = await managed()
    paystack.mischief = mischief
    with pytest.raises(Unavailable):
        await node.recharge()


async def test_what_paystack_refuses_is_refused(managed: Managed, paystack: Paystack) -> None:
    node = await managed(rate=[1, 1_000_000])  # 5 kobo: below Paystack's least amount
    found = await node.recharge()
    assert found["status"] == "refused"
    assert "Invalid Amount" in found["detail"]
    assert "url" not in found


async def test_a_key_that_is_not_taken(managed: Managed, paystack: Paystack) -> None:
    node = await managed()
    paystack.secret = "sk_test_another"
    with pytest.raises(Unavailable, match="key") as caught:
        await node.recharge()
    assert SECRET not in str(caught.value) + caught.value.hint


async def test_the_key_shows_nowhere(managed: Managed, paystack: Paystack, tmp_path: Path) -> None:
    node = await managed()
    reference, call = await _paid(node, paystack)
    await node.called(call)
    key = SecretKey((SECRET,))
    assert SECRET not in f"{key!r} {key}"
    kept = b"".join(
        p.read_bytes() for p in (tmp_path / "data" / "plugins" / "billing_paystack").iterdir() if p.is_file()
    )
    assert reference.encode() in kept
    assert SECRET.encode() not in kept
    with pytest.raises(TypeError):
        pickle.dumps(key)


async def test_keys_of_before_still_sign(managed: Managed, paystack: Paystack, key_file: Path) -> None:
    fresh = "sk_test_" + "f" * 40
    key_file.write_text(f"{fresh}\n{SECRET}\n")
    paystack.secret = fresh
    node = await managed()
    reference, _ = await _paid(node, paystack)
    paystack.secret = SECRET  # a call that was on its way when the key changed
    call = paystack.charge_success(reference)
    paystack.secret = fresh
    assert (await node.called(call))["status"] == "done"


@pytest.mark.parametrize(
    ("content", "mode"),
    [
        (SECRET, 0o640),
        (SECRET, 0o604),
        ("", 0o600),
        ("pk_test_0123456789abcdef0123456789abcdef01234567", 0o600),
        (SECRET + "\r\nx-evil: 1", 0o600),
        (f"Bearer {SECRET}", 0o600),
    ],
)
def test_a_key_file_that_cannot_be(tmp_path: Path, content: str, mode: int) -> None:
    path = tmp_path / "key"
    path.write_text(content)
    path.chmod(mode)
    with pytest.raises(DecentraSpaceError) as caught:
        SecretKey.read(str(path))
    assert SECRET not in str(caught.value) + caught.value.hint
    with pytest.raises(DecentraSpaceError):
        SecretKey.read(str(tmp_path))
    with pytest.raises(DecentraSpaceError):
        SecretKey.read(str(tmp_path / "none"))


async def test_the_stand_in_is_as_published(paystack: Paystack) -> None:
    """What the tests lean on: envelopes, codes, and that a wrong key is refused."""
    async with httpx.AsyncClient(base_url=paystack.url) as client:
        refused = await client.get("/transaction/verify/x", headers={"authorization": "Bearer no"})
        assert (refused.status_code, refused.json()["code"]) == (401, "invalid_Key")
        client.headers["authorization"] = f"Bearer {SECRET}"
        unknown = await client.get("/transaction/verify/x")
        assert (unknown.status_code, unknown.json()["code"]) == (400, "transaction_not_found")
        asked = {"email": "a@b.example", "amount": "20000", "currency": "NGN", "reference": "r-1"}
        made = (await client.post("/transaction/initialize", json=asked)).json()
        assert list(made) == ["status", "message", "data"]
        assert list(made["data"]) == ["authorization_url", "access_code", "reference"]
        twice = await client.post("/transaction/initialize", json=asked)
        assert (twice.status_code, twice.json()["code"]) == (400, "duplicate_reference")
