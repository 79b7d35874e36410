"""The IPFS gateway-conformance suite, run against a gateway that is really started."""
