"""What those who are asked may say to mislead, to hold up or to send elsewhere."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from plugins.dns_handshake.tests.conftest import World
from tests.names.knot import Liar

from decentraspace.errors import Unavailable
from decentraspace_dns_handshake.chain import NameState, Resource, Server, read_info, read_resource
from decentraspace_dns_handshake.delegated import Delegated
from decentraspace_dns_handshake.handshake import Handshake
from decentraspace_dns_handshake.settings import read

HERE = "127.0.0.1"
HOST = "_dnslink.site.liar"
WITHIN = 0.5  # seconds for one that is silent
PATIENT = 20.0  # seconds for one that will answer
QUESTIONS = 40  # that one look-up may cause, at most

# -- name servers


def state(*servers: Server, name: str = "liar") -> NameState:
    return NameState(name, 1, "CLOSED", True, resource=Resource((), servers or (Server("", (HERE,)),)))


def asker(liar: Liar, *states: NameState, **changed: Any) -> Callable[[], Awaitable[Any]]:
    """A look-up of HOST where the chain says what `states` say."""
    known = {one.name: one for one in (states or (state(),))}

    async def name_of(label: str) -> NameState:
        return known.get(label, NameState(label, 1))

    port = int(liar.server.rpartition(":")[2])
    table = {"private": True, "port": port, "timeout": WITHIN, "nameservers": [liar.server], **changed}

    async def ask() -> Any:
        with trio.fail_after(60):
            return await Delegated(name_of, read(table)).lookup(HOST, "TXT", known["liar"])

    return ask


def reply(
    question: bytes, *records: str, authority: tuple[str, ...] = (), additional: tuple[str, ...] = ()
) -> Any:
    """Records as "NAME TYPE DATA"."""
    made = dns.message.make_response(dns.message.from_wire(question))
    made.flags |= dns.flags.AA
    for section, lines in (
        (made.answer, records),
        (made.authority, authority),
        (made.additional, additional),
    ):
        for line in lines:
            name, kind, data = line.split(" ", 2)
            section.append(dns.rrset.from_text(name, 30, "IN", kind, data))
    return made


def asked_for(question: bytes) -> str:
    return dns.message.from_wire(question).question[0].name.to_text().lower()


def deeper(question: bytes) -> list[bytes]:
    """Refers to a zone below, for ever."""
    made = reply(question, authority=(f"{asked_for(question)} NS ns.liar.",))
    made.flags &= ~dns.flags.AA
    return [made.to_wire()]


def around(question: bytes) -> list[bytes]:
    made = reply(question, authority=("liar. NS ns.liar.", ". NS ns.liar.", "other. NS ns.other."))
    made.flags &= ~dns.flags.AA
    return [made.to_wire()]


def aliases(question: bytes) -> list[bytes]:
    name = asked_for(question)
    return [reply(question, f"{name} CNAME x{len(name)}.{HOST}.").to_wire()]


def many_servers(question: bytes) -> list[bytes]:
    """Name servers without addresses, whose addresses are to be asked of more of the kind."""
    name = asked_for(question)
    servers = tuple(f"{name} NS ns{n}.{name}" for n in range(20))
    made = reply(question, authority=servers)
    made.flags &= ~dns.flags.AA
    return [made.to_wire()]


def with_rcode(code: dns.rcode.Rcode) -> Callable[[bytes], list[bytes]]:
    def say(question: bytes) -> list[bytes]:
        made = reply(question)
        made.set_rcode(code)
        return [made.to_wire()]

    return say


def not_authoritative(question: bytes) -> list[bytes]:
    made = reply(question, f'{HOST}. TXT "dnslink=/ipfs/stolen"')
    made.flags &= ~dns.flags.AA
    return [made.to_wire()]


def of_another(question: bytes) -> list[bytes]:
    other = dns.message.make_query("x.liar.", "TXT", id=int.from_bytes(question[:2], "big"))
    return [reply(other.to_wire(), 'x.liar. TXT "dnslink=/ipfs/stolen"').to_wire()]


SAYINGS: dict[str, Callable[[bytes], list[bytes]]] = {
    "nothing": lambda _: [],
    "noise": lambda question: [b"", b"x" * 40, question[:7], question[:2] + b"\xff" * 500],
    "deeper": deeper,
    "around": around,
    "aliases": aliases,
    "many servers": many_servers,
    "refused": with_rcode(dns.rcode.REFUSED),
    "servfail": with_rcode(dns.rcode.SERVFAIL),
    "lame": not_authoritative,
    "another": of_another,
}


@pytest.mark.parametrize("saying", SAYINGS)
async def test_a_name_server_that_leads_nowhere(saying: str) -> None:
    with Liar(SAYINGS[saying]).serving() as liar:
        with pytest.raises(Unavailable):
            await asker(liar)()
        assert liar.asked <= QUESTIONS


async def test_servers_that_name_each_other() -> None:
    """Without an address for either; and one that names itself."""
    first, second = Server("ns.two.", ()), Server("ns.liar.", ())
    with Liar(lambda question: [reply(question).to_wire()]).serving() as liar:
        for states in ((state(first), state(second, name="two")), (state(second),)):
            with pytest.raises(Unavailable) as refused:
                await asker(liar, *states)()
            assert "no address" in refused.value.detail
        assert liar.asked == 0


async def test_addresses_that_are_not_of_the_internet() -> None:
    """Told by the chain, by a referral, or by DNS for a server's name: none is asked."""
    private = [
        "127.0.0.1",
        "10.0.0.1",
        "169.254.169.254",
        "::1",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
        "224.0.0.1",
    ]
    with Liar(lambda question: [reply(question).to_wire()]).serving() as liar:
        for address in private:
            with pytest.raises(Unavailable) as refused:
                await asker(liar, state(Server("", (address,))), private=False, timeout=PATIENT)()
            assert "private" in refused.value.detail
        assert liar.asked == 0

    def by_name(question: bytes) -> list[bytes]:
        name = asked_for(question)
        made = (
            reply(question, f"{name} A 127.0.0.1")
            if b"\x00\x01\x00\x01" in question[-20:]
            else reply(question)
        )
        return [made.to_wire()]

    with Liar(by_name).serving() as liar:
        with pytest.raises(Unavailable) as refused:
            await asker(liar, state(Server("ns.hoster.example.", ())), private=False, timeout=PATIENT)()
        assert "private" in refused.value.detail


async def test_addresses_for_names_elsewhere_are_not_taken() -> None:
    """A zone gives an address for a name server that is not below it: the name's own is asked for instead."""
    asked: list[str] = []

    def say(question: bytes) -> list[bytes]:
        asked.append(asked_for(question))
        if asked[-1] == f"{HOST}.":
            made = reply(
                question, authority=("site.liar. NS ns.bank.",), additional=("ns.bank. A 127.0.0.9",)
            )
            made.flags &= ~dns.flags.AA
            return [made.to_wire()]
        return [reply(question).to_wire()]

    with Liar(say).serving() as liar, pytest.raises(Unavailable):
        await asker(liar, timeout=PATIENT)()
    assert "ns.bank." in asked
    # The chain's as well: an address there for a name of another's does not count.
    elsewhere = state(Server("ns.bank.", (HERE,)))
    with (
        Liar(lambda question: [reply(question, f'{HOST}. TXT "x"').to_wire()]).serving() as liar,
        pytest.raises(Unavailable),
    ):
        await asker(liar, elsewhere)()


async def test_the_next_server_is_asked() -> None:
    with Liar(
        lambda question: [reply(question, f'{HOST}. TXT "dnslink=/ipfs/x"').to_wire()]
    ).serving() as liar:
        found = await asker(liar, state(Server("", ("127.0.0.66",)), Server("", (HERE,))), timeout=5.0)()
    assert found.values == ("dnslink=/ipfs/x",)


# -- endpoints of hsd

GOOD_STATE = {"chain": "regtest", "blocks": 100, "mediantime": 2**31}
START = {"reserved": False, "week": 1, "start": 2}


def result(calls: list[dict[str, Any]], **given: Any) -> list[dict[str, Any]]:
    """Answers to the calls; `given` by method."""
    values = {"getblockchaininfo": GOOD_STATE, "getnameinfo": {"start": START, "info": None}, **given}
    return [{"id": call["id"], "error": None, "result": values.get(call["method"])} for call in calls]


def info(**changed: Any) -> dict[str, Any]:
    now = {"name": "liar", "state": "CLOSED", "registered": True, "stats": {}, "transfer": 0, "highest": 1}
    return {"start": START, "info": {**now, **changed}}


Body = Callable[[list[dict[str, Any]]], Any]


@contextmanager
def endpoint(body: Body, status: int = 200, headers: dict[str, str] | None = None) -> Iterator[str]:
    """Its URL. `body`: what it says to a batch: JSON, or bytes as they are."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            calls = json.loads(self.rfile.read(int(self.headers["content-length"])))
            said = body(calls)
            data = said if isinstance(said, bytes) else json.dumps(said).encode()
            with suppress(OSError):
                self.send_response(status)
                for name, value in (headers or {}).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer((HERE, 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://{HERE}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


LIES: dict[str, Body] = {
    "noise": lambda _: b"\x00\xff<html>",
    "nothing": lambda _: b"",
    "too much": lambda _: b"[" + b" " * 1_000_000 + b"]",
    "too deep": lambda _: b"[" * 100_000,
    "a number": lambda _: b"9" * 10_000,
    "one answer": lambda calls: result(calls)[0],
    "too few": lambda calls: result(calls)[:-1],
    "twice the same": lambda calls: [result(calls)[0]] * len(calls),
    "other ids": lambda calls: [{**one, "id": one["id"] + 1} for one in result(calls)],
    "no results": lambda calls: [{"id": one["id"]} for one in calls],
    "another network": lambda calls: result(calls, getblockchaininfo={**GOOD_STATE, "chain": "main"}),
    "long ago": lambda calls: result(calls, getblockchaininfo={**GOOD_STATE, "mediantime": 1_500_000_000}),
    "no state": lambda calls: result(calls, getblockchaininfo=None),
    "odd state": lambda calls: result(calls, getblockchaininfo={"chain": "regtest", "blocks": True}),
    "no information": lambda calls: result(calls, getnameinfo=[]),
    "about another": lambda calls: result(calls, getnameinfo=info(name="other")),
    "unknown state": lambda calls: result(calls, getnameinfo=info(state="MINE")),
    "an error": lambda calls: [{"id": one["id"], "error": {"code": -1, "message": "x"}} for one in calls],
}


def asking(*urls: str, **changed: Any) -> Handshake:
    return Handshake(
        read({"rpc": list(urls), "network": "regtest", "timeout": 20.0, "deadline": 60.0, **changed})
    )


@pytest.mark.parametrize("lie", LIES)
async def test_an_endpoint_that_lies(lie: str) -> None:
    with endpoint(LIES[lie]) as url:
        handshake = asking(url)
        for question in (handshake.resolve("liar"), handshake.verify("liar", "0x" + "aa" * 20)):
            with pytest.raises(Unavailable):
                await question
        await handshake.aclose()


async def test_a_name_on_chain_is_one_request() -> None:
    """Also its owner's proof, whether it exists or not."""
    requests: list[int] = []

    def count(calls: list[dict[str, Any]]) -> Any:
        requests.append(len(calls))
        return result(
            calls,
            getnameinfo=info(),
            getnameresource={"records": [{"type": "TXT", "txt": ["dnslink=/ipfs/x"]}]},
        )

    with endpoint(count) as url:
        handshake = asking(url)
        assert (await handshake.resolve("liar"))["value"] == "x"
        assert len(requests) == 1
        await handshake.verify("liar", "0x" + "aa" * 20, "A" * 86 + "==")
        assert requests == [3, 4]
        assert (await handshake.resolve("www.liar"))["kind"] == "none"
        assert len(requests) == 3
        await handshake.aclose()


async def test_what_is_odd_within_an_answer_is_passed_over() -> None:
    records = [
        {"type": "TXT", "txt": "dnslink=/ipfs/no-list"},
        {"type": "TXT", "txt": [1, None]},
        {"type": "GLUE4", "ns": "ns.liar.", "address": "999.1.1.1"},
        {"type": "NS", "ns": "not a host"},
        {"type": "SYNTH4", "address": None},
        {"type": "DS", "keyTag": -1},
        "TXT",
        {"type": ["TXT"]},
        {"type": "TXT", "txt": ["dnslink=", "/ipns/good.example"]},
    ]
    found = read_resource({"records": records})
    assert found == Resource(("dnslink=/ipns/good.example",), (Server("ns.liar.", ()),), ())
    odd = {"stats": {"blocksUntilExpire": float("1e400"), "x": [], "y": True}, "transfer": "x", "highest": -1}
    state = read_info("liar", 1, info(**odd))
    assert (state.held, dict(state.stats), state.transfer, state.highest) == (True, {}, False, 0)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
RECORD = st.dictionaries(st.sampled_from(["type", "txt", "ns", "address", "keyTag", "digest"]), JSON)
TYPED = st.builds(
    lambda r, t: {**r, "type": t}, RECORD, st.sampled_from(["TXT", "NS", "GLUE6", "SYNTH4", "DS"])
)


@given(JSON | st.fixed_dictionaries({"records": st.lists(TYPED | JSON, max_size=5)}))
@settings(max_examples=200, deadline=None)
def test_any_resource_is_read(value: Any) -> None:
    assert isinstance(read_resource(value), Resource)


@given(JSON | st.builds(info, state=JSON | st.just("CLOSED"), stats=JSON, transfer=JSON, registered=JSON))
@settings(max_examples=200, deadline=None)
def test_any_information_is_read_or_refused(value: Any) -> None:
    with suppress(ValueError):
        assert isinstance(read_info("liar", 1, value), NameState)


async def test_an_endpoint_that_sends_elsewhere_or_refuses() -> None:
    with endpoint(lambda calls: result(calls)) as good:
        for status, headers in ((302, {"location": good}), (401, {}), (500, {}), (204, {})):
            with endpoint(lambda calls: result(calls), status, headers) as url:
                handshake = asking(url)
                with pytest.raises(Unavailable) as refused:
                    await handshake.resolve("liar")
                assert url not in refused.value.detail
                await handshake.aclose()


async def test_an_endpoint_that_is_silent() -> None:
    with socket.create_server((HERE, 0)) as silent:
        handshake = asking(f"http://{HERE}:{silent.getsockname()[1]}", timeout=WITHIN)
        with pytest.raises(Unavailable):
            await handshake.resolve("liar")
        await handshake.aclose()
        handshake = asking(f"http://{HERE}:{silent.getsockname()[1]}", deadline=WITHIN)
        with pytest.raises(Unavailable) as refused:
            await handshake.resolve("liar")
        assert "took more than" in refused.value.detail
        await handshake.aclose()


async def test_the_next_endpoint_is_asked(world: World, mock_clock: trio.testing.MockClock) -> None:
    """One that lies, one that is gone, and a real one; the others are asked last for some time, which stands still."""
    lies: list[int] = []

    def lie(_: Any) -> bytes:
        lies.append(1)
        return b"?"

    with endpoint(lie) as liar:
        with socket.create_server((HERE, 0)) as gone:
            nobody = f"http://{HERE}:{gone.getsockname()[1]}"
        handshake = asking(liar, nobody, world.chain.url, api_key_file=str(world.key_file))
        for _ in range(3):
            assert (await handshake.chain.name("welcome")).held is bool(
                world.chain.info("welcome")["info"]["registered"]
            )
        assert len(lies) == 1
        assert len(handshake.endpoints.troubles) == 1  # both have one host
        await handshake.aclose()
