"""The contract of the orders service as tests, for any implementation; see README.md."""
