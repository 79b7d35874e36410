"""The two questions a statement's reader has for a chain, as plain JSON-RPC over HTTP."""

from __future__ import annotations

from typing import Any

from decentraspace.errors import BadInput, NotFound, Unavailable

_MOST = 16 * 1024 * 1024  # bytes of an answer
_SECONDS = 20.0


def ask(client: Any, url: str, method: str, *parameters: Any) -> Any:
    import httpx

    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(parameters)}
    try:
        with client.stream("POST", url, json=body) as response:
            response.raise_for_status()
            data = bytearray()
            for chunk in response.iter_bytes():
                data += chunk
                if len(data) > _MOST:
                    raise Unavailable(f"{url} answers with more than {_MOST} bytes")
        import json

        answer = json.loads(data)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise Unavailable(f"{url} does not answer: {error}", hint="Name another RPC endpoint.") from error
    if not isinstance(answer, dict) or "result" not in answer:
        said = answer.get("error") if isinstance(answer, dict) else None
        raise Unavailable(f"{url} refuses {method}: {str(said)[:200]}")
    return answer["result"]


def receipt(url: str, chain: int, transaction: str) -> dict[str, Any]:
    """The receipt of a transaction in a final block. Unavailable, NotFound; BadInput for another chain."""
    import httpx

    with httpx.Client(timeout=_SECONDS) as client:
        try:
            found_chain = int(ask(client, url, "eth_chainId"), 16)
            if found_chain != chain:
                raise BadInput(f"{url} is of chain {found_chain}, the statement of chain {chain}")
            found = ask(client, url, "eth_getTransactionReceipt", transaction)
            if not isinstance(found, dict):
                raise NotFound(f"{url} knows no transaction {transaction}", hint="It may not be mined yet.")
            final = ask(client, url, "eth_getBlockByNumber", "finalized", False)
            if not isinstance(final, dict) or int(found["blockNumber"], 16) > int(final["number"], 16):
                raise Unavailable("The transaction is in no final block yet", hint="Try again in a while.")
        except (KeyError, TypeError, ValueError) as error:
            raise Unavailable(f"{url} gives answers of a wrong form") from error
    return found
