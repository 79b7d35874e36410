"""`decentraspace revoke`: take back what a session key may do, and keep sites showing what others had signed."""

from __future__ import annotations

import base64
import time
from typing import TYPE_CHECKING, Any

import click

from decentraspace.cli.output import emit, json_option
from decentraspace.errors import BadInput, Conflict, DecentraSpaceError

if TYPE_CHECKING:
    from decentraspace.cli.client import Api, Saved
    from decentraspace.records.schema import Revocation


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
@click.option(
    "--restore", is_flag=True, help="Let what KEY itself had revoked stand again: it was in a thief's hands."
)
@click.option("--node", help="URL of a node's API (default: where you logged in).")
@json_option
def revoke(key: str, label: str | None, after: int, restore: bool, node: str | None, as_json: bool) -> None:
    """Take back what session KEY (did:key:…) may do. Log in anew first: only a newer login can.

    What it signed becomes void, and so do later versions that build on that. Each site that this touches is
    published again with the newest content that another of your keys had signed. `decentraspace status SITE`
    shows which key signed which version. Keys that KEY had revoked stay revoked: the present login says so again
    before, unless --restore.

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
    if key == saved.did:
        raise Conflict(
            "This is the session in use, and only a newer login can revoke it.",
            hint="Run `decentraspace login` again first.",
        )
    revocation = Revocation(
        owner=saved.address,
        key=didkey.decode(key),
        site=site_id(saved.address, label) if label else None,
        after=after,
        created=int(time.time()),
    )
    record = sign_revocation(revocation, saved.session_key, saved.delegation, saved)
    with client.Api(node or saved.node, saved) as api:
        touched = _touched(api, key) if label is None else []
        # Before: if it is broken off in between, nothing has been lifted, and repeating it does the rest.
        renewed = [] if restore else _renew(api, saved, revocation)
        answer = dict(api.post("/auth/revoke/", {"record": base64.b64encode(record).decode()}))
        answer["renewed"] = renewed
        answer["sites"] = [_keep(api, saved, head, shown) for head, shown in touched]
    lines = [f"{key} is revoked."]
    lines += [f"  {other['key']} stays revoked." for other in renewed]
    lines += [f"  {site['text']}" for site in answer["sites"]]
    if label is not None:
        lines.append(f"Look at it with `decentraspace status {label}`.")
    emit(answer, "\n".join(lines), as_json)


def _renew(api: Api, saved: Saved, revocation: Revocation) -> list[dict[str, Any]]:
    """Have the present login say again what falls with the key: `key`, `site` (None: all) and `after` of each."""
    from dataclasses import replace

    from decentraspace.identity import didkey
    from decentraspace.records.signing import sign_revocation

    renewed = []
    for found in _revoked_by(api, didkey.encode(revocation.key)):
        if found["key"] == saved.did or revocation.site not in (None, found["site"] or revocation.site):
            continue
        # For one site the key's signature falls for that site only.
        site = found["site"] or revocation.site
        again = replace(revocation, key=didkey.decode(found["key"]), site=site, after=found["after"])
        record = sign_revocation(again, saved.session_key, saved.delegation, saved)
        try:
            api.post("/auth/revoke/", {"record": base64.b64encode(record).decode()})
        except Conflict as error:
            if error.problem_slug != "revocation-too-old":
                raise
            continue  # the wallet has delegated to it anew since
        renewed.append({"key": found["key"], "site": site, "after": found["after"]})
    return renewed


def _revoked_by(api: Api, key: str) -> list[dict[str, Any]]:
    """Standing revocations that the key has signed."""
    listed = api.pages("/auth/revocations/")
    return [one for page in listed for one in page["revocations"] if one["signer"] == key]


def _touched(api: Api, key: str) -> list[tuple[dict[str, Any], dict[str, Any] | None]]:
    """Heads of the wallet's channels in whose history the key has a part, each with the newest version that
    another key signed, or None."""
    from decentraspace.cli.sites import pages
    from decentraspace.cli.versions import all_sites

    found = []
    for head in all_sites(api):
        versions = list(pages(api, head))
        if any(version["key"] == key for version in versions):
            found.append((head, next((v for v in versions if v["key"] != key), None)))
    return found


def _keep(api: Api, saved: Saved, was: dict[str, Any], shown: dict[str, Any] | None) -> dict[str, Any]:
    """Have a channel show what `shown` had, under the present login. What became of it, with a line of text."""
    from decentraspace.cli.sites import publish
    from decentraspace.cli.versions import current, same
    from decentraspace.content import cid as cids

    own = was.get("founder", saved.owner) == saved.owner
    label, channel = was["label"] if own else f"{was['label']}--{was['site']}", was["channel"]
    name = label if channel == "production" else f"{label} (preview {channel})"
    said: dict[str, Any] = {"label": label, "channel": channel, "root": None, "published": False}
    if shown is None:
        return {
            **said,
            "text": f"{name} is offline: no other key had signed a version. Deploy it again.",
        }
    try:
        head = current(api, saved, label, channel)
        if head is None or not same(head, cids.parse(shown["root"])):
            publish(api, saved, label, channel, head, shown)
            said["published"] = True
    except DecentraSpaceError as error:
        return {
            **said,
            "text": f"{name} shows what version {shown['seq']} had no longer: {error} Deploy it again.",
        }
    return {**said, "root": shown["root"], "text": f"{name} shows what version {shown['seq']} showed."}
