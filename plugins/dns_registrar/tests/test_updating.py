"""Records entered for their owner (RFC 2136, TSIG) at a real Knot, and what nobody gets entered."""

from __future__ import annotations

from typing import Any

import pytest
from plugins.dns_registrar.tests.conftest import GATEWAY, OWNER, Managed
from plugins.dns_registrar.tests.zones import KEY_SECRET, Zones
from tests.names.knot import Liar
from tests.support import free_port

from decentraspace.errors import BadInput, Unavailable
from decentraspace.testing import Workbench

LOOPBACK = ["127.0.0.0/8"]


async def test_what_the_instructions_say_is_entered_and_links_the_name(dns: Zones, managed: Managed) -> None:
    name = "set.kid.signed.example"
    node = await managed(resolvers=[dns.server], trust_anchors=dns.anchors, update_networks=LOOPBACK)
    rows = await node.ask("name_instructions", name=name, site="s", owner=OWNER, gateway=GATEWAY)
    assert [row["type"] for row in rows] == ["TXT", "CNAME", "ALIAS"]
    assert all(row["note"] for row in rows)
    assert (await node.verify(name))["state"] == "missing"
    wanted = [(row["type"], row["host"], row["value"]) for row in rows]
    for _ in range(2):  # once more changes nothing
        found = await node.update(name, dns.credentials, *wanted)
        assert found["status"] == "done", found
    assert dns.values(f"_decentraspace.{name}", "TXT") == {f'"decentraspace-owner={OWNER}"'}
    assert dns.values(name, "CNAME") == {f"{GATEWAY}."}
    found = await node.verify(name)
    assert (found["state"], found["points"]) == ("held", True)


async def test_addresses_are_replaced_and_texts_are_kept(dns: Zones, managed: Managed) -> None:
    name = "www.plain.example"
    dns.set(name, "A", "192.0.2.1", "192.0.2.2")
    dns.set(name, "TXT", "v=spf1 -all")
    node = await managed(update_networks=LOOPBACK)
    texts, six = ("TXT", name, 'a "text" of \\ signs'), ("AAAA", name, "2001:db8::80")
    found = await node.update(name, dns.credentials, ("A", name, "192.0.2.80"), texts, six)
    assert found["status"] == "done"
    assert dns.values(name, "A") == {"192.0.2.80"}
    assert dns.values(name, "AAAA") == {"2001:db8::80"}
    assert dns.values(name, "TXT") == {'"v=spf1 -all"', '"a \\"text\\" of \\\\ signs"'}
    # An alias cannot be beside those.
    found = await node.update(name, dns.credentials, ("CNAME", name, GATEWAY))
    assert found["status"] == "refused"
    assert "CNAME" in found["detail"]
    assert dns.values(name, "A") == {"192.0.2.80"}


@pytest.mark.parametrize(
    "changes",
    [
        {"key_secret": "d3Jvbmc="},
        {"key_name": "other-key"},
        {"key_algorithm": "hmac-sha512"},
        {"zone": "kid.example"},
    ],
)
async def test_a_wrong_key_is_refused_and_shown_nowhere(
    changes: dict[str, str],
    dns: Zones,
    managed: Managed,
    bench: Workbench,
    capfd: pytest.CaptureFixture[str],
) -> None:
    node = await managed(update_networks=LOOPBACK)
    name = "wrong.kid.example" if "zone" in changes else "wrong.plain.example"
    credentials = {**dns.credentials, **changes}
    found = await node.update(name, credentials, ("A", name, "192.0.2.80"))
    assert found["status"] == "refused"
    assert dns.values(name, "A") == set()
    kept = b"".join(path.read_bytes() for path in bench.data.rglob("*") if path.is_file())
    out = capfd.readouterr()
    for secret in (credentials["key_secret"], KEY_SECRET):
        assert secret not in found["detail"] + out.out + out.err
        assert secret.encode() not in kept


@pytest.mark.parametrize(
    "server",
    ["127.0.0.1", "10.0.0.1", "169.254.169.254", "[::1]:53", "0.0.0.0", "224.0.0.1", "8.8.8.8:25", "ns.example", "",
     "::ffff:10.0.0.1", "::10.0.0.1", "64:ff9b::a00:1", "64:ff9b:1::a00:1", "2002:a00:1::1", "fec0::1", "2001:db8::1"],
)  # fmt: skip
async def test_only_public_servers_are_connected_to(server: str, dns: Zones, managed: Managed) -> None:
    node = await managed()
    with pytest.raises(BadInput):
        await node.update(
            "a.example", {**dns.credentials, "server": server}, ("A", "a.example", "192.0.2.80")
        )


@pytest.mark.parametrize(
    ("kind", "host", "value"),
    [
        ("A", "other.example", "192.0.2.80"),
        ("A", "xa.example", "192.0.2.80"),
        ("A", "a.example", "nonsense"),
        ("A", "a.example", "192.0.2.80\n@ NS evil.example."),
        ("CNAME", "a.example", "two words"),
        ("AAAA", "a.example", "192.0.2.80"),
        ("A", "b\\.c.a.example", "192.0.2.80"),
        ("A", "*.a.example", "192.0.2.80"),
        ("TXT", "a.example", "x" * 1001),
    ],
)
async def test_records_that_are_none_of_theirs(
    kind: str, host: str, value: str, dns: Zones, managed: Managed
) -> None:
    node = await managed(update_networks=LOOPBACK)
    with pytest.raises(BadInput):
        await node.update("a.example", dns.credentials, (kind, host, value))


async def test_of_several_ways_the_one_that_fits_is_taken(dns: Zones, managed: Managed) -> None:
    node = await managed(update_networks=LOOPBACK, addresses=["192.0.2.80", "2001:db8::80"])

    async def enter(name: str, **settings: Any) -> dict[str, Any]:
        rows = await node.ask("name_instructions", name=name, site="s", owner=OWNER, gateway=GATEWAY)
        wanted = [(row["type"], row["host"], row["value"]) for row in rows]
        return await node.update(name, dns.credentials, *wanted)

    # Of what was there before, addresses give way to an alias.
    dns.set("ways.plain.example", "A", "192.0.2.1")
    assert (await enter("ways.plain.example"))["status"] == "done"
    assert dns.values("ways.plain.example", "CNAME") == {f"{GATEWAY}."}
    # The domain itself, and a host that gets mail, have addresses.
    dns.set("mail.plain.example", "MX", "10 mx.plain.example.")
    for name in ("plain.example", "mail.plain.example"):
        found = await enter(name)
        assert found["status"] == "done", found
        assert dns.values(name, "A") == {"192.0.2.80"}
        assert dns.values(name, "AAAA") == {"2001:db8::80"}
    assert dns.values("mail.plain.example", "MX") == {"10 mx.plain.example."}
    # Without addresses the proof is entered, and the rest is said.
    node = await managed(update_networks=LOOPBACK)
    dns.set("plain.example", "A")
    dns.set("plain.example", "AAAA")
    found = await enter("plain.example")
    assert (found["status"], dns.values("plain.example", "A")) == ("done", set())
    assert dns.values("_decentraspace.plain.example", "TXT") == {f'"decentraspace-owner={OWNER}"'}
    dns.set("_decentraspace.plain.example", "TXT")
    dns.set("ways.plain.example", "CNAME")


async def test_what_cannot_be_entered_is_said(dns: Zones, managed: Managed) -> None:
    node = await managed(update_networks=LOOPBACK)
    found = await node.update("a.plain.example", dns.credentials, ("ALIAS", "a.plain.example", "x.example"))
    assert found["status"] == "refused"
    for kind in ("NS", "ANY", "SOA"):
        found = await node.update("a.plain.example", dns.credentials, (kind, "a.plain.example", "x.example"))
        assert (found["status"], kind in found["detail"]) == ("refused", True)
    found = await node.update("a.unknown.example", dns.credentials, ("A", "a.unknown.example", "192.0.2.80"))
    assert (found["status"], "does not keep the zone" in found["detail"]) == ("refused", True)
    for missing in ("key_name", "key_secret"):
        given = {k: v for k, v in dns.credentials.items() if k != missing}
        with pytest.raises(BadInput, match="key_name"):
            await node.update("a.plain.example", given, ("A", "a.plain.example", "192.0.2.80"))
    with pytest.raises(BadInput, match="password"):
        await node.update("a.plain.example", {"password": "x"}, ("A", "a.plain.example", "192.0.2.80"))


async def test_a_server_that_is_away_or_answers_without_the_key(dns: Zones, managed: Managed) -> None:
    def unsigned(question: bytes) -> list[bytes]:
        from dns import flags, message, rcode, rrset

        asked = message.from_wire(question, keyring={dns.key.name: dns.key}, continue_on_error=True)
        answer = message.Message(id=asked.id)
        answer.flags = asked.flags | flags.QR | flags.AA
        answer.question = asked.question
        if asked.opcode() == 0:
            answer.answer = [rrset.from_text(asked.question[0].name, 60, "IN", "SOA", "a. b. 1 2 3 4 5")]
        answer.set_rcode(rcode.NOERROR)
        return [answer.to_wire()]

    node = await managed(update_networks=LOOPBACK)
    row: Any = ("A", "a.plain.example", "192.0.2.80")
    with pytest.raises(Unavailable):
        await node.update("a.plain.example", {**dns.credentials, "server": f"127.0.0.1:{free_port()}"}, row)
    with Liar(unsigned).serving() as liar, pytest.raises(Unavailable, match="signature"):
        await node.update("a.plain.example", {**dns.credentials, "server": liar.server}, row)
