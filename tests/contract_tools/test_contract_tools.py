"""Linters, client generators and a fuzzer accept the API definitions."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import orders
from harness.client import ALREADY_EXISTS
from harness.server import ServerProcess
from orders.contract import contract_path

HERE = Path(__file__).parent
CONTROLS = Path(orders.__file__).parent / "controls" / "controls.yaml"
DEFINITIONS = ["openapi.yaml", "controls.yaml"]
INSTALL_TIMEOUT_S = 300


def run(*command: str, cwd: Path, expected: int = 0) -> str:
    """Run a command that must end with the expected exit code; return its output."""
    ended = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S)
    assert ended.returncode == expected, f"{' '.join(command)}\n{ended.stdout}\n{ended.stderr}"
    return ended.stdout


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the definitions and the Node.js tools."""
    directory = tmp_path_factory.mktemp("workspace")
    for file in (HERE / "package.json", HERE / "client.ts", contract_path(), CONTROLS):
        shutil.copy(file, directory)
    run("npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", cwd=directory)
    return directory


@pytest.mark.timeout(INSTALL_TIMEOUT_S)
@pytest.mark.parametrize("definition", DEFINITIONS)
def test_redocly_finds_no_fault(workspace: Path, definition: str) -> None:
    """The contract and the definition of the test controls pass Redocly's recommended rules."""
    run("npx", "redocly", "lint", "--extends", "recommended", definition, cwd=workspace)


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_spectral_finds_no_fault(workspace: Path, definition: str) -> None:
    """The contract and the definition of the test controls pass Spectral's OpenAPI rules without a warning."""
    (workspace / ".spectral.yaml").write_text("extends: ['spectral:oas']\n")
    run("npx", "spectral", "lint", "--fail-severity", "warn", definition, cwd=workspace)


# A schema cannot say that an order is stored already, or that an operation does not have a parameter.
REFUSALS = """
[[operations]]
include-name = ["POST /_controls/faults", "POST /_controls/orders"]
checks.positive_data_acceptance.expected-statuses = ["2xx", "400"]
"""


def test_schemathesis_finds_no_fault_in_the_controls(tmp_path: Path) -> None:
    """The test controls answer every generated request as their definition says."""
    (tmp_path / "schemathesis.toml").write_text(REFUSALS)
    with ServerProcess("--controls", "--database", "sqlite:///:memory:") as server:
        options = ["--phases", "examples,coverage,fuzzing", "--max-examples", "100", "--generation-database", "none"]
        run("schemathesis", "run", f"{server.url}/_controls/openapi.json", *options, cwd=tmp_path)


def test_schemathesis_reports_only_the_repeated_assign(server: ServerProcess, tmp_path: Path) -> None:
    """Schemathesis reports one failure: it assigns an order twice, and the second assign is refused (D3)."""
    options = ["--seed", "1", "--generation-database", "none"]
    report = run("schemathesis", "run", f"{server.url}/openapi.json", *options, cwd=tmp_path, expected=1)
    (failure,) = re.findall(r"^- (.*)", report, re.MULTILINE)
    assert failure.endswith("Schema-valid request rejected") and ALREADY_EXISTS in report, report


def test_a_generated_typescript_client_works(workspace: Path, server: ServerProcess) -> None:
    """A client with types from openapi-typescript compiles, and calls the server."""
    run("npx", "openapi-typescript", "openapi.yaml", "-o", "schema.d.ts", cwd=workspace)
    options = ["--strict", "--module", "nodenext", "--target", "es2022", "--lib", "es2022,dom", "--outDir", "built"]
    run("npx", "tsc", *options, "client.ts", cwd=workspace)
    output = run("node", "built/client.js", server.url, cwd=workspace)
    assert output.splitlines() == [
        "Successfully created",
        "400 AssignedOrder with provided orderId already exists",
        "true acquired",
        "Successfully canceled",
    ]


PYTHON_CLIENT = """
import sys
from orders_service_client import Client
from orders_service_client.api.orders import acquire_order, assign_order, cancel_order

client = Client(base_url=sys.argv[1])
order = {"order_id": "python é+😀", "executor_id": "python", "zone_id": "zone"}
print(assign_order.sync(client=client, **order).message)
print(assign_order.sync(client=client, **order).message)
acquired = acquire_order.sync(client=client, executor_id="python")
print(acquired.order_profile.order_id == order["order_id"], acquired.order_profile.execution_status)
print(cancel_order.sync(client=client, order_id=order["order_id"]).message)
"""


def test_a_generated_python_client_works(workspace: Path, server: ServerProcess) -> None:
    """The client from openapi-python-client has all three operations, and calls the server."""
    generator = [sys.executable, "-m", "openapi_python_client", "generate", "--meta", "none"]
    run(*generator, "--path", "openapi.yaml", "--output-path", "orders_service_client", cwd=workspace)
    assert len(list((workspace / "orders_service_client" / "api" / "orders").glob("*_order.py"))) == 3
    output = run(sys.executable, "-c", PYTHON_CLIENT, server.url, cwd=workspace)
    assert output.splitlines() == [
        "Successfully created",
        "AssignedOrder with provided orderId already exists",
        "True acquired",
        "Successfully canceled",
    ]
