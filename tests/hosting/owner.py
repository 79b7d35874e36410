"""A site owner kept in a file: wallet, delegation and session key survive the process that made them."""

from __future__ import annotations

import json
import time
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from decentraspace.identity.delegation import Delegation
from decentraspace.records.schema import SiteManifest, site_id
from decentraspace.records.signing import sign_site
from decentraspace.records.store import SiteHead
from decentraspace.records.verdict import NetworkRules
from tests.records.factory import make_session, make_wallet

LABEL = "crash"


class Owner:
    def __init__(self, path: Path, rules: NetworkRules) -> None:
        self.rules = rules
        if not path.exists():
            now = int(time.time())
            wallet = make_wallet()
            key, delegation = make_session(wallet, rules, issued_at=now - 60, expires_at=now + 86400)
            saved = {
                "key": key.private_bytes_raw().hex(),
                "message": delegation.message,
                "signature": delegation.signature.hex(),
                "address": delegation.verify(rules).owner.hex(),
            }
            path.with_suffix(".new").write_text(json.dumps(saved))
            path.with_suffix(".new").rename(path)
        saved = json.loads(path.read_text())
        self.key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(saved["key"]))
        self.delegation = Delegation(saved["message"], bytes.fromhex(saved["signature"]))
        self.address = bytes.fromhex(saved["address"])
        self.site_id = site_id(self.address, LABEL)

    def sign(self, root: bytes, size: int, head: SiteHead | None) -> bytes:
        """The next version after `head`, as a record block."""
        manifest = SiteManifest(
            owner=self.address,
            label=LABEL,
            seq=head.seq + 1 if head else 1,
            root=root,
            prev=head.cid if head else None,
            channel="production",
            kind="static",
            size=size,
            has_headers=False,
            has_redirects=False,
            controllers=(),
            created=int(time.time()),
        )
        return sign_site(manifest, self.key, self.delegation, self.rules)
