"""What an operator types: which node is meant, keys with a passphrase, commands of plugins, words of errors."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from decentraspace.errors import BadInput, DecentraSpaceError, QuotaExceeded, in_words
from decentraspace.identity.keys import NodeKey
from tests.node.running import RunningNode, command
from tests.support import free_port

SECRET = {"DECENTRASPACE_KEY_PASSPHRASE": "correct horse"}
GREETER = """
import click
from decentraspace import hookimpl

@hookimpl
def cli_commands(group):
    @group.command()
    def greet():
        "Say hello to whoever is there."
        print("hello")
"""


def test_init_encrypts_the_key_and_keeps_it(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    first = command(tmp_path, "init", "--yes", "--data-dir", folder, "--json", **SECRET)
    assert first.returncode == 0, first.stderr
    peer = json.loads(first.stdout)["peer_id"]
    assert NodeKey.load_or_create(folder / "node.key", b"correct horse").peer_id == peer
    with pytest.raises(DecentraSpaceError):
        NodeKey.load_or_create(folder / "node.key", None)
    again = command(tmp_path, "init", "--yes", "--force", "--data-dir", folder, "--json", **SECRET)
    assert json.loads(again.stdout)["peer_id"] == peer, again.stderr
    before = (folder / "config.toml").read_text()
    wrong = {"DECENTRASPACE_KEY_PASSPHRASE": "wrong"}
    for variables in ({}, wrong):
        refused = command(
            tmp_path, "init", "--yes", "--force", "--quota-gb", 7, "--data-dir", folder, **variables
        )
        assert refused.returncode == 2
        assert "passphrase" in refused.stderr
        assert "Traceback" not in refused.stderr
    assert (folder / "config.toml").read_text() == before, "nothing is changed by what fails"
    assert stat.S_IMODE((folder / "node.key").stat().st_mode) == 0o600
    assert sorted(path.name for path in folder.iterdir()) == ["config.toml", "node.key"]


def test_doctor_and_plugins_look_at_the_folder_named(tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    assert command(tmp_path, "init", "--yes", "--data-dir", folder, "--quota-gb", 3).returncode == 0
    with (folder / "config.toml").open("a") as file:
        file.write(f"[api]\nport = {free_port()}\n[gateway]\nport = {free_port()}\n")
        file.write(f'[plugins]\ndirectory = "{tmp_path}"\n')
    (tmp_path / "greeter.py").write_text(GREETER)
    for arguments in (("doctor", "--data-dir", folder), ("--data-dir", folder, "doctor")):
        done = command(tmp_path, *arguments, "--json")
        findings = {f["check"]: f for f in json.loads(done.stdout)["findings"]}
        assert findings["configuration"]["detail"] == str(folder / "config.toml")
        assert findings["data folder"]["detail"] == str(folder)
        assert findings["reach"]["state"] == "warning"
        assert "gateway.public_url" in findings["reach"]["mend"]
    for arguments in (("plugins", "--data-dir", folder), ("--data-dir", folder, "plugins")):
        done = command(tmp_path, *arguments, "--json")
        assert "greeter" in {p["name"] for p in json.loads(done.stdout)["plugins"]}
    # After the command wins.
    done = command(tmp_path, "--data-dir", tmp_path / "nowhere", "doctor", "--data-dir", folder, "--json")
    assert str(folder / "config.toml") in done.stdout


def test_commands_of_plugins_are_listed_and_run(tmp_path: Path) -> None:
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    (plugins / "greeter.py").write_text(GREETER)
    (plugins / "broken.py").write_text("raise SystemExit(1)  # cli_commands\n")
    config = tmp_path / "config.toml"
    config.write_text(f"plugins.directory = {json.dumps(str(plugins))}\n")
    for options in (
        ("--plugins-dir", plugins),
        ("--config", config),
    ):
        done = command(tmp_path, *options, "--help")
        assert done.returncode == 0, done.stderr
        assert "Commands of plugins" in done.stdout
        assert "Say hello to whoever is there." in done.stdout
        assert command(tmp_path, *options, "greet").stdout == "hello\n"
    by_variable = command(tmp_path, "greet", DECENTRASPACE_CONFIG=str(config))
    assert by_variable.stdout == "hello\n"
    without = command(tmp_path, "greet")
    assert without.returncode == 2
    assert "No such command" in without.stderr
    assert "Say hello" not in command(tmp_path, "--help").stdout


def test_help_is_there_when_the_configuration_is_broken(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[gateway]\nport = 99999\n")
    done = command(tmp_path, "--config", tmp_path / "config.toml", "--help")
    assert done.returncode == 0
    assert "  run " in done.stdout
    assert "gateway.port must be 1 to 65535" in done.stderr


def test_a_scope_that_is_none_is_refused_before_a_key_is_asked_for(tmp_path: Path) -> None:
    """There is no node to ask, and no key on standard input."""
    for scope in ("-blog", "", "K3V5X2Q7MBYZAOLP", "a--b", "x" * 60, "blog.localhost"):
        done = command(tmp_path, "login", "--scope", scope, "--node", f"http://127.0.0.1:{free_port()}")
        assert done.returncode == 2
        assert "--scope is the label of a site" in done.stderr
        assert "private key" not in done.stderr


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (BadInput("No such thing", hint="Look elsewhere."), "No such thing. Look elsewhere."),
        (BadInput("No such thing.", hint="Look elsewhere"), "No such thing. Look elsewhere."),
        (BadInput("Is it there?", hint=""), "Is it there?"),
        (QuotaExceeded(hint="Make room."), "There is no room left. Make room."),
        (ValueError("plain"), "plain."),
    ],
)
def test_errors_are_sentences(error: Exception, words: str) -> None:
    assert in_words(error) == words


def test_an_error_and_its_hint_are_two_sentences(tmp_path: Path) -> None:
    done = command(tmp_path, "run", "--config", tmp_path / "nothing.toml")
    assert done.returncode == 2
    assert done.stderr == (
        f"error: {tmp_path / 'nothing.toml'} does not exist. Run `decentraspace init` to make one.\n"
    )


STATUS = """
from decentraspace import hookimpl

@hookimpl
async def storage_status(node):
    return {"service": "Shelf 7", "reachable": False, "pinned": 3, "queued": 2, "failed": 1}
"""


@pytest.mark.slow
def test_a_running_node_is_told_of_everywhere(tmp_path: Path) -> None:
    """Storage plugins in doctor, metrics and plugins; the node where one logged in by status."""
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    (plugins / "shelf.py").write_text(STATUS)
    with RunningNode(tmp_path / "node", PLUGINS_DIRECTORY=str(plugins)) as node:
        variables = {k: v for k, v in node.environment.items() if k.startswith("DECENTRASPACE_")}
        answer = node.get("/metrics")
        assert answer is not None
        labels = '{plugin="shelf",service="Shelf 7"}'
        for name, value in (("reachable", 0), ("pinned", 3), ("queued", 2), ("failed", 1)):
            assert f"decentraspace_storage_{name}{labels} {value}.0\n" in answer.text
        doctor = command(tmp_path, "doctor", "--json", **variables)
        findings = {f["check"]: f for f in json.loads(doctor.stdout)["findings"]}
        assert findings["storage of shelf"]["state"] == "warning"
        assert (
            "Shelf 7 does not answer; 3 pinned, 2 waiting, 1 failed" in findings["storage of shelf"]["detail"]
        )
        assert "runs as" in findings["node"]["detail"]
        listed = command(tmp_path, "plugins", "--json", **variables)
        assert json.loads(listed.stdout)["storage"] == [
            {
                "plugin": "shelf",
                "service": "Shelf 7",
                "reachable": False,
                "pinned": 3,
                "queued": 2,
                "failed": 1,
                "untold": 0,
            }
        ]
        assert "Shelf 7 does not answer" in command(tmp_path, "plugins", **variables).stdout

        assert command(tmp_path, "status").returncode == 2, "nobody answers at the default address"
        (tmp_path / "sessions").mkdir()
        (tmp_path / "sessions" / "session.json").write_text(json.dumps({"node": node.url}))
        done = command(tmp_path, "status", "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["ready"] is True
