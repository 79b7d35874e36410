"""The DHT of IPFS (Kademlia): telling it who has a site's root, and asking it. As a client only."""
