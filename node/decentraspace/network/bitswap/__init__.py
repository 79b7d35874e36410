"""Blocks to and from IPFS peers: Bitswap 1.2 on libp2p streams, bounded in every list and byte."""
