"""Labels of SiteRegistry as names: LABEL.TLD, where `labels` of the settings is the TLD.

What a name shows is what its owner set in the registry: a site, or else a contenthash (EIP-1577). All is read in final
blocks. Names are bought by commit and reveal, by the operator, who pays with its own credits in the vault: nobody who
sees the one can be faster with the other. Each purchase is known by its key, and what it takes (the secret, too) is
written down before anything is sent.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
import time
from collections.abc import Mapping
from typing import Any

import trio

from decentraspace.errors import BadInput, Conflict
from decentraspace_billing_polygon import contracts
from decentraspace_billing_polygon.forms import Block
from decentraspace_billing_polygon.outbox import Job
from decentraspace_billing_polygon.sender import Sender

YEAR = 365 * 86400
_LABEL = re.compile(r"(?=.{1,45}$)[a-z0-9]+(?:-[a-z0-9]+)*")
_COMMITTED = 60  # seconds that a commitment must be old
_TTL = 60
_NOBODY = "0x" + 40 * "0"
_IPFS, _IPNS = b"\xe3\x01", b"\xe5\x01"
_BASE36 = "0123456789abcdefghijklmnopqrstuvwxyz"


class Naming:
    def __init__(self, sender: Sender, domain: str) -> None:
        self.sender, self.chain, self.domain = sender, sender.chain, domain

    def label(self, name: str) -> str | None:
        """Of a name that is one of these; None for another's, and for what no label can be."""
        label, _, domain = name.rpartition(".")
        ours = bool(self.domain) and bool(self.chain.settings.sites) and domain == self.domain
        return label if ours and _LABEL.fullmatch(label) else None

    async def _ask(self, function: str, *arguments: Any, block: Block) -> Any:
        sites = self.chain.settings.sites
        return await self.chain.read("SiteRegistry", sites, function, *arguments, block=block.number)

    async def owner(self, label: str, block: Block | None = None) -> str | None:
        block = block or await self.chain.final_block()
        found = contracts.address(await self._ask("ownerOfLabel", label, block=block))
        return None if found == _NOBODY else found

    async def resolve(self, label: str) -> dict[str, Any]:
        block = await self.chain.final_block()
        site = bytes(await self._ask("siteOfLabel", label, block=block))
        if any(site):
            return {"kind": "site", "value": _site_text(site), "ttl": _TTL}
        kind, value = read_contenthash(bytes(await self._ask("contenthashOfLabel", label, block=block)))
        return {"kind": kind, "value": value, "ttl": _TTL}

    async def verify(self, label: str, owner: str, site: str) -> dict[str, Any]:
        block = await self.chain.final_block()
        found = await self.owner(label, block)
        name = f"{label}.{self.domain}"
        if found is None:
            detail = f"{name} is nobody's: it can be bought (`decentraspace domains buy`)."
            return {"state": "missing", "method": "registry", "detail": detail, "ttl": _TTL}
        if found.lower() != owner.lower():
            detail = f"{name} belongs to {found}, as the registry on the chain says."
            return {"state": "stranger", "method": "registry", "detail": detail, "ttl": _TTL}
        shown = bytes(await self._ask("siteOfLabel", label, block=block))
        return {
            "state": "held",
            "method": "registry",
            "detail": f"{name} belongs to this wallet, as the registry on the chain says.",
            "ttl": _TTL,
            "expires": int(await self._ask("expiresOf", label, block=block)),
            "points": any(shown) and _site_text(shown) == site.rpartition("--")[2],
        }

    async def quote(self, label: str, years: int) -> dict[str, Any]:
        block = await self.chain.final_block()
        price = int(await self._ask("priceOf", label, years * YEAR, block=block))
        free = years <= 10 and bool(await self._ask("available", label, block=block))
        taken = "" if free else "It is taken: its owner can renew it. A name is had for 10 years at most."
        return {"available": free, "credits": price, "years": years, "detail": taken}

    def transaction(self, label: str, target: str) -> dict[str, Any]:
        data = contracts.encode("SiteRegistry", "setContenthash", [label, write_contenthash(target)])
        return {
            "chain_id": self.chain.settings.chain_id,
            "to": contracts.address(self.chain.settings.sites),
            "data": data,
            "value": 0,
            "detail": f"{label}.{self.domain} leads to {target}, for resolvers of ENS, too.",
        }

    # -- buying

    async def purchase(self, label: str, years: int, owner: str, key: str) -> dict[str, Any]:
        """As the hook says; asked again it goes on where it is."""
        owner = contracts.address(owner)
        plan = await self._plan(label, years, owner, key)
        block = await self.chain.final_block()
        last = f"name:{key}:{'renew' if plan['renews'] else 'register'}"
        job = await trio.to_thread.run_sync(self.sender.outbox.get, last)
        if job is None:
            if (
                not plan["renews"]
                and (waits := await self._commit(label, owner, key, plan, block)) is not None
            ):
                return waits
            price = int(await self._ask("priceOf", label, years * YEAR, block=block))
            if (waits := await self._allow(price, key, block)) is not None:
                return waits
            job = await self._put(last, *self._last(label, years, owner, plan))
        if job.open:
            return _pending(job, job.detail or "It is being written into the registry.")
        if job.state == "failed":
            return {"status": "refused", "reference": job.reference, "detail": job.detail}
        block = await self.chain.final_block()  # the one that the job is in, or a later one
        expires = int(await self._ask("expiresOf", label, block=block))
        return {"status": "done", "reference": job.reference, "expires": expires, "detail": ""}

    async def _plan(self, label: str, years: int, owner: str, key: str) -> dict[str, Any]:
        """What the key stands for: written down at first. Conflict when it stood for something else."""
        asked = {"label": label, "years": years, "owner": owner}
        known = await trio.to_thread.run_sync(self.sender.outbox.store.fact, f"name:{key}")
        if not known:
            renews = await self.owner(label) == owner
            known = json.dumps({**asked, "renews": renews, "secret": secrets.token_hex(32)})
            await trio.to_thread.run_sync(self.sender.outbox.store.put_fact, f"name:{key}", known)
        plan: dict[str, Any] = json.loads(known)
        if {name: plan[name] for name in asked} != asked:
            raise Conflict(f"The key {key!r} was used for another name", hint="Choose another key.")
        return plan

    async def _commit(
        self, label: str, owner: str, key: str, plan: Mapping[str, Any], block: Block
    ) -> dict[str, Any] | None:
        """None once the commitment is old enough."""
        if not await self._ask("available", label, block=block):
            # For 90 days after its end it is kept for its last owner, whom the registry does not name then.
            over = "" if await self.owner(label, block) else " Its last owner can renew it by a transaction (`renew`)."
            detail = f"{label}.{self.domain} is taken.{over}"
            return {"status": "refused", "reference": "", "detail": detail}
        secret = bytes.fromhex(plan["secret"])
        commitment = await self._ask("commitmentOf", label, owner, secret, block=block)
        job = await self._put(f"name:{key}:commit", "commit", [commitment])
        if job.state == "failed":
            return {"status": "refused", "reference": job.reference, "detail": job.detail}
        if job.open:
            return _pending(
                job, job.detail or "A commitment is on its way: nobody else can take the name then."
            )
        made = await self.chain.block(job.result["block"])
        if block.time < made.time + _COMMITTED:
            return _pending(job, "The registry has a name wait for a minute after the commitment.")
        return None

    async def _allow(self, price: int, key: str, block: Block) -> dict[str, Any] | None:
        """None once the registry may take the price of the operator's credits."""
        vault, mine = contracts.address(self.chain.settings.vault), self.sender.signer.address
        sites = contracts.address(self.chain.settings.sites)
        available = (await self.chain.account(mine))["available"]
        if available < price:
            detail = f"The operator has {available} credits in the vault, and the name costs {price}."
            return {"status": "refused", "reference": "", "detail": detail}
        allowed = await self.chain.read("CreditVault", vault, "allowance", mine, sites, block=block.number)
        if allowed >= price:
            return None
        data = contracts.encode("CreditVault", "approve", [sites, 2**256 - 1])
        job = await self._write(f"name:{key}:approve", vault, data)
        if job.state == "failed":
            return {"status": "refused", "reference": job.reference, "detail": job.detail}
        return _pending(job, "The registry is allowed to take the price.")

    def _last(self, label: str, years: int, owner: str, plan: Mapping[str, Any]) -> tuple[str, list[Any]]:
        if plan["renews"]:
            return "renew", [label, years * YEAR]
        return "register", [label, owner, years * YEAR, bytes.fromhex(plan["secret"])]

    async def _put(self, key: str, function: str, arguments: list[Any]) -> Job:
        sites = contracts.address(self.chain.settings.sites)
        return await self._write(key, sites, contracts.encode("SiteRegistry", function, arguments))

    async def _write(self, key: str, to: str, data: str) -> Job:
        # What is done twice is paid twice, where it is a renewal.
        return await self.sender.put(Job(key=key, to=to, data=data, made=int(time.time()), once=True))


def _pending(job: Job, detail: str) -> dict[str, Any]:
    return {"status": "pending", "reference": job.reference, "detail": detail}


def _site_text(site: bytes) -> str:
    return base64.b32encode(site).decode().lower()


def read_contenthash(raw: bytes) -> tuple[str, str]:
    """(kind, value) as `name_resolve` has them; ("none", "") for what is not content of IPFS."""
    space, cid = raw[:2], raw[2:]
    if len(cid) < 4 or cid[0] != 1:
        return "none", ""
    if space == _IPFS:
        return "ipfs", "b" + base64.b32encode(cid).decode().rstrip("=").lower()
    if space == _IPNS and cid[1] == 0x72:
        number, text = int.from_bytes(cid, "big"), ""
        while number:
            number, digit = divmod(number, 36)
            text = _BASE36[digit] + text
        return "ipns", "k" + text
    return "none", ""


def write_contenthash(path: str) -> bytes:
    """For /ipfs/CID (base32) or /ipns/KEY (base36). BadInput for anything else."""
    found = re.fullmatch(r"/(ipfs/b([a-z2-7]{8,200})|ipns/k([0-9a-z]{8,100}))", path)
    cid = b""
    if found and found[2]:
        try:
            cid = base64.b32decode(found[2].upper() + "=" * (-len(found[2]) % 8))
        except ValueError:
            cid = b""
    elif found:
        number = int(found[3], 36)
        cid = number.to_bytes((number.bit_length() + 7) // 8, "big")
    if not found or len(cid) < 4 or cid[0] != 1 or (found[3] and cid[1] != 0x72):
        raise BadInput(f"A name leads to /ipfs/CID in base32 or /ipns/KEY in base36, not to {path[:100]!r}")
    return (_IPFS if found[2] else _IPNS) + cid
