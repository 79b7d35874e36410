"""Commands that need no node: init, cid, doctor, plugins, completion, help."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from click.shell_completion import BashComplete

from decentraspace.cli.deploy import slug
from decentraspace.cli.main import _MODULES, cli
from decentraspace.records.schema import check_label
from tests.cli.conftest import WALLET, Result, ServedNode
from tests.support import IN_TREE_PLUGINS, free_port

Run = Callable[..., Result]
REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "cli.md"


Words = tuple[str, ...]


def tree(group: click.Group = cli, path: Words = ()) -> Iterator[tuple[Words, click.Command]]:
    """Every command with the words it is called by, and those below it."""
    context = click.Context(group)
    for name in group.list_commands(context) if path else _MODULES:  # not those of plugins that are installed
        command = group.get_command(context, name)
        assert command is not None, (*path, name)
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from tree(command, (*path, name))


COMMANDS = dict(tree())


def options_of(command: click.Command) -> set[str]:
    return {o for p in command.params if isinstance(p, click.Option) for o in p.opts}


def test_the_tree_is_walked_to_its_leaves() -> None:
    assert {("deploy",), ("block",), ("block", "add"), ("reports", "close"), ("uploads", "rm")} <= set(
        COMMANDS
    )


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_has_examples_json_and_a_place_in_the_reference(path: Words) -> None:
    page, command, name = REFERENCE.read_text("utf-8"), COMMANDS[path], " ".join(path)
    examples = "".join(re.split(r"Examples?:", command.help or "")[1:])
    assert re.search(rf"^ +(\w+=\S+ )*(sudo )?decentraspace {re.escape(name)}\b", examples, re.MULTILINE), (
        name
    )
    if path not in (("run",), ("demo",)):
        assert "--json" in options_of(command), name
    assert (f"\n## {name}\n" if len(path) == 1 else f"`decentraspace {name}") in page, name
    for option in options_of(command) - {"--help", "--json", "--node"}:
        assert f"`{option}" in page, (name, option)
    for parameter in command.params:
        assert not isinstance(parameter, click.Option) or parameter.help, f"{name}: {parameter.name}"


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_is_completed(path: Words, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the same code that the script of a shell calls."""
    # Loading plugins for their commands sets up the log, here for all tests that follow.
    monkeypatch.setenv("DECENTRASPACE_PLUGINS_DISABLED", ",".join(IN_TREE_PLUGINS))
    shell = BashComplete(cli, {}, "decentraspace", "_DECENTRASPACE_COMPLETE")
    *before, last = path
    assert last in {item.value for item in shell.get_completions(list(before), last[:1])}
    offered = {item.value for item in shell.get_completions(list(path), "--")}
    assert {o for o in options_of(COMMANDS[path]) if o.startswith("--")} <= offered


def commands() -> list[click.Command]:
    return [command for path, command in COMMANDS.items() if len(path) == 1]


def test_the_help_names_every_command_and_imports_little(run: Run) -> None:
    done = run("--help")
    assert done.code == 0
    for command in commands():
        assert re.search(rf"^\s+{command.name}\s+\S", done.out, re.MULTILINE)
    heavy = ("libp2p", "quart", "web3", "trio", "httpx", "eth_account", "coincurve", "rich")
    code = (
        "import sys; sys.argv = ['decentraspace', '--help']\n"
        "from decentraspace.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        f"bad = [m for m in {heavy!r} if m in sys.modules]; assert not bad, bad"
    )
    own = {**os.environ, "DECENTRASPACE_PLUGINS_DISABLED": ",".join(IN_TREE_PLUGINS)}
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL, timeout=60, env=own)


def test_deploying_imports_no_servers(tmp_path: Path) -> None:
    heavy = ("libp2p", "quart", "web3", "trio", "hypercorn", "lmdb", "eth_account", "coincurve")
    code = (
        "import sys\n"
        "import decentraspace.cli.deploy, decentraspace.cli.client, decentraspace.cli.transfer\n"
        "import decentraspace.records.signing\n"
        f"bad = [m for m in {heavy!r} if m in sys.modules]; assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nothing",), "No such command 'nothing'. See `decentraspace --help`."),
        (("depoly", "."), "No such command 'depoly'. Did you mean 'deploy'? See `decentraspace --help`."),
        (("deploy",), "Missing argument 'FOLDER'. See `decentraspace deploy --help`."),
        (("cid", "--what"), "No such option '--what'"),
        (
            ("login", "--days", "abc"),
            "Invalid value for '--days': 'abc' is not a whole number from 1 to 90. See `decentraspace login --help`.",
        ),
        (("login", "--days", "91"), "91 is not in the range 1<=x<=90"),
    ],
)
def test_usage_errors_are_one_line(run: Run, arguments: tuple[str, ...], said: str) -> None:
    done = run(*arguments)
    assert (done.code, done.out) == (2, "")
    [line] = done.err.splitlines()
    assert line.startswith("error: ")
    assert said in line


def test_failures_as_json(run: Run, tmp_path: Path) -> None:
    """One problem document on standard error; standard output is for results."""
    done = run("sites", "--json")
    assert (done.code, done.out) == (2, "")
    problem = json.loads(done.err)
    assert problem["type"] == "urn:decentraspace:problem:unauthorized"
    assert (problem["status"], problem["detail"]) == (401, "Nobody is logged in.")
    assert "decentraspace login" in problem["hint"]
    usage = json.loads(run("deploy", tmp_path, "--jsn", "--json").err)
    assert usage["type"] == "urn:decentraspace:problem:bad-input"
    assert "--jsn" in usage["detail"]


def test_no_command_shows_the_help(run: Run) -> None:
    done = run()
    assert "Commands" in done.out + done.err


def test_init_asks_three_questions(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    done = run("init", "--data-dir", folder, "--json", stdin=f"my node\n{WALLET}\n25\n")
    assert done.code == 0, done.err
    assert done.json["quota"] == 25 * 10**9
    written = tomllib.loads((folder / "config.toml").read_text())
    assert written["node"] == {"data_dir": str(folder), "name": "my node", "operator": WALLET}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "node.key").stat().st_mode) == 0o600
    again = run("init", "--yes", "--data-dir", folder)
    assert again.code == 2
    assert "there already" in again.err
    forced = run("init", "--yes", "--force", "--data-dir", folder, "--json")
    assert forced.json["peer_id"] == done.json["peer_id"], "the node stays who it is"


def test_init_asks_again_for_a_wrong_address(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    done = run("init", "--data-dir", folder, stdin=f"my node\n0x12\n{WALLET}\n25\n")
    assert done.code == 0, done.err
    assert "Error: " in done.err
    assert tomllib.loads((folder / "config.toml").read_text())["node"]["operator"] == WALLET


def test_init_names_a_command_that_is_there(run: Run, tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("decentraspace")
    assert program.exists()
    bare = {k: v for k, v in os.environ.items() if not k.startswith("DECENTRASPACE_")}
    for path, named in (("/usr/bin:/bin", str(program)), (str(program.parent), "decentraspace")):
        command = [program, "init", "--yes", "--force", "--data-dir", str(tmp_path / "data")]
        environment = {**bare, "HOME": str(tmp_path), "PATH": path}
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, cwd=tmp_path, env=environment, timeout=60
        )
        assert f"Start it with: {named} run" in done.stdout


def test_init_refuses_a_wrong_address(run: Run, tmp_path: Path) -> None:
    done = run("init", "--yes", "--data-dir", tmp_path / "d", "--operator", WALLET.replace("2c", "2C"))
    assert done.code == 2
    assert "checksum" in done.err
    assert not (tmp_path / "d" / "config.toml").exists()


def test_cid_prints_the_root_last(run: Run, site: Path) -> None:
    for path in (site, site / "big.bin", site / "link"):
        done = run("cid", path)
        assert done.code == 0
        assert re.fullmatch(r"b[a-z2-7]{58}", done.out.splitlines()[-1])
    assert run("cid", site / "nothing").code == 2


def test_doctor_finds_what_is_wrong(run: Run, tmp_path: Path, served: ServedNode) -> None:
    folder = tmp_path / "data"
    assert run("init", "--yes", "--data-dir", folder, "--json").code == 0
    config = folder / "config.toml"
    ports = {
        "DECENTRASPACE_API_PORT": str(free_port()),
        "DECENTRASPACE_GATEWAY_PORT": str(free_port()),
        "DECENTRASPACE_NETWORK_LISTEN": "/ip4/127.0.0.1/tcp/0",
    }
    fine = run("doctor", "--config", config, "--json", **ports)
    assert (fine.code, fine.json["ok"]) == (0, True), fine.out
    taken = run(
        "doctor", "--config", config, "--json", **{**ports, "DECENTRASPACE_GATEWAY_PORT": str(served.port)}
    )
    assert taken.code == 2
    [wrong] = [f for f in taken.json["findings"] if f["state"] == "wrong"]
    assert wrong["check"] == "gateway.port"
    assert wrong["mend"]
    (folder / "node.key").chmod(0o644)
    assert "chmod 600" in run("doctor", "--config", config, **ports).out
    config.write_text("[node\n")
    assert "WRONG" in run("doctor", "--config", config).out
    runs = run("doctor", "--json", DECENTRASPACE_API_PORT=str(served.port))
    assert any(f["check"] == "node" and "runs as" in f["detail"] for f in runs.json["findings"])


def test_plugins_are_listed(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "good.py").write_text(
        "from decentraspace import hookimpl\n\n@hookimpl\ndef record_accepted(kind):\n    pass\n"
    )
    (folder / "bad.py").write_text("raise SystemExit(3)\n")
    done = run("plugins", "--plugins-dir", folder, "--json")
    assert (done.code, done.err) == (2, ""), "one is refused, and said once"
    by_name = {p["name"]: p for p in done.json["plugins"]}
    assert by_name["good"]["hooks"] == ["record_accepted"]
    assert by_name["bad"]["health"] == "refused"
    text = run("plugins", "--plugins-dir", folder)
    assert "good" in text.out
    assert (text.out + text.err).count("SystemExit") == 1
    (folder / "bad.py").unlink()
    assert run("plugins", "--plugins-dir", folder).code == 0


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(run: Run, shell: str) -> None:
    done = run("completion", shell)
    assert done.code == 0
    assert "_DECENTRASPACE_COMPLETE" in done.out


def test_completion_completes(run: Run) -> None:
    done = run(COMP_WORDS="decentraspace dep", COMP_CWORD="1", _DECENTRASPACE_COMPLETE="bash_complete")
    assert "deploy" in done.out


def test_site_labels_are_completed(run: Run, logged_in: ServedNode, site: Path) -> None:
    assert run("deploy", site, "--json").code == 0
    for words in ("decentraspace rollback ", "decentraspace deploy . --site my", "decentraspace status "):
        done = run(
            COMP_WORDS=words, COMP_CWORD=str(words.count(" ")), _DECENTRASPACE_COMPLETE="bash_complete"
        )
        assert done.out == "plain,my-site\n", words
    logged_in.stop()
    done = run(COMP_WORDS="decentraspace rollback ", COMP_CWORD="2", _DECENTRASPACE_COMPLETE="bash_complete")
    assert (done.code, done.out.strip(), done.err) == (0, "", ""), "nobody answers, nothing is said"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_installed_once(run: Run, environment: dict[str, str], shell: str) -> None:
    home = {"XDG_DATA_HOME": "", "XDG_CONFIG_HOME": ""}
    path = Path(run("completion", shell, "--install", "--json", **home).json["path"])
    assert path.is_relative_to(environment["HOME"])
    first = path.read_text()
    assert first.strip() == run("completion", shell).out.strip()
    assert run("completion", shell, "--install", **home).code == 0
    assert path.read_text() == first


def test_the_version(run: Run) -> None:
    assert re.search(r"\d+\.\d+", run("--version").out)


@pytest.mark.parametrize("name", ["My Site", "ÜBER", "a__b--c", "-x-", "2024", "x" * 80, "...", "日本"])
def test_any_folder_name_gives_a_label(name: str) -> None:
    assert check_label(slug(name))


def test_a_closed_pipe_is_no_failure(environment: dict[str, str]) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "decentraspace", "completion", "bash"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    error = process.stderr.read()
    deadline = time.monotonic() + 30
    assert process.wait(max(1.0, deadline - time.monotonic())) in (0, 1, 141)
    assert b"Traceback" not in error
