"""Configuration: defaults, then a TOML file, then the environment, into one frozen `Config`.

`DECENTRASPACE_<SECTION>_<SETTING>` overrides any setting (lists comma-separated), for example
`DECENTRASPACE_GATEWAY_PORT=80`. Nothing else in the code reads the environment for configuration.
"""

from __future__ import annotations

import os
import tomllib
import types
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

from decentraspace import forms
from decentraspace.errors import ConfigError
from decentraspace.forms import MOST, Form

GIB = 1024**3
MIB = 1024**2
_YEAR = 365 * 86400.0


def _setting(
    default: Any, doc: str, least: float | None = None, most: float | None = None, form: Form | None = None
) -> Any:
    """`least` and `most` of a number, both allowed; `most` of a list: how many; `form` of (each) text."""
    metadata = {"doc": doc, "least": least, "most": most, "form": form}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class NodeConfig:
    data_dir: str = _setting(
        "~/.decentraspace", "Folder that holds everything the node keeps.", form=forms.PATH
    )
    name: str = _setting(
        "", "Name shown to people, for example in `decentraspace status`.", form=forms.PERSON
    )
    operator: str = _setting(
        "", "Wallet address (0x…) of the operator; it may administer the node.", form=forms.WALLET
    )
    admins: tuple[str, ...] = _setting(
        (), "Further wallet addresses that may administer the node.", form=forms.WALLET
    )
    contact: str = _setting(
        "",
        "How people reach the operator, for example about content that is blocked: a URL or an email address.",
        form=forms.CONTACT,
    )


@dataclass(frozen=True)
class NetworkConfig:
    name: str = _setting(
        "devnet", "Network to join; records of another network are refused.", form=forms.NETWORK
    )
    chain_id: int = _setting(31337, "Chain id (EIP-155) that logins of this network name.", 1, MOST)
    siwe_domain: str = _setting(
        "decentraspace.localhost", "Domain that logins (EIP-4361) of this network name.", form=forms.AUTHORITY
    )
    listen: tuple[str, ...] = _setting(
        ("/ip4/0.0.0.0/tcp/4001",), "libp2p addresses to listen on.", form=forms.LISTENING
    )
    announce: tuple[str, ...] = _setting(
        (), "libp2p addresses told to others; empty: those listened on.", most=16, form=forms.ANNOUNCED
    )
    bootstrap: tuple[str, ...] = _setting(
        (), "Peers to connect to at start (/ip4/…/tcp/…/p2p/PEERID).", form=forms.BOOTSTRAP
    )
    mdns: bool = _setting(True, "Find peers on the local network by multicast DNS.")
    allow_private: bool = _setting(
        False, "Fetch content from private and loopback addresses; only for a network on one machine or LAN."
    )
    max_peers: int = _setting(100, "Connections kept at most.", 1, 10_000)
    bitswap: bool = _setting(True, "Exchange blocks with IPFS peers (Kubo, Helia) over libp2p.")
    ipfs_peers: tuple[str, ...] = _setting(
        (), "IPFS peers to stay connected to and to ask for content.", most=16, form=forms.BOOTSTRAP
    )
    max_ipfs_peers: int = _setting(
        32, "Connections kept at most with peers that are no nodes of this network.", 0, 10_000
    )
    dht: str = _setting(
        "off",
        "The DHT in which IPFS peers find sites: that of the internet (`wan`), of a local network (`lan`).",
        form=forms.one_of("off", "wan", "lan"),
    )
    sync_interval: float = _setting(
        60.0, "Seconds between exchanges of record sets with a connected peer.", 0.1, 86400.0
    )


@dataclass(frozen=True)
class ApiConfig:
    host: str = _setting("127.0.0.1", "Address the HTTP API listens on.", form=forms.HOST)
    port: int = _setting(8090, "Port the HTTP API listens on.", 1, 65535)
    public_url: str = _setting(
        "", "URL under which others reach the API; empty: from host and port.", form=forms.URL
    )
    max_upload: int = _setting(2 * GIB, "Bytes one upload may have.", 1, MOST)
    max_upload_files: int = _setting(100_000, "Files one upload may have.", 1, MOST)
    token_lifetime: int = _setting(24 * 3600, "Seconds an access token is valid.", 1, int(_YEAR))


@dataclass(frozen=True)
class GatewayConfig:
    host: str = _setting("127.0.0.1", "Address the gateway listens on.", form=forms.HOST)
    port: int = _setting(8080, "Port the gateway listens on.", 1, 65535)
    workers: int = _setting(1, "Worker processes; 0: one per core.", 0, 256)
    domain: str = _setting(
        "localhost", "Host name under which sites are served (LABEL--ID.DOMAIN).", form=forms.DOMAIN
    )
    public_url: str = _setting(
        "", "URL under which others reach the gateway; empty: from host and port.", form=forms.URL
    )
    open_relay: bool = _setting(
        False, "Serve any CID. Off: only content that an accepted record names, so nobody relays abuse."
    )
    autoindex: bool = _setting(True, "Show a listing for directories without an index file.")
    cache_mb: int = _setting(
        64, "MiB of resolved pages and compressed variants kept in each worker.", 0, 1_000_000
    )
    fetch_timeout: float = _setting(
        30.0, "Seconds a request waits for content from other nodes.", 0.1, 3600.0
    )
    dnslink: tuple[str, ...] = _setting(
        (),
        "Names (DNSLink) and what the gateway shows under them: as hosts, and below /ipns/.",
        most=10_000,
        form=forms.NAME_LINK,
    )
    plain_hosts: str = _setting(
        "",
        "Top-level domain of `names.resolvers` whose names have hosts without it, too: NAME.DOMAIN.",
        form=forms.TOP_LEVEL,
    )


@dataclass(frozen=True)
class NamesConfig:
    dns: bool = _setting(
        True, "Look up what names of DNS stand for (DNSLink: TXT records of `_dnslink.NAME`)."
    )
    nameservers: tuple[str, ...] = _setting(
        (), "Name servers to ask; empty: those of the system.", most=8, form=forms.NAMESERVER
    )
    timeout: float = _setting(5.0, "Seconds that looking up one name may take.", 0.1, 60.0)
    cache: int = _setting(10_000, "Names whose answers are kept, for as long as they say.", 1, 1_000_000)
    resolvers: tuple[str, ...] = _setting(
        (),
        "Plugins that speak for names, by top-level domain; `*` for all others, which else are those of DNS.",
        most=100,
        form=forms.RESOLVER,
    )
    registrar: str = _setting(
        "dns_registrar",
        "The plugin, where there is one, that says who may link a name of DNS; else its TXT record is looked at.",
    )
    check_every: float = _setting(
        86400.0, "Seconds after which the proof of a linked name is looked at again.", 1.0, _YEAR
    )
    grace: float = _setting(
        3 * 86400.0, "Seconds that a linked name is still served after its proof has gone.", 0.0, _YEAR
    )


@dataclass(frozen=True)
class StorageConfig:
    quota: int = _setting(10 * GIB, "Bytes of blocks the node keeps at most.", 0, MOST)
    scrub_interval: float = _setting(
        7 * 86400.0, "Seconds in which all blocks are read again and checked.", 1.0, _YEAR
    )
    gc_interval: float = _setting(600.0, "Seconds between garbage collections.", 0.1, _YEAR)
    gc_grace: float = _setting(
        3600.0, "Seconds an unreferenced block is kept after it was last touched.", 0.0, _YEAR
    )


@dataclass(frozen=True)
class RecordsConfig:
    clock_skew: int = _setting(120, "Seconds a record's time may lie in the future.", 0, 86400)
    expired_grace: int = _setting(
        86400,
        "Seconds after which a record whose delegation ran out is no longer taken from a peer.",
        0,
        int(_YEAR),
    )
    sponsor_records: int = _setting(5000, "Records taken from one sponsor in 24 hours.", 0, MOST)
    sponsor_bytes: int = _setting(32 * MIB, "Bytes of records taken from one sponsor in 24 hours.", 0, MOST)
    sponsor_pending: int = _setting(
        1000,
        "Versions kept of one sponsor that are signed for a wallet of which the chain does not say yet that the site "
        "is its own.",
        0,
        MOST,
    )
    owner_names: int = _setting(1000, "Names that one wallet may have links of.", 0, MOST)
    sponsor_claims: int = _setting(
        32, "Wallets for which one sponsor may bring in links of one and the same name.", 0, MOST
    )
    sponsors: tuple[str, ...] = _setting(
        (), "Peer ids whose records are taken; empty: any (use on test networks only).", form=forms.PEER_ID
    )


@dataclass(frozen=True)
class HostingConfig:
    replicate: bool = _setting(True, "Take a share of the network's sites (within quota).")
    replicas: int = _setting(
        3,
        "Live nodes that hold a site whose record names no number, besides the one it was deployed to; 0: every node "
        "holds those, and this one holds all sites.",
        0,
        1000,
    )
    replicas_max: int = _setting(
        10,
        "Live nodes that hold a site, as far as this node takes part, whatever its record asks for.",
        1,
        1000,
    )
    replica_percent: int = _setting(
        80, "Percent of storage.quota beyond which no sites that other nodes took are copied.", 0, 100
    )
    live_for: int = _setting(
        1800, "Seconds after its last announcement that a node counts as live.", 1, 86400
    )
    check_every: float = _setting(60.0, "Seconds between looks at which sites lack copies.", 0.1, _YEAR)
    release_after: float = _setting(
        600.0, "Seconds that enough others must hold a site before a spare copy is let go.", 0.0, _YEAR
    )
    challenge_every: float = _setting(
        60.0, "Seconds between spot checks of other nodes' copies, one block each.", 0.1, _YEAR
    )
    refute_after: float = _setting(
        600.0,
        "Seconds over which a node must fail all spot checks, three at least, not to count as a holder.",
        0.0,
        _YEAR,
    )
    keep_versions: int = _setting(20, "Versions of a site kept for rollback.", 1, MOST)
    max_site_bytes: int = _setting(
        1 * GIB, "Bytes of a site that another node took and this one copies.", 0, MOST
    )
    receipts: bool = _setting(True, "Announce by signed receipt which sites this node holds.")


@dataclass(frozen=True)
class LimitsConfig:
    free_sites: int = _setting(1, "Sites a wallet of the free tier may have at this node.", 0, MOST)
    free_bytes: int = _setting(1 * GIB, "Bytes a wallet of the free tier may store at this node.", 0, MOST)
    paid_sites: int = _setting(100, "Sites a wallet of the paid tier may have at this node.", 0, MOST)
    channels: int = _setting(50, "Channels (production and previews) a site may have at this node.", 1, MOST)
    free_names: int = _setting(1, "Names a wallet of the free tier may link at this node.", 0, MOST)
    paid_names: int = _setting(100, "Names a wallet of the paid tier may link at this node.", 0, MOST)
    paid_bytes: int = _setting(50 * GIB, "Bytes a wallet of the paid tier may store at this node.", 0, MOST)
    free_replicas: int = _setting(3, "Nodes that a site of the free tier may have hold it.", 1, 1000)
    paid_replicas: int = _setting(5, "Nodes that a site of the paid tier may have hold it.", 1, 1000)
    free_upload_lifetime: float = _setting(
        7 * 86400.0,
        "Seconds an upload of the free tier is kept after it was last uploaded; what a deploy uses stays.",
        1.0,
        _YEAR,
    )
    free_upload_percent: int = _setting(
        25,
        "Percent of `storage.quota` for uploads of the free tier together: kept, or within `storage.gc_grace`.",
        0,
        100,
    )
    free_storage: int = _setting(
        1 * GIB, "Bytes that a wallet of the free tier stores here without charge.", 0, MOST
    )
    free_egress: int = _setting(
        5 * GIB, "Bytes a month that visitors of a free wallet's sites get without charge.", 0, MOST
    )
    free_requests: int = _setting(
        1_000_000, "Requests a month to a free wallet's sites that are not charged.", 0, MOST
    )
    paid_free_storage: int = _setting(
        1 * GIB, "Bytes that a wallet of the paid tier stores here without charge.", 0, MOST
    )
    paid_free_egress: int = _setting(
        5 * GIB, "Bytes a month that visitors of a paid wallet's sites get without charge.", 0, MOST
    )
    paid_free_requests: int = _setting(
        1_000_000, "Requests a month to a paid wallet's sites that are not charged.", 0, MOST
    )


@dataclass(frozen=True)
class BillingConfig:
    """In force only while a plugin settles charges (`ledger_settle`); without one use is counted, and free."""

    storage_price: int = _setting(20_000, "Credits (10^-6 USD) for a GiB stored for 730 hours.", 0, 10**12)
    egress_price: int = _setting(50_000, "Credits for a GiB sent to visitors.", 0, 10**12)
    requests_price: int = _setting(100_000, "Credits for a million requests answered.", 0, 10**12)
    builds_price: int = _setting(5_000, "Credits for a minute of building a site.", 0, 10**12)
    site_monthly_cap: int = _setting(
        5_000_000,
        "Credits that a site may cost in a calendar month, until its owner sets another cap.",
        0,
        MOST,
    )
    site_monthly_cap_most: int = _setting(
        1_000_000_000, "The highest monthly cap that an owner may set for a site, in credits.", 0, MOST
    )
    exposure: int = _setting(
        10_000_000,
        "Credits that an owner may owe this node before a settlement; then services pause.",
        0,
        MOST,
    )
    paid_least: int = _setting(
        1_000_000,
        "Credits of an allocation to this node from which on its owner is in the paid tier.",
        1,
        MOST,
    )
    grant_least: int = _setting(
        1_000_000,
        "Credits of a signed grant from which on this node sends it for its owner, and pays the gas.",
        1,
        MOST,
    )
    cover: int = _setting(
        86400,
        "Seconds for which storage of what is uploaded or deployed must be covered, or it is refused.",
        0,
        31 * 86400,
    )
    grace: int = _setting(
        30 * 86400,
        "Seconds that data is kept whose storage nobody pays for, or whose site has expired.",
        0,
        int(10 * _YEAR),
    )
    free_lifetime: int = _setting(
        182 * 86400,
        "Seconds after its last deploy or renewal that a site of the free tier expires; 0: never.",
        0,
        int(10 * _YEAR),
    )
    tick: float = _setting(10.0, "Seconds between looks at what was used and who has credit.", 0.1, 600.0)
    settle_least: int = _setting(
        1_000_000, "Credits due, of all owners together, from which on they are settled on chain.", 1, MOST
    )
    settle_every: int = _setting(86400, "Seconds after which less than that is settled, too.", 1, int(_YEAR))
    settle_check: float = _setting(
        60.0, "Seconds between looks at what is to be settled, and at the chain.", 0.1, 86400.0
    )


@dataclass(frozen=True)
class ModerationConfig:
    denylists: tuple[str, ...] = _setting(
        (),
        "Denylists in the compact format: files, or folders of `*.deny`; later ones override earlier ones.",
        form=forms.PATH,
    )


@dataclass(frozen=True)
class PluginsConfig:
    enabled: tuple[str, ...] = _setting((), "Plugins to load; empty: all that are installed.")
    disabled: tuple[str, ...] = _setting((), "Plugins not to load.")
    directory: str = _setting("", "Folder of one-file plugins to load besides the installed ones.")
    timeout: float = _setting(
        10.0, "Seconds a hook may take before it is cancelled and skipped.", 0.01, 3600.0
    )
    max_failures: int = _setting(5, "Failures in a row after which a plugin is disabled.", 1, MOST)
    trace: bool = _setting(False, "Log every hook call with its plugin, time and outcome.")


@dataclass(frozen=True)
class LogConfig:
    format: str = _setting(
        "console",
        "How to log: `console` is for people, `json` for machines.",
        form=forms.one_of("console", "json"),
    )
    level: str = _setting(
        "info", "The least that is logged.", form=forms.one_of("debug", "info", "warning", "error")
    )


@dataclass(frozen=True)
class Config:
    """All settings. `plugin` holds one free table per plugin, `[plugin.NAME]` in the file."""

    node: NodeConfig = field(default_factory=NodeConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    api: ApiConfig = field(default_factory=ApiConfig)
    gateway: GatewayConfig = field(default_factory=GatewayConfig)
    names: NamesConfig = field(default_factory=NamesConfig)
    storage: StorageConfig = field(default_factory=StorageConfig)
    records: RecordsConfig = field(default_factory=RecordsConfig)
    hosting: HostingConfig = field(default_factory=HostingConfig)
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    billing: BillingConfig = field(default_factory=BillingConfig)
    moderation: ModerationConfig = field(default_factory=ModerationConfig)
    plugins: PluginsConfig = field(default_factory=PluginsConfig)
    log: LogConfig = field(default_factory=LogConfig)
    plugin: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: types.MappingProxyType({}))

    @property
    def data_dir(self) -> Path:
        return Path(self.node.data_dir).expanduser()

    @property
    def api_url(self) -> str:
        return self.api.public_url or url_of(self.api.host, self.api.port)

    @property
    def gateway_url(self) -> str:
        """URL of the gateway for path requests (no site's own host). What other nodes are told: reach.py."""
        return self.gateway.public_url or url_of(self.gateway.host, self.gateway.port)


def url_of(host: str, port: int) -> str:
    """Of what listens on this machine, also where `host` stands for all addresses."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def sections() -> dict[str, type]:
    """Section name -> its dataclass, in the order of the reference page."""
    hints = get_type_hints(Config)
    return {f.name: hints[f.name] for f in fields(Config) if is_dataclass(hints[f.name])}


def default_path(data_dir: str | None = None) -> Path | None:
    """Where the configuration file is when none is named, or None when there is none.

    In this order: $DECENTRASPACE_CONFIG, `config.toml` in the data folder.
    """
    if named := os.environ.get("DECENTRASPACE_CONFIG"):
        return Path(named)
    folder = data_dir or os.environ.get("DECENTRASPACE_NODE_DATA_DIR") or NodeConfig().data_dir
    path = Path(folder).expanduser() / "config.toml"
    return path if path.exists() else None


def load(
    path: Path | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
) -> Config:
    """Read `path` (TOML), then the environment, then `overrides` ({section: {setting: value}}).

    Raises ConfigError naming the file, section and setting at fault.
    """
    document: dict[str, Any] = {}
    if path is not None:
        try:
            document = tomllib.loads(path.read_text("utf-8"))
        except FileNotFoundError as error:
            raise ConfigError(
                f"{path} does not exist", hint="Run `decentraspace init` to make one."
            ) from error
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigError(f"{path}: {error}") from error
    where = str(path) if path else "configuration"
    known = sections()
    plugin = document.pop("plugin", {})
    unknown = set(document) - set(known)
    if unknown:
        raise ConfigError(f"{where}: unknown section [{sorted(unknown)[0]}]; there are {', '.join(known)}")
    env = os.environ if environ is None else environ
    built: dict[str, Any] = {}
    for name, cls in known.items():
        values = dict(_table(document.get(name, {}), f"{where}: [{name}]"))
        by_name = {f.name: f for f in fields(cls)}
        origins = {key: f"{where}: {name}.{key}" for key in by_name}
        for f in by_name.values():
            variable = f"DECENTRASPACE_{name}_{f.name}".upper()
            if variable in env:
                values[f.name] = _from_env(env[variable], f, variable)
                origins[f.name] = f"{variable} ({name}.{f.name})"
        for key, value in (overrides or {}).get(name, {}).items():
            values[key] = value
            origins[key] = f"{name}.{key}"
        for key in values:
            if key not in by_name:
                raise ConfigError(f"{where}: [{name}] has no setting {key!r}; there are {', '.join(by_name)}")
        built[name] = cls(**{k: forms.checked(v, by_name[k], origins[k]) for k, v in values.items()})
    tables = {k: types.MappingProxyType(dict(_table(v, f"{where}: [plugin.{k}]"))) for k, v in plugin.items()}
    return Config(**built, plugin=types.MappingProxyType(tables))


def _table(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where} must be a table")
    return value


def _from_env(text: str, f: Field[Any], variable: str) -> Any:
    default = f.default
    if isinstance(default, bool):
        if text.lower() not in {"1", "0", "true", "false", "yes", "no", "on", "off"}:
            raise ConfigError(f"{variable} must be true or false, not {text!r}")
        return text.lower() in {"1", "true", "yes", "on"}
    if isinstance(default, tuple):
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if isinstance(default, int | float):
        try:
            return type(default)(text)
        except ValueError as error:
            raise ConfigError(f"{variable} must be a number, not {text!r}") from error
    return text
