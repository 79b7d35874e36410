"""`decentraspace domains`: names of your sites, linked, looked at, taken off, bought."""

from __future__ import annotations

import base64
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from decentraspace.cli.output import emit, json_option, note, table
from decentraspace.errors import BadInput, Conflict, NotFound

if TYPE_CHECKING:
    from decentraspace.cli.client import Api, Saved

_PATIENCE, _AGAIN = 60.0, 2.0  # seconds that a purchase is waited for, and between looks
_node_option = click.option("--node", help="URL of a node's API (default: where you logged in).")


@click.group("domains", invoke_without_command=True)
@_node_option
@json_option
@click.pass_context
def domains_command(context: click.Context, node: str | None, as_json: bool) -> None:
    """Names of your sites: of DNS, ENS, Handshake and our own. Listed without a command.

    \b
    Examples:
      decentraspace domains link shop.example my-site
      decentraspace domains status shop.example
    """
    if context.invoked_subcommand is None:
        _list(node, as_json)


@domains_command.command("list")
@_node_option
@json_option
def list_names(node: str | None, as_json: bool) -> None:
    """List your names, and how they stand.

    \b
    Examples:
      decentraspace domains list
    """
    _list(node, as_json)


def _list(node: str | None, as_json: bool) -> None:
    from decentraspace.cli import client

    saved = client.load()
    found: list[dict[str, Any]] = []
    with client.Api(node or saved.node, saved) as api:
        cursor: str | None = ""
        while cursor is not None:
            page = api.get("/domain/link/", **({"cursor": cursor} if cursor else {}))
            found += page["names"]
            cursor = page["next"]
    rows = [(one["name"], one["state"], one["host"] or "", _when(one["expires"])) for one in found]
    text = table(rows, ("NAME", "STATE", "SITE", "EXPIRES")) if rows else "You have no names linked."
    emit({"names": found}, text, as_json)


@domains_command.command()
@click.argument("name")
@click.argument("site")
@click.option(
    "--proof", help="What NAME's own system signed for your wallet, where it does that (Handshake)."
)
@_node_option
@json_option
def link(name: str, site: str, proof: str | None, node: str | None, as_json: bool) -> None:
    """Have NAME show SITE (a label of yours, a site id or a host), at every node.

    You sign that you want it; that the name is yours shows in the name's own system, such as a TXT record, and what to
    enter there is printed. Until it is there the name shows nothing; then it does by itself.

    \b
    Examples:
      decentraspace domains link shop.example my-site
      decentraspace domains link name.eth my-site
    """
    from decentraspace.cli import client
    from decentraspace.cli.sites import name_of

    saved = client.load()
    asked, _, _ = name_of(site, node)
    with client.Api(node or saved.node, saved) as api:
        try:
            head = api.get("/hosting/status/", site=asked, limit=1)
        except client.ApiProblem as error:
            if error.document.get("status") != 404:
                raise
            raise NotFound(
                f"No site {site} is known here.", hint="Deploy it first: `decentraspace deploy`."
            ) from error
        now = _state(api, name, asked)
        answer = _send(api, saved, "/domain/link/", now, head, proof)
    emit(answer, _words(answer), as_json)


@domains_command.command()
@click.argument("name")
@click.option("--site", help="The site it is to show, to see what that takes before you link it.")
@click.option("--transaction", is_flag=True, help="Print a transaction, too, that has the name lead there.")
@_node_option
@json_option
def status(name: str, site: str | None, transaction: bool, node: str | None, as_json: bool) -> None:
    """Say how NAME stands: what it shows, what is still missing, and who sees it already.

    \b
    Examples:
      decentraspace domains status shop.example
      decentraspace domains status name.eth --site my-site --transaction
    """
    from decentraspace.cli import client
    from decentraspace.cli.sites import name_of

    saved = client.load()
    asked = name_of(site, node)[0] if site else None
    with client.Api(node or saved.node, saved) as api:
        found = _state(api, name, asked, transaction)
    emit(found, _words(found), as_json)


@domains_command.command()
@click.argument("name")
@_node_option
@json_option
def unlink(name: str, node: str | None, as_json: bool) -> None:
    """Take NAME off the site it shows, at every node.

    Nobody can take it over by that, also if you leave its records where they are: they name your wallet.

    \b
    Examples:
      decentraspace domains unlink shop.example
    """
    from decentraspace.cli import client

    saved = client.load()
    with client.Api(node or saved.node, saved) as api:
        now = _state(api, name, None)
        if not now["number"]:
            raise NotFound(
                f"You have not linked {now['name']}.", hint="`decentraspace domains list` lists yours."
            )
        answer = _send(api, saved, "/domain/unlink/", now, None)
    emit(answer, f"{answer['name']} shows your site no longer, at any node within moments.", as_json)


@domains_command.command("set-records")
@click.argument("name")
@click.argument("site")
@_node_option
@json_option
def set_records(name: str, site: str, node: str | None, as_json: bool) -> None:
    """Have NAME's records entered where it is kept, so that it can show SITE.

    On standard input comes what that needs, as a JSON object: which members, the node's plugin says. The node passes
    it on and forgets it.

    \b
    Examples:
      decentraspace domains set-records shop.example my-site < key.json
    """
    from decentraspace.cli import client
    from decentraspace.cli.sites import name_of

    saved = client.load()
    asked, _, _ = name_of(site, node)
    credentials = _object(sys.stdin.read(), "The key on standard input")
    with client.Api(node or saved.node, saved) as api:
        answer = api.patch("/domain/link/", {"name": name, "site": asked, "credentials": credentials})
    lines = [answer["detail"] or answer["status"]]
    if answer["status"] == "done":
        lines.append(f"`decentraspace domains status {name}` says when name servers see them.")
    else:
        lines += _records(answer["records"])
    emit(answer, "\n".join(lines), as_json)


def _years(command: Any) -> Any:
    return click.option(
        "--years", type=click.IntRange(1, 100), default=1, show_default=True, help="For how many years."
    )(command)


def _contact(command: Any) -> Any:
    return click.option(
        "--contact",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="JSON file with what the registrar wants to know of the name's holder.",
    )(command)


_yes_option = click.option("--yes", is_flag=True, help="Agree to the price without being asked.")


@domains_command.command()
@click.argument("name")
@_years
@_contact
@_yes_option
@_node_option
@json_option
def buy(name: str, years: int, contact: Path | None, yes: bool, node: str | None, as_json: bool) -> None:
    """Buy NAME with credits, where the node's operator sells such names.

    You are told the price and asked. The credits are set aside, charged when the name is yours, and yours again when
    it could not be had.

    \b
    Examples:
      decentraspace domains buy shop.example --contact me.json
      decentraspace domains buy my-name --years 2 --yes
    """
    _buy(name, years, contact, yes, node, as_json, renew=False)


@domains_command.command()
@click.argument("name")
@_years
@_contact
@_yes_option
@_node_option
@json_option
def renew(name: str, years: int, contact: Path | None, yes: bool, node: str | None, as_json: bool) -> None:
    """Have NAME, which is yours, last longer.

    \b
    Examples:
      decentraspace domains renew shop.example --years 2
    """
    _buy(name, years, contact, yes, node, as_json, renew=True)


def _buy(
    name: str, years: int, contact: Path | None, yes: bool, node: str | None, as_json: bool, *, renew: bool
) -> None:
    import secrets

    from decentraspace.cli import client
    from decentraspace.cli.amounts import words_of

    saved = client.load()
    holder = _object(contact.read_bytes(), str(contact)) if contact else None
    with client.Api(node or saved.node, saved) as api:
        quote = api.get("/domain/purchase/", name=name, years=years)["quote"]
        if not quote["available"] and not renew:
            raise Conflict(
                f"{quote['name']} is not to be had. {quote['detail']}".strip(), hint="Is it yours? Renew it."
            )
        price = f"{quote['name']} for {quote['years']} year(s) costs {words_of(quote['credits'])}."
        for said in (*quote["warnings"], quote["detail"]):
            note(said, as_json or not said)
        if not yes:
            if not sys.stdin.isatty():
                raise BadInput(price, hint="Agree to it with --yes.")
            click.confirm(f"{price} Buy it?", err=True, abort=True)
        asked = {
            "name": quote["name"], "years": years, "renew": renew, "credits": quote["credits"],
            "key": secrets.token_hex(16), "contact": holder,
        }  # fmt: skip
        answer = api.post("/domain/purchase/", asked)
        end = time.monotonic() + _PATIENCE
        while answer["status"] in ("reserved", "pending") and time.monotonic() < end:
            time.sleep(_AGAIN)
            answer = api.post("/domain/purchase/", {**asked, "contact": None})
    if answer["status"] == "refused":
        raise Conflict(f"{quote['name']} was not bought, and nothing is charged. {answer['detail']}".strip())
    until = f" until {_when(answer['expires'])}" if answer["expires"] else ""
    text = {
        "done": f"{answer['name']} is yours{until}, for {words_of(answer['credits'])}. {answer['detail']}".strip(),
    }.get(
        answer["status"],
        f"{answer['name']} is being bought; {words_of(answer['credits'])} are set aside. {answer['detail']} Look again "
        "with `decentraspace domains purchases`.",
    )
    emit(answer, text, as_json)


@domains_command.command()
@_node_option
@json_option
def purchases(node: str | None, as_json: bool) -> None:
    """List what you bought of names, and how it stands.

    \b
    Examples:
      decentraspace domains purchases
    """
    from decentraspace.cli import client
    from decentraspace.cli.amounts import words_of

    saved = client.load()
    with client.Api(node or saved.node, saved) as api:
        found = api.get("/domain/purchase/")["purchases"]
    rows = [
        (
            one["name"],
            one["status"],
            str(one["years"]),
            words_of(one["credits"]),
            _when(one["expires"]),
            one["detail"],
        )
        for one in found
    ]
    text = (
        table(rows, ("NAME", "STATUS", "YEARS", "PRICE", "EXPIRES", ""))
        if rows
        else "You have bought no names."
    )
    emit({"purchases": found}, text, as_json)


# -- parts


def _state(api: Api, name: str, site: str | None, transaction: bool = False) -> dict[str, Any]:
    query = {
        "name": name,
        **({"site": site} if site else {}),
        **({"transaction": "1"} if transaction else {}),
    }
    found: dict[str, Any] = api.get("/domain/link/", **query)["names"][0]
    return found


def _send(
    api: Api,
    saved: Saved,
    path: str,
    now: dict[str, Any],
    head: dict[str, Any] | None,
    proof: str | None = None,
) -> dict[str, Any]:
    """Sign the next link of a name, to the site of `head` or to none, and send it."""
    from decentraspace.cli.client import ApiProblem
    from decentraspace.identity.ethereum import parse_address
    from decentraspace.records.schema import DomainLink
    from decentraspace.records.signing import sign_domain

    founder = parse_address(head.get("founder") or head["owner"]) if head else None
    number = now["number"]
    for _ in range(3):  # another machine of yours may be faster
        body = DomainLink(
            saved.address,
            now["name"],
            number + 1,
            int(time.time()),
            founder,
            head["label"] if head else None,
            proof,
        )
        record = sign_domain(body, saved.session_key, saved.delegation, saved)
        try:
            answer: dict[str, Any] = api.post(path, {"record": base64.b64encode(record).decode()})
        except ApiProblem as error:
            newest = error.document.get("number", 0) if error.reason == "superseded" else 0
            if newest <= number + 1:
                raise
            number = newest
            continue
        return answer
    raise Conflict("The name is being linked from elsewhere, too.", hint="Try again.")


def _words(found: dict[str, Any]) -> str:
    lines = [found["text"]]
    lines += [f"Beware: {warning}" for warning in found["warnings"]]
    if found["expires"]:
        lines.append(f"The name itself ends {_when(found['expires'])}.")
    lines += _records(found["records"])
    for one in found["seen"]:
        said = {"yes": "sees it", "no": "does not see it yet", "silent": "does not answer"}[one["state"]]
        lines.append(f"  {one['server']:24} {said}. {one['detail']}".rstrip())
    sign = found.get("transaction")
    if sign is not None:
        whole = {"chainId": sign["chain_id"], "to": sign["to"], "value": sign["value"], "data": sign["data"]}
        lines += ["", f"{sign['detail']} To be signed and sent by your wallet:", f"  {json.dumps(whole)}"]
    return "\n".join(lines)


def _records(records: list[dict[str, str]]) -> list[str]:
    if not records:
        return []
    lines = ["", "Enter where you keep the name:"]
    for one in records:
        lines.append(f"  {one['type']:6} {one['host']}  {one['value']}")
        if one["note"]:
            lines.append(f"         {one['note']}")
    return [*lines, ""]


def _when(at: str | None) -> str:
    return at[:10] if at else ""


def _object(text: str | bytes, what: str) -> dict[str, str]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:  # what is not UTF-8 included
        raise BadInput(f"{what} is not JSON.") from error
    if not isinstance(value, dict) or not all(isinstance(one, str) for one in value.values()):
        raise BadInput(f"{what} is not a JSON object of texts.")
    return value
