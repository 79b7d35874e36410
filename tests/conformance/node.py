"""The gateway under test: a node with open relay on, whose store holds the suite's fixtures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from decentraspace.content import ipns
from decentraspace.content.car import CarDecoder
from decentraspace.content.ipns import NameStore
from decentraspace.errors import BadInput, Unprocessable
from tests.conformance.suite import Fixtures
from tests.gateway.served import Served

# What some tests ask for is held by nobody; they do not wait for it for longer than this.
_FETCH_TIMEOUT = 2.0  # seconds


@contextmanager
def conforming(folder: Path, fixtures: Fixtures) -> Iterator[int]:
    """The port of a gateway that serves the fixtures, on 127.0.0.1 under the domain `localhost`."""
    links = [f"{name}={path}" for name, path in fixtures.dnslinks.items()]
    gateway = {"open_relay": True, "fetch_timeout": _FETCH_TIMEOUT, "dnslink": links}
    with Served(folder, gateway=gateway).serving() as served:
        decoder = CarDecoder()
        served.node.blocks.put_many(decoder.feed(fixtures.car.read_bytes()))
        decoder.close()
        names = NameStore(served.node.blocks)
        for path in fixtures.records:
            # Some records are wrong on purpose: a node that took one would fail the test of it.
            with suppress(BadInput, Unprocessable):
                names.put(
                    ipns.parse_name(path.name.partition("_")[0].removesuffix(path.suffix)), path.read_bytes()
                )
        yield served.port
