"""What the node of a configuration says of itself, if it runs on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from decentraspace.config import Config

_PREFIX = "decentraspace_storage_"
_BACKLOG = "decentraspace_mirror_backlog"
_DEADLINE = 15.0  # seconds: a plugin may have to ask a service that does not answer


class Place(NamedTuple):
    """Where a storage plugin keeps copies, and how many DAGs are there, wait, or could not be copied. `untold`:
    of how many the node has yet to tell it."""

    plugin: str
    service: str
    reachable: bool
    pinned: int = 0
    queued: int = 0
    failed: int = 0
    untold: int = 0


def facts(config: Config) -> dict[str, Any] | None:
    """What /readyz says: ready, peer_id, peers; detail and hint when it is not. None where no node runs."""
    import httpx

    try:
        answer = _get(config, "/readyz").json()
        ready, peer, peers = bool(answer["ready"]), str(answer["peer_id"]), int(answer["peers"])
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return None
    texts = {name: str(answer.get(name, "")) for name in ("detail", "hint")}
    return {"ready": ready, "peer_id": peer, "peers": peers, **texts}


def storage(config: Config) -> list[Place]:
    """By plugin; [] where no node runs, or no plugin keeps copies."""
    import httpx
    from prometheus_client.parser import text_string_to_metric_families

    found: dict[tuple[str, str], dict[str, Any]] = {}
    untold: dict[str, int] = {}
    try:
        for family in text_string_to_metric_families(_get(config, "/metrics").text):
            for sample in family.samples:
                if sample.name == _BACKLOG:
                    untold[sample.labels["plugin"]] = int(sample.value)
                elif sample.name.startswith(_PREFIX):
                    key = sample.labels["plugin"], sample.labels["service"]
                    found.setdefault(key, {})[sample.name.removeprefix(_PREFIX)] = int(sample.value)
    except (httpx.HTTPError, ValueError, KeyError):
        return []
    return [
        Place(
            *key,
            bool(values.pop("reachable", 0)),
            **{k: v for k, v in values.items() if k in Place._fields},
            untold=untold.get(key[0], 0),
        )
        for key, values in sorted(found.items())
    ]


def described(place: Place) -> str:
    reached = "answers" if place.reachable else "does not answer"
    counts = f"{place.pinned} pinned, {place.queued} waiting, {place.failed} failed"
    if place.untold:
        counts += f"; {place.untold} to be handed to the plugin"
    return f"{place.service} {reached}; {counts}"


def _get(config: Config, path: str) -> Any:
    import httpx

    from decentraspace.config import url_of

    url = url_of(config.api.host, config.api.port) + path
    return httpx.get(url, timeout=_DEADLINE, trust_env=False)
