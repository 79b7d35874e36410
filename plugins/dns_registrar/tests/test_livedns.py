"""Records entered for their owner with a token of theirs, at a stand-in for Gandi's LiveDNS."""

from __future__ import annotations

from typing import Any

import pytest
from plugins.dns_registrar.tests.conftest import GATEWAY, OWNER, Managed, Node
from plugins.dns_registrar.tests.gandi import TOKEN, Gandi

from decentraspace.errors import BadInput
from decentraspace.testing import Workbench

NAME = "kept.example"
PROOF = f'"decentraspace-owner={OWNER}"'


async def enter(node: Node, name: str = NAME, token: str = TOKEN) -> dict[str, Any]:
    """What the instructions say, all of it."""
    rows = await node.ask("name_instructions", name=name, site="s", owner=OWNER, gateway=GATEWAY)
    return await node.update(
        name, {"gandi_token": token}, *((r["type"], r["host"], r["value"]) for r in rows)
    )


async def test_a_domain_itself_has_an_alias_of_gandis_and_a_name_below_it_a_cname(
    gandi: Gandi, managed: Managed
) -> None:
    gandi.domains[NAME] = 2027
    gandi.records = {
        (NAME, "@", "A"): ["192.0.2.1"],
        (NAME, "@", "MX"): ["10 spool.mail.gandi.net."],
        (NAME, "www", "A"): ["192.0.2.1"],
        (NAME, "_decentraspace", "TXT"): ['"another text"'],
    }
    node = await managed(api=gandi.url)
    for _ in range(2):  # once more changes nothing
        assert (await enter(node))["status"] == "done"
        assert (await enter(node, f"www.{NAME}"))["status"] == "done"
        assert gandi.records == {
            (NAME, "@", "MX"): ["10 spool.mail.gandi.net."],
            (NAME, "@", "ALIAS"): [f"{GATEWAY}."],
            (NAME, "_decentraspace", "TXT"): ['"another text"', PROOF],
            (NAME, "www", "CNAME"): [f"{GATEWAY}."],
            (NAME, "_decentraspace.www", "TXT"): [PROOF],
        }
    node = await managed(api=gandi.url, addresses=["192.0.2.80"])
    assert (await enter(node))["status"] == "done"
    assert gandi.records[NAME, "@", "A"] == ["192.0.2.80"]
    assert (NAME, "@", "ALIAS") not in gandi.records


async def test_a_token_that_is_not_taken_and_a_name_that_is_not_there(
    gandi: Gandi, managed: Managed, bench: Workbench, capfd: pytest.CaptureFixture[str]
) -> None:
    node = await managed(api=gandi.url)
    found = await enter(node)
    assert (found["status"], NAME in found["detail"]) == ("refused", True)
    gandi.domains[NAME] = 2027
    found = await enter(node, token="pat_somebody_elses")
    assert (found["status"], "token" in found["detail"]) == ("refused", True)
    assert gandi.records == {}
    for token in ("", "short", "pat with blanks", "pat_\r\nX-Evil: 1"):
        with pytest.raises(BadInput) as caught:
            await enter(node, token=token)
        assert not token or token not in caught.value.detail
    with pytest.raises(BadInput):
        await node.update(NAME, {"gandi_token": TOKEN, "server": "192.0.2.1"}, ("A", NAME, "192.0.2.80"))
    with pytest.raises(BadInput):
        await node.update(NAME, {"gandi_token": TOKEN}, ("ALIAS", "other.example", "x.example"))
    out = capfd.readouterr()
    kept = b"".join(path.read_bytes() for path in bench.data.rglob("*") if path.is_file())
    for secret in (TOKEN, "pat_somebody_elses"):
        assert secret not in out.out + out.err
        assert secret.encode() not in kept
