"""What tests of a plugin need: the plugin as a node has it, a whole node, a wallet, a clock, and how to wait.

Workbench     the plugin in a plugin manager, with a block store and a data folder, without network
Parts         what a plugin manager uses of a node: made by a Workbench, or by Parts.open
RunningNode   `decentraspace run` in a process of its own
Wallet        an Ethereum key that signs texts
Clock         time that passes when the test says so
until         waits for a condition, with a deadline
require_real  skips a test whose real service is not here, or fails it where that must be here
free_port     a TCP port that is free

For tests only: the node imports none of it. pytest is needed by `require_real` alone.
"""

from __future__ import annotations

from decentraspace.testing.clock import Clock
from decentraspace.testing.node import RunningNode, free_port
from decentraspace.testing.waiting import require_real, until
from decentraspace.testing.wallet import Wallet
from decentraspace.testing.workbench import Parts, Workbench

__all__ = ["Clock", "Parts", "RunningNode", "Wallet", "Workbench", "free_port", "require_real", "until"]
