"""`decentraspace sites`, `status`, `rollback` and `revoke`."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from decentraspace.cli.completion import complete_label
from decentraspace.cli.output import emit, json_option, size_of, table
from decentraspace.errors import BadInput, Conflict, NotFound, Unauthorized

if TYPE_CHECKING:
    from decentraspace.cli.client import Api

_node_option = click.option("--node", help="URL of a node's API (default: where you logged in).")


@click.command()
@_node_option
@json_option
def sites(node: str | None, as_json: bool) -> None:
    """List your sites, as the node knows them.

    \b
    Examples:
      decentraspace sites
      decentraspace sites --json
    """
    from decentraspace.cli import client
    from decentraspace.cli.versions import all_sites

    saved = client.load()
    with client.Api(node or saved.node, saved) as api:
        found = all_sites(api)
    rows = [
        (
            s["label"],
            s["channel"],
            str(s["seq"]),
            size_of(s["size"]),
            s["urls"].get("site") or s["urls"].get("preview") or s["urls"]["version"],
            f"/ipns/{s['ipns']['name']}" if s.get("ipns") else "",
        )
        for s in found
    ]
    lines = [table(rows, ("LABEL", "CHANNEL", "VERSION", "SIZE", "URL", "IPNS"))] if rows else []
    lines += [f"{s['label']} ({s['channel']}): {blocked_here(s)}" for s in found if s.get("blocked")]
    emit({"sites": found}, "\n".join(lines) or "No sites yet: `decentraspace deploy FOLDER`.", as_json)


@click.command()
@click.argument("site", required=False, shell_complete=complete_label)
@click.option("--channel", default="production", show_default=True, help="production, or a preview's name.")
@_node_option
@json_option
def status(site: str | None, channel: str, node: str | None, as_json: bool) -> None:
    """Versions of SITE (a label of yours, a site id or a host) and which nodes hold it; or the node's own state.

    \b
    Examples:
      decentraspace status                 # is the node up, how many peers
      decentraspace status blog
      decentraspace status docs--k3v5x2q7mbyzaolp
    """
    from decentraspace.cli import client

    if site is None:
        url = node or client.last_node() or client.DEFAULT_NODE
        with client.Api(url) as api:
            facts = api.get("/readyz")
        emit(
            facts,
            f"{url} is ready: peer {facts['peer_id']}, {facts['peers']} peer(s), version {facts['version']}."
            + (" It is leaving the network and takes no deploys." if facts.get("leaving") else ""),
            as_json,
        )
        return
    name, url, session = name_of(site, node)
    with client.Api(url, session) as api:
        try:
            found = api.get("/hosting/status/", site=name, channel=channel)
        except client.ApiProblem as error:
            if error.document.get("status") != 404:
                raise
            # The node knows it by its id; people by the name they gave.
            where = "" if channel == "production" else f" with channel {channel}"
            raise NotFound(
                f"No site {site}{where} is known here.", hint="`decentraspace sites` lists yours."
            ) from error
    lines = [
        f"{found['host']}  version {found['seq']}  {size_of(found['size'])}  {found['created']}",
        f"root {found['root']}",
        *(f"  {kind:8} {address}" for kind, address in found["urls"].items()),
        *_name_lines(found.get("ipns")),
        *([blocked_here(found)] if found.get("blocked") else []),
        "",
        f"Held whole by {len(found['holders'])} node(s){_copies(found.get('copies'))}:",
        *(
            f"  {h['peer_id']}  since {h['created']}"
            + (f"  checked {h['checked']}" if h.get("checked") else "")
            for h in found["holders"]
        ),
        "",
        "Versions:",
        *(
            f"  {v['seq']:>4}  {v['created']}  {v['root']}"
            + (f"  refused: {v['refused']}" if "refused" in v else "")
            for v in found["history"][:20]
        ),
        "",
        "Signed by session keys (what one of them may do is taken back by `decentraspace revoke`):",
        *_signers(found["history"][:20], session),
    ]
    emit(found, "\n".join(lines), as_json)


def _copies(copies: dict[str, int] | None) -> str:
    """How many of those are there, of how many; an older node does not say."""
    return f"; {copies['present']} are there, {copies['wanted']} should be" if copies else ""


def blocked_here(site: dict[str, Any]) -> str:
    """What the owner of a site is told that the node refuses."""
    blocked = site["blocked"]
    return f"Blocked at this node, visitors are answered {blocked['status']}: {blocked['reason']}."


def _name_lines(ipns: dict[str, Any] | None) -> list[str]:
    if ipns is None:
        return []
    stale = "" if ipns["current"] else "; of an older version: deploy again"
    return [f"  ipns     /ipns/{ipns['name']}  until {ipns['until']}{stale}"]


def _signers(history: list[dict[str, Any]], session: Any) -> list[str]:
    """A line for each key: which versions it signed, newest first."""
    by_key: dict[str, list[str]] = {}
    for version in history:
        by_key.setdefault(version["key"], []).append(str(version["seq"]))
    mine = session.did if session is not None else ""
    return [
        f"  {key}  {', '.join(versions)}" + ("  (this login)" if key == mine else "")
        for key, versions in by_key.items()
    ]


@click.command()
@click.argument("label", shell_complete=complete_label)
@click.argument("seq", type=click.IntRange(1), required=False)
@click.option("--channel", default="production", show_default=True, help="production, or a preview's name.")
@_node_option
@json_option
def rollback(label: str, seq: int | None, channel: str, node: str | None, as_json: bool) -> None:
    """Publish an earlier version of your site LABEL again: SEQ, or the one before what is shown now.

    Without SEQ each further call goes one step further back, past what was rolled back already. To go
    forward again, name the version: `decentraspace status LABEL` lists them.

    \b
    Examples:
      decentraspace rollback blog
      decentraspace rollback blog 12
    """
    from decentraspace.cli import client
    from decentraspace.cli.versions import current, same, unchanged
    from decentraspace.content import cid as cids

    saved = client.load()
    with client.Api(node or saved.node, saved) as api:
        head = current(api, saved, label, channel, versions=1)
        if head is None:
            raise NotFound(f"You have no site {label} with channel {channel} that this node knows.")
        trail = [] if seq else still_shown(list(pages(api, head))[::-1])
        old = _version(api, head, seq) if seq else trail[-2] if len(trail) > 1 else None
        if old is None:
            raise _no_version(label, channel, seq, head)
        if same(head, cids.parse(old["root"])):
            answer = {**unchanged(head), "changed": False}
            text = f"Nothing changed: {label} shows what version {old['seq']} showed."
        else:
            answer = {**publish(api, saved, label, channel, head, old), "changed": True}
            text = f"Version {answer['seq']} of {label} shows what version {old['seq']} showed."
    answer["shows"] = old["seq"]
    again = f"decentraspace rollback {label}{_option(channel)}"
    more = f" `{again}` goes one step further back." if len(trail) > 2 else ""
    emit(answer, text + more, as_json)


def publish(
    api: Api, saved: Any, label: str, channel: str, head: dict[str, Any] | None, old: dict[str, Any]
) -> dict[str, Any]:
    """Have a channel whose newest version is `head`, if it has one, show what `old` showed."""
    from decentraspace.cli.client import ApiProblem
    from decentraspace.cli.deploy import wanted_copies
    from decentraspace.cli.versions import sign_next
    from decentraspace.content import cid as cids

    record = sign_next(
        saved,
        label,
        channel,
        head,
        root=cids.parse(old["root"]),
        size=old["size"],
        has_headers=old["has_headers"],
        has_redirects=old["has_redirects"],
        replicas=wanted_copies(api.get("/auth/tier/")),
    )
    try:
        return dict(api.post("/hosting/deploy/", {"record": base64.b64encode(record).decode()}))
    except ApiProblem as error:
        if error.reason != "missing-blocks":
            raise
        raise Conflict(
            f"The node no longer has what version {old['seq']} showed.", hint="Deploy its folder again."
        ) from error


def pages(api: Api, head: dict[str, Any], **more: Any) -> Iterator[dict[str, Any]]:
    """Versions that count, from the head on, newest first."""
    cursor = str(head["seq"] + 1)
    while cursor:
        page = api.get(
            "/hosting/status/", site=head["site"], channel=head["channel"], cursor=cursor, limit=1000, **more
        )
        yield from (version for version in page["history"] if "refused" not in version)
        cursor = page["next"]


def _version(api: Api, head: dict[str, Any], seq: int) -> dict[str, Any] | None:
    return next(pages(api, head, seq=seq), None) if seq <= head["seq"] else None


def _no_version(label: str, channel: str, seq: int | None, head: dict[str, Any]) -> NotFound:
    """What to do instead depends on whether there is another version at all."""
    if head["seq"] == 1:
        return NotFound(
            f"{label} has no version but the one it shows.",
            hint="Deploy the folder with what it should show.",
        )
    option = _option(channel)
    return NotFound(
        f"There is no version {seq} of {label}."
        if seq
        else f"There is no version before the one {label} shows, but for those that were rolled back.",
        hint=f"`decentraspace status {label}{option}` lists them; name one: "
        f"`decentraspace rollback {label} SEQ{option}`.",
    )


def _option(channel: str) -> str:
    return "" if channel == "production" else f" --channel {channel}"


def still_shown(versions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """`versions`: oldest first, the last is shown. Those among them that nothing has undone, in this order: each
    step back leads from the last to the one before.

    A version that shows again what one before showed has undone all between the two.
    """
    shown: list[dict[str, Any]] = []
    places: dict[str, int] = {}
    for version in versions:
        place = places.get(version["root"])
        if place is None:
            places[version["root"]] = len(shown)
            shown.append(version)
            continue
        for undone in shown[place + 1 :]:
            del places[undone["root"]]
        del shown[place + 1 :]
    return shown


def name_of(site: str, node: str | None) -> tuple[str, str, Any]:
    """(what to ask for, where, as whom): a bare label means a site of the wallet that is logged in. Whether
    16 letters are a site's id or a label, the node finds out."""
    from decentraspace.cli import client
    from decentraspace.records.schema import check_label

    if "--" in site or (len(site) == 16 and not any(c in site for c in "-0189")):
        try:
            saved = client.load()
        except (Unauthorized, BadInput):
            return site, node or client.last_node() or client.DEFAULT_NODE, None
        return site, node or saved.node, saved
    saved = client.load()
    return check_label(site), node or saved.node, saved
