"""An independent implementation of the API, and faults to plant in it: the servers that test the contract suite.

- `implementation` is correct.
- `faults` is the catalogue of faults, one module per subject.

`python -m tests.faulty` lists the faults. `python -m tests.faulty NAME` serves one.
"""
