"""`decentraspace uploads`: what is kept besides sites, and giving it up."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import httpx

from decentraspace.content import cid as cids
from tests.cli.conftest import Result, ServedNode

Run = Callable[..., Result]


def test_uploads_are_listed_and_given_up(
    run: Run, logged_in: ServedNode, environment: dict[str, str], site: Path
) -> None:
    assert run("deploy", site, "--json").code == 0
    assert run("uploads", "--json").json["uploads"] == [], "a site is no upload"
    assert "No uploads." in run("uploads").out
    tokens = json.loads((Path(environment["DECENTRASPACE_HOME"]) / "tokens.json").read_text())
    headers = {
        "Authorization": f"Bearer {tokens[logged_in.url]['token']}",
        "Content-Type": "application/octet-stream",
    }
    with httpx.Client(base_url=logged_in.url, headers=headers, trust_env=False) as http:
        made = [http.post("/storage/upload/", content=bytes([n]) * 2000).json()["cid"] for n in range(3)]
    listed = run("uploads", "--json").json
    assert {one["cid"] for one in listed["uploads"]} == set(made)
    assert listed["bytes"] == 6000
    assert listed["limit"] == logged_in.node.config.limits.free_bytes
    assert all(one["expires"] > one["created"] for one in listed["uploads"])
    text = run("uploads").out
    assert all(cid in text for cid in made)
    assert "2.0 kB" in text

    assert run("uploads", "rm", made[0], made[1], "--json").json == {"removed": made[:2]}
    assert [one["cid"] for one in run("uploads", "--json").json["uploads"]] == [made[2]]
    assert not logged_in.node.blocks.is_pinned(cids.parse(made[0]))
    failed = run("uploads", "rm", "nonsense")
    assert failed.code == 2
    assert failed.err.startswith("error: ")
    assert run("uploads", "rm").code == 2
