"""What of a folder is published, and what is refused before anything is sent."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from eth_account import Account

from decentraspace.cli import folder as folders
from decentraspace.content import cid as cids
from decentraspace.content.reader import resolve
from decentraspace.errors import NotFound
from tests.cli.conftest import KEY, Result, ServedNode
from tests.cli.test_publishing import words
from tests.support import find_kubo, require_real

Run = Callable[..., Result]
PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "cli.md"


def secrets(folder: Path, *, hidden: bool = True) -> list[str]:
    return folders.survey(folder, hidden=hidden).secrets


def pem() -> bytes:
    return Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def test_hidden_files_stay_here(run: Run, logged_in: ServedNode, site: Path) -> None:
    (site / ".env").write_text("PASSWORD=hunter2")
    (site / "css" / ".cache").mkdir()
    (site / "css" / ".cache" / "x").write_text("x")
    (site / ".well-known").mkdir()
    (site / ".well-known" / "security.txt").write_text("Contact: mailto:me@site.example")
    done = run("deploy", site, "--json")
    assert done.code == 0, done.err
    assert done.json["left_out"] == [".env", "css/.cache"]
    root = cids.parse(done.json["root"])
    get = logged_in.node.blocks.get_or_raise
    assert resolve(get, root, [".well-known", "security.txt"]).stat.kind == "file"
    for path in ([".env"], ["css", ".cache"], ["css", ".cache", "x"]):
        with pytest.raises(NotFound):
            resolve(get, root, path)
    hashed = run("cid", site)
    assert hashed.out == done.json["root"] + "\n"
    assert ".env, css/.cache" in hashed.err
    assert ".env, css/.cache" in run("deploy", site, "--force").out


def test_hidden_files_on_request(run: Run, logged_in: ServedNode, site: Path) -> None:
    (site / ".nojekyll").write_text("")
    done = run("deploy", site, "--include-hidden", "--json")
    assert (done.json["left_out"], done.json["warnings"]) == ([], [])
    get = logged_in.node.blocks.get_or_raise
    assert resolve(get, cids.parse(done.json["root"]), [".nojekyll"]).stat.kind == "file"
    assert run("cid", site, "--include-hidden", "--json").json["cid"] == done.json["root"]
    (site / ".env.local").write_text("KEY=1")
    assert ".env.local" in words(run("deploy", site, "--include-hidden"))
    bold = run("deploy", site, "--include-hidden", "--include-secrets", "--json")
    assert bold.json["root"] == run("cid", site, "--include-hidden", "--json").json["cid"]


def test_the_cid_is_that_of_ipfs_add(run: Run, site: Path, tmp_path: Path) -> None:
    kubo = find_kubo()
    require_real("Kubo", kubo)
    environment = {"IPFS_PATH": str(tmp_path / "ipfs")}
    subprocess.run([str(kubo), "init"], env=environment, check=True, capture_output=True)

    def add(*options: str) -> str:
        command = [str(kubo), "add", "-r", "--cid-version=1", "--raw-leaves", "-Q", "--only-hash", *options]
        done = subprocess.run(
            [*command, str(site)], env=environment, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    (site / ".hidden").write_text("x")
    (site / "css" / ".git").mkdir()
    assert run("cid", site, "--json").json["cid"] == add()
    assert run("cid", site, "--include-hidden", "--json").json["cid"] == add("--hidden")


@pytest.mark.parametrize(
    "name",
    [
        ".env", ".env.production", ".envrc", ".netrc", "_netrc", ".npmrc", ".git-credentials", ".bash_history",
        "id_rsa", "id_ed25519", "ID_RSA", "node.key", "certs.p12", "passwords.kdbx",
    ],
)  # fmt: skip
def test_secrets_by_name(tmp_path: Path, name: str) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / name).write_text("x")
    assert secrets(tmp_path) == [f"below/{name}"]


@pytest.mark.parametrize("name", [".ssh", ".git", ".gnupg", ".aws"])
def test_secret_folders(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "config").write_text("x")
    assert secrets(tmp_path) == [name + "/"]
    assert secrets(tmp_path, hidden=False) == []


def test_secrets_by_content(
    tmp_path: Path, run: Run, served: ServedNode, environment: dict[str, str]
) -> None:
    (tmp_path / "site").mkdir()
    key = Ed25519PrivateKey.generate().public_key()
    (tmp_path / "site" / "public.pem").write_bytes(
        key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    (tmp_path / "site" / "session.json").write_text('{"title": "Session 1", "key": "of the talk"}')
    (tmp_path / "site" / "wallets.json").write_text("[]")
    (tmp_path / "site" / "talk.key").write_bytes(b"PK\x03\x04 slides")
    assert secrets(tmp_path / "site") == []
    (tmp_path / "site" / "tls.pem").write_bytes(pem())
    (tmp_path / "site" / "server.key").write_bytes(b"some text before\n" + pem())
    (tmp_path / "site" / "my-wallet.json").write_text(
        json.dumps(Account.encrypt(KEY, "open sesame", iterations=2))
    )
    assert run("login", "--node", served.url, "--key-stdin", "--json", stdin=KEY).code == 0
    assert run("sites").code == 0
    home = Path(environment["DECENTRASPACE_HOME"])
    (tmp_path / "site" / "session.json").write_bytes((home / "session.json").read_bytes())
    (tmp_path / "site" / "tokens.json").write_bytes((home / "tokens.json").read_bytes())
    expected = ["my-wallet.json", "server.key", "session.json", "tls.pem", "tokens.json"]
    assert secrets(tmp_path / "site") == expected
    line = words(run("deploy", tmp_path / "site"))
    assert ", ".join(expected) in line
    assert "--include-secrets" in line
    assert served.node.blocks.stats().blocks == 0
    assert "live" in run("deploy", tmp_path / "site", "--include-secrets").out


@pytest.mark.parametrize(
    "name", [".env.example", ".gitignore", "environment.txt", "id_rsa.pub", "git", "key"]
)
def test_what_is_no_secret(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("x")
    assert secrets(tmp_path) == []


def test_the_reference_names_what_is_refused() -> None:
    page = PAGE.read_text("utf-8").partition("### What is published")[2].partition("\n## ")[0]
    names = re.findall(r"`([._a-z][\w.-]*)`", page.partition("by name")[2].partition("by content")[0])
    assert len(names) > 20
    for name in set(names) - {".env.example", ".env.sample", ".env.template"}:
        assert folders._SECRET.fullmatch(name), name


def test_folders_that_nobody_means(
    run: Run, logged_in: ServedNode, tmp_path: Path, environment: dict[str, str]
) -> None:
    home = Path(environment["HOME"])
    (home / "notes.txt").write_text("dear diary")
    (home / ".ssh").mkdir()
    (home / ".ssh" / "config").write_text("x")
    for folder in (home, tmp_path, "/", home / ".ssh"):
        line = words(run("deploy", folder, "--site", "oops"))
        assert "home folder" in line or ".ssh" in line
    (home / "empty" / "below").mkdir(parents=True)
    assert "no files" in words(run("deploy", home / "empty"))
    (home / "empty" / ".hidden").write_text("x")
    assert "--include-hidden" in words(run("deploy", home / "empty"))
    assert logged_in.node.blocks.stats().blocks == 0
    assert run("sites", "--json").json == {"sites": []}


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("_redirects", "/fine /too 301\n\n/old\n", "_redirects, line 3"),
        ("_redirects", "/old /new 999\n", "status 999"),
        ("_headers", "/\n  no colon here\n", "_headers, line 2"),
        ("_headers", "x" * 70_000, "cannot exceed 65536 bytes"),
    ],
)
def test_faulty_rules_are_refused_before_the_upload(
    run: Run, logged_in: ServedNode, site: Path, name: str, text: str, said: str
) -> None:
    (site / name).write_text(text)
    assert said in words(run("deploy", site))
    assert logged_in.node.blocks.stats().blocks == 0
    (site / name).unlink()
    (site / name).mkdir()  # a folder of that name is no rule file
    assert run("deploy", site, "--json").code == 0


def test_links_that_lead_nowhere_are_said(run: Run, logged_in: ServedNode, site: Path) -> None:
    (site / "outside").symlink_to("/etc/hostname")
    (site / "css" / "up").symlink_to("../../elsewhere")
    (site / "gone").symlink_to("nothing.html")
    (site / ".draft").write_text("x")
    (site / "draft").symlink_to(".draft")
    (site / "css" / "fine").symlink_to("../index.html")
    done = run("deploy", site)
    assert done.code == 0, done.err
    lines = [line for line in done.err.splitlines() if line.startswith("warning: ")]
    assert [line.split("'")[1] for line in lines] == ["css/up", "draft", "gone", "outside"]
    for line, why in zip(lines, ("leads out", "left out", "not exist", "leads out"), strict=True):
        assert why in line
    assert len(run("deploy", site, "--json").json["warnings"]) == 4


def test_what_has_no_effect_is_said(run: Run, logged_in: ServedNode, site: Path) -> None:
    (site / "_headers").write_text("/*\n  Set-Cookie: a=b\n  X-Mine: yes\n")
    (site / "_redirects").write_text("/* /index.html 200\n/old /new\n")
    done = run("deploy", site)
    assert done.code == 0, done.err
    lines = [line for line in done.err.splitlines() if line.startswith("warning: _")]
    assert lines == [
        "warning: _redirects, line 2: no path gets to this rule: line 1 matches first.",
        "warning: _headers, line 2: Set-Cookie is left out: sites under one domain would share its cookies.",
    ]
    for option in ("--force", "--json"):  # published again, and not
        said = run("deploy", site, "--json", option).json["warnings"]
        assert [f"warning: {one}." for one in said if one.startswith("_")] == lines
