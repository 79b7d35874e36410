"""What the plugin remembers of allocations, from events alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from decentraspace_billing_polygon.keeping import Allocations
from decentraspace_billing_polygon.store import Store

OPERATOR = "0x" + "0b" * 20
FAR = 2**40


def allocated(number: int, block: int, cap: int = 100) -> dict[str, Any]:
    return {
        "kind": "allocated",
        "operator": OPERATOR,
        "allocation": f"0x{number:064x}",
        "block": block,
        "index": 0,
        "cap": cap,
        "rate": 1,
        "start": 0,
        "expires": 1000 + number,
    }


def test_where_there_is_room_for_no_more_those_that_are_known_are_still_followed(tmp_path: Path) -> None:
    store = Store(tmp_path / "polygon.sqlite")
    known = Allocations(store, OPERATOR, most=2)

    def caps() -> dict[int, int]:
        return {int(one.allocation, 16): one.cap for one in known.expired(FAR, 100)}

    known.take([allocated(number, block=number) for number in (1, 2, 3)])
    assert caps() == {1: 100, 2: 100}
    known.take([allocated(2, block=4, cap=500), allocated(2, block=2)])
    assert caps() == {1: 100, 2: 500}
    released = {"kind": "released", "operator": OPERATOR, "allocation": f"0x{1:064x}", "block": 5, "index": 0}
    known.take([released, allocated(4, block=6), allocated(5, block=7)])
    assert caps() == {2: 500, 4: 100}
    store.close()
