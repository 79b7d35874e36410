"""From login to rollback, against a served API."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from eth_account import Account

from decentraspace.content import cid as cids
from decentraspace.content.reader import iter_file, resolve
from decentraspace.records.schema import site_id
from tests.cli.conftest import KEY, WALLET, Result, ServedNode
from tests.support import interruptible

Run = Callable[..., Result]


def words(result: Result, code: int = 2) -> str:
    """The one line of an expected failure."""
    assert result.code == code, result
    assert result.out == ""
    assert "Traceback" not in result.err
    [line] = result.err.strip().splitlines()
    assert line.startswith("error: ")
    return line


def test_login_keeps_a_session_key_and_not_the_wallets(
    run: Run, served: ServedNode, environment: dict[str, str]
) -> None:
    done = run("login", "--node", served.url, "--key-stdin", "--days", 7, stdin=KEY + "\n")
    assert done.code == 0, done.err
    assert f"{WALLET}" in done.out
    assert "wants you to sign in" in done.err, "shown before it is signed"
    folder = Path(environment["DECENTRASPACE_HOME"])
    for path in folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert KEY[2:] not in path.read_text()
    assert run("sites", "--json").json == {"sites": []}
    assert run("logout", "--json").json == {"forgotten": True}
    assert list(folder.iterdir()) == []
    assert "Nobody is logged in" in words(run("sites"))


def test_login_with_a_keystore_file(run: Run, served: ServedNode, tmp_path: Path) -> None:
    keystore = tmp_path / "wallet.json"
    keystore.write_text(json.dumps(Account.encrypt(KEY, "open sesame", iterations=2)))
    arguments = ("login", "--node", served.url, "--keystore", keystore, "--key-stdin")
    assert "cannot be opened" in words(run(*arguments, stdin="wrong\n"))
    assert run(*arguments, "--json", stdin="open sesame\n").json["owner"] == WALLET
    keystore.write_text("{}")
    assert "cannot be opened" in words(run(*arguments, stdin="open sesame\n"))
    keystore.write_text("no json")
    assert "not a keystore" in words(run(*arguments, stdin="open sesame\n"))


@pytest.mark.parametrize(
    "key", ["", "0x12", "not hexadecimal", KEY + "00", "0x" + "00" * 32, "0x" + "ff" * 32]
)
def test_a_slip_in_the_key_is_never_repeated(run: Run, served: ServedNode, key: str) -> None:
    line = words(run("login", "--node", served.url, "--key-stdin", stdin=key + "\n"))
    assert "not a private key" in line
    assert len(key) < 5 or key not in line


def test_deploy_status_rollback(run: Run, logged_in: ServedNode, site: Path) -> None:
    first = run("deploy", site, "--json").json
    assert first["host"].startswith("my-site--")
    assert first["seq"] == 1
    assert first["uploaded"] > 1_500_000
    assert first["root"] == run("cid", site, "--json").json["cid"]
    blocks = logged_in.node.blocks
    found = resolve(blocks.get_or_raise, cids.parse(first["root"]), ["css", "style.css"]).stat
    assert b"".join(iter_file(blocks.get_or_raise, found.cid)) == b"h1 { color: teal }"

    again = run("deploy", site, "--json").json
    assert (again["seq"], again["uploaded"], again["changed"]) == (1, 0, False), "nothing changed"
    assert {k: again[k] for k in ("root", "manifest", "urls", "holders", "host")} == {
        k: first[k] for k in ("root", "manifest", "urls", "holders", "host")
    }
    assert run("deploy", site).out.startswith("Nothing changed: Version 1 of my-site")
    assert run("deploy", site, "--force", "--json").json["seq"] == 2
    (site / "index.html").write_text("<h1>two</h1>")
    second = run("deploy", site, "--json").json
    assert second["seq"] == 3
    assert second["uploaded"] < 2000, "only what changed is sent"

    text = run("deploy", site, "--force").out
    assert "http://my-site--" in text
    assert text.startswith("Version 4 of my-site is live")
    status = run("status", "my-site", "--json").json
    assert [v["seq"] for v in status["history"]] == [4, 3, 2, 1]
    assert len(status["holders"]) == 1
    assert run("status", status["host"], "--json").json["seq"] == 4
    assert run("status", status["site"], "--json").json["seq"] == 4
    assert "Held whole by 1 node(s)" in run("status", "my-site").out
    assert run("status", "--node", logged_in.url, "--json").json["peer_id"] == logged_in.node.key.peer_id

    back = run("rollback", "my-site", "--json").json
    assert (back["seq"], back["root"], back["changed"]) == (5, first["root"], True)
    assert "but for those that were rolled back" in words(run("rollback", "my-site"))
    assert run("rollback", "my-site", 3, "--json").json["root"] == second["root"]
    history = run("status", "my-site", "--json").json["history"]
    assert [v["has_redirects"] for v in history] == [True] * 6, "a rollback keeps what the version had"
    assert "no version 99" in words(run("rollback", "my-site", 99))
    assert "no site nothing" in words(run("rollback", "nothing"))
    [mine] = run("sites", "--json").json["sites"]
    assert mine["seq"] == 6
    assert "my-site" in run("sites").out


def test_how_many_nodes_hold_a_site_is_what_the_tier_gives(
    run: Run, logged_in: ServedNode, site: Path
) -> None:
    def asked() -> int | None:
        copies = run("status", "my-site", "--json").json["copies"]
        return None if copies["asked"] is None else int(copies["asked"])

    assert run("deploy", site, "--json").json["seq"] == 1
    assert asked() == 3
    assert "Copies 3 of each site" in run("tier").out
    assert "1 are there, 3 should be" in run("status", "my-site").out
    assert run("deploy", site, "--replicas", 2, "--json").json["seq"] == 2, "another number is a new version"
    assert asked() == 2
    assert run("deploy", site, "--replicas", 2, "--json").json["changed"] is False
    refused = run("deploy", site, "--replicas", 4)
    assert (refused.code, "has 3 node(s) hold a site" in words(refused)) == (2, True)
    assert run("deploy", site, "--json").json["seq"] == 3
    assert asked() == 3
    owner = logged_in.node.records.all_heads()[0].owner
    logged_in.node.sessions.set_tier(owner, "paid", bytes(20))
    assert run("deploy", site, "--json").json["seq"] == 4, "the tier gives more by now"
    assert asked() == 5
    assert run("deploy", site, "--json").json["changed"] is False
    (site / "index.html").write_text("<h1>two</h1>")
    assert run("deploy", site, "--json").json["seq"] == 5
    logged_in.node.sessions.set_tier(owner, "free", bytes(20))
    assert run("deploy", site, "--json").json["changed"] is False
    assert run("rollback", "my-site", "--json").json["seq"] == 6
    assert asked() == 3, "what the tier gives now"


def test_previews_stand_beside_production(run: Run, logged_in: ServedNode, site: Path) -> None:
    assert run("deploy", site, "--site", "blog", "--json").code == 0
    preview = run("deploy", site, "--site", "blog", "--preview", "pr-7", "--json").json
    assert (preview["channel"], preview["seq"]) == ("pr-7", 1)
    assert "site" not in preview["urls"]
    text = run("deploy", site, "--site", "blog", "--preview", "pr-7", "--force").out
    assert text.startswith("Preview pr-7 of blog, version 2, is live")
    assert f"  Preview  {preview['urls']['preview']}\n" in text
    assert preview["host"] in preview["urls"]["preview"]
    assert preview["host"].startswith("pr-7--blog--")
    assert run("status", preview["urls"]["preview"], "--json").json["channel"] == "pr-7"
    assert preview["urls"]["preview"] in run("sites").out
    assert "called production" in words(run("deploy", site, "--site", "blog", "--preview", "production"))
    status = run("status", "blog", "--json").json
    assert (status["seq"], status["channels"]) == (1, ["pr-7", "production"])
    assert run("status", "blog", "--channel", "pr-7", "--json").json["channel"] == "pr-7"


def test_another_wallets_login_takes_over(run: Run, logged_in: ServedNode, site: Path) -> None:
    assert run("deploy", site, "--json").code == 0
    done = run("login", "--node", logged_in.url, "--key-stdin", "--json", stdin="0x" + "11" * 32)
    assert done.code == 0
    assert run("sites", "--json").json == {"sites": []}


def test_a_revoked_session_publishes_no_more(
    run: Run, logged_in: ServedNode, site: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    assert run("deploy", site, "--json").json["seq"] == 1
    old = json.loads((Path(environment["DECENTRASPACE_HOME"]) / "session.json").read_text())
    issued = int(time.time())
    while int(time.time()) == issued:  # logins are dated to the second, and only a newer one may revoke
        time.sleep(0.02)
    other = str(tmp_path / "laptop")
    arguments = ("login", "--node", logged_in.url, "--key-stdin", "--json")
    assert run(*arguments, stdin=KEY, DECENTRASPACE_HOME=other).code == 0
    revoked = run("revoke", _did_of(old["key"]), "--json", DECENTRASPACE_HOME=other)
    assert revoked.code == 0, revoked.err
    assert run("status", "my-site").code == 2, "what the key had published is void"
    refused = run("deploy", site)
    assert refused.code == 2
    assert "Traceback" not in refused.err
    again = run("deploy", site, "--json", DECENTRASPACE_HOME=other)
    assert again.code == 0, again.err


def _did_of(private: str) -> str:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from decentraspace.identity import didkey

    return didkey.encode(
        Ed25519PrivateKey.from_private_bytes(bytes.fromhex(private)).public_key().public_bytes_raw()
    )


def test_a_session_for_one_site(run: Run, served: ServedNode, site: Path) -> None:
    scope = "a" * 16
    arguments = ("login", "--node", served.url, "--key-stdin", "--json", "--scope", scope)
    assert run(*arguments, stdin=KEY).json["scope"] == scope
    assert f"may only publish the site {scope}" in words(run("deploy", site))
    own = site_id(bytes.fromhex(WALLET[2:]), "my-site")
    assert run(*arguments[:-1], own, stdin=KEY).code == 0
    assert run("deploy", site, "--json").json["site"] == own
    (site / "index.html").write_text("<h1>two</h1>")
    assert run("deploy", site, "--json").json["seq"] == 2
    assert run("rollback", "my-site", "--json").json["seq"] == 3
    assert [s["site"] for s in run("sites", "--json").json["sites"]] == [own]
    assert "may only publish" in words(run("revoke", _did_of("11" * 32)))


def test_a_node_made_anew_is_logged_in_to_again(
    run: Run, logged_in: ServedNode, site: Path, serve: Callable[..., ServedNode]
) -> None:
    assert run("deploy", site, "--json").code == 0
    logged_in.stop()
    fresh = serve(api={"port": logged_in.port})
    done = run("deploy", site, "--json")
    assert done.code == 0, done.err
    assert fresh.node.records.counts()["site"] == 1


def test_a_broken_connection_is_taken_up_again(
    run: Run, logged_in: ServedNode, site: Path, environment: dict[str, str]
) -> None:
    """A proxy that cuts the first two connections that carry much."""
    cuts = 2
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(60)

    def pump(source: socket.socket, sink: socket.socket, most: int) -> None:
        nonlocal cuts
        count = 0
        try:
            while data := source.recv(65536):
                count += len(data)
                if most and count > most and cuts:
                    cuts -= 1
                    break
                sink.sendall(data)
        except OSError:
            pass
        for side in (source, sink):
            with suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)

    def proxy() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            node = socket.create_connection(("127.0.0.1", logged_in.port))
            threading.Thread(target=pump, args=(client, node, 400_000), daemon=True).start()
            threading.Thread(target=pump, args=(node, client, 0), daemon=True).start()

    threading.Thread(target=proxy, daemon=True).start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    done = run("deploy", site, "--node", url, "--json")
    listener.close()
    assert done.code == 0, done.err
    assert cuts == 0, "the test cut nothing"
    assert done.json["root"] == run("cid", site, "--json").json["cid"]


def test_a_full_tier_is_said_in_words(
    run: Run, serve: Callable[..., ServedNode], site: Path, tmp_path: Path
) -> None:
    node = serve(limits={"free_bytes": 1_000_000})
    assert run("login", "--node", node.url, "--key-stdin", "--json", stdin=KEY).code == 0
    line = words(run("deploy", site))
    assert "stores 1.0 MB; with this deploy it would be 1.5 MB" in line
    assert node.node.blocks.stats().blocks == 0, "nothing was sent"
    small = tmp_path / "small"
    small.mkdir()
    (small / "index.html").write_text("x")
    other = serve()
    assert run("login", "--node", other.url, "--key-stdin", "--json", stdin=KEY).code == 0
    assert run("deploy", small, "--site", "first", "--json").code == 0
    before = other.node.blocks.stats().blocks
    (small / "index.html").write_text("y")
    line = words(run("deploy", small, "--site", "second"))
    assert "room for 1 site(s), and you have first" in line
    assert other.node.blocks.stats().blocks == before, "nothing was sent"
    assert run("deploy", small, "--site", "first", "--json").json["seq"] == 2
    preview = run("deploy", small, "--site", "first", "--preview", "pr", "--json")
    assert preview.code == 0, "a preview is no further site"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("deploy", "FILE"), "is a file"),
        (("deploy", "FOLDER", "--site", "No_Good"), "cannot be a site's label"),
        (("deploy", "FOLDER", "--site", "a--b"), "cannot be a site's label"),
        (("deploy", "FOLDER", "--preview", "Übung"), "cannot be a channel"),
        (("deploy", "FOLDER", "--node", "http://127.0.0.1:1"), "No node answers"),
        (("deploy", "FOLDER", "--node", "ftp://x"), "not the URL of a node"),
        (("deploy", "FOLDER", "--node", "http://[::1"), "not a URL"),
        (("status", "nosuchsite"), "is known here"),
        (("rollback", "UPPER"), "no site UPPER"),
        (("revoke", "nonsense"), "did:key"),
    ],
)
def test_expected_failures_are_one_line(
    run: Run, logged_in: ServedNode, site: Path, arguments: tuple[str, ...], expected: str
) -> None:
    named = {"FILE": str(site / "index.html"), "FOLDER": str(site)}
    assert expected in words(run(*(named.get(a, a) for a in arguments)))


def test_something_that_is_no_node(run: Run, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            while True:
                try:
                    peer, _ = listener.accept()
                except OSError:
                    return
                peer.recv(4096)
                peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")
                peer.close()

        threading.Thread(target=answer, daemon=True).start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        line = words(run("login", "--node", url, "--key-stdin", stdin=KEY))
        listener.close()
    assert "no DecentraSpace node" in line


def test_ctrl_c_ends_quietly(run: Run, environment: dict[str, str], tmp_path: Path) -> None:
    """Against a server that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        process = subprocess.Popen(
            [sys.executable, "-m", "decentraspace", "status", "--node", url],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            text=True,
            preexec_fn=interruptible,
        )
        peer, _ = listener.accept()
        peer.recv(100)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
        peer.close()
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err


def test_a_file_that_cannot_be_read(run: Run, logged_in: ServedNode, site: Path) -> None:
    os.mkfifo(site / "pipe")
    assert "neither a file nor a folder" in words(run("deploy", site))
    assert "neither a file nor a folder" in words(run("cid", site))
