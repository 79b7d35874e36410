"""A wallet that deploys small sites through whichever node, and remembers what was acknowledged."""

from __future__ import annotations

import base64
import io
import random
import time
from dataclasses import dataclass, field
from typing import Any

from decentraspace.cli.client import Api, ApiProblem, Saved
from decentraspace.cli.versions import sign_next
from decentraspace.content import car
from decentraspace.content import cid as cids
from decentraspace.content.importer import add_directory, add_file
from decentraspace.errors import DecentraSpaceError
from decentraspace.identity.ethereum import checksum_address
from decentraspace.records.codec import record_cid
from decentraspace.records.schema import site_id
from decentraspace.records.verdict import NetworkRules
from tests.network.lab.nodes import LabNode
from tests.records.factory import address_of, make_session, make_wallet

_PATIENCE = 15.0  # seconds to wait for an answer; what comes later may or may not have happened
_RULES = NetworkRules("devnet", 31337, "decentraspace.localhost")


@dataclass
class Version:
    """`acknowledged`: None while nobody knows whether a node took it."""

    seq: int
    root: bytes
    size: int
    files: dict[str, bytes]
    blocks: dict[bytes, bytes]
    record: bytes
    acknowledged: bool | None = None

    @property
    def manifest(self) -> str:
        return cids.to_text(record_cid(self.record))


@dataclass
class Site:
    label: str
    id: str
    versions: list[Version] = field(default_factory=list)
    replicas: int | None = None  # what its versions ask for

    @property
    def newest(self) -> Version | None:
        """The newest that was acknowledged."""
        return next((v for v in reversed(self.versions) if v.acknowledged), None)

    @property
    def uncertain(self) -> Version | None:
        return next((v for v in self.versions if v.acknowledged is None), None)


class Owner:
    """One wallet, one session key; its tokens are in `home`, which the environment names."""

    def __init__(self, rng: random.Random) -> None:
        self._random = rng
        wallet = make_wallet()
        # A node's clock may be behind this one's.
        now = int(time.time()) - 60
        key, delegation = make_session(wallet, _RULES, issued_at=now, expires_at=now + 86400)
        self._saved = Saved(
            node="",
            network=_RULES.name,
            chain_id=_RULES.chain_id,
            siwe_domain=_RULES.siwe_domain,
            owner=checksum_address(address_of(wallet)),
            scope="*",
            expires=now + 86400,
            message=delegation.message,
            signature=delegation.signature.hex(),
            key=key.private_bytes_raw().hex(),
        )
        self.sites: list[Site] = []
        self.refused = 0

    @property
    def address(self) -> str:
        return self._saved.owner

    def leave(self, node: LabNode) -> dict[str, Any]:
        """Have a node leave, which this wallet administers; how far it is."""
        with node.inside(), Api(node.url, self._saved, patience=_PATIENCE) as api:
            answer: dict[str, Any] = api.post("/node/leave/", {})
            return answer

    def new_site(self, replicas: int | None = None) -> Site:
        label = f"site{len(self.sites)}"
        self.sites.append(Site(label, site_id(self._saved.address, label), replicas=replicas))
        return self.sites[-1]

    def deploy(self, site: Site, node: LabNode, *, back: bool = False) -> str:
        """The next version of a site, or the one of which nobody knows whether it was taken, through a node.
        What became of it: `acknowledged`, a node's reason to refuse, or `unclear`.

        Until an unclear one is settled there is no other: two versions with one number are two publishers'.
        `back`: it has the content of the version before the newest, which is not uploaded again.
        """
        version = site.uncertain or (self._back(site) if back else self._next(site))
        try:
            with node.inside(), Api(node.url, self._saved, patience=_PATIENCE) as api:
                if not back:
                    uploaded = car.encode([version.root], list(version.blocks.items()))
                    api.stream("/storage/upload/", iter([uploaded]), "application/vnd.ipld.car", blocks="1")
                answer = api.post("/hosting/deploy/", {"record": base64.b64encode(version.record).decode()})
        except ApiProblem as error:
            self.refused += 1
            if (
                error.document["status"] < 500
                and version.acknowledged is None
                and version not in site.versions
            ):
                return error.reason
            if version not in site.versions:
                site.versions.append(version)
            return "unclear: " + error.reason
        except DecentraSpaceError:
            if version not in site.versions:
                site.versions.append(version)
            return "unclear"
        if answer["manifest"] != version.manifest:
            raise AssertionError(f"acknowledged {answer['manifest']} instead of {version.manifest}")
        if version not in site.versions:
            site.versions.append(version)
        version.acknowledged = True
        return "acknowledged"

    def _next(self, site: Site) -> Version:
        newest = site.newest
        rng = self._random
        files = {f"f{n}.bin": rng.randbytes(rng.choice([10, 3000, 60_000])) for n in range(rng.randint(1, 4))}
        if rng.random() < 0.3:
            files["large.bin"] = rng.randbytes(600_000)
        files["index.html"] = f"<h1>{site.label} {(newest.seq if newest else 0) + 1}</h1>".encode()
        blocks: dict[bytes, bytes] = {}
        entries = {name: add_file(io.BytesIO(data), blocks.__setitem__) for name, data in files.items()}
        root = add_directory(entries, blocks.__setitem__)
        return self._signed(site, root.cid, root.tsize, files, blocks)

    def _back(self, site: Site) -> Version:
        old = site.versions[-2]
        return self._signed(site, old.root, old.size, old.files, old.blocks)

    def _signed(
        self, site: Site, root: bytes, size: int, files: dict[str, bytes], blocks: dict[bytes, bytes]
    ) -> Version:
        newest = site.newest
        head = {"seq": newest.seq, "manifest": newest.manifest} if newest else None
        record = sign_next(
            self._saved,
            site.label,
            "production",
            head,
            root=root,
            size=size,
            has_headers=False,
            has_redirects=False,
            replicas=site.replicas,
        )
        return Version((newest.seq if newest else 0) + 1, root, size, files, blocks, record)
