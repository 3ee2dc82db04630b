"""The catalogue of faults, one module per subject. Each fault is one realistic mistake.

A fault is a subclass of one component of the correct implementation. Its docstring says what the server does wrong, and
`breaks` names the clause of the contract that it breaks.
"""

from tests.faulty.catalogue import Fault
from tests.faulty.faults import (
    acquire,
    assign,
    cancel,
    errors,
    identifiers,
    lifecycle,
    parameters,
    profiles,
    races,
    retries,
    values,
    wire,
)

__all__ = ["FAULTS", "Fault", "sample"]

FAULTS: tuple[Fault, ...] = (
    *assign.faults,
    *acquire.faults,
    *profiles.faults,
    *cancel.faults,
    *lifecycle.faults,
    *parameters.faults,
    *values.faults,
    *identifiers.faults,
    *wire.faults,
    *races.faults,
    *retries.faults,
    *errors.faults,
)


def sample() -> list[Fault]:
    """Return every tenth fault of each family of clauses, for example of all ASSIGN clauses."""
    families: dict[str, list[Fault]] = {}
    for fault in FAULTS:
        families.setdefault(fault.clause.partition("-")[0], []).append(fault)
    return [fault for family in families.values() for fault in family[::10]]
