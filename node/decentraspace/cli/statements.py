"""`decentraspace verify-statement`: what an operator charged, recomputed without asking it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from decentraspace.cli.output import emit, json_option
from decentraspace.errors import BadInput

_MOST = 512 * 1024 * 1024  # bytes of a file: a million uses have some 150 MB


@click.command("verify-statement")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--rpc", metavar="URL", help="Compare with the chain, by this JSON-RPC endpoint.")
@click.option(
    "--receipt",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Compare with a saved receipt of the transaction (eth_getTransactionReceipt).",
)
@json_option
def verify_statement(file: Path, rpc: str | None, receipt: Path | None, as_json: bool) -> None:
    """Check a statement: every use, the sum, and the proof that leads to the batch's root. Exit code 2 if it is wrong.

    Without --rpc or --receipt nobody is asked, and what is checked is that the statement holds together. With one of
    them also that the contract has seen this root, and has paid no more than is listed.

    \b
    Examples:
      decentraspace verify-statement statement.json
      decentraspace verify-statement statement.json --rpc https://polygon-rpc.example
      decentraspace verify-statement statement.json --receipt receipt.json
    """
    from decentraspace.ledger import rpc as chain
    from decentraspace.ledger import verify

    if rpc and receipt:
        raise BadInput("Name --rpc or --receipt, not both")
    document = _read(file)
    found = verify.check(document)
    paid = None
    if rpc or receipt:
        transaction = document.get("transaction")
        if rpc and (not isinstance(transaction, str) or not transaction):
            raise BadInput("The statement names no transaction: its batch is not settled yet")
        if rpc:
            number = document.get("chain")
            if type(number) is not int:
                raise BadInput("The statement names no chain")
            known = chain.receipt(rpc, number, str(transaction))
        else:
            assert receipt is not None
            known = _read(receipt)
            known = known.get("result", known) if isinstance(known, dict) else known
        paid = verify.check_receipt(document, found, known)
    value = {
        "ok": True,
        "uses": found.uses,
        "credits": found.credits,
        "cumulative": found.cumulative,
        "whole": found.whole,
        "root": "0x" + found.root.hex(),
        "paid": paid,
    }
    emit(value, _words(value), as_json)


def _words(value: dict[str, Any]) -> str:
    shown = "all uses are" if value["whole"] else "what is shown is"
    lines = [
        f"The statement holds together: {value['uses']} use(s), {value['credits']} credits; {shown} in its root.",
        f"  Root   {value['root']}",
        f"  Total  {value['cumulative']} credits under this allocation",
    ]
    if value["paid"] is None:
        lines.append("  Not compared with the chain: name --rpc or --receipt.")
    elif value["paid"]:
        lines.append(f"  The contract has seen this root, and paid {value['paid']} credits.")
    else:
        lines.append("  The contract has seen this root, and paid nothing for this allocation.")
    return "\n".join(lines)


def _read(file: Path) -> Any:
    if file.stat().st_size > _MOST:
        raise BadInput(f"{file} has more than {_MOST} bytes")
    try:
        return json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{file} is no JSON: {error}") from error
