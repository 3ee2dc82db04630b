"""examples/python_client: a copy of the project, installed and tested with the commands of its README."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.processes import clean_environment

ROOT = Path(__file__).parent.parent.parent
EXAMPLE = ROOT / "examples" / "python_client"
INSTALL_TIMEOUT_S = 500
TIMEOUT_S = 120

# A test that does not use the plugin.
WITHOUT_PLUGIN = """
import sys

def test_the_server_is_not_loaded():
    loaded = {name for name in sys.modules if name.partition(".")[0] in ("orders", "peewee", "tornado", "yaml")}
    assert loaded == set()
"""
# A test that uses the plugin: it proves that the test above looks for the right modules.
WITH_PLUGIN = """
import sys

def test_the_server_is_loaded(orders_url):
    assert {"orders.testing", "peewee", "tornado", "yaml"} <= set(sys.modules)
"""


def run(*command: str, cwd: Path, timeout_s: float = TIMEOUT_S) -> str:
    """Run a command that must succeed; return its output."""
    ended = subprocess.run(
        command,
        cwd=cwd,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout_s,
    )
    assert ended.returncode == 0, f"{shlex.join(command)}: exit code {ended.returncode}\n{ended.stdout}"
    return ended.stdout


def passed(output: str) -> int:
    """Return how many tests passed in a run of pytest. Fail if a test did not pass."""
    summary = re.search(r"^(?:=+ )?(\d+) passed in .*$", output, re.MULTILINE)
    assert summary, f"a test did not pass, or there were none:\n{output}"
    return int(summary[1])


@pytest.fixture(scope="module")
def commands() -> list[list[str]]:
    """The commands of the example's README, each split into words."""
    block = re.search(r"```sh\n(.*?)```", (EXAMPLE / "README.md").read_text(), re.DOTALL)
    assert block, "the example's README has no commands"
    return [shlex.split(line) for line in block[1].splitlines()]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, commands: list[list[str]]) -> Path:
    """A copy of the example outside of the checkout, installed as the README says."""
    project = tmp_path_factory.mktemp("copy") / "project"
    shutil.copytree(EXAMPLE, project, ignore=shutil.ignore_patterns(".*", "__pycache__", "*.egg-info"))
    (_, *venv), install = commands[:2]
    run(sys.executable, *venv, cwd=project)
    # As the README says, a copy needs the path of the checkout in place of `../..`.
    run(*(word.replace("../..", str(ROOT)) for word in install), cwd=project, timeout_s=INSTALL_TIMEOUT_S)
    return project


def test_the_readme_has_four_commands(commands: list[list[str]]) -> None:
    """The README creates a venv, installs the package, and runs the tests in one process, then in four."""
    venv, install, serial, parallel = commands
    assert venv == ["python3", "-m", "venv", ".venv"]
    assert install[-1] == "../..[testing]"
    assert (serial, parallel) == ([".venv/bin/pytest"], [".venv/bin/pytest", "-n", "4"])


@pytest.mark.timeout(600)
def test_the_tests_of_the_example_pass(project: Path, commands: list[list[str]]) -> None:
    """The example's tests pass in one process, a second time, and in four processes."""
    *_, serial, parallel = commands
    count = passed(run(*serial, cwd=project))
    assert count >= 20
    assert passed(run(*serial, cwd=project)) == count
    output = run(*parallel, cwd=project)
    assert "4 workers" in output, output
    assert passed(output) == count


@pytest.mark.timeout(600)
def test_the_test_in_the_readme_passes(project: Path, tmp_path: Path) -> None:
    """The test that the README shows passes."""
    block = re.search(r"```python\n(.*?)```", (EXAMPLE / "README.md").read_text(), re.DOTALL)
    assert block, "the example's README shows no test"
    imports = "from orders.testing import ReferenceServer\nfrom orders_client import Assigned, OrdersClient\n\n"
    (tmp_path / "test_readme.py").write_text(imports + block[1])
    # The example's own tests set this variable themselves.
    assert passed(run("env", "no_proxy=127.0.0.1", str(project / ".venv/bin/pytest"), cwd=tmp_path)) == 1


@pytest.mark.timeout(600)
def test_an_unused_plugin_loads_nothing(project: Path, tmp_path: Path) -> None:
    """A pytest run that uses no fixture of the plugin imports neither the server nor its libraries."""
    for name, test in (("test_without_plugin.py", WITHOUT_PLUGIN), ("test_with_plugin.py", WITH_PLUGIN)):
        (tmp_path / name).write_text(test)
        assert passed(run(str(project / ".venv/bin/pytest"), name, cwd=tmp_path)) == 1
