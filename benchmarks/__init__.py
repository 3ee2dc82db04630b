"""Measures the server and others with the same API in one run."""
