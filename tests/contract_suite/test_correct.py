"""The suite finds nothing on correct servers."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from harness.server import ServerProcess
from tests.contract_suite.runner import LoadedSuite
from tests.faulty.implementation import Server


@pytest.fixture(
    params=[
        "orders serve",
        "orders serve --workers 2",
        "orders serve on memory",
        "orders serve --controls --cors-origin http://localhost:3000",
        "orders serve on PostgreSQL",
        "orders serve --workers 2 on PostgreSQL",
        "the independent implementation",
    ]
)
def correct(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of each correct server in turn."""
    with ExitStack() as stack:
        if request.param == "the independent implementation":
            yield stack.enter_context(Server()).url
        else:
            command, _, database = request.param.partition(" on ")
            options = command.removeprefix("orders serve").split()
            if database == "PostgreSQL":
                url = request.getfixturevalue("postgresql").create_database()
            else:
                url = "sqlite:///:memory:" if database == "memory" else f"sqlite:///{tmp_path}/orders.db"
            yield stack.enter_context(ServerProcess(*options, "--no-access-log", database=url)).url


@pytest.mark.timeout(420)
def test_a_correct_server_conforms(correct: str, suite: LoadedSuite, tmp_path: Path) -> None:
    """Each clause passes, except the one for which a correct server gives no occasion."""
    result = suite.run(tmp_path, correct, budget="brief")
    assert result.exit_code == 0, result.output
    others = {clause: verdict for clause, verdict in result.verdicts().items() if verdict != "pass"}
    assert others == {"ERROR-1": "not checked"}, result.output
    assert "conforms (" in result.output
