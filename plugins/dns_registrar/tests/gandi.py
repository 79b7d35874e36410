"""A stand-in for Gandi on loopback, by the published API: HTTP, bodies, errors.

Forms after https://api.gandi.net/docs/domains/ (check, domains, renew), …/docs/livedns/ and …/docs/reference/.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "pat_0123456789abcdef"
_YEAR = 365 * 86_400


@dataclass
class Answer:
    """What a mischief has the server say instead. `wait` holds it back; the connection is cut when it is set."""

    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = (("content-type", "application/json; charset=utf-8"),)
    wait: threading.Event | None = None


Mischief = Callable[[str, str], Answer | None]
"""(method, path), after it was done -> what is answered instead, if anything."""


def fault(code: int, message: str, cause: str, kind: str) -> Answer:
    document = {"code": code, "message": message, "object": kind, "cause": cause}
    return Answer(code, json.dumps(document).encode())


def faults(*found: tuple[str, str]) -> bytes:
    listed = [{"location": "body", "name": name, "description": words} for name, words in found]
    return json.dumps({"status": "error", "errors": listed}).encode()


class Gandi:
    """`asked`: (method, path with query, body) of every request; `orders`: those that bought something."""

    def __init__(self) -> None:
        self.domains: dict[str, int] = {}  # name: year in which it ends
        self.taken: set[str] = set()  # elsewhere
        self.price: Any = 15.5
        self.asked: list[tuple[str, str, Any]] = []
        self.orders: list[tuple[str, Any]] = []
        self.records: dict[tuple[str, str, str], list[str]] = {}
        self.slow = False  # orders are taken, and carried out when `settle` is called
        self.mischief: Mischief | None = None
        self.done = threading.Event()
        self._waiting: list[Callable[[], None]] = []
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def close(self) -> None:
        self.done.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def settle(self) -> None:
        with self._lock:
            for one in self._waiting:
                one()
            self._waiting.clear()

    # -- what it answers

    def answer(self, method: str, target: str, headers: Any, body: Any) -> Answer:
        if headers.get("authorization") != f"Bearer {TOKEN}":
            return fault(401, "The server could not verify that you authorized to access the document you requested. "
                         "Either you supplied the wrong credentials (e.g., bad api key), or your access token has "
                         "expired", "Unauthorized", "HTTPUnauthorized")  # fmt: skip
        parts = urlsplit(target)
        rehearsal = headers.get("dry-run") == "1"
        match (method, *unquote(parts.path).strip("/").split("/")):
            case ("GET", "v5", "domain", "check"):
                return self._check(parse_qs(parts.query))
            case ("POST", "v5", "domain", "domains"):
                return self._create(body, rehearsal)
            case ("GET", "v5", "domain", "domains", name):
                return self._domain(name)
            case ("POST", "v5", "domain", "domains", name, "renew"):
                return self._renew(name, body, rehearsal)
            case ("GET", "v5", "livedns", "domains", name):
                if name not in self.domains:
                    return fault(404, "Domain not found", "Not Found", "HTTPNotFound")
                return Answer(200, json.dumps({"fqdn": name, "automatic_snapshots": True}).encode())
            case ("GET", "v5", "livedns", "domains", name, "records", host):
                return self._records(name, host)
            case ("PUT", "v5", "livedns", "domains", name, "records", host, kind):
                return self._enter(name, host, kind, body)
            case ("DELETE", "v5", "livedns", "domains", name, "records", host, kind):
                if self.records.pop((name, host, kind), None) is None:
                    return fault(404, "Can't find the DNS record", "Not Found", "HTTPNotFound")
                return Answer(204, b"", headers=())
        return fault(404, "The resource could not be found.", "Not Found", "HTTPNotFound")

    def _check(self, query: dict[str, list[str]]) -> Answer:
        name, process = query["name"][0], query.get("processes", ["create"])[0]
        tax = [{"type": "service", "rate": 20.0, "name": "vat"}]
        product: dict[str, Any] = {"name": name, "process": process, "taxes": tax, "status": "available"}
        if process == "create" and (name in self.taken or name in self.domains):
            product["status"] = "unavailable"
        else:
            product["periods"] = [{"name": "golive", "starts_at": "2005-01-01T00:00:00Z"}]
            product["prices"] = [
                {
                    "duration_unit": "y",
                    "min_duration": 1,
                    "max_duration": 9,
                    "price_before_taxes": self.price,
                    "price_after_taxes": self.price,
                    "normal_price_before_taxes": self.price,
                    "normal_price_after_taxes": self.price,
                    "discount": False,
                    "type": "premium" if name.startswith("premium") else None,
                }
            ]
        document = {"currency": query["currency"][0], "grid": "A", "products": [product], "taxes": tax}
        return Answer(200, json.dumps(document).encode())

    def _create(self, body: Any, rehearsal: bool) -> Answer:
        owner, name = body.get("owner", {}), body.get("fqdn", "")
        needed = ("given", "family", "email", "streetaddr", "country", "type")
        missing = [(f"owner.{field}", "Required") for field in needed if field not in owner]
        if not owner.get("zip") and owner.get("country") == "FR":
            missing.append(("owner.zip", f"{owner.get('streetaddr')}: a zip is required there"))
        if missing:
            return Answer(200 if rehearsal else 400, faults(*missing))
        if name in self.domains or name in self.taken:
            return fault(409, f"{name} is not available", "Conflict", "HTTPConflict")
        if rehearsal:
            return Answer(200, b'{"status": "success"}')
        self.orders.append(("create", body))
        self._do(lambda: self.domains.__setitem__(name, 2026 + body.get("duration", 1)))
        location = (
            ("content-type", "application/json"),
            ("location", f"https://api.gandi.net/v5/domain/domains/{name}"),
        )
        return Answer(202, b'{"message": "Created domain will be available shortly."}', location)

    def _domain(self, name: str) -> Answer:
        if name not in self.domains:
            return fault(404, "Domain not found", "Not Found", "HTTPNotFound")
        document = {
            "fqdn": name,
            "fqdn_unicode": name,
            "tld": name.rpartition(".")[2],
            "id": "ba1167be-2f76-11e9-9dfb-00163ec4cb00",
            "status": ["clientTransferProhibited"],
            "dates": {
                "created_at": "2025-11-21T11:04:18Z",
                "registry_created_at": "2025-11-21T10:04:18Z",
                "registry_ends_at": f"{self.domains[name]}-11-21T10:04:18Z",
                "updated_at": "2025-11-25T16:20:49Z",
            },
            "autorenew": {"enabled": False, "duration": 1},
            "nameservers": ["ns-25-a.gandi.net", "ns-113-b.gandi.net", "ns-58-c.gandi.net"],
            "services": ["gandilivedns"],
            "can_tld_lock": True,
            "tags": [],
            "href": f"https://api.gandi.net/v5/domain/domains/{name}",
        }
        return Answer(200, json.dumps(document).encode())

    def _renew(self, name: str, body: Any, rehearsal: bool) -> Answer:
        if name not in self.domains:
            return fault(404, "Domain not found", "Not Found", "HTTPNotFound")
        if rehearsal:
            return Answer(200, b'{"status": "success"}')
        self.orders.append(("renew", body))
        self._do(lambda: self.domains.__setitem__(name, self.domains[name] + body["duration"]))
        return Answer(202, b'{"message": "Domain renewed."}')

    def _enter(self, name: str, host: str, kind: str, body: Any) -> Answer:
        if name not in self.domains:
            return fault(404, "Domain not found", "Not Found", "HTTPNotFound")
        self.records[name, host, kind] = body["rrset_values"]
        return Answer(201, b'{"message": "DNS Record Created"}')

    def _records(self, name: str, host: str) -> Answer:
        found = [
            {
                "rrset_name": host,
                "rrset_type": kind,
                "rrset_ttl": 300,
                "rrset_values": values,
                "rrset_href": f"https://api.gandi.net/v5/livedns/domains/{name}/records/{host}/{kind}",
            }
            for (zone, at, kind), values in self.records.items()
            if (zone, at) == (name, host)
        ]
        return Answer(200, json.dumps(found).encode())

    def _do(self, work: Callable[[], None]) -> None:
        if self.slow:
            self._waiting.append(work)
        else:
            work()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        gandi = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def _serve(self) -> None:
                raw = self.rfile.read(int(self.headers.get("content-length") or 0))
                body = json.loads(raw) if raw else None
                with gandi._lock:
                    answer = gandi.answer(self.command, self.path, self.headers, body)
                    gandi.asked.append((self.command, self.path, body))
                other = gandi.mischief(self.command, self.path) if gandi.mischief else None
                answer = other or answer
                if answer.wait is not None:
                    while not answer.wait.wait(0.05) and not gandi.done.is_set():
                        pass
                    self.close_connection = True
                    return
                with suppress(OSError):
                    self.send_response(answer.status)
                    for name, value in answer.headers:
                        self.send_header(name, value)
                    self.send_header("content-length", str(len(answer.body)))
                    self.end_headers()
                    self.wfile.write(answer.body)

            do_GET = do_POST = do_PUT = do_DELETE = _serve

        return Handler
