"""Random faults under load: no answer is wrong, and no answered change is lost (D1 to D6, D12, D13).

Clients call the operations on few orders and executors, while processes are killed, stopped and frozen, and while the
database fails. Each client records what it sent and what came back. At the end, the server is started anew and the
orders are read. Each history must then be linearizable, and must lead to the stored orders. A request without an answer
or with a 500 may have taken effect or not.

A seed repeats the choices, but the system decides what they meet. So a failure may need several runs to come back.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from harness.disk import can_mount, mounted_disk
from harness.postgresql import PostgreSQL
from tests.chaos.faults import System
from tests.chaos.history import find_problem
from tests.chaos.run import Run

# The orders of a run must fit on the small disk, however long the run is.
DISK_BYTES = 16 << 20
DISK_BYTES_PER_SECOND = 100_000


@pytest.fixture(params=["SQLite", "PostgreSQL"])
def system(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[System]:
    """A server with two workers on an SQLite file, then two such servers on a PostgreSQL of their own."""
    with ExitStack() as stack:
        if request.param == "PostgreSQL":
            postgresql = stack.enter_context(PostgreSQL())
            system = System(postgresql.url, servers=2, postgresql=postgresql)
        else:
            size = DISK_BYTES + int(DISK_BYTES_PER_SECOND * request.config.option.seconds)
            disk = stack.enter_context(mounted_disk(size)) if can_mount() else None
            system = System(f"sqlite:///{disk or tmp_path}/orders.db", servers=1, disk=disk)
        yield stack.enter_context(closing(system))


def test_random_faults_break_no_rule(
    system: System, pytestconfig: pytest.Config, record_property: Callable[[str, object], None]
) -> None:
    """Every answer is right, every history is linearizable, and it leads to the stored orders."""
    options = pytestconfig.option
    if system.kind == "SQLite" and system.disk is None:
        record_property("SQLite, left out", "fill-disk, because this user cannot mount a small disk")
    run = Run(system, without=options.without, seed=f"{options.seed} {system.kind}")
    try:
        run.disturb(options.seconds)
    finally:
        run.load.stop()
        record_property(f"{system.kind}, faults", run.summary())
    rows = run.read_all()
    histories = run.load.histories.all
    found = {history: find_problem(history.steps, rows[history.name]) for history in histories}
    wrong = [history for history, problem in found.items() if problem]
    responses = [step.response for history in histories for step in history.steps]
    record_property(
        f"{system.kind}, histories",
        f"{len(histories)} with {len(responses)} requests, of which {responses.count(None)} have an unknown outcome;"
        f" {len(wrong)} are wrong, the search gave up on {list(found.values()).count(None)}",
    )
    if wrong:
        first = wrong[0]
        listing = run.listing(first, rows[first.name])
        pytest.fail(f"--seed {options.seed}, {system.kind}, history {first.name}: {found[first]}\n\n{listing}", False)
