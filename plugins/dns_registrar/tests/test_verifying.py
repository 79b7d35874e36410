"""Who may link a name: on real zones, signed and not, and with name servers that lie, contradict or are silent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dns.message
import dns.rdatatype
import dns.rrset
import pytest
from dns import flags as dns_flags
from plugins.dns_registrar.tests.conftest import GATEWAY, OWNER, STRANGER, Managed
from plugins.dns_registrar.tests.zones import Zones
from tests.names.knot import Liar
from tests.support import free_port

from decentraspace.errors import BadInput, Unavailable


def saying(change: Callable[[dns.message.Message], None], zones: Zones) -> Callable[[bytes], list[bytes]]:
    """What a name server says that passes on `zones`' answers after `change`."""

    def say(question: bytes) -> list[bytes]:
        asked = dns.message.from_wire(question)
        answer = zones.ask(
            asked.question[0].name.to_text(), dns.rdatatype.to_text(asked.question[0].rdtype), True
        )
        answer.id, answer.question = asked.id, asked.question
        answer.flags |= dns.flags.RA
        change(answer)
        return [answer.to_wire(max_size=65535)]

    return say


def claiming(owner: str) -> Callable[[dns.message.Message], None]:
    """The TXT record names `owner`; its signature, where there is one, stays as it was."""

    def change(answer: dns.message.Message) -> None:
        name = answer.question[0].name
        if answer.question[0].rdtype == dns.rdatatype.TXT:
            kept = [one for one in answer.answer if one.rdtype == dns.rdatatype.RRSIG]
            lie = dns.rrset.from_text(name, 60, "IN", "TXT", f'"decentraspace-owner={owner}"')
            answer.answer = [lie, *kept]
            answer.authority = []
            answer.set_rcode(0)

    return change


def unsigned(answer: dns.message.Message) -> None:
    """All that DNSSEC is, left out."""
    kinds = (
        dns.rdatatype.RRSIG,
        dns.rdatatype.NSEC,
        dns.rdatatype.NSEC3,
        dns.rdatatype.DNSKEY,
        dns.rdatatype.DS,
    )
    answer.answer = [one for one in answer.answer if one.rdtype not in kinds]
    answer.authority = [one for one in answer.authority if one.rdtype not in kinds]


@pytest.mark.parametrize(
    ("name", "signed"),
    [
        ("site.signed.example", True),
        ("kid.signed.example", True),
        ("deep.er.kid.signed.example", True),
        ("bare.signed.example", False),
        ("www.bare.signed.example", False),
        ("nsec3.example", True),
        ("www.bare.nsec3.example", False),
        ("plain.example", False),
    ],
)
async def test_the_owner_holds_it_and_nobody_else(
    name: str, signed: bool, dns: Zones, managed: Managed
) -> None:
    node = await managed(resolvers=[dns.server], trust_anchors=dns.anchors)
    found = await node.verify(name)
    assert (found["state"], found["method"]) == ("missing", "txt")
    assert f"_decentraspace.{name}" in found["detail"]
    assert OWNER in found["detail"]
    dns.prove(name, OWNER.upper().replace("0X", "0x"))
    found = await node.verify(name)
    assert found["state"] == "held"
    [seen] = found["seen"]
    assert (seen["server"], seen["state"]) == (dns.server, "yes")
    assert ("DNSSEC" in seen["detail"]) is signed
    assert 30 <= found["ttl"] <= 60
    assert (await node.verify(name, STRANGER))["state"] == "stranger"
    dns.prove(name, OWNER, STRANGER)  # two wallets of one owner
    assert (await node.verify(name, STRANGER))["state"] == "held"
    dns.prove(name)
    assert (await node.verify(name))["state"] == "missing"


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("lied.signed.example", True),
        ("lied.signed.example", False),
        ("lied.kid.signed.example", True),
        ("lied.kid.signed.example", False),
        # A zone with opt-out does not sign which names it lacks: there only those that it has are safe.
        ("lied.nsec3.example", True),
    ],
)
async def test_a_forged_proof_in_a_signed_zone_counts_for_nothing(
    name: str, own: bool, dns: Zones, managed: Managed
) -> None:
    dns.prove(name, *([OWNER] if own else []))
    for lie in (claiming(STRANGER), lambda answer: (claiming(STRANGER)(answer), unsigned(answer))[0]):
        with Liar(saying(lie, dns)).serving() as liar:
            node = await managed(resolvers=[liar.server], trust_anchors=dns.anchors)
            with pytest.raises(Unavailable, match=r"DNSSEC|signed|keys"):
                await node.verify(name, STRANGER)
            # Beside an honest one it is the honest one that decides, if it has most with it.
            node = await managed(resolvers=[liar.server, dns.server, dns.server], trust_anchors=dns.anchors)
            found = await node.verify(name, STRANGER)
            assert found["state"] == ("stranger" if own else "missing")
            assert [one["state"] for one in found["seen"]] == ["silent", "no", "no"]
    dns.prove(name)


async def test_a_signature_of_another_key_or_time_counts_for_nothing(dns: Zones, managed: Managed) -> None:
    name = "old.signed.example"
    dns.prove(name, OWNER)

    def bend(answer: Any) -> None:
        for rrset in answer.answer:
            if rrset.rdtype == 46 and rrset.covers == 16:
                changed = [record.replace(expiration=record.inception + 1) for record in rrset]
                rrset.clear()
                for record in changed:
                    rrset.add(record)

    with Liar(saying(bend, dns)).serving() as liar:
        node = await managed(resolvers=[liar.server], trust_anchors=dns.anchors)
        with pytest.raises(Unavailable, match="wrong DNSSEC signature"):
            await node.verify(name)
    wrong = [anchor[:-4] + ("0000" if not anchor.endswith("0000") else "1111") for anchor in dns.anchors]
    node = await managed(resolvers=[dns.server], trust_anchors=wrong)
    with pytest.raises(Unavailable, match="does not know"):
        await node.verify(name)
    node = await managed(resolvers=[dns.server], trust_anchors=[])  # nothing is checked, and it says so
    assert "DNSSEC" not in (await node.verify(name))["detail"]
    dns.prove(name)


async def test_a_wildcard_of_a_signed_zone_is_no_proof(dns: Zones, managed: Managed) -> None:
    dns.set("*.signed.example", "TXT", f"decentraspace-owner={OWNER}")
    node = await managed(resolvers=[dns.server], trust_anchors=dns.anchors)
    with pytest.raises(Unavailable, match="signature"):
        await node.verify("any.signed.example")
    dns.set("*.signed.example", "TXT")


async def test_most_decide(dns: Zones, managed: Managed) -> None:
    name = "most.plain.example"
    dns.prove(name, OWNER)
    gone = f"127.0.0.1:{free_port()}"
    with Liar(saying(claiming(STRANGER), dns)).serving() as liar, Liar(lambda _: []).serving() as mute:
        node = await managed(resolvers=[dns.server, dns.server, liar.server], trust_anchors=[])
        found = await node.verify(name)
        assert found["state"] == "held"
        assert [one["state"] for one in found["seen"]] == ["yes", "yes", "no"]
        assert (await node.verify(name, STRANGER))["state"] == "stranger"
        node = await managed(resolvers=[dns.server, liar.server], trust_anchors=[])
        found = await node.verify(name)
        assert (found["state"], "1 of 2" in found["detail"]) == ("missing", True)
        assert (await node.verify(name, STRANGER))["state"] == "missing"
        node = await managed(resolvers=[dns.server, dns.server, mute.server], trust_anchors=[], timeout=3)
        found = await node.verify(name)
        assert found["state"] == "held"
        assert found["seen"][2]["state"] == "silent"
        assert "3 s" in found["seen"][2]["detail"]
        node = await managed(resolvers=[dns.server, mute.server, gone], trust_anchors=[], timeout=1.5)
        with pytest.raises(Unavailable, match="Too few"):
            await node.verify(name)
    dns.prove(name)


@pytest.mark.parametrize(
    "text",
    [
        "decentraspace-owner=",
        "decentraspace-owner=0x1234",
        f"decentraspace-owner={OWNER}00",
        f"x decentraspace-owner={OWNER}",
        f"owner={OWNER}",
    ],
)
async def test_other_texts_prove_nothing(text: str, dns: Zones, managed: Managed) -> None:
    dns.set("_decentraspace.texts.plain.example", "TXT", text)
    node = await managed(resolvers=[dns.server], trust_anchors=dns.anchors)
    found = await node.verify("texts.plain.example")
    assert found["state"] == "missing"
    assert "names no wallet" in found["seen"][0]["detail"]
    dns.set("_decentraspace.texts.plain.example", "TXT")


async def test_the_proof_may_be_kept_elsewhere_but_not_in_a_circle(dns: Zones, managed: Managed) -> None:
    node = await managed(resolvers=[dns.server], trust_anchors=dns.anchors)
    dns.set("_decentraspace.moved.signed.example", "CNAME", "proof.plain.example.")
    dns.set("proof.plain.example", "TXT", f"decentraspace-owner={OWNER}")
    found = await node.verify("moved.signed.example")
    assert (found["state"], "DNSSEC" in found["detail"]) == ("held", False)
    dns.set("_decentraspace.round.plain.example", "CNAME", "one.plain.example.")
    dns.set("one.plain.example", "CNAME", "two.plain.example.")
    dns.set("two.plain.example", "CNAME", "one.plain.example.")
    found = await node.verify("round.plain.example")
    assert (found["state"], "circle" in found["detail"]) == ("missing", True)


async def test_where_a_name_leads(dns: Zones, managed: Managed) -> None:
    name = "way.plain.example"
    dns.prove(name, OWNER)
    dns.set(GATEWAY, "A", "192.0.2.80")
    node = await managed(resolvers=[dns.server], trust_anchors=dns.anchors)
    found = await node.verify(name)
    assert (found["state"], found["points"], "nowhere" in found["detail"]) == ("held", False, True)

    async def leads(kind: str, *values: str, **settings: Any) -> tuple[bool, str]:
        dns.set(name, kind, *values)
        node = await managed(resolvers=[dns.server], trust_anchors=dns.anchors, **settings)
        found = await node.verify(name)
        dns.set(name, kind)
        return found["points"], found["detail"]

    assert (await leads("CNAME", f"{GATEWAY}."))[0] is True
    assert (await leads("CNAME", f"s--abcdefghijklmnop.{GATEWAY}."))[0] is True
    assert (await leads("CNAME", "other.plain.example.", gateways=["other.plain.example"]))[0] is True
    points, detail = await leads("CNAME", "other.plain.example.")
    assert (points, "nowhere" in detail) == (False, True)
    points, detail = await leads("A", "10.1.2.3")
    assert (points, "10.1.2.3" in detail, "only its own network" in detail) == (False, True, True)
    assert (await leads("A", "10.1.2.3", addresses=["10.1.2.3"]))[0] is True
    assert (await leads("AAAA", "2001:db8::1", addresses=["2001:db8::1"]))[0] is True
    points, detail = await leads("A", "10.1.2.3", "8.8.4.4", addresses=["10.1.2.3"])
    assert (points, "also leads to 8.8.4.4" in detail) == (False, True)
    dns.set(
        GATEWAY, "A", "8.8.4.4"
    )  # the gateway's own addresses count as they are found, if they are public
    assert (await leads("A", "8.8.4.4"))[0] is True
    dns.set(GATEWAY, "A", "127.0.0.1")
    assert (await leads("A", "127.0.0.1"))[0] is False
    dns.set("a.plain.example", "CNAME", f"{name}.")
    points, detail = await leads("CNAME", "a.plain.example.")
    assert (points, "circle" in detail) == (False, True)
    dns.set("a.plain.example", "CNAME")
    dns.prove(name)


@pytest.mark.parametrize(
    "name",
    ["com", "localhost", "site.local", "192.0.2.1", "bücher.example", "a" * 64 + ".example", "a..example", "name.eth",
     "_x.example", "-a.example", ".".join(["a" * 60] * 4) + ".example"],
)  # fmt: skip
async def test_names_that_are_no_domains(name: str, managed: Managed) -> None:
    node = await managed(resolvers=["127.0.0.1:9"])
    with pytest.raises(BadInput):
        await node.verify(name)


async def test_nonsense_and_too_much(dns: Zones, managed: Managed) -> None:
    name = "much.plain.example"

    def many(answer: Any) -> None:
        if answer.question[0].rdtype == 16:
            texts = [f'"decentraspace-owner=0x{number:040x}"' for number in range(300)]
            answer.answer = [dns_rrset(answer.question[0].name, texts)]

    def dns_rrset(owner: Any, texts: list[str]) -> Any:
        from dns import rrset

        return rrset.from_text(owner, 60, "IN", "TXT", *texts)

    with Liar(saying(many, dns)).serving() as liar, Liar(lambda q: [q[:2] + b"\xff" * 40]).serving() as noise:
        node = await managed(resolvers=[liar.server], trust_anchors=[])
        found = await node.verify(name)
        assert found["state"] == "stranger", found
        node = await managed(resolvers=[noise.server], trust_anchors=[], timeout=1.5)
        with pytest.raises(Unavailable):
            await node.verify(name)


async def test_an_answer_that_was_cut_off_is_none(dns: Zones, managed: Managed) -> None:
    dns.prove("cut.plain.example", OWNER)
    asked = 0

    def once(answer: Any) -> None:
        nonlocal asked
        asked += 1
        if asked % 2:  # by UDP; then it is asked again by TCP
            answer.flags |= dns_flags.TC
            answer.answer = []

    def always(answer: Any) -> None:
        answer.flags |= dns_flags.TC
        answer.answer = []

    with Liar(saying(once, dns)).serving() as liar, Liar(saying(always, dns)).serving() as short:
        node = await managed(resolvers=[liar.server], trust_anchors=[])
        assert (await node.verify("cut.plain.example"))["state"] == "held"
        node = await managed(resolvers=[short.server], trust_anchors=[])
        with pytest.raises(Unavailable, match="cut off"):
            await node.verify("cut.plain.example")
    dns.prove("cut.plain.example")
