"""What the node and the doctor advise when they cannot listen."""

from __future__ import annotations

import errno
import socket
from pathlib import Path

import pytest

from decentraspace.ports import advice
from tests.node.running import command
from tests.support import free_port


@pytest.mark.parametrize(
    ("number", "setting", "said"),
    [
        (errno.EADDRINUSE, "api.port", "Stop what uses the port, or name another in api.port."),
        (errno.EACCES, "gateway.port", "above 1023 in gateway.port"),
        (errno.EADDRNOTAVAIL, "gateway.port", "one of its own in gateway.host"),
        (errno.EADDRNOTAVAIL, "network.listen", "one of its own in network.listen"),
        (errno.EAFNOSUPPORT, "api.port", "Name another address in api.host."),
    ],
)
def test_the_advice_fits_the_error(number: int, setting: str, said: str) -> None:
    assert said in advice(OSError(number, "x"), setting)


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("API_HOST", "192.0.2.1", "name one of its own in api.host"),
        ("GATEWAY_HOST", "192.0.2.1", "name one of its own in gateway.host"),
        ("NETWORK_LISTEN", "/ip4/192.0.2.1/tcp/0", "name one of its own in network.listen"),
    ],
)
def test_an_address_of_another_machine(tmp_path: Path, variable: str, value: str, said: str) -> None:
    """192.0.2.0/24 is for documentation (RFC 5737)."""
    settings = {
        "DECENTRASPACE_NODE_DATA_DIR": str(tmp_path / "data"),
        "DECENTRASPACE_API_PORT": str(free_port()),
        "DECENTRASPACE_GATEWAY_PORT": str(free_port()),
        "DECENTRASPACE_NETWORK_LISTEN": "/ip4/127.0.0.1/tcp/0",
        "DECENTRASPACE_NETWORK_MDNS": "no",
        f"DECENTRASPACE_{variable}": value,
    }
    for name in ("run", "doctor"):
        done = command(tmp_path, name, **settings)
        assert done.returncode == 2, done.stderr
        assert said in done.stdout + done.stderr


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = command(
            tmp_path,
            "doctor",
            DECENTRASPACE_NODE_DATA_DIR=str(tmp_path / "data"),
            DECENTRASPACE_API_PORT=str(port),
        )
    assert "Stop what uses the port, or name another in api.port." in done.stdout
