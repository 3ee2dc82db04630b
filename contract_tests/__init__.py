"""Tests of the orders service's contract, for any implementation. See README.md."""
