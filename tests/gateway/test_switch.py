"""A new version replaces the old one at once, in every worker, and nothing of the old one lingers."""

from __future__ import annotations

import threading
from collections.abc import Callable

from tests.gateway.served import Owner, Served

VERSIONS = 12
READERS = 3


def files(version: int) -> dict[str, bytes]:
    """Every byte of every file tells the version; one is compressed, one is sent as it is taken."""
    mark = f"{version:04}".encode()
    return {
        "index.html": mark * 2_000,
        "part/page.txt": mark * 200_000,
        "large.bin": mark * 600_000,
        "_headers": b"/*\n  X-Version: " + mark + b"\n",
        f"only-{version}.txt": mark,
    }


def version_of(body: bytes) -> int:
    """The version whose whole body this is."""
    mark = body[:4]
    assert body == mark * (len(body) // 4), "parts of several versions in one answer"
    return int(mark)


def test_the_switch_is_atomic_in_every_worker(serve: Callable[..., Served]) -> None:
    served = serve(gateway={"workers": 2})
    site = served.site(files(1))
    acknowledged = 1
    stop = threading.Event()
    failures: list[BaseException] = []
    seen: list[set[int]] = [set() for _ in range(READERS)]

    def read(number: int) -> None:
        paths = ("/", "/part/page.txt", "/large.bin", "/part/page")
        try:
            while not stop.is_set():
                with served.wire() as wire:  # a new one now and then: any worker may take it
                    for path in paths[:3] * 2:
                        expected = acknowledged
                        answer = wire.get(site.host, path, "GET")
                        assert answer.status == 200
                        found = version_of(answer.body)
                        assert found >= expected, f"{path}: version {found} after {expected} was acknowledged"
                        assert int(answer.headers["x-version"]) == found
                        seen[number].add(found)
        except BaseException as error:  # noqa: BLE001 - raised below
            failures.append(error)

    readers = [threading.Thread(target=read, args=(number,)) for number in range(READERS)]
    for reader in readers:
        reader.start()
    try:
        for version in range(2, VERSIONS + 1):
            site.deploy(files(version))
            acknowledged = version
            # Right after the acknowledgement, asked of whichever worker takes the connection.
            for _ in range(4):
                assert version_of(site.get("/").body) == version
                assert site.get(f"/only-{version - 1}.txt").status == 404
    finally:
        stop.set()
        for reader in readers:
            reader.join()
    assert not failures, failures[0]
    assert len(set().union(*seen)) > 2, "the readers saw no switch"


def test_what_a_visitor_holds_is_asked_for_again(served: Served) -> None:
    """A page's entity tag of the version before does not stand for the new one; an unchanged file's does."""
    site = served.site({"index.html": b"<p>one", "same.txt": b"same"})
    old, same = site.get("/"), site.get("/same.txt")
    assert old.headers["cache-control"] == "public, max-age=0, must-revalidate"
    site.deploy({"index.html": b"<p>two", "same.txt": b"same"})
    assert site.get("/", if_none_match=old.headers["etag"]).body == b"<p>two"
    assert site.get("/same.txt", if_none_match=same.headers["etag"]).status == 304


def test_a_rollback_is_a_switch(served: Served) -> None:
    site = served.site({"index.html": b"<p>one"})
    first = served.node.records.head(site.site_id)
    assert first is not None
    site.deploy({"index.html": b"<p>two"})
    assert site.get("/").body == b"<p>two"
    site.deploy(first.root)
    assert site.get("/").body == b"<p>one"


def test_a_download_under_way_stays_with_its_version(served: Served) -> None:
    site: Owner = served.site({"large.bin": b"1" * 6_000_000})
    with served.wire() as wire:
        wire.send(f"GET /large.bin HTTP/1.1\r\nHost: {site.host}\r\n\r\n".encode())
        first = wire.socket.recv(1000)
        assert first.startswith(b"HTTP/1.1 200")
        site.deploy({"large.bin": b"2" * 6_000_000})
        assert site.get("/large.bin").body == b"2" * 6_000_000
        wire.give_back(first)
        assert wire.answer().body == b"1" * 6_000_000
