"""What a fault is, and how the modules of `tests.faulty.faults` list theirs."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from tests.faulty.implementation import Component, Server


@dataclass(frozen=True)
class Fault:
    """A mistake in one component of the server, and the clause of the contract that it breaks."""

    name: str
    clause: str
    description: str
    component: type
    # Other clauses that the same mistake breaks, even if `clause` were not there.
    also: tuple[str, ...] = ()

    @property
    def clauses(self) -> tuple[str, ...]:
        """All clauses that it breaks."""
        return self.clause, *self.also

    def server(self, port: int = 0) -> Server:
        """Return a server that makes the mistake."""
        return Server(self.component, port=port)


class Faults(list[Fault]):
    """The faults of one module."""

    def breaks(self, clause: str, *also: str) -> Callable[[type[Component]], type[Component]]:
        """Add the decorated component as a fault that breaks `clause`, and the others with it.

        The fault is named after the class: `NoLimit` becomes `no-limit`. The docstring is its description.
        """

        def add(component: type[Component]) -> type[Component]:
            name = re.sub(r"(?<!^)(?=[A-Z])|(?<=[a-z])(?=[0-9])", "-", component.__name__).lower()
            self.append(Fault(name, clause, " ".join((component.__doc__ or "").split()), component, also))
            return component

        return add
