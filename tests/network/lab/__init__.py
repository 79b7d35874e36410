"""A laboratory: real nodes as processes on a network whose faults a seed chooses, and what must hold afterwards.

`python -m tests.network.lab --seed 7` runs one scenario and prints one line; see docs/discussion/laboratory.md.
"""
