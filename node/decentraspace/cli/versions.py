"""Versions of a site: what the node knows of them, whether another is wanted, and how the next one is signed."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from decentraspace.errors import NotFound

if TYPE_CHECKING:
    from decentraspace.cli.client import Api, Saved

_NAME_LIFE = 365 * 86400  # seconds that the record of a site's IPNS name is valid


def all_sites(api: Api) -> list[dict[str, Any]]:
    """Newest version of every site and channel of the wallet that is logged in, as the node knows them."""
    return [site for page in api.pages("/hosting/status/") for site in page["sites"]]


def current(api: Api, saved: Saved, label: str, channel: str, versions: int = 100) -> dict[str, Any] | None:
    """The newest version the node knows, or None; `versions`: how many its history has at most."""
    from decentraspace.cli.client import ApiProblem

    try:
        head: dict[str, Any] = api.get(
            "/hosting/status/", site=site_named(saved, label), channel=channel, limit=versions
        )
    except ApiProblem as error:
        if error.document.get("status") == 404:
            return None
        raise
    return head


def check_name(name: str) -> str:
    """A label, or LABEL--ID of a site that another wallet founded. BadInput."""
    from decentraspace.records.schema import check_label

    label, marker, site = name.rpartition("--")
    if not marker or not re.fullmatch("[a-z2-7]{16}", site):
        return check_label(name)
    check_label(label)
    return name


def site_named(saved: Saved, name: str) -> str:
    """The id of a site: of a label, that of the wallet's own."""
    from decentraspace.records.schema import site_id

    return name.rpartition("--")[2] if "--" in name else site_id(saved.address, name)


def founder_of(api: Api, saved: Saved, name: str) -> bytes:
    """Whom a site was founded by, for its first version on a channel. NotFound."""
    if "--" not in name:
        return saved.address
    head = current(api, saved, name, "production", versions=1)
    if head is None:
        raise NotFound(f"No site {name} is known here.", hint="`decentraspace sites` lists yours.")
    return bytes.fromhex(head.get("founder", saved.owner)[2:])


def same(head: dict[str, Any], root: bytes) -> bool:
    """Whether the head shows this content, and this node has all of it."""
    from decentraspace.content import cid as cids

    return bool(head["held_here"]) and cids.parse(head["root"]) == root


def name_is_due(head: dict[str, Any], saved: Saved) -> bool:
    """Whether the record of the site's IPNS name wants a new version, though nothing else does."""
    from decentraspace.content.ipns import name_text
    from decentraspace.records.naming import name_of

    key = saved.name_key(head["site"])
    if key is None or head["channel"] != "production" or "ipns" not in head:  # an older node knows no names
        return False
    said = head["ipns"]
    if said is None or not said["current"]:
        return True
    left = datetime.fromisoformat(said["until"]).timestamp() - time.time()
    return said["name"] != name_text(name_of(key.public_key().public_bytes_raw())) or left < _NAME_LIFE / 2


def copies_are_due(head: dict[str, Any], copies: int | None, *, asked: bool) -> bool:
    """Whether another number of copies wants a new version, though nothing else does: one that was named, or a tier
    that gives more than when the site was deployed."""
    if copies is None or "copies" not in head:
        return False
    now = head["copies"]["asked"]
    return bool(now != copies if asked else (now or 0) < copies)


def unchanged(head: dict[str, Any]) -> dict[str, Any]:
    """A deploy's answer for a version that is there already; without a receipt, as none was asked for."""
    fields = ("site", "host", "channel", "seq", "root", "manifest", "urls")
    named = {"ipns": head.get("ipns")}
    return {**{f: head[f] for f in fields}, **named, "holders": [h["peer_id"] for h in head["holders"]]}


def sign_next(
    saved: Saved,
    label: str,
    channel: str,
    head: dict[str, Any] | None,
    *,
    root: bytes,
    size: int,
    has_headers: bool,
    has_redirects: bool,
    replicas: int | None = None,
    founder: bytes | None = None,
) -> bytes:
    """The record of the version after `head`."""
    from decentraspace.content import cid as cids
    from decentraspace.records import naming
    from decentraspace.records.schema import MAX_SEQ, PRODUCTION, SiteManifest
    from decentraspace.records.signing import sign_site

    # Of a site that was given away, its id is still made of whom it was founded by.
    founder = founder or (bytes.fromhex(head["founder"][2:]) if head and "founder" in head else saved.address)
    label = label.rpartition("--")[0] or label
    if head is not None and head["seq"] >= MAX_SEQ and founder != saved.address:
        head = None  # as far as the owner before could count: a new one may begin anew

    manifest = SiteManifest(
        owner=founder,
        label=label,
        seq=head["seq"] + 1 if head else 1,
        root=root,
        prev=cids.parse(head["manifest"]) if head else None,
        channel=channel,
        kind="static",
        size=size,
        has_headers=has_headers,
        has_redirects=has_redirects,
        controllers=(),
        created=int(time.time()),
        replicas=replicas,
    )
    key = saved.name_key(manifest.site_id) if channel == PRODUCTION else None
    if key is not None:
        issued_at = saved.delegation.verify(saved).issued_at
        until = int(time.time()) + _NAME_LIFE
        manifest = replace(manifest, ipns=naming.sign(key, manifest, issued_at, until))
    return sign_site(manifest, saved.session_key, saved.delegation, saved)
