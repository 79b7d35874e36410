"""The libp2p host, gossip, record sets and content from other nodes."""
