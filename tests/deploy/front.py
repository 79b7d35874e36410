"""Real programs on loopback: Caddy with the Caddyfile of config/deploy/, and Pebble, an ACME authority for tests."""

from __future__ import annotations

import datetime
import ipaddress
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support import ROOT, free_port, require_real

DEPLOY = ROOT / "config" / "deploy"
DEADLINE = 90.0
_Found = TypeVar("_Found")


def poll(
    condition: Callable[[], _Found], what: str, process: subprocess.Popen[bytes] | None = None
) -> _Found:
    """What `condition` gives, once it is true."""
    end = time.monotonic() + DEADLINE
    while not (found := condition()):
        assert process is None or process.poll() is None, f"{what}: it ended"
        assert time.monotonic() < end, f"{what}: not within {DEADLINE:g} s"
        time.sleep(0.05)
    return found


@contextmanager
def running(
    command: list[str], folder: Path, environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Its log is in `folder`/log. Ended at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "XDG_DATA_HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder),
    }
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(command, cwd=folder, env={**kept, **environment}, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def certificate(folder: Path) -> tuple[Path, Path]:
    """(certificate, key) that 127.0.0.1 serves with: its own authority."""
    folder.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pebble.test")])
    now = datetime.datetime.now(datetime.UTC)
    hosts = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(hosts), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "authority.pem", folder / "authority.key"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return paths


@dataclass(frozen=True)
class Ports:
    """Of Caddy, where the authority looks for its challenges."""

    http: int
    https: int


@dataclass(frozen=True)
class Authority:
    """`directory`: its ACME URL. `trust`: who vouches for that. `root`: who vouches for what it issues (PEM)."""

    directory: str
    trust: Path
    root: str
    log: Path

    def orders(self, name: str) -> int:
        """How often it was asked to look whether `name` is under control."""
        return self.log.read_text().count(f'Value:"{name}"')


@contextmanager
def pebble(folder: Path, nameserver: str, ports: Ports) -> Iterator[Authority]:
    program = shutil.which("pebble")
    require_real("Pebble (apt-get install pebble)", program)
    assert program is not None
    trust, key = certificate(folder)
    listening, managing = free_port(), free_port()
    settings: dict[str, Any] = {
        "listenAddress": f"127.0.0.1:{listening}",
        "managementListenAddress": f"127.0.0.1:{managing}",
        "certificate": str(trust),
        "privateKey": str(key),
        "httpPort": ports.http,
        "tlsPort": ports.https,
        "ocspResponderURL": "",
        "externalAccountBindingRequired": False,
    }
    (folder / "pebble.json").write_text(json.dumps({"pebble": settings}))
    command = [program, "-config", str(folder / "pebble.json"), "-dnsserver", nameserver]
    environment = {"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0"}
    with running(command, folder, environment) as process:

        def root() -> str:
            with suppress(httpx.TransportError):
                found = httpx.get(f"https://127.0.0.1:{managing}/roots/0", verify=str(trust), trust_env=False)
                return found.text if found.status_code == 200 else ""
            return ""

        issuer = poll(root, "pebble", process)
        yield Authority(f"https://127.0.0.1:{listening}/dir", trust, issuer, folder / "log")


class Refused(Exception):
    """There is no certificate for the name."""


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


class Caddy:
    """`root`: the authority whose certificates visitors trust."""

    def __init__(self, ports: Ports, root: str, log: Path) -> None:
        self.ports, self._root, self._log = ports, root, log

    def log(self) -> str:
        return self._log.read_text()

    def get(
        self, name: str, path: str = "/", *, method: str = "GET", body: bytes = b"", **headers: str
    ) -> Answer:
        """Over HTTPS, as a browser does that trusts the authority. Refused where TLS cannot be begun."""
        with socket.create_connection(("127.0.0.1", self.ports.https), DEADLINE) as plain:
            try:
                secure = self._context().wrap_socket(plain, server_hostname=name)
            except ssl.SSLCertVerificationError:
                raise
            except (ssl.SSLError, ConnectionError) as error:
                raise Refused(str(error)) from error
            with secure:
                return _exchange(secure, name, path, method, body, headers)

    def names(self, name: str) -> set[str]:
        """Those that the certificate shown for `name` is for."""
        with (
            socket.create_connection(("127.0.0.1", self.ports.https), DEADLINE) as plain,
            self._context().wrap_socket(plain, server_hostname=name) as secure,
        ):
            found = x509.load_der_x509_certificate(secure.getpeercert(binary_form=True) or b"")
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return set(names.get_values_for_type(x509.DNSName))

    def plain(self, name: str, path: str = "/") -> Answer:
        """Over HTTP."""
        with socket.create_connection(("127.0.0.1", self.ports.http), DEADLINE) as stream:
            return _exchange(stream, name, path, "GET", b"", {})

    def _context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cadata=self._root)


def _exchange(
    stream: socket.socket, name: str, path: str, method: str, body: bytes, headers: dict[str, str]
) -> Answer:
    lines = [f"{method} {path} HTTP/1.1", f"Host: {name}", "Connection: close"]
    lines += [f"{key.replace('_', '-')}: {value}" for key, value in headers.items()]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    stream.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
    with suppress(OSError):  # whoever answers before all is there may close
        stream.sendall(body)
    import http.client

    answer = http.client.HTTPResponse(stream, method=method)
    answer.begin()
    found = {key.lower(): value for key, value in answer.getheaders()}
    return Answer(answer.status, found, answer.read())


@contextmanager
def caddy(folder: Path, ports: Ports, authority: Authority, **environment: str) -> Iterator[Caddy]:
    """With the Caddyfile as operators have it, and these variables."""
    program = shutil.which("caddy")
    require_real("Caddy (apt-get install caddy)", program)
    assert program is not None
    values = {
        "HTTP_PORT": str(ports.http),
        "HTTPS_PORT": str(ports.https),
        "CADDY_ADMIN": "off",
        "CADDY_OPTIONS": "default_bind 127.0.0.1",
        "ACME_EMAIL": "operator@node.example",
        "ACME_DIRECTORY": authority.directory,
        "SSL_CERT_FILE": str(authority.trust),
        **environment,
    }
    command = [program, "run", "--config", str(DEPLOY / "Caddyfile"), "--adapter", "caddyfile"]
    with running(command, folder, values) as process:
        found = Caddy(ports, authority.root, folder / "log")

        def ready() -> bool:
            with suppress(OSError), socket.create_connection(("127.0.0.1", ports.https), 1):
                return True
            return False

        try:
            poll(ready, "caddy", process)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{found.log()}") from error
        yield found
