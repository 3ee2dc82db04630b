"""The test controls, for those who test a client: faults on demand, reset, the journal, the stored orders."""
