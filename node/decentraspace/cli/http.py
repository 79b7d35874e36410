"""HTTP for the command line: one kept connection, bodies that are made on the way, errors in words."""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Iterator
from urllib.parse import urlsplit

from decentraspace.errors import BadInput, Unavailable

_CONNECT, _ANSWER = 10.0, 300.0  # seconds
_MOST = 64 * 1024 * 1024  # bytes of an answer
# What other servers answer to a path of the API. Others may come from a proxy in front of a node.
_ELSEWHERE = frozenset({200, 301, 302, 303, 307, 308, 400, 403, 404, 405, 501})


class Connection:
    """To one node; one thread. BadInput for a URL that is none, Unavailable when nobody answers."""

    def __init__(self, url: str, patience: float | None = None) -> None:
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise BadInput(f"{url!r} is not a URL: {error}.") from error
        if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment:
            raise BadInput(
                f"{url!r} is not the URL of a node.", hint="It looks like https://api.node.example."
            )
        self._url, self._prefix = url, parts.path.rstrip("/")
        self._patience = patience or _ANSWER
        connect = min(_CONNECT, self._patience)
        self._origin = f"{parts.scheme}://{parts.netloc}"
        self._made: http.client.HTTPConnection
        if parts.scheme == "https":
            context = ssl.create_default_context()
            self._made = http.client.HTTPSConnection(host, port, timeout=connect, context=context)
        else:
            self._made = http.client.HTTPConnection(host, port, timeout=connect)

    def close(self) -> None:
        self._made.close()

    def request(
        self, method: str, target: str, headers: dict[str, str], body: Iterator[bytes] | bytes | None
    ) -> tuple[int, bytes]:
        """(status, body). A kept connection that the node has closed meanwhile is made anew, once."""
        fresh = self._made.sock is None
        try:
            return self._request(method, target, headers, body)
        except (http.client.RemoteDisconnected, ConnectionError) as error:
            self.close()
            if fresh or isinstance(body, Iterator):
                raise self._unavailable(error) from error
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise self._unavailable(error) from error
        try:
            return self._request(method, target, headers, body)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise self._unavailable(error) from error

    def _request(
        self, method: str, target: str, headers: dict[str, str], body: Iterator[bytes] | bytes | None
    ) -> tuple[int, bytes]:
        made = self._made
        if made.sock is None:
            self._connect()
        try:
            if isinstance(body, Iterator):
                self._stream(method, target, headers, body)
            else:
                made.request(method, self._prefix + target, body, headers)
        except (BrokenPipeError, ConnectionResetError):
            # The node may have refused in the middle of the body, and said why.
            if not isinstance(body, Iterator):
                raise
        response = made.getresponse()
        answer = response.read(_MOST + 1)
        if len(answer) > _MOST:
            raise http.client.HTTPException("the answer is too long")
        self._check(response, answer)
        return response.status, answer

    def _check(self, response: http.client.HTTPResponse, answer: bytes) -> None:
        """Unavailable, with what to do about it, where something else than a node's API answers."""
        media = response.headers.get_content_type()
        is_json = media.endswith(("/json", "+json"))
        if self._prefix and response.status == 404 and (not is_json or b"no such endpoint" in answer):
            raise Unavailable(f"{self._url} has a path, and no API is there.", hint=f"Try {self._origin}.")
        if is_json or (not answer and response.status < 300) or response.status not in _ELSEWHERE:
            return
        if b"HTTPS" in answer and response.status == 400:
            raise self._speaks_tls()
        where = response.headers.get("Location", "")
        if 300 <= response.status < 400 and where.startswith("https://"):
            target = urlsplit(where)
            raise Unavailable(
                f"{self._url} sends to {target.scheme}://{target.netloc}.", hint="Name that with --node."
            )
        raise Unavailable(
            f"What answers at {self._url} is no DecentraSpace node's API.",
            hint="It sends web pages, as a node's gateway does. The API has a port of its own, by default 8090."
            if media == "text/html"
            else "The API has a port of its own, by default 8090.",
        )

    def _connect(self) -> None:
        try:
            self._made.connect()
        except ssl.SSLCertVerificationError as error:
            raise Unavailable(
                f"{self._url}: its certificate is not valid: {error.verify_message}."
            ) from error
        except ssl.SSLError as error:
            raise Unavailable(
                f"What answers at {self._url} does not speak TLS.",
                hint=f"Try {self._origin.replace('https', 'http', 1)}.",
            ) from error
        except (OSError, UnicodeError) as error:
            raise Unavailable(
                f"No node answers at {self._url}.",
                hint="Name another with --node, or start one: `decentraspace run`.",
            ) from error
        self._made.sock.settimeout(self._patience)

    def _stream(self, method: str, target: str, headers: dict[str, str], body: Iterator[bytes]) -> None:
        made = self._made
        made.putrequest(method, self._prefix + target)
        for name, value in headers.items():
            made.putheader(name, value)
        made.putheader("Transfer-Encoding", "chunked")
        made.endheaders()
        if isinstance(made.sock, socket.socket):
            made.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * 1024 * 1024)
        for piece in body:
            if piece:
                made.send(b"%x\r\n" % len(piece))
                made.send(piece)
                made.send(b"\r\n")
        made.send(b"0\r\n\r\n")

    def _unavailable(self, error: Exception) -> Unavailable:
        if isinstance(error, http.client.BadStatusLine):
            if "/multistream/" in str(error):
                return Unavailable(
                    f"{self._url} is a node's libp2p port, where other nodes connect.",
                    hint="The API has a port of its own, by default 8090.",
                )
            if str(error).startswith("\x15\x03"):  # a TLS alert
                return self._speaks_tls()
        why = str(error) or type(error).__name__
        return Unavailable(f"{self._url}: {why}.", hint="Run the command again.")

    def _speaks_tls(self) -> Unavailable:
        return Unavailable(
            f"What answers at {self._url} speaks TLS.",
            hint=f"Try {self._origin.replace('http', 'https', 1)}.",
        )
