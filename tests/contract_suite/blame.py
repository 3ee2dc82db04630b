"""Which causes the suite names on planted faults, and what is required of it."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from contract_tests.clauses import CLAUSES, Level
from tests.faulty.faults import FAULTS, Fault
from tests.faulty.implementation import Server

# Chance decides whether requests meet in a narrow window, and what random requests find. A brief run may miss a fault
# of these clauses.
BY_CHANCE = ("RACE-", "LIFE-6", "SCHEMA-")
# The most causes that may be named for one fault.
MOST_CAUSES = 6
Pair = tuple[Fault, Fault]


@dataclass(frozen=True)
class Named:
    """What a run names: the causes, how many other clauses they are seen in, and the exit code at each level."""

    causes: tuple[str, ...]
    also: int
    exit_codes: dict[str, int]

    def row(self) -> str:
        """Return the cells of a table in Markdown."""
        return f"{', '.join(self.causes)} | {self.also} | {self.exit_codes['must']} | {self.exit_codes['should']}"


def named_causes(report: dict[str, Any]) -> Named:
    """Return what a report names."""
    causes = report["causes"]
    also = sum(len(cause["also_seen_in"]) for cause in causes)
    return Named(tuple(cause["clause"] for cause in causes), also, report["exit_codes"])


def level_of(fault: Fault) -> Level:
    """Return the level of the most binding clause that a fault breaks."""
    return min((CLAUSES[clause].level for clause in fault.clauses), key=list(Level).index)


def is_first(fault: Fault, named: Named) -> bool:
    """Return whether a clause of the fault is the first cause."""
    return bool(named.causes) and named.causes[0] in fault.clauses


def right_at_each_level(fault: Fault, named: Named) -> bool:
    """Return whether the fault fails the run at exactly the levels that include a clause of it."""
    return all(named.exit_codes[level.lower()] == level.includes(level_of(fault)) for level in Level)


def summary(results: Sequence[tuple[Fault, Named]]) -> str:
    """Return in words what is required of the suite, and how often it holds."""
    counts = [len(named.causes) for _, named in results]
    first = sum(is_first(*result) for result in results)
    levels = sum(right_at_each_level(*result) for result in results)
    return (
        f"The fault's own clause is the first cause for {first} of {len(results)}. Causes per fault: the median is "
        f"{statistics.median(counts):g}, the maximum {max(counts)}. The exit code is right at each level for "
        f"{levels} of {len(results)}."
    )


def pairs() -> list[Pair]:
    """Return pairs of faults that are in different components, and break clauses of different operations."""
    families = ("ASSIGN-", "ACQUIRE-", "CANCEL-")
    found = []
    for one in FAULTS:
        others = [
            other
            for other in FAULTS
            if one.clause.startswith(families)
            and other.clause.startswith(families)
            and one.clause.partition("-")[0] < other.clause.partition("-")[0]
            and one.component.__mro__[-2] is not other.component.__mro__[-2]
        ]
        found += [(one, other) for other in islice(others, FAULTS.index(one) % 7, None, 11)]
    return found[::8]


def server_of(pair: Pair) -> Server:
    """Return a server that makes two mistakes."""
    return Server(*(fault.component for fault in pair))


def names_both(pair: Pair, named: Named) -> bool:
    """Return whether the causes have a clause of each of two faults."""
    return all(set(fault.clauses) & set(named.causes) for fault in pair)


def of_pairs(results: Sequence[tuple[Pair, Named]]) -> str:
    """Return in words how often both faults of a pair are named."""
    both = sum(names_both(*result) for result in results)
    return f"Both faults are among the causes for {both} of {len(results)} pairs."
