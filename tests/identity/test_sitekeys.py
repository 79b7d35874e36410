"""Keys of sites' names: the same from the same wallet, and one for each site."""

from __future__ import annotations

from eth_account import Account
from eth_account.messages import encode_defunct

from decentraspace.identity import sitekeys

OWNER = Account.from_key("0x" + "11" * 32)
ADDRESS = bytes.fromhex(OWNER.address[2:])


def seed(network: str = "devnet", generation: int = 1) -> bytes:
    text = sitekeys.message(ADDRESS, network, generation)
    return sitekeys.seed(bytes(OWNER.sign_message(encode_defunct(text=text)).signature))


def public(made: bytes, site: str) -> str:
    return sitekeys.site_key(sitekeys.site_seed(made, site)).public_key().public_bytes_raw().hex()


def test_keys_never_change() -> None:
    """Were this to differ, every site would have another name."""
    assert (
        public(seed(), "pgzw4keslc6lw5kr")
        == "35359ebe77171d99af1b59522ed7a3db8b8fe67976dad0692c56e9d0a6655bf8"
    )


def test_each_site_network_and_generation_has_its_own() -> None:
    found = {
        public(seed(), "a" * 16),
        public(seed(), "b" * 16),
        public(seed("other"), "a" * 16),
        public(seed(generation=2), "a" * 16),
    }
    assert len(found) == 4


def test_a_wallets_last_byte_does_not_matter() -> None:
    assert sitekeys.seed(bytes(64) + b"\x00") == sitekeys.seed(bytes(64) + b"\x1b")
