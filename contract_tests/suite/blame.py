"""Which of the failed clauses are causes, and where else each cause is seen.

A failure in which nothing failed that it relied on is a failure of its own clause: a cause. Any other failure is only
another place where the cause is seen.
"""

from collections.abc import Hashable, Mapping, Sequence, Set
from typing import Protocol


class Failed(Protocol):
    """A failure, as far as blame is concerned."""

    @property
    def relies(self) -> Set[str]:
        """The clauses that it relied on."""

    @property
    def odd_answer(self) -> Hashable | None:
        """What is odd about the last answer, whatever the request is about; else None."""


def causes(failures: Mapping[str, Sequence[Failed]], rank: Sequence[str]) -> dict[str, list[str]]:
    """Return the causes among failed clauses, each with the other failed clauses in which it is seen.

    `rank` has all clauses. It decides the order, and between clauses that rely on each other.
    """
    failed = sorted(failures, key=rank.index)
    # Clause -> for each of its failures that is not explained yet, the other failed clauses that it relied on.
    left = {
        clause: [failure.relies & (failures.keys() - {clause}) for failure in failures[clause]] for clause in failed
    }
    cause_of: dict[str, str] = {}
    while left:
        # If all that is left relies on each other, the clause that relies on the fewest is the cause.
        own = [clause for clause, relied in left.items() if not all(relied)]
        causes = set(own or [min(left, key=lambda clause: min(map(len, left[clause])))])
        cause_of |= {clause: clause for clause in causes}
        cause_of |= {
            clause: min(relied[0] & causes, key=rank.index)
            for clause, relied in left.items()
            if clause not in causes and all(others & causes for others in relied)
        }
        # What was explained explains nothing else.
        left = {
            clause: [others - cause_of.keys() for others in relied if not others & causes]
            for clause, relied in left.items()
            if clause not in cause_of
        }
    return {
        cause: [clause for clause in failed if cause_of[clause] == cause != clause]
        for cause in failed
        if cause_of[cause] == cause
    }


def merged(causes: Mapping[str, Sequence[str]], failures: Mapping[str, Sequence[Failed]]) -> dict[str, list[str]]:
    """Return the causes without those that show only odd answers which a cause before them shows, too.

    A server that refuses all requests of a kind, for example because they have no token, does so whatever they are
    about. Each cause has the other failed clauses in which it is seen.
    """
    found: dict[str, list[str]] = {}
    cause_of: dict[Hashable, str] = {}
    for cause, others in causes.items():
        own = [failure.odd_answer for failure in failures[cause] if not failure.relies & causes.keys()]
        if own and all(answer in cause_of for answer in own):
            found[cause_of[own[0]]] += [cause, *others]
            continue
        found[cause] = list(others)
        cause_of |= {answer: cause for answer in own if answer is not None and answer not in cause_of}
    return found
