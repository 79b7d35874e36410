"""What all endpoints have in common: problems, request ids, CORS, OpenAPI, metrics, ports."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

import decentraspace
from decentraspace.api import multipart
from decentraspace.api.app import create_app, endpoints
from decentraspace.api.schemas import attr, dump, parse, parse_query, schema
from decentraspace.api.server import serve_api
from decentraspace.api.state import Answer, State
from decentraspace.errors import BadInput, ConfigError, Conflict, Unprocessable
from tests.api.small_node import Person, SmallNode


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing/here/", 404),
        ("GET", "/auth/login/../../etc", 404),
        ("PUT", "/auth/login/", 405),
        ("DELETE", "/hosting/deploy/", 405),
        ("POST", "/healthz", 405),
        ("BREW", "/auth/login/", 405),
        ("POST", "/auth/login/", 415),
    ],
)
async def test_problems_before_any_endpoint(
    client: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    answer = await client.request(method, path)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status
    assert answer.headers["x-request-id"] in answer.json()["instance"]
    if status == 405:
        assert "OPTIONS" in answer.headers["allow"]


async def test_request_ids(client: httpx.AsyncClient) -> None:
    given = (await client.get("/healthz", headers={"X-Request-Id": "abc-123.x_9"})).headers["x-request-id"]
    assert given == "abc-123.x_9"
    for bad in ("a" * 65, "a b", "<script>", "a\tb"):
        made = (await client.get("/healthz", headers={"X-Request-Id": bad})).headers["x-request-id"]
        assert re.fullmatch(r"[0-9a-f]{16}", made)


async def test_browsers_may_call_from_any_origin(client: httpx.AsyncClient) -> None:
    asked = await client.options(
        "/storage/upload/",
        headers={"Origin": "https://site.example", "Access-Control-Request-Method": "PATCH"},
    )
    assert asked.status_code == 204
    assert "PATCH" in asked.headers["access-control-allow-methods"]
    assert "Authorization" in asked.headers["access-control-allow-headers"]
    for path in ("/healthz", "/nothing"):
        answer = await client.get(path, headers={"Origin": "https://site.example"})
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in answer.headers


async def test_a_path_without_its_slash_is_redirected(client: httpx.AsyncClient) -> None:
    answer = await client.get("/auth/login")
    assert answer.status_code in (301, 308)
    assert answer.headers["location"].endswith("/auth/login/")


async def test_pages_of_the_system(client: httpx.AsyncClient, node: SmallNode) -> None:
    assert (await client.get("/healthz")).text == "ok\n"
    assert (await client.get("/readyz")).json()["peer_id"] == node.key.peer_id
    docs = await client.get("/docs")
    assert docs.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in docs.headers["content-security-policy"]
    assert "<script" not in docs.text
    for endpoint in endpoints():
        assert f"{endpoint.method} {endpoint.path}" in docs.text
    metrics = (await client.get("/metrics")).text
    assert 'decentraspace_api_requests_total{endpoint="/docs",method="GET",status="200"} 1.0' in metrics
    assert "decentraspace_block_quota_bytes" in metrics
    assert "decentraspace_bitswap_served_bytes_total 0.0" in metrics
    assert (await client.head("/healthz")).status_code == 200


async def test_made_up_paths_make_no_metrics(client: httpx.AsyncClient) -> None:
    for number in range(20):
        await client.get(f"/made/up/{number}")
    assert "made" not in (await client.get("/metrics")).text


async def test_openapi_describes_every_endpoint(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    assert document["openapi"] == "3.1.0"
    told = {(m.upper(), p) for p, operations in document["paths"].items() for m in operations}
    assert told == {(e.method, e.path) for e in endpoints()}
    text = json.dumps(document)
    for name in re.findall(r"#/components/schemas/(\w+)", text):
        assert name in document["components"]["schemas"]
    names = [o["operationId"] for operations in document["paths"].values() for o in operations.values()]
    assert len(names) == len(set(names))
    for operations in document["paths"].values():
        for operation in operations.values():
            assert operation["summary"]
            for parameter in operation.get("parameters", ()):
                assert parameter["description"], operation["operationId"]


async def test_answers_are_what_openapi_says(client: httpx.AsyncClient, person: Person) -> None:
    document = (await client.get("/openapi.json")).json()
    components = document["components"]["schemas"]
    for path, headers in (("/auth/login/", {}), ("/auth/tier/", person.headers), ("/readyz", {})):
        content = document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]
        described = components[content["schema"]["$ref"].rpartition("/")[2]]
        answer = (await client.get(path, headers=headers)).json()
        assert set(answer) <= set(described["properties"])
        assert set(described["required"]) <= set(answer)


async def test_a_taken_port_is_told_in_words(make_node: Callable[..., SmallNode]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        node = make_node(api={"port": taken.getsockname()[1]})
        with pytest.raises(ConfigError) as told:
            await serve_api(create_app(node), node.config)
    assert "api.port" in told.value.hint


async def test_the_server_stops_when_told(node: SmallNode) -> None:
    for _ in range(2):
        async with node.serving() as client:
            assert (await client.get("/healthz")).status_code == 200
        with pytest.raises(OSError):
            await trio.open_tcp_stream("127.0.0.1", node.config.api.port)


async def test_large_bodies_are_refused_early(client: httpx.AsyncClient) -> None:
    answer = await client.post(
        "/auth/login/", content=b" " * 70_000, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 413

    async def endless() -> Any:
        for _ in range(100):
            yield b" " * 1024

    answer = await client.post(
        "/auth/login/", content=endless(), headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 413


async def test_deep_json_does_not_end_the_process(client: httpx.AsyncClient) -> None:
    for body in (b"[" * 60_000, b'{"a":' * 10_000, b'{"want":' + b"[" * 30_000):
        answer = await client.post("/auth/login/", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 400


async def test_duplicate_and_unknown_parameters(client: httpx.AsyncClient) -> None:
    for query in ("site=a&site=b", "what=1", "limit=0", "limit=x", "limit=99999999999999999999"):
        assert (await client.get(f"/hosting/status/?{query}")).status_code == 400


RAW = [
    b"GET / HTTP/1.1\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"GET /healthz HTTP/9.9\r\nHost: x\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 200_000 + b"\r\n\r\n",
    b"POST /auth/login/ HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: -5\r\n\r\n",
    b"POST /auth/login/ HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /auth/login/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZZ\r\n",
    b"GET /%ff%fe%00/ HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /healthz?%zz=%&&&=== HTTP/1.1\r\nHost: x\r\n\r\n",
]


@pytest.mark.parametrize("raw", RAW)
async def test_broken_http_hurts_only_itself(client: httpx.AsyncClient, node: SmallNode, raw: bytes) -> None:
    stream = await trio.open_tcp_stream("127.0.0.1", node.config.api.port)
    with trio.move_on_after(2):
        try:
            await stream.send_all(raw)
            await stream.send_eof()
            answer = bytearray()
            while piece := await stream.receive_some():
                answer += piece
            assert b" 500 " not in answer.split(b"\r\n")[0]
        except trio.BrokenResourceError:
            pass
    await stream.aclose()
    assert (await client.get("/healthz")).status_code == 200


async def test_an_unexpected_failure_is_a_problem_too(
    client: httpx.AsyncClient, node: SmallNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(node.sessions, "challenge", broken)
    answer = await client.get("/auth/login/")
    assert answer.status_code == 500
    assert answer.json()["type"] == "urn:decentraspace:problem:internal"
    assert "secret" not in answer.text


# -- the pieces


@dataclass(frozen=True)
class Inner:
    n: int = attr("A number.", least=1, most=9)


@dataclass(frozen=True)
class Sample:
    name: str = attr("A name.", pattern="[a-z]+", most=5)
    kind: Literal["a", "b"] = attr("A kind.", "a")
    inner: Inner | None = attr("Inside.", None)
    many: list[Inner] | None = attr("Many.", None, most=2)
    flag: bool = attr("A flag.", False)


def test_reading_json_strictly() -> None:
    whole = {"name": "abc", "kind": "b", "inner": {"n": 3}, "many": [{"n": 1}], "flag": True}
    read = parse(Sample, whole)
    assert read == Sample("abc", "b", Inner(3), [Inner(1)], True)
    assert dump(read) == whole
    assert dump(parse(Sample, {"name": "x"})) == {"name": "x", "kind": "a", "flag": False}
    for wrong in (
        {},
        [],
        None,
        {"name": 1},
        {"name": "ABC"},
        {"name": "abcdef"},
        {"name": "a", "kind": "c"},
        {"name": "a", "flag": 1},
        {"name": "a", "inner": {"n": 0}},
        {"name": "a", "inner": {"n": 10}},
        {"name": "a", "inner": {"n": True}},
        {"name": "a", "inner": []},
        {"name": "a", "many": [{"n": 1}] * 3},
        {"name": "a", "more": 1},
    ):
        with pytest.raises(BadInput):
            parse(Sample, wrong)
    assert parse_query(Inner, {"n": "4"}) == Inner(4)
    components: dict[str, Any] = {}
    schema(Sample, components)
    assert components["Sample"]["required"] == ["name"]
    assert components["Sample"]["properties"]["many"]["anyOf"][0]["maxItems"] == 2


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda s: st.lists(s) | st.dictionaries(st.text(), s),
    )
)
def test_any_json_is_read_or_refused(value: Any) -> None:
    for cls in (Sample, *(e.json for e in endpoints() if e.json)):
        with suppress(BadInput):
            parse(cls, value)


@given(
    st.dictionaries(st.text("abc/.ü ", min_size=1, max_size=8), st.binary(max_size=300), max_size=4),
    st.integers(1, 70),
)
def test_forms_are_read_alike_in_any_pieces(files: dict[str, bytes], size: int) -> None:
    body = bytearray()
    for name, data in files.items():
        body += (
            b'--XyZ\r\nContent-Disposition: form-data; name="f"; filename="' + name.encode() + b'"\r\n\r\n'
        )
        body += data + b"\r\n"
    body += b"--XyZ--\r\n"
    pieces = (bytes(body[i : i + size]) for i in range(0, len(body), size))
    read = {}
    for part in multipart.parts(pieces, b"XyZ"):
        read[part.filename] = part.stream.read()
    assert read == files


@given(st.binary(max_size=400))
def test_a_form_of_noise_is_refused(noise: bytes) -> None:
    with pytest.raises(BadInput):
        for part in multipart.parts(iter([b"--XyZ\r\n" + noise]), b"XyZ"):
            part.stream.read()


def test_answers_by_key_outlive_restarts(tmp_path: Path) -> None:
    path, owner = tmp_path / "api.sqlite", b"o" * 20
    state = State(path)
    assert state.begin(owner, "k", b"request", now=1000) is None
    with pytest.raises(Conflict):
        state.begin(owner, "k", b"request", now=1000)
    state.close()
    state = State(path)  # as after a crash: the first attempt never ended
    assert state.begin(owner, "k", b"request", now=1001) is None
    state.finish(owner, "k", Answer(200, "/x", b"{}"))
    state.close()
    state = State(path)
    assert state.begin(owner, "k", b"request", now=1002) == Answer(200, "/x", b"{}")
    assert state.begin(b"p" * 20, "k", b"request", now=1002) is None
    with pytest.raises(Unprocessable):
        state.begin(owner, "k", b"another", now=1002)
    assert state.begin(owner, "k", b"another", now=1002 + 86401) is None
    state.finish(owner, "k", None)
    assert state.begin(owner, "k", b"third", now=1002 + 86401) is None
    for key in ("", "x" * 256, "\n", "é"):
        with pytest.raises(BadInput):
            state.begin(owner, key, b"")
    state.count_upload(owner, 10, 3600, now=10_000)
    state.count_upload(owner, 5, 3600, now=10_000)
    assert state.uploaded(owner, 3600, now=10_100) == 15
    assert state.uploaded(owner, 3600, now=20_000) == 0
    state.close()


def test_a_newer_state_is_refused_in_words(tmp_path: Path) -> None:
    import sqlite3

    path = tmp_path / "api.sqlite"
    State(path).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(ConfigError, match="version 99"):
        State(path)


REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference"


def test_the_reference_names_every_endpoint() -> None:
    text = (REFERENCE / "api.md").read_text("utf-8")
    for endpoint in endpoints():
        assert f"`{endpoint.method} {endpoint.path}`" in text


def test_the_reference_names_every_problem() -> None:
    text = (REFERENCE / "problems.md").read_text("utf-8")
    slug = re.compile(r'\bslug(?:, status, title|, title)? ?= ?"([a-z-]+)"')
    found = {
        s
        for path in Path(decentraspace.__file__).parent.rglob("*.py")
        for s in slug.findall(path.read_text())
    }
    assert len(found) > 40
    assert [s for s in sorted(found) if f"`{s}`" not in text] == []
