"""Where a node may connect to for others."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from plugins.dns_ens.tests.chain import serve

from decentraspace_dns_ens import fetching
from decentraspace_dns_ens.fetching import Failed, Fetcher, is_public


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
     "255.255.255.255", "192.0.2.1", "::", "::1", "fe80::1", "fc00::1", "fec0::1", "ff02::1", "::ffff:10.0.0.1",
     "::127.0.0.1", "64:ff9b::a00:1", "64:ff9b:1::a00:1", "::ffff:0:a00:1",
     "2002:7f00:1::", "2002:a00:1::1", "2001:db8::1", "2001:0:1:2:3:4:80ff:fffe"],
)  # fmt: skip
def test_private(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"])
def test_public(address: str) -> None:
    assert is_public(address)


class Names(trio.abc.HostnameResolver):
    """A name server that says something else each time."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers, self.asked = list(answers), 0

    async def getaddrinfo(self, host: Any, port: Any, *_: Any, **__: Any) -> Any:
        self.asked += 1
        found = self.answers.pop(0)
        return [(trio.socket.AF_INET, trio.socket.SOCK_STREAM, 6, "", (one, port)) for one in found]

    async def getnameinfo(self, *_: Any) -> Any:
        raise NotImplementedError


async def test_a_name_that_turns_private_is_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS rebinding: what was judged is what is connected to, by address. 127.0.0.2 stands for a public host."""
    monkeypatch.setattr(fetching, "is_public", lambda address: address == "127.0.0.2")
    with serve(lambda *_: (200, b"secret")) as (url, asked):
        port = url.rpartition(":")[2]
        names = Names(["127.0.0.2"], ["127.0.0.1"])
        trio.socket.set_custom_hostname_resolver(names)
        fetcher = Fetcher(allow_private=False, most=1024)
        with pytest.raises(Failed, match=r"rebinds\.example"):  # nobody is at 127.0.0.2
            await fetcher.fetch("GET", f"http://rebinds.example:{port}/", seconds=10)
        await fetcher.aclose()
        assert (names.asked, asked) == (1, [])


async def test_of_several_addresses_only_public_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "is_public", lambda address: address == "127.0.0.1")
    with serve(lambda *_: (200, b"hello")) as (url, asked):
        port = url.rpartition(":")[2]
        trio.socket.set_custom_hostname_resolver(Names(["127.0.0.2", "127.0.0.3", "127.0.0.1"]))
        fetcher = Fetcher(allow_private=False, most=1024)
        found = await fetcher.fetch("GET", f"http://mixed.example:{port}/a", seconds=10)
        await fetcher.aclose()
    assert found == (200, b"hello")
    assert asked == [("GET", "/a")]


async def test_no_tls_no_answer() -> None:
    """What answers to https without TLS is no gateway."""
    with serve(lambda *_: (200, b"plain")) as (url, _):
        fetcher = Fetcher(allow_private=True, most=1024)
        with pytest.raises(Failed):
            await fetcher.fetch("GET", url.replace("http:", "https:"), seconds=10)
        await fetcher.aclose()


async def test_a_kept_connection_that_the_server_ends_is_made_anew() -> None:
    """As when it has been idle for too long, in the very moment in which it is used again."""
    connections = 0

    async def answer(stream: trio.SocketStream) -> None:
        nonlocal connections
        connections += 1
        async with stream:
            await stream.receive_some()
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
            await stream.receive_some()  # and no answer to this

    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(lambda task_status: trio.serve_tcp(
            answer, 0, host="127.0.0.1", task_status=task_status
        ))  # fmt: skip
        url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}/"
        fetcher = Fetcher(allow_private=True, most=1000)
        for _ in range(2):
            assert await fetcher.fetch("GET", url, seconds=10) == (200, b"{}")
        assert connections == 2
        await fetcher.aclose()
        nursery.cancel_scope.cancel()
