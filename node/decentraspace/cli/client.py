"""The command line's side of the API: the saved session, logging in, and calls with errors in words."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from decentraspace.cli.http import Connection
from decentraspace.errors import BadInput, DecentraSpaceError, Forbidden, Unauthorized, Unavailable
from decentraspace.identity.delegation import Delegation
from decentraspace.identity.sessions import sign_proof

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

DEFAULT_NODE = "http://127.0.0.1:8090"
_PAGES_MOST = 10_000


class ApiProblem(DecentraSpaceError):
    """A node refused; `document` is its problem document."""

    def __init__(self, document: dict[str, Any]) -> None:
        super().__init__(
            str(document.get("detail") or document.get("title")), hint=str(document.get("hint", ""))
        )
        self.document = document

    def problem(self) -> dict[str, Any]:
        return self.document

    @property
    def reason(self) -> str:
        return str(self.document.get("type", "")).rpartition(":")[2]


def home() -> Path:
    """$DECENTRASPACE_HOME, or decentraspace/ in the user's configuration folder."""
    if named := os.environ.get("DECENTRASPACE_HOME"):
        return Path(named)
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "decentraspace"


@dataclass(frozen=True)
class Saved:
    """A login on this machine. `key`: the session key, hexadecimal; times in Unix seconds; `names`: what the keys
    of sites' IPNS names are made from (identity/sitekeys.py), hexadecimal, of one site where the scope is one."""

    node: str
    network: str
    chain_id: int
    siwe_domain: str
    owner: str
    scope: str
    expires: int
    message: str
    signature: str
    key: str
    names: str = ""

    @property
    def name(self) -> str:
        """The network's name: what records are signed for."""
        return self.network

    @property
    def delegation(self) -> Delegation:
        return Delegation(self.message, bytes.fromhex(self.signature))

    @property
    def session_key(self) -> Ed25519PrivateKey:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(self.key))

    def name_key(self, site_id: str) -> Ed25519PrivateKey | None:
        """Of the site's IPNS name; None in a login without."""
        from decentraspace.identity import sitekeys

        if not self.names:
            return None
        made = bytes.fromhex(self.names)
        return sitekeys.site_key(sitekeys.site_seed(made, site_id) if self.scope == "*" else made)

    @property
    def did(self) -> str:
        """The session key as people see it: did:key:z6Mk…"""
        from decentraspace.identity import didkey

        return didkey.encode(self.session_key.public_key().public_bytes_raw())

    @property
    def address(self) -> bytes:
        return bytes.fromhex(self.owner[2:])


def _path() -> Path:
    return home() / "session.json"


def save(saved: Saved) -> Path:
    """Mode 0600, written whole or not at all."""
    path = _path()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(asdict(saved), file)
    fresh.rename(path)
    (path.parent / "tokens.json").unlink(missing_ok=True)
    return path


def load() -> Saved:
    """Unauthorized when nobody is logged in, or the login has run out; Forbidden when others can read it."""
    try:
        with _path().open() as file:
            if os.fstat(file.fileno()).st_mode & 0o077:
                raise Forbidden(
                    f"{_path()} can be read by others, and whoever has it can publish for you.",
                    hint=f"Run: chmod 600 {_path()}. If others use this machine, log in again and revoke the key.",
                )
            saved = Saved(**json.loads(file.read()))
    except FileNotFoundError as error:
        raise Unauthorized("Nobody is logged in.", hint="Run `decentraspace login`.") from error
    except (ValueError, TypeError) as error:
        raise BadInput(f"{_path()} cannot be read.", hint="Run `decentraspace login` again.") from error
    if saved.expires <= time.time():
        raise Unauthorized("The login has run out.", hint="Run `decentraspace login` again.")
    return saved


def last_node() -> str | None:
    """Where one logged in last, even if that login has run out."""
    try:
        return str(json.loads(_path().read_text())["node"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def last_key() -> str | None:
    """The session key (did:key:…) of the last login, if it has not run out."""
    try:
        saved = Saved(**json.loads(_path().read_text()))
        return saved.did if saved.expires > time.time() else None
    except (OSError, ValueError, TypeError):
        return None


def forget() -> bool:
    """Remove session key and tokens; whether there were any."""
    there = _path().exists()
    for path in (_path(), home() / "tokens.json"):
        path.unlink(missing_ok=True)
    return there


class Api:
    """One node's API. Tokens are kept beside the session, one per node.

    On http.client rather than httpx, whose import alone takes longer than a small deploy.
    `connected`: whether the node has ever answered; `patience`: seconds to wait for an answer, by default
    as many as an upload may need. One thread; see `another`.
    """

    def __init__(self, node: str, saved: Saved | None = None, *, patience: float | None = None) -> None:
        self.node = node.rstrip("/")
        self.connected = False
        self._saved = saved
        self._token: str | None = None
        self._http = Connection(self.node, patience)

    def __enter__(self) -> Api:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def another(self) -> Api:
        """The same with a connection of its own, for another thread."""
        made = Api(self.node, self._saved)
        made._token = self._token
        return made

    def log_in(self) -> None:
        """Have a token that works now: the body of a stream cannot be sent again after a refusal."""
        self.get("/auth/tier/")

    def get(self, path: str, **query: Any) -> Any:
        return self._call("GET", path, query=query)

    def pages(self, path: str, **query: Any) -> Iterator[Any]:
        """Of a list, one after the other; `limit` of each, 1000 where it is not given."""
        cursor: dict[str, str] = {}
        for _ in range(_PAGES_MOST):
            page = self.get(path, **{"limit": 1000, **query, **cursor})
            yield page
            if not page["next"]:
                return
            cursor = {"cursor": page["next"]}
        raise Unavailable(f"{self.node} gives a list without end")

    def post(self, path: str, value: Any) -> Any:
        return self._call("POST", path, value=value)

    def delete(self, path: str, **query: Any) -> Any:
        return self._call("DELETE", path, query=query)

    def put(self, path: str, value: Any) -> Any:
        return self._call("PUT", path, value=value)

    def patch(self, path: str, value: Any) -> Any:
        return self._call("PATCH", path, value=value)

    def stream(self, path: str, pieces: Iterator[bytes], media: str, **query: Any) -> Any:
        """POST a body made on the way. Cannot be repeated after a 401, so the token is renewed first."""
        self._log_in(fresh=False)
        return self._send("POST", path, query=query, body=pieces, media=media)

    def _call(self, method: str, path: str, **more: Any) -> Any:
        if self._saved is not None:
            self._log_in(fresh=False)
        try:
            return self._send(method, path, **more)
        except ApiProblem as error:
            if error.document.get("status") != 401 or self._saved is None or self._token is None:
                raise
        self._log_in(fresh=True)  # the kept token has run out, or the node was made anew
        return self._send(method, path, **more)

    def _send(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, Any] | None = None,
        value: Any = None,
        body: Iterator[bytes] | None = None,
        media: str = "application/json",
    ) -> Any:
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        content: Iterator[bytes] | bytes | None = body
        if value is not None:
            content = json.dumps(value).encode()
        if content is not None:
            headers["Content-Type"] = media
        target = path + ("?" + urlencode(query) if query else "")
        status, answer = self._http.request(method, target, headers, content)
        self.connected = True
        return _answer(status, answer)

    def _log_in(self, fresh: bool) -> None:
        if self._saved is None or (self._token and not fresh):
            return
        tokens = _tokens()
        known = tokens.get(self.node)
        if (
            not fresh
            and known
            and known["expires"] > time.time() + 60
            and known["owner"] == self._saved.owner
        ):
            self._token = known["token"]
            return
        self._token = None
        answer = self.log_in_with(self._saved)
        self._token = answer["token"]
        tokens[self.node] = {
            "token": answer["token"],
            "owner": self._saved.owner,
            "expires": time.time() + 3600,
        }
        _keep_tokens(tokens)

    def log_in_with(self, saved: Saved) -> Any:
        """Challenge, proof, token."""
        challenge = self._send("GET", "/auth/login/")
        if challenge["network"] != saved.network:
            raise BadInput(
                f"{self.node} is of network {challenge['network']}; the login is for {saved.network}.",
                hint="Log in again with --node.",
            )
        now = int(time.time())
        proof = sign_proof(
            saved.session_key, saved.delegation, challenge["audience"], challenge["nonce"], now
        )
        import base64

        return self._send(
            "POST",
            "/auth/login/",
            value={
                "message": saved.message,
                "signature": "0x" + saved.signature,
                "nonce": challenge["nonce"],
                "audience": challenge["audience"],
                "issued_at": now,
                "proof": base64.b64encode(proof).decode(),
            },
        )


def _answer(status: int, body: bytes) -> Any:
    try:
        value = json.loads(body) if body else {}
    except ValueError:
        value = None
    if status >= 400:
        if not isinstance(value, dict):
            value = {"title": f"The node answered {status}", "status": status}
        raise ApiProblem(value)
    if value is None or status >= 300:
        raise Unavailable("What answers there is no DecentraSpace node.", hint="Check --node.")
    return value


def _tokens() -> dict[str, Any]:
    try:
        value = json.loads((home() / "tokens.json").read_text())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _keep_tokens(tokens: dict[str, Any]) -> None:
    path = home() / "tokens.json"
    fresh = path.with_suffix(".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(tokens, file)
    fresh.rename(path)
