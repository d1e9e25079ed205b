"""A network on loopback for tests and benchmarks: a round-trip meter and a TLS terminator."""
