"""A second, correct implementation of the API and a catalogue of faulty ones: what a contract suite is tried out on.

`python -m tests.faulty` lists the faults, and `python -m tests.faulty NAME` serves one.
"""
