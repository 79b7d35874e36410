"""Labels of SiteRegistry as names: LABEL.TLD, where `labels` of the settings is the TLD.

What a name shows is what its owner set in the registry: a site, or else a contenthash (EIP-1577). All is read in final
blocks. A label that has ended is nobody's, and for 90 days it can only be renewed, by whoever pays. Names are bought by
commit and reveal, by the operator, who pays with its own credits in the vault: nobody who sees the one can be faster
with the other. Each purchase is known by its key, and what it takes (the secret, too) is written down before anything
is sent.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import trio
from eth_abi.abi import encode
from eth_utils import keccak

from decentraspace.errors import BadInput, Conflict, Unavailable
from decentraspace_billing_polygon import contracts
from decentraspace_billing_polygon.forms import Block, quantity
from decentraspace_billing_polygon.outbox import Job
from decentraspace_billing_polygon.rpc import Refused
from decentraspace_billing_polygon.sender import Sender

YEAR = 365 * 86400
_LABEL = re.compile(r"(?=.{1,45}$)[a-z0-9]+(?:-[a-z0-9]+)*")
_YEARS_MOST = 10
_GRACE = 90 * 86400  # seconds after its end in which a label can only be renewed (LabelTokens.GRACE_PERIOD)
_COMMITTED = 60  # seconds that a commitment must be old
_TTL = 60
_NOBODY = "0x" + 40 * "0"
_IPFS, _IPNS = b"\xe3\x01", b"\xe5\x01"
_BASE36 = "0123456789abcdefghijklmnopqrstuvwxyz"


class Standing(NamedTuple):
    """How a label stands in `block`. `owner`: None for nobody's; `expires`: 0 if it never was anybody's."""

    block: Block
    owner: str | None
    expires: int

    @property
    def ended(self) -> bool:
        """It is nobody's, and can only be renewed."""
        return self.owner is None and self.block.time <= self.expires + _GRACE and self.expires > 0

    @property
    def free(self) -> bool:
        return self.owner is None and not self.ended


class Naming:
    def __init__(self, sender: Sender, domain: str) -> None:
        self.sender, self.chain, self.domain = sender, sender.chain, domain

    def label(self, name: str) -> str | None:
        """Of a name that is one of these; None for another's, and for what no label can be."""
        label, _, domain = name.rpartition(".")
        ours = bool(self.domain) and bool(self.chain.settings.sites) and domain == self.domain
        return label if ours and _LABEL.fullmatch(label) else None

    async def _ask(self, function: str, *arguments: Any, block: Block) -> Any:
        return await self._read("SiteRegistry", self.chain.settings.sites, function, *arguments, block=block)

    async def _read(self, contract: str, address: str, function: str, *arguments: Any, block: Block) -> Any:
        try:
            return await self.chain.read(contract, address, function, *arguments, block=block.number)
        except Refused as refusal:
            # None of these reverts: it is an endpoint's trouble, or another contract's address.
            raise Unavailable(f"{contract}.{function} cannot be read: {refusal.detail}") from refusal

    async def _final(self) -> Block:
        await self.chain.check()
        return await self.chain.final_block()

    async def standing(self, label: str) -> Standing:
        block = await self._final()
        owner = contracts.address(await self._ask("ownerOfLabel", label, block=block))
        expires = int(await self._ask("expiresOf", label, block=block))
        return Standing(block, None if owner == _NOBODY else owner, expires)

    async def owner(self, label: str) -> str | None:
        return (await self.standing(label)).owner

    async def resolve(self, label: str) -> dict[str, Any]:
        block = await self._final()
        site = bytes(await self._ask("siteOfLabel", label, block=block))
        if any(site):
            return {"kind": "site", "value": base64.b32encode(site).decode().lower(), "ttl": _TTL}
        kind, value = read_contenthash(bytes(await self._ask("contenthashOfLabel", label, block=block)))
        return {"kind": kind, "value": value, "ttl": _TTL}

    async def verify(self, label: str, owner: str) -> dict[str, Any]:
        name, found = f"{label}.{self.domain}", await self.standing(label)
        said: dict[str, Any] = {"method": "registry", "ttl": _TTL}
        if found.owner is None:
            why = self._ended(found) if found.ended else "It can be bought: `decentraspace domains buy`."
            return {**said, "state": "missing", "detail": f"{name} is nobody's. {why}"}
        said["expires"] = found.expires
        if found.owner.lower() != owner.lower():
            detail = f"{name} belongs to {found.owner}, as the registry on the chain says."
            return {**said, "state": "stranger", "detail": detail}
        detail = f"{name} belongs to this wallet, as the registry on the chain says."
        return {**said, "state": "held", "detail": detail}

    def _ended(self, found: Standing) -> str:
        until = time.strftime("%d %B %Y", time.gmtime(found.expires + _GRACE))
        return f"It has ended. Until {until} it can only be renewed, for its last owner: `decentraspace domains renew`."

    # -- buying

    async def quote(self, label: str, years: int) -> dict[str, Any]:
        found = await self.standing(label)
        price = int(await self._ask("priceOf", label, years * YEAR, block=found.block))
        detail = ""
        if years > _YEARS_MOST:
            detail = f"A name is had for {_YEARS_MOST} years at most."
        elif not found.free:
            detail = self._ended(found) if found.ended else "It is taken: its owner can renew it."
        else:
            detail = await self._too_dear(price, found.block)
        return {"available": not detail, "credits": price, "years": years, "detail": detail}

    async def _too_dear(self, price: int, block: Block) -> str:
        """Why the operator cannot pay it, or ""."""
        vault, mine = self.chain.settings.vault, self.sender.signer.address
        account = await self._read("CreditVault", vault, "accountOf", mine, block=block)
        if account[2] >= price:
            return ""
        return f"The operator has {account[2]} credits in the vault just now, and the registry asks it for {price}."

    def transaction(self, label: str, target: str) -> dict[str, Any]:
        data = contracts.encode("SiteRegistry", "setContenthash", [label, write_contenthash(target)])
        return {
            "chain_id": self.chain.settings.chain_id,
            "to": contracts.address(self.chain.settings.sites),
            "data": data,
            "value": 0,
            "detail": f"{label}.{self.domain} leads to {target}, for resolvers of ENS, too.",
        }

    async def purchase(self, label: str, years: int, owner: str, key: str) -> dict[str, Any]:
        """As the hook says; asked again it goes on where it is."""
        owner, found = contracts.address(owner), await self.standing(label)
        plan = await self._plan(label, years, owner, key, found)
        last = f"name:{key}:{'renew' if plan['renews'] else 'register'}"
        job = await trio.to_thread.run_sync(self.sender.outbox.get, last)
        if job is None:
            # Nothing is paid before this job is written down: up to here it can be refused.
            answer = await self._before(label, years, owner, key, plan, found)
            if answer is not None:
                return answer
            job = await self._put(last, *self._last(label, years, owner, plan))
        if job.open:
            return _pending(job, job.detail or "It is being written into the registry.")
        if job.state == "failed":
            return _refused(job.detail, job)
        block = await self._final()  # the one that the job is in, or a later one
        expires = int(await self._ask("expiresOf", label, block=block))
        return {"status": "done", "reference": job.reference, "expires": expires, "detail": ""}

    async def _plan(self, label: str, years: int, owner: str, key: str, found: Standing) -> dict[str, Any]:
        """What the key stands for: written down at first. Conflict when it stood for something else."""
        asked = {"label": label, "years": years, "owner": owner}
        known = await trio.to_thread.run_sync(self.sender.outbox.store.fact, f"name:{key}")
        if not known:
            # What has ended is only asked for to be renewed: it was not on offer.
            renews = found.owner == owner or found.ended
            known = json.dumps({**asked, "renews": renews, "secret": secrets.token_hex(32)})
            await trio.to_thread.run_sync(self.sender.outbox.store.put_fact, f"name:{key}", known)
        plan: dict[str, Any] = json.loads(known)
        if {name: plan[name] for name in asked} != asked:
            raise Conflict(f"The key {key!r} was used for another name", hint="Choose another key.")
        return plan

    async def _before(
        self, label: str, years: int, owner: str, key: str, plan: Mapping[str, Any], found: Standing
    ) -> dict[str, Any] | None:
        """What is to be done before it can be paid, a step at a time; None once that is all."""
        block = found.block
        if not plan["renews"] and not found.free:
            return _refused(f"{label}.{self.domain} is taken.")
        price = int(await self._ask("priceOf", label, years * YEAR, block=block))
        if why := await self._too_dear(price, block):
            return _refused(why)
        answer = await self._allow(price, key, block)
        return (
            answer
            if answer is not None or plan["renews"]
            else await self._commit(label, owner, key, plan, block)
        )

    async def _allow(self, price: int, key: str, block: Block) -> dict[str, Any] | None:
        """None once the registry may take the price of the operator's credits."""
        vault, sites = (contracts.address(a) for a in (self.chain.settings.vault, self.chain.settings.sites))
        mine = self.sender.signer.address
        if await self._read("CreditVault", vault, "allowance", mine, sites, block=block) >= price:
            return None
        data = contracts.encode("CreditVault", "approve", [sites, 2**256 - 1])
        job = await self._write(f"name:{key}:approve", vault, data)
        if job.state == "failed":
            return _refused(job.detail, job)
        return _pending(job, job.detail or "The registry is being allowed to take the price.")

    async def _commit(
        self, label: str, owner: str, key: str, plan: Mapping[str, Any], block: Block
    ) -> dict[str, Any] | None:
        """None once the commitment is old enough."""
        settings = self.chain.settings
        hidden = commitment(settings.chain_id, settings.sites, label, owner, bytes.fromhex(plan["secret"]))
        job = await self._put(f"name:{key}:commit", "commit", [hidden])
        if job.open:
            return _pending(job, job.detail or "A commitment is on its way: who sees it learns no name.")
        if job.state == "failed":
            # Whoever saw it may have made the very same before. That one does as well; without it registering fails.
            made = await self._newest(f"name:{key}:copied")
        else:
            made = (await self.chain.block(job.result["block"])).time
        if block.time < made + _COMMITTED:
            return _pending(job, "The registry has a name wait for a minute after the commitment.")
        return None

    async def _newest(self, fact: str) -> int:
        """Time of the newest block when this was first asked for that fact, in Unix seconds."""
        store = self.sender.outbox.store
        known = await trio.to_thread.run_sync(store.fact, fact)
        if not known:
            number = await self.chain.endpoints.least_known("eth_blockNumber", form=quantity)
            known = str((await self.chain.block(number)).time)
            await trio.to_thread.run_sync(store.put_fact, fact, known)
        return int(known)

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


def commitment(chain: int, registry: str, label: str, owner: str, secret: bytes) -> bytes:
    """As `commitmentOf` of the registry, which is not asked: no endpoint learns the secret before it is used."""
    kinds = ["uint256", "address", "string", "address", "bytes32"]
    return bytes(keccak(encode(kinds, [chain, registry, label, owner, secret])))


def _pending(job: Job, detail: str) -> dict[str, Any]:
    return {"status": "pending", "reference": job.reference, "detail": detail}


def _refused(detail: str, job: Job | None = None) -> dict[str, Any]:
    return {"status": "refused", "reference": job.reference if job else "", "detail": detail}


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
