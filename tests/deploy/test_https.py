"""HTTPS for a real node: Caddy with the Caddyfile that operators have, certificates from Pebble, names on Knot."""

from __future__ import annotations

import json
import re
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from plugins.dns_registrar.tests.zones import KEY_NAME, KEY_SECRET, Zones, zones

from decentraspace.gateway.http.limits import Limits
from decentraspace.testing import RunningNode
from tests.deploy.front import DEPLOY, Answer, Authority, Caddy, Ports, Refused, caddy, pebble, poll
from tests.node.running import command
from tests.support import free_port, require_real

DOMAIN, API = "gw.plain.example", "api.plain.example"
PAGE = "<h1>over HTTPS</h1>"


@dataclass
class Stage:
    """A node with one site, its owner, and who gives certificates."""

    folder: Path
    zones: Zones
    authority: Authority
    ports: Ports
    node: RunningNode
    owner: str
    host: str
    root: str

    def run(self, *arguments: object, stdin: str = "") -> Any:
        done = command(self.folder / "home", *arguments, "--json", stdin=stdin)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    def environment(self, **more: str) -> dict[str, str]:
        addresses = {"API": f"127.0.0.1:{self.node.api}", "GATEWAY": f"127.0.0.1:{self.node.gateway}"}
        return {"API_DOMAIN": API, "SITES_DOMAIN": DOMAIN, **addresses, **more}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("https")
    key, ports = secrets.token_hex(32), Ports(free_port(), free_port())
    with ExitStack() as stack:
        found = stack.enter_context(zones(folder / "zones"))
        for name in (DOMAIN, f"*.{DOMAIN}", API, "unlinked.plain.example"):
            found.set(name, "A", "127.0.0.1")
        authority = stack.enter_context(pebble(folder / "pebble", found.server, ports))
        file = folder / "node.toml"
        file.write_text(
            f'[plugin.dns_registrar]\nresolvers = ["{found.server}"]\ntrust_anchors = []\n'
            'update_networks = ["127.0.0.0/8"]\n'
        )
        node = stack.enter_context(
            RunningNode(
                folder / "node",
                plugins=["dns_registrar"],
                CONFIG=str(file),
                GATEWAY_DOMAIN=DOMAIN,
                GATEWAY_PUBLIC_URL=f"https://{DOMAIN}",
                NAMES_NAMESERVERS=found.server,
                LIMITS_FREE_NAMES="5",
            )
        )
        home, site = folder / "home", folder / "site"
        home.mkdir()
        site.mkdir()
        (site / "index.html").write_text(PAGE)
        (site / "_headers").write_text("/own\n  Strict-Transport-Security: max-age=60\n")
        (site / "own").write_text("own")
        done = command(home, "login", "--node", node.url, "--key-stdin", "--yes", stdin=key)
        assert done.returncode == 0, done.stderr
        done = command(home, "deploy", site, "--site", "shop", "--json")
        assert done.returncode == 0, done.stderr
        deployed = json.loads(done.stdout)
        owner = str(Account.from_key(key).address).lower()
        yield Stage(
            folder, found, authority, ports, node, owner, f"{deployed['host']}.{DOMAIN}", deployed["root"]
        )


@pytest.fixture
def served(stage: Stage, tmp_path: Path) -> Iterator[Caddy]:
    with caddy(tmp_path, stage.ports, stage.authority, **stage.environment()) as running:
        yield running


def patiently(caddy: Caddy, name: str, path: str = "/") -> Answer:
    """Once there is a certificate, which Caddy gets in the background for names it knows."""

    def got() -> Answer | None:
        try:
            return caddy.get(name, path)
        except Refused:
            return None

    found = poll(got, f"a certificate for {name}")
    assert found is not None
    return found


def test_the_api_has_https_and_keeps_its_inside_to_itself(stage: Stage, served: Caddy) -> None:
    assert patiently(served, API, "/healthz").status == 200
    for path in ("/metrics", "/metrics/", "/domain/certificate/?domain=x.example", "/domain/certificate"):
        assert served.get(API, path).status == 404
    found = stage.node.get("/metrics")
    assert found is not None
    assert found.status_code == 200


def test_http_leads_to_https(stage: Stage, served: Caddy) -> None:
    for name in (API, "linked.plain.example", f"site.{DOMAIN}"):
        answer = served.plain(name, "/a/b?c=d")
        assert (answer.status, answer.headers["location"]) == (308, f"https://{name}/a/b?c=d")


def test_what_caddy_keeps_is_within_what_the_gateway_keeps(stage: Stage, tmp_path: Path) -> None:
    program = shutil.which("caddy")
    require_real("Caddy (apt-get install caddy)", program)
    assert program is not None
    done = subprocess.run(
        [program, "adapt", "--config", str(DEPLOY / "Caddyfile"), "--adapter", "caddyfile"],
        env={"HOME": str(tmp_path), "ACME_EMAIL": "a@b.example", **stage.environment()},
        capture_output=True, check=True,
    )  # fmt: skip
    text = json.dumps(json.loads(done.stdout))
    idle = [int(found) for found in re.findall(r'"idle_timeout": (\d+)', text)]
    assert idle
    assert all(0 < one < Limits().reading * 10**9 for one in idle)
    assert [int(found) for found in re.findall(r'"max_size": (\d+)', text)] == [Limits().body]


@pytest.fixture(scope="module")
def wildcard(stage: Stage) -> dict[str, str]:
    """What Caddy is told of a certificate that a real ACME client got by DNS challenge (RFC 2136)."""
    program = shutil.which("lego")
    require_real("lego (apt-get install lego)", program)
    assert program is not None
    names = [DOMAIN, f"*.{DOMAIN}", f"*.ipfs.{DOMAIN}"]  # *.ipns takes as long again, and shows nothing new
    folder = stage.folder / "lego"
    done = subprocess.run(
        [program, "--server", stage.authority.directory, "--email", "operator@node.example", "--accept-tos",
         "--path", str(folder), "--dns", "rfc2136", "--dns.disable-cp", "--dns.resolvers", stage.zones.server,
         *(argument for name in names for argument in ("--domains", name)), "run"],
        env={"HOME": str(stage.folder), "LEGO_CA_CERTIFICATES": str(stage.authority.trust),
             "RFC2136_NAMESERVER": stage.zones.server, "RFC2136_TSIG_ALGORITHM": "hmac-sha256.",
             "RFC2136_TSIG_KEY": KEY_NAME, "RFC2136_TSIG_SECRET": KEY_SECRET, "RFC2136_POLLING_INTERVAL": "1",
             "RFC2136_SEQUENCE_INTERVAL": "1"},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    files = folder / "certificates"
    return {
        "WILDCARD": "wildcard.caddy",
        "WILDCARD_CERT": str(files / f"{DOMAIN}.crt"),
        "WILDCARD_KEY": str(files / f"{DOMAIN}.key"),
    }


def test_one_certificate_serves_all_sites_of_the_gateways_domain(
    stage: Stage, wildcard: dict[str, str], tmp_path: Path
) -> None:
    with caddy(tmp_path, stage.ports, stage.authority, **stage.environment(**wildcard)) as served:
        answer = served.get(stage.host)
        assert (answer.status, answer.body.decode()) == (200, PAGE)
        assert "strict-transport-security" not in answer.headers
        assert f"*.{DOMAIN}" in served.names(stage.host)
        # The gateway knows that the visitor came by HTTPS, and under which name.
        answer = served.get(DOMAIN, f"/ipfs/{stage.root}/")
        assert (answer.status, answer.headers["location"]) == (301, f"https://{stage.root}.ipfs.{DOMAIN}/")
        assert served.get(f"{stage.root}.ipfs.{DOMAIN}").body.decode() == PAGE
        assert served.get(stage.host, method="POST", body=b"x" * 65_537).status == 413
        assert stage.host not in served.log()  # nobody asked for one of its own


def test_hsts_is_for_who_wants_it(stage: Stage, wildcard: dict[str, str], tmp_path: Path) -> None:
    environment = stage.environment(**wildcard, HSTS="max-age=31536000; includeSubDomains")
    with caddy(tmp_path, stage.ports, stage.authority, **environment) as served:
        for name in (stage.host, DOMAIN):
            assert (
                served.get(name).headers["strict-transport-security"] == "max-age=31536000; includeSubDomains"
            )
        assert served.get(stage.host, "/own").headers["strict-transport-security"] == "max-age=60"
        assert (
            patiently(served, API, "/healthz")
            .headers["strict-transport-security"]
            .startswith("max-age=31536000")
        )


def test_a_linked_name_gets_a_certificate_and_no_other_does(stage: Stage, served: Caddy) -> None:
    """And only once its owner has the record that proves it, which the node enters with the owner's key."""
    name = "linked.plain.example"
    for refused in (name, "unlinked.plain.example"):
        with pytest.raises(Refused):
            served.get(refused)
    assert stage.run("domains", "link", name, "shop")["state"] == "waiting"
    with pytest.raises(Refused):  # nobody has proven anything yet
        served.get(name)
    stage.run("domains", "set-records", name, "shop", stdin=json.dumps(stage.zones.credentials))

    def linked() -> dict[str, Any] | None:
        found: dict[str, Any] = stage.run("domains", "status", name)
        return found if found["state"] == "linked" else None

    found = poll(linked, "the name's proof is found")
    assert found is not None
    assert found["points"] is True
    assert [one["state"] for one in found["seen"]] == ["yes"]
    answer = patiently(served, name)
    assert (answer.status, answer.body.decode()) == (200, PAGE)
    assert served.names(name) == {name}
    # A site's own host may have one; what looks like one, and names of others, may not.
    assert patiently(served, stage.host).body.decode() == PAGE
    for refused in (
        "unlinked.plain.example",
        f"nobody--abcdefghijklmnop.{DOMAIN}",
        "evil.example",
        "localhost",
    ):
        with pytest.raises(Refused):
            served.get(refused)
        assert stage.authority.orders(refused) == 0
    assert stage.authority.orders(name) > 0


def test_an_unlinked_name_gets_no_new_certificate(stage: Stage, served: Caddy) -> None:
    name = "left.plain.example"
    stage.run("domains", "link", name, "shop")
    done = command(
        stage.folder / "home",
        "domains",
        "set-records",
        name,
        "shop",
        stdin=json.dumps(stage.zones.credentials),
    )
    assert done.stdout.startswith("Entered at "), done.stderr
    assert "Enter where" not in done.stdout
    poll(lambda: stage.run("domains", "status", name)["state"] == "linked", "the name's proof is found")
    stage.run("domains", "unlink", name)  # its records stay behind
    with pytest.raises(Refused):
        served.get(name)
    assert stage.authority.orders(name) == 0
