"""The peer in Go keeps the contract, so the comparison with it is fair."""

import subprocess
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from benchmarks.measure import stopping
from benchmarks.servers import GO_PGX, make_server
from harness.programs import GOLANG, require_program
from tests.contract_suite.runner import run_suite


@pytest.mark.timeout(420)
def test_the_peer_keeps_every_must(tmp_path: Path) -> None:
    """The peer in Go passes every MUST clause of the contract suite."""
    require_program(GOLANG)
    with ExitStack() as stack:
        # PostgreSQL may run as another user, who cannot enter pytest's directories.
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="orders-benchmarks-")))
        directory.chmod(0o755)
        server = make_server("go", directory, stack)
        stack.enter_context(stopping(server))
        server.start()
        url = f"http://127.0.0.1:{server.port}"
        result = run_suite(tmp_path / "report", "--base-url", url, "--level", "must", "--budget", "brief")
    assert result.exit_code == 0, result.output


def test_the_peer_is_formatted() -> None:
    """The code of the peer in Go is formatted with gofmt."""
    gofmt = Path(require_program(GOLANG)).with_name("gofmt")
    assert subprocess.run([gofmt, "-d", GO_PGX], capture_output=True, text=True, check=True).stdout == ""
