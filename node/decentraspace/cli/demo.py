"""`decentraspace demo`: three nodes on this machine, a site deployed at the first, which is then killed."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click

from decentraspace.cli import demo_credits

_START_DEADLINE = 60.0  # seconds for a node to say that it is ready
_COPY_DEADLINE = 60.0  # seconds for all nodes to hold the site


class DemoFailed(click.ClickException):
    exit_code = 1

    def show(self, file: Any = None) -> None:
        click.echo(f"demo: failed: {self.format_message()}", err=True)


@dataclass
class DemoNode:
    """One node process and where it answers."""

    number: int
    folder: Path
    api: int
    gateway: int
    p2p: int
    admins: tuple[str, ...] = ()
    more: str = ""  # of its configuration
    process: subprocess.Popen[bytes] | None = None

    @property
    def api_url(self) -> str:
        return f"http://127.0.0.1:{self.api}"

    def configuration(self, bootstrap: list[str]) -> str:
        peers = ", ".join(json.dumps(peer) for peer in bootstrap)
        return f"""\
[node]
data_dir = {json.dumps(str(self.folder / "data"))}
name = "demo-{self.number}"
admins = {json.dumps(self.admins)}

[network]
name = "devnet"
listen = ["/ip4/127.0.0.1/tcp/{self.p2p}"]
bootstrap = [{peers}]
mdns = false
allow_private = true

[api]
port = {self.api}

[gateway]
port = {self.gateway}

[limits]
free_sites = 10
paid_free_requests = 0
{self.more}"""

    def start(self, bootstrap: list[str]) -> None:
        config = self.folder / "config.toml"
        config.write_text(self.configuration(bootstrap), "utf-8")
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "decentraspace", "run", "--config", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C reaches the demo alone, which then stops its nodes in order
            )

    def stop(self, sig: signal.Signals = signal.SIGTERM) -> None:
        if self.process is None:
            return
        self.process.send_signal(sig)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def last_words(self) -> str:
        lines = (self.folder / "log").read_text("utf-8", "replace").splitlines()
        return "\n".join(lines[-15:])


@click.command()
@click.argument("site", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--once", is_flag=True, help="Check each step, say the result in the last line, and end.")
@click.option("--keep", is_flag=True, help="Keep the nodes' folders afterwards.")
@click.option(
    "--chain",
    "engine",
    type=click.Choice(["auto", *demo_credits.ENGINES, "none"]),
    default="auto",
    help="What the owner pays on: anvil where it is installed, else py-evm (default), or nothing.",
)
def demo(site: Path, once: bool, keep: bool, engine: str) -> None:
    """Start three nodes, deploy the folder SITE at the first, kill that one, and go on serving.

    Where billing_polygon is installed, the owner pays the second for its visits, on a chain that the demo brings.

    \b
    Examples:
      decentraspace demo ./public
      decentraspace demo --once ./public    # unattended, exits 0 only if every step held
    """
    folder = Path(tempfile.mkdtemp(prefix="decentraspace-demo-"))
    nodes: list[DemoNode] = []
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts background jobs without it
    began = time.monotonic()
    chain = None
    try:
        steps = _Steps()
        if engine != "none" and demo_credits.Chain.is_there():
            chain = demo_credits.Chain(folder, engine)
        elif engine != "none":
            click.echo("Nothing is paid in this demo: the plugin billing_polygon is not installed.")
        try:
            host = _play(steps, nodes, folder, site, began, chain)
        except demo_credits.ChainFailed as error:
            words = [node.last_words() for node in nodes[1:2] if node.process is not None]
            raise DemoFailed("\n".join([str(error), *words])) from error
        if once:
            click.echo(f"demo: {steps.done} steps, all held")
            return
        click.echo()
        for node in nodes[1:]:
            click.echo(
                f"  node {node.number}:  http://{host}:{node.gateway}/   (API docs: {node.api_url}/docs)"
            )
        click.echo("\nOpen one in a browser. Ctrl-C stops the nodes and removes their folders.")
        while all(node.process is None or node.process.poll() is None for node in nodes):
            time.sleep(0.5)
        raise DemoFailed("a node stopped by itself:\n" + "\n".join(node.last_words() for node in nodes))
    except KeyboardInterrupt:
        click.echo("\nStopping …")
    finally:
        for node in nodes:
            node.stop()
        if chain is not None:
            chain.stop()
        if keep:
            click.echo(f"The nodes' folders are in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


class _Steps:
    """Counts the steps that held; a step that does not raises and ends the demo."""

    def __init__(self) -> None:
        self.done = 0

    def __call__(self, text: str) -> None:
        self.done += 1
        click.echo(f"[{self.done}] {text}")


def _play(
    steps: _Steps,
    nodes: list[DemoNode],
    folder: Path,
    site: Path,
    began: float,
    chain: demo_credits.Chain | None,
) -> str:
    """The whole story; returns the host name of the site."""
    import httpx

    from decentraspace.cli.folder import is_hidden

    ports = _free_ports()
    for number in (1, 2, 3):
        home = folder / f"node{number}"
        home.mkdir()
        nodes.append(DemoNode(number, home, *ports[number - 1]))
    client = httpx.Client(timeout=30, trust_env=False)
    bootstrap: list[str] = []
    operator = _wallet() if chain is not None else None
    for node in nodes:
        if node.number == 2 and chain is not None and operator is not None:
            chain.wait()
            node.admins, node.more = (operator[0],), chain.configuration(node.folder)
        node.start(bootstrap)
        if not bootstrap:
            peer = _wait_ready(client, node)["peer_id"]
            bootstrap.append(f"/ip4/127.0.0.1/tcp/{node.p2p}/p2p/{peer}")
    for node in nodes[1:]:
        _wait_ready(client, node)
    _until(
        lambda: all(client.get(f"{n.api_url}/readyz").json().get("peers", 0) > 0 for n in nodes),
        "the nodes did not find each other",
        nodes,
        _START_DEADLINE,
    )
    steps(f"three nodes are up and connected, after {time.monotonic() - began:.1f} s")

    home = folder / "owner"
    home.mkdir(mode=0o700)
    key = "0x" + secrets.token_hex(32)  # a wallet made for this demo alone
    login = _cli(home, "login", "--node", nodes[0].api_url, "--key-stdin", "--json", stdin=key)
    steps(f"wallet {login['owner']} logged in at node 1; its session key was made on this side")

    files = sorted(
        path.relative_to(site).as_posix()
        for path in site.rglob("*")
        if path.is_file() and not any(is_hidden(part) for part in path.relative_to(site).parts)
    )
    deployed = _cli(home, "deploy", str(site), "--site", "docs", "--node", nodes[0].api_url, "--json")
    root, host = deployed["root"], _host_of(deployed["urls"]["site"])
    steps(f"{len(files)} files deployed at node 1; root {root}")
    paying = None
    if chain is not None and operator is not None:
        office = folder / "operator"
        office.mkdir(mode=0o700)
        _cli(office, "login", "--node", nodes[1].api_url, "--key-stdin", "--json", stdin=operator[1])
        paying = demo_credits.Paying(chain, nodes[1].api_url, partial(_cli, home), partial(_cli, office))
    if _cli(home, "cid", str(site), "--json")["cid"] != root:
        raise DemoFailed("the root is not the one computed on this side")
    steps("the root is the one computed on this side, without the node")

    site_id = deployed["site"]
    status_url = f"/hosting/status/?site={site_id}"
    _until(
        lambda: all(
            len(client.get(n.api_url + status_url).json().get("holders", [])) == len(nodes) for n in nodes
        ),
        "not all nodes signed a receipt for a full copy",
        nodes,
        _COPY_DEADLINE,
    )
    steps("all three nodes hold a full, verified copy and have signed a receipt for it")

    if paying is not None:
        steps(paying.grant(login["owner"], key))

    before = {path: _fetch(client, nodes[0], host, path) for path in files}
    for path in files:
        if before[path][2] != (site / path).read_bytes():
            raise DemoFailed(f"node 1 serves other bytes for {path}")
    steps("node 1 serves every file byte for byte")

    process = nodes[0].process
    if process is None:
        raise DemoFailed("node 1 is not running")
    nodes[0].stop(signal.SIGKILL)
    _until(lambda: not _answers(nodes[0].gateway), "node 1's gateway outlived it", nodes, 15)
    steps(f"node 1 (process {process.pid}) was killed with SIGKILL; its gateway is gone with it")

    for node in nodes[1:]:
        for path in files:
            now, then = _fetch(client, node, host, path), before[path]
            if now != then:
                differences = [
                    f"{a} instead of {b}" for a, b in zip(now[:2], then[:2], strict=True) if a != b
                ]
                raise DemoFailed(
                    f"node {node.number} does not answer like node 1 did for {path}: "
                    + ("; ".join(differences) or "other bytes")
                )
        steps(f"node {node.number} serves the same {len(files)} files: same bytes, same headers")
    home_page = client.get(
        f"http://127.0.0.1:{nodes[2].gateway}/", headers={"Host": f"{host}:{nodes[2].gateway}"}
    )
    if home_page.status_code != 200 or home_page.content != (site / "index.html").read_bytes():
        raise DemoFailed(f"node 3 answers / with status {home_page.status_code}")
    steps("node 3 shows the home page")
    client.close()
    if paying is not None:
        for text in paying.settle(len(files), folder):
            steps(text)
    return host


def _wallet() -> tuple[str, str]:
    """Address and private key of one made for this demo alone."""
    from eth_account import Account

    key = "0x" + secrets.token_hex(32)
    return Account.from_key(key).address, key


def _free_ports() -> list[tuple[int, int, int]]:
    """(api, gateway, libp2p) ports of three nodes: memorable ones when they are free, else any."""
    wanted = [(8090 + i, 8080 + i, 4001 + i) for i in range(3)]
    if not any(_answers(port) or not _bindable(port) for triple in wanted for port in triple):
        return wanted
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(9)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return [(ports[i], ports[i + 3], ports[i + 6]) for i in range(3)]


def _bindable(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _until(condition: Callable[[], bool], problem: str, nodes: list[DemoNode], deadline: float) -> None:
    import httpx

    end = time.monotonic() + deadline
    while time.monotonic() < end:
        try:
            if condition():
                return
        except httpx.TransportError:
            pass  # not listening yet
        time.sleep(0.05)
    words = "\n\n".join(f"node {node.number}:\n{node.last_words()}" for node in nodes)
    raise DemoFailed(f"{problem} within {deadline:.0f} s\n{words}")


def _wait_ready(client: Any, node: DemoNode) -> dict[str, Any]:
    answer: dict[str, Any] = {}

    def ready() -> bool:
        if node.process is not None and node.process.poll() is not None:
            raise DemoFailed(f"node {node.number} ended while starting:\n{node.last_words()}")
        response = client.get(f"{node.api_url}/readyz")
        answer.update(response.json())
        return bool(response.status_code == 200)

    _until(ready, f"node {node.number} was not ready", [node], _START_DEADLINE)
    return answer


def _cli(home: Path, *arguments: str, stdin: str = "") -> dict[str, Any]:
    """Run the command line as its user would; its JSON answer."""
    result = subprocess.run(
        [sys.executable, "-m", "decentraspace", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "DECENTRASPACE_HOME": str(home)},
    )
    if result.returncode != 0:
        raise DemoFailed(
            f"`decentraspace {arguments[0]}` ended with {result.returncode}: {result.stderr.strip()}"
        )
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


def _host_of(url: str) -> str:
    from urllib.parse import urlsplit

    return urlsplit(url).hostname or ""


def _fetch(client: Any, node: DemoNode, host: str, path: str) -> tuple[int, list[tuple[str, str]], bytes]:
    """(status, headers but the date, body) of one file of the site at one node."""
    from urllib.parse import quote

    response = client.get(
        f"http://127.0.0.1:{node.gateway}/{quote(path)}", headers={"Host": f"{host}:{node.gateway}"}
    )
    headers = sorted((k.lower(), v) for k, v in response.headers.items() if k.lower() != "date")
    return response.status_code, headers, response.content
