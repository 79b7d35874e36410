"""Tests of gossip, set exchange and fetching, with real hosts and real HTTP servers on loopback."""
