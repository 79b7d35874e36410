"""`decentraspace network`: peers, gossip and exchanges of a node, for its operators."""

from __future__ import annotations

from typing import Any

import click

from decentraspace.cli.output import emit, json_option, size_of

_REACHABLE = {
    "yes": "yes: peers have connected to it when asked to",
    "no": "no: peers could not connect to it; forward its port and set network.announce",
    "unknown": "unknown: too few peers have said",
}


@click.command()
@click.option("--node", help="URL of a node's API (default: where you logged in).")
@click.option("--sync", is_flag=True, help="Exchange record sets with all peers now.")
@json_option
def network(node: str | None, sync: bool, as_json: bool) -> None:
    """Peers of a node, what it passes on, and how its exchanges go. For its administrators.

    \b
    Examples:
      decentraspace network
      decentraspace network --sync          # compare record sets with all peers at once
      decentraspace network --json | jq '.peers[].peer_id'
    """
    from decentraspace.cli import client

    saved = client.load()
    with client.Api(node or saved.node, saved) as api:
        asked = api.post("/network/sync/", {}) if sync else None
        found = api.get("/network/status/")
    lines = [
        f"{found['peer_id']} on {found['network']}",
        *(f"  {address}" for address in found["addresses"]),
        f"Reachable  {_REACHABLE[found.get('reachable', 'unknown')]}",
        "",
        f"Gossip     {found['subscribed']} peer(s) take records, {found['mesh']} in the mesh; "
        f"{found['gossip_refused']} record(s) refused",
        f"Exchanges  {found['exchanges']}, {found['exchanges_failed']} failed; "
        f"{found['records_received']} record(s) in ({size_of(found['bytes_received'])}), "
        f"{found['records_sent']} out ({size_of(found['bytes_sent'])}), {found['records_refused']} refused",
        *_dht(found.get("dht")),
        "",
        f"{len(found['peers'])} peer(s):",
        *(
            f"  {peer['peer_id']}  {peer['kind']:4}  since {peer['since']}  "
            f"exchanged {peer.get('exchanged') or 'never'}"
            + (f"  {peer['failures']} failure(s)" if peer["failures"] else "")
            + f"  {', '.join(peer['addresses'])}"
            for peer in found["peers"]
        ),
    ]
    if asked is not None:
        lines.append(f"Sets are exchanged with {asked['asked']} peer(s) now.")
    emit(found, "\n".join(lines), as_json)


def _dht(found: dict[str, Any] | None) -> list[str]:
    if found is None:
        return []
    waiting = f"{found['backlog']} waiting" + (f" for {found['oldest']} s" if found["oldest"] else "")
    line = (
        f"DHT        {found['servers']} server(s) known; {found['roots']} root(s) and name(s) to announce, {waiting}; "
        f"{found['announced']} announced, {found['failed']} failed; "
        f"none waiting last: {found.get('caught_up') or 'never'}"
    )
    return [line, *([f"           Nothing can be announced: {found['trouble']}"] if found["trouble"] else [])]
