"""The suite is red on every faulty server, under the clause that the fault breaks."""

from collections import Counter
from pathlib import Path

import pytest

from contract_tests.clauses import CLAUSES
from tests.contract_suite.suite import run_suite
from tests.faulty.faults import FAULTS, Fault


@pytest.mark.timeout(420)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_found(fault: Fault, tmp_path: Path) -> None:
    """The tests of the clause that a fault breaks fail, under this clause.

    Whether requests meet in a narrow window is a matter of chance: a race may escape one run, but not two.
    """
    # All tests check for errors; the first that sees one is enough.
    stop = ["-x"] if fault.clause.startswith("ERROR-") else []
    with fault.server() as server:
        result = run_suite(tmp_path, "--base-url", server.url, "--clause", fault.clause, *stop)
        if result.exit_code == 0 and fault.clause.startswith("RACE-"):
            result = run_suite(tmp_path, "--base-url", server.url, "--clause", fault.clause)
    assert result.exit_code == 1, f"{fault.description} {result.output}"
    assert fault.clause in result.failed(), f"{fault.description} {result.output}"


@pytest.mark.timeout(420)
@pytest.mark.parametrize(
    ("clause", "name"),
    [("LIFE-6", "refused-assign-completes"), ("SCHEMA-1", "no-limit"), ("SCHEMA-2", "repeat-says-created")],
)
def test_what_is_random_finds_faults_too(clause: str, name: str, tmp_path: Path) -> None:
    """The random histories, and what Schemathesis generates, are red on faults that are not rare."""
    fault = next(fault for fault in FAULTS if fault.name == name)
    with fault.server() as server:
        result = run_suite(tmp_path, "--base-url", server.url, "--clause", clause)
    assert result.exit_code == 1 and clause in result.failed(), f"{fault.description} {result.output}"


def test_the_catalogue_is_broad() -> None:
    """There are at least 40 faults, all different, and no clause that a fault could break goes without one."""
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 40
    count = Counter(fault.clause for fault in FAULTS)
    # These are checked by what the tests of other clauses send; a fault has its own clause.
    general = {"LIFE-6", "SCHEMA-1", "SCHEMA-2", "SCHEMA-3", "ERROR-2"}
    assert set(CLAUSES) - set(count) <= general, set(CLAUSES) - set(count) - general
    assert set(count) <= set(CLAUSES), set(count) - set(CLAUSES)
