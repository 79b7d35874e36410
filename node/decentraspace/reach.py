"""Where other nodes reach this one: what is told to them, and what an operator should know about it.

A loopback address is told to nobody who is not on this machine as well: it would mean the reader's own.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from decentraspace.config import Config, url_of


def announced_api(config: Config) -> str:
    """Base URL of the API for other nodes, "" where they cannot reach it."""
    return _announced(config, config.api.public_url, config.api.host, config.api.port)


def announced_gateway(config: Config) -> str:
    """Base URL of the gateway for other nodes, "" where they cannot reach it."""
    return _announced(config, config.gateway.public_url, config.gateway.host, config.gateway.port)


def trouble(config: Config) -> tuple[str, str] | None:
    """Why nobody can fetch from this node, and what to do about it."""
    if announced_gateway(config):
        return None
    if config.gateway.public_url:
        why = f"gateway.public_url is {config.gateway.public_url}, which means another machine to everybody else"
    elif _is_loopback(config.gateway.host):
        why = f"the gateway listens on {config.gateway.host} alone"
    else:
        why = f"the gateway listens on {config.gateway.host}, which is no address to tell others"
    return (
        f"Others cannot fetch from this node: {why}",
        "Set gateway.public_url to a URL under which they reach the gateway.",
    )


def alone(config: Config) -> bool:
    """Whether only nodes on this machine can connect: all libp2p addresses are loopback."""
    hosts = [a.split("/")[2] for a in config.network.announce or config.network.listen]
    return all(_is_loopback(host) for host in hosts)


def _announced(config: Config, public: str, host: str, port: int) -> str:
    url = public or ("" if _is_wildcard(host) and not alone(config) else url_of(host, port))
    return "" if _is_loopback(urlsplit(url).hostname or "") and not alone(config) else url


def _is_wildcard(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
