"""On each faulty server, the suite fails under the clause that the fault breaks."""

from collections import Counter
from pathlib import Path

import pytest

from contract_tests.clauses import CLAUSES
from tests.contract_suite.blame import BY_CHANCE
from tests.contract_suite.runner import LoadedSuite
from tests.faulty.faults import FAULTS, Fault

# All requests of the suite check these clauses. These tests are enough to find each fault.
ENOUGH = {
    "ERROR-1": "test_parameters",
    "ERROR-2": "test_parameters or test_one_of_simultaneous",
    "LIFE-7": "test_an_order_is_left or test_it_is_the_same or test_acquire or test_parameters",
}


def check_found(suite: LoadedSuite, fault: Fault, clause: str, folder: Path) -> None:
    """Check that the suite fails on a fault, under a clause. One run may miss a fault by chance, but not all three."""
    with fault.server() as server:
        keyword = ENOUGH.get(clause, "")
        for seed, budget in enumerate(("brief", "quick", "quick") if clause.startswith(BY_CHANCE) else ("brief",), 1):
            result = suite.run(folder, server.url, clause, seed=seed, budget=budget, keyword=keyword, level="may")
            if result.exit_code != 0:
                break
    assert result.exit_code == 1 and clause in result.failed(), f"{fault.description} {result.output}"


def test_a_fault_is_found(fault: Fault, suite: LoadedSuite, tmp_path: Path) -> None:
    """On a server with a fault, the clause that the fault breaks fails."""
    check_found(suite, fault, fault.clause, tmp_path)


@pytest.mark.parametrize(
    ("clause", "name"),
    [("LIFE-6", "refused-assign-completes"), ("SCHEMA-1", "no-limit"), ("SCHEMA-2", "repeat-says-created")],
)
def test_what_is_random_finds_faults_too(clause: str, name: str, suite: LoadedSuite, tmp_path: Path) -> None:
    """The random histories, and the requests that Schemathesis generates, find faults that show often."""
    check_found(suite, next(fault for fault in FAULTS if fault.name == name), clause, tmp_path)


def test_the_catalogue_is_broad() -> None:
    """There are at least 40 faults with different names, and at least one for each clause that a fault can break."""
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 40
    count = Counter(fault.clause for fault in FAULTS)
    # A fault that breaks one of these also breaks a clause of its own.
    general = {"LIFE-6", "SCHEMA-1", "SCHEMA-2", "SCHEMA-3", "ERROR-2"}
    assert set(CLAUSES) - set(count) <= general, set(CLAUSES) - set(count) - general
    assert set(count) <= set(CLAUSES), set(count) - set(CLAUSES)
