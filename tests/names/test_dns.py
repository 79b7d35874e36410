"""DNSLink as a real name server says it, and as a hostile one might."""

from __future__ import annotations

import itertools
import os
import struct
from collections.abc import Callable, Iterator

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
import trio

from decentraspace.config import load
from decentraspace.names.cache import Bounds
from decentraspace.names.dns import Dns, parse_server
from decentraspace.names.links import Answer, NotResolved
from decentraspace.names.proofs import TxtProofs
from decentraspace.names.service import NameService
from tests.names.knot import ZONE, Knot, Liar, knot

CID = "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354"
PATH = f"/ipfs/{CID}"
NAME = "site.example"
OWNER = f"_dnslink.{NAME}."
WITHIN = 1.0  # seconds that a look-up may take where it will not succeed


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Knot]:
    with knot(tmp_path_factory.mktemp("knot")) as running:
        yield running


async def ask(server: str, name: str = NAME, seconds: float = 20.0) -> Answer:
    return await Dns([server], seconds)(name)


# -- a real one


async def test_a_link(server: Knot) -> None:
    name = server.link("plain", PATH, ttl=77)
    assert await ask(server.server, name) == Answer(PATH, 77)


async def test_a_link_among_other_texts(server: Knot) -> None:
    server.set("_dnslink.several", "v=spf1 -all", f"dnslink={PATH}", "dnslink=/ipns/zone.example", "dnslink=")
    assert (await ask(server.server, f"several.{ZONE}")).path == PATH


async def test_a_text_in_pieces(server: Knot) -> None:
    """A piece has 255 bytes at most; longer texts are several (RFC 1035 section 3.3)."""
    long = f"{PATH}/{'deep/' * 120}"
    assert (await ask(server.server, server.link("long", long))).path == long


async def test_an_alias(server: Knot) -> None:
    server.link("target", PATH, ttl=300)
    server.set("_dnslink.alias", f"_dnslink.target.{ZONE}.", ttl=12, kind="CNAME")
    assert await ask(server.server, f"alias.{ZONE}") == Answer(PATH, 12)


async def test_no_link(server: Knot) -> None:
    server.set("_dnslink.empty", "127.0.0.1", kind="A")
    server.set("_dnslink.unrelated", "v=spf1 -all", ttl=44)
    for name, ttl in (("missing", 20), ("empty", 20), ("unrelated", 44)):
        assert await ask(server.server, f"{name}.{ZONE}") == Answer(None, ttl)  # RFC 2308: the SOA's minimum


async def test_more_than_a_datagram_carries(server: Knot) -> None:
    texts = [f"filler {number} {'x' * 180}" for number in range(60)]
    server.set("_dnslink.large", *texts, f"dnslink={PATH}")
    assert (await ask(server.server, f"large.{ZONE}")).path == PATH


async def test_a_zone_that_is_somebody_elses(server: Knot) -> None:
    with pytest.raises(NotResolved):  # REFUSED
        await ask(server.server, "elsewhere.test", WITHIN)


async def test_the_next_server_is_asked(server: Knot) -> None:
    name = server.link("second", PATH)
    with Liar(lambda _: []).serving() as silent:
        assert (await Dns([silent.server, server.server], 20.0)(name)).path == PATH


async def test_the_whole_way(server: Knot) -> None:
    """Settings, cache and name server together."""
    set_by_operator = "/ipns/set.example"
    config = load(
        environ={},
        overrides={
            "names": {"nameservers": [server.server], "timeout": 20.0},
            "gateway": {"dnslink": [f"over.{ZONE}={set_by_operator}"]},
        },
    )
    names = NameService.from_config(config, bounds=Bounds(least=0.0, most=0.0, stale=0.0, kept=0.0))
    server.link("over", PATH)
    async with trio.open_nursery() as nursery:
        await nursery.start(names.run)
        assert (await names.link(f"OVER.{ZONE}.")).path == set_by_operator
        for path in (PATH, "/ipns/changed.example"):
            name = server.link("changing", path)
            assert (await names.link(name.upper() + ".")).path == path
        asked = names.cache.counts.asked
        for nonsense in ("", "localhost", "10.1.1.1", "a b.example", "x.local", "a" * 300 + ".example"):
            assert (await names.link(nonsense)).path is None
        assert names.cache.counts.asked == asked  # nobody hears of those
        nursery.cancel_scope.cancel()


async def test_dns_can_be_left_out(server: Knot) -> None:
    server.link("off", PATH)
    config = load(environ={}, overrides={"names": {"nameservers": [server.server], "dns": False}})
    assert (await NameService.from_config(config).link(f"off.{ZONE}")).path is None


async def test_a_top_level_domain_has_one_resolver() -> None:
    asked: list[str] = []

    async def chain(name: str) -> Answer:
        asked.append(name)
        return Answer("/ipns/of.chain", 60)

    with Liar(lambda _: []).serving() as dns_server:
        overrides = {"names": {"nameservers": [dns_server.server], "timeout": WITHIN}}
        names = NameService.from_config(load(environ={}, overrides=overrides), {"eth": chain})
        async with trio.open_nursery() as nursery:
            await nursery.start(names.run)
            assert (await names.link("site.eth")).path == "/ipns/of.chain"
            with pytest.raises(NotResolved):
                await names.link("site.eth.example")
            nursery.cancel_scope.cancel()
        assert asked == ["site.eth"]
        assert dns_server.asked


# -- a hostile one


def answer(question: bytes, *records: str, owner: str = OWNER, ttl: int = 60) -> dns.message.Message:
    """To a question; `records`: TXT, or whole records with their type before."""
    made = dns.message.make_response(dns.message.from_wire(question))
    for record in records:
        kind, _, data = record.partition(" ")
        made.answer.append(dns.rrset.from_text(owner, ttl, "IN", kind, data))
    return made


def link(question: bytes, path: str = PATH, **how: object) -> dns.message.Message:
    return answer(question, f'TXT "dnslink={path}"', **how)  # type: ignore[arg-type]


def with_id(wire: bytes, number: int) -> bytes:
    return struct.pack(">H", number) + wire[2:]


def other_id(question: bytes) -> int:
    return (int.from_bytes(question[:2], "big") + 1) % 65536


def of_another(question: bytes) -> list[bytes]:
    other = dns.message.make_query("x.example.", "TXT", id=int.from_bytes(question[:2], "big"))
    return [link(other.to_wire()).to_wire()]


def looping(question: bytes) -> list[bytes]:
    made = answer(question)
    for one, two in (("a", "b"), ("b", "a")):
        made.answer.append(dns.rrset.from_text(f"{one}.example.", 60, "IN", "CNAME", f"{two}.example."))
    made.answer.append(dns.rrset.from_text(OWNER, 60, "IN", "CNAME", "a.example."))
    return [made.to_wire()]


def endless(question: bytes) -> list[bytes]:
    made = answer(question)
    chain = [OWNER, *(f"n{number}.example." for number in range(200))]
    for one, two in itertools.pairwise(chain):
        made.answer.append(dns.rrset.from_text(one, 60, "IN", "CNAME", two))
    return [made.to_wire(max_size=65535)]


def pointing_at_itself(question: bytes) -> list[bytes]:
    head = question[:2] + struct.pack(">HHHHH", 0x8180, 1, 1, 0, 0)
    return [head + b"\xc0\x0c\x00\x10\x00\x01" + b"\xc0\x12\x00\x10\x00\x01\x00\x00\x00\x3c\x00\x04\x03abc"]


def lying_lengths(question: bytes) -> list[bytes]:
    wire = link(question).to_wire()
    return [wire[:-40], wire[:6] + b"\xff\xff" + wire[8:], wire + b"x" * 100]


def failing(code: dns.rcode.Rcode) -> Callable[[bytes], list[bytes]]:
    def say(question: bytes) -> list[bytes]:
        made = answer(question)
        made.set_rcode(code)
        return [made.to_wire()]

    return say


HOSTILE: dict[str, Callable[[bytes], list[bytes]]] = {
    "silent": lambda _: [],
    "wrong ids": lambda q: [with_id(link(q).to_wire(), other_id(q))] * 20,
    "no message": lambda q: [b"", b"x", q[:2], q[:2] + os.urandom(100), q],
    "another name's": of_another,
    "a loop of aliases": looping,
    "an endless line of aliases": endless,
    "a name that points at itself": pointing_at_itself,
    "lengths that lie": lying_lengths,
    "servfail": failing(dns.rcode.SERVFAIL),
    "refused": failing(dns.rcode.REFUSED),
}  # fmt: skip


@pytest.mark.parametrize("say", HOSTILE.values(), ids=HOSTILE)
async def test_lies_are_no_answer(say: Callable[[bytes], list[bytes]]) -> None:
    with Liar(say).serving() as liar, pytest.raises(NotResolved):
        await ask(liar.server, seconds=WITHIN)


async def test_the_right_answer_after_wrong_ones() -> None:
    def say(question: bytes) -> list[bytes]:
        forged = link(question, "/ipns/forged.example").to_wire()
        return [with_id(forged, other_id(question)), b"noise", link(question).to_wire()]

    with Liar(say).serving() as liar:
        assert (await ask(liar.server)).path == PATH


async def test_what_was_not_asked_for_is_not_looked_at() -> None:
    def say(question: bytes) -> list[bytes]:
        made = link(question)
        forged = dns.rrset.from_text(
            "_dnslink.victim.example.", 9999, "IN", "TXT", '"dnslink=/ipns/forged.example"'
        )
        made.answer.append(forged)
        made.additional.append(
            dns.rrset.from_text(OWNER, 60, "IN", "TXT", '"dnslink=/ipns/a.forged.example"')
        )
        return [made.to_wire()]

    with Liar(say).serving() as liar:
        assert (await ask(liar.server)).path == PATH


async def test_as_much_as_fits_into_an_answer() -> None:
    """64 KiB over TCP: one text of all that, and as many texts as there is room for."""

    def one(question: bytes) -> list[bytes]:
        return cut(question, answer(question, "TXT " + " ".join(['"dnslink=/ipfs/' + "a" * 200 + '"'] * 280)))

    def many(question: bytes) -> list[bytes]:
        made = answer(question)
        texts = ["TXT", *(f'"dnslink=/ipns/n{number:04}.example"' for number in range(1400))]
        made.answer.append(dns.rrset.from_text_list(OWNER, 60, "IN", "TXT", texts[1:]))
        return cut(question, made)

    def cut(question: bytes, made: dns.message.Message) -> list[bytes]:
        wire = made.to_wire(max_size=65535)
        short = answer(question)
        short.flags |= dns.flags.TC
        return [short.to_wire() if counted.pop() else wire]

    for say, path in ((one, None), (many, "/ipns/n0000.example")):
        counted = [False, True]  # on UDP first, then on TCP
        with Liar(say).serving() as liar:
            found = await ask(liar.server)
            assert (found.path is None) == (path is None)
            assert liar.asked == 2


@pytest.mark.parametrize("ttl", [0, 2**31 - 1])
async def test_times_of_any_length(ttl: int) -> None:
    with Liar(lambda q: [link(q, ttl=ttl).to_wire()]).serving() as liar:
        assert await ask(liar.server) == Answer(PATH, ttl)


async def test_bytes_that_are_no_text() -> None:
    with Liar(lambda q: [answer(q, r'TXT "dnslink=/ipns/\255\254\000x"').to_wire()]).serving() as liar:
        assert (await ask(liar.server)).path is None


async def test_a_machine_without_name_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(*_: object, **__: object) -> None:
        raise dns.resolver.NoResolverConfiguration

    monkeypatch.setattr(dns.resolver.BaseResolver, "read_resolv_conf", nothing)
    with pytest.raises(NotResolved, match="no name server"):
        await Dns([], 20.0)(NAME)
    with pytest.raises(NotResolved, match="no name server"):
        await TxtProofs(Dns([], 20.0)).verify(NAME, "0x" + "1" * 40, "gateway.example")


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("9.9.9.9", ("9.9.9.9", 53)),
        ("127.0.0.1:5353", ("127.0.0.1", 5353)),
        ("::1", ("::1", 53)),
        ("[::1]:5353", ("::1", 5353)),
        ("[::1]", ("::1", 53)),
    ],
)
def test_servers(text: str, server: tuple[str, int]) -> None:
    assert parse_server(text) == server


@pytest.mark.parametrize(
    "text", ["", "dns.example", "1.2.3", "1.2.3.4:", "1.2.3.4:0", "1.2.3.4:70000", "[::1", "[::1]5"]
)
def test_what_is_no_server(text: str) -> None:
    with pytest.raises(ValueError):
        parse_server(text)
