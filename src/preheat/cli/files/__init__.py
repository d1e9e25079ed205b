"""The files that `preheat ingest` reads: how they are found, keyed, read, and compared with what is stored."""
