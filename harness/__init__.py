"""Starts a server, a PostgreSQL, an nginx or a load, for tests and benchmarks."""
