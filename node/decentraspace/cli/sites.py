"""`decentraspace sites`, `status`, `rollback` and `revoke`."""

from __future__ import annotations

import base64
import time
from typing import TYPE_CHECKING, Any

import click

from decentraspace.cli.output import emit, json_option, size_of, table
from decentraspace.errors import BadInput, NotFound, Unauthorized

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

    saved = client.load()
    with client.Api(node or saved.node, saved) as api:
        found: list[dict[str, Any]] = []
        cursor = ""
        while True:
            page = api.get("/hosting/status/", cursor=cursor)
            found += page["sites"]
            cursor = page["next"]
            if not cursor:
                break
    rows = [
        (
            s["label"],
            s["channel"],
            str(s["seq"]),
            size_of(s["size"]),
            s["urls"].get("site", s["urls"]["version"]),
        )
        for s in found
    ]
    emit(
        {"sites": found},
        table(rows, ("LABEL", "CHANNEL", "VERSION", "SIZE", "URL"))
        if rows
        else "No sites yet: `decentraspace deploy FOLDER`.",
        as_json,
    )


@click.command()
@click.argument("site", required=False)
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
            f"{url} is ready: peer {facts['peer_id']}, {facts['peers']} peer(s), version {facts['version']}.",
            as_json,
        )
        return
    name, url, session = _name(site, node)
    with client.Api(url, session) as api:
        found = api.get("/hosting/status/", site=name, channel=channel)
    lines = [
        f"{found['host']}  version {found['seq']}  {size_of(found['size'])}  {found['created']}",
        f"root {found['root']}",
        *(f"  {kind:8} {address}" for kind, address in found["urls"].items()),
        "",
        f"Held whole by {len(found['holders'])} node(s):",
        *(f"  {h['peer_id']}  since {h['created']}" for h in found["holders"]),
        "",
        "Versions:",
        *(
            f"  {v['seq']:>4}  {v['created']}  {v['root']}"
            + (f"  refused: {v['refused']}" if "refused" in v else "")
            for v in found["history"][:20]
        ),
    ]
    emit(found, "\n".join(lines), as_json)


@click.command()
@click.argument("label")
@click.argument("seq", type=click.IntRange(1), required=False)
@click.option("--channel", default="production", show_default=True, help="production, or a preview's name.")
@_node_option
@json_option
def rollback(label: str, seq: int | None, channel: str, node: str | None, as_json: bool) -> None:
    """Publish an earlier version of your site LABEL again: SEQ, or the one before the present one.

    \b
    Examples:
      decentraspace rollback blog
      decentraspace rollback blog 12
    """
    from decentraspace.cli import client
    from decentraspace.cli.deploy import current, sign_next
    from decentraspace.content import cid as cids

    saved = client.load()
    with client.Api(node or saved.node, saved) as api:
        head = current(api, saved, label, channel)
        if head is None:
            raise NotFound(f"You have no site {label} with channel {channel} that this node knows.")
        old = _earlier(api, head, seq)
        if old is None:
            raise NotFound(
                f"There is no version {seq or 'before this one'} of {label}.",
                hint=f"See `decentraspace status {label}`.",
            )
        record = sign_next(
            saved,
            label,
            channel,
            head,
            root=cids.parse(old["root"]),
            size=old["size"],
            has_headers=old["has_headers"],
            has_redirects=old["has_redirects"],
        )
        answer = api.post("/hosting/deploy/", {"record": base64.b64encode(record).decode()})
    emit(answer, f"Version {answer['seq']} of {label} shows what version {old['seq']} showed.", as_json)


def _earlier(api: Api, head: dict[str, Any], seq: int | None) -> dict[str, Any] | None:
    """Version `seq`, or the newest before `head` that showed something else; of those that count."""
    wanted = {"seq": seq} if seq else {}
    cursor = str(seq + 1 if seq else head["seq"])
    while cursor:
        page = api.get(
            "/hosting/status/", site=head["site"], channel=head["channel"], cursor=cursor, **wanted
        )
        for version in page["history"]:
            if "refused" not in version and (seq or version["root"] != head["root"]):
                return dict(version)
        cursor = page["next"]
    return None


@click.command()
@click.argument("key")
@click.option("--site", "label", help="Only what the key signed for this site of yours.")
@click.option(
    "--after",
    default=0,
    show_default=True,
    type=click.IntRange(0),
    help="Keep versions up to this one (with --site).",
)
@_node_option
@json_option
def revoke(key: str, label: str | None, after: int, node: str | None, as_json: bool) -> None:
    """Take back what session KEY (did:key:…) may do. Log in anew first: only a newer login can.

    \b
    Examples:
      decentraspace revoke did:key:z6Mk…
      decentraspace revoke did:key:z6Mk… --site blog --after 41
    """
    from decentraspace.cli import client
    from decentraspace.identity import didkey
    from decentraspace.records.schema import Revocation, site_id
    from decentraspace.records.signing import sign_revocation

    saved = client.load()
    if after and not label:
        raise BadInput("--after goes with --site.")
    revocation = Revocation(
        owner=saved.address,
        key=didkey.decode(key),
        site=site_id(saved.address, label) if label else None,
        after=after,
        created=int(time.time()),
    )
    record = sign_revocation(revocation, saved.session_key, saved.delegation, saved)
    with client.Api(node or saved.node, saved) as api:
        answer = api.post("/auth/revoke/", {"record": base64.b64encode(record).decode()})
    emit(
        answer,
        f"{key} is revoked. Run `decentraspace status` for your sites: one it had published last may need a deploy.",
        as_json,
    )


def _name(site: str, node: str | None) -> tuple[str, str, Any]:
    """(what to ask for, where, as whom): a bare label means a site of the wallet that is logged in. Whether
    16 letters are a site's id or a label, the node finds out."""
    from decentraspace.cli import client
    from decentraspace.records.schema import check_label, site_id

    if "--" in site or (len(site) == 16 and not any(c in site for c in "-0189")):
        try:
            saved = client.load()
        except (Unauthorized, BadInput):
            return site, node or client.last_node() or client.DEFAULT_NODE, None
        return site, node or saved.node, saved
    saved = client.load()
    return site_id(saved.address, check_label(site)), node or saved.node, saved
