"""The example of a client project, copied to a place of its own and run by its README's commands."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
EXAMPLE = ROOT / "examples" / "python_client"
INSTALL_TIMEOUT_S = 500
TIMEOUT_S = 120

# A project that has the package installed and does not use it.
STRANGER = """
import sys

def test_the_plugin_is_there_and_nothing_behind_it():
    loaded = {name for name in sys.modules if name.partition(".")[0] in ("orders", "peewee", "tornado", "yaml")}
    assert loaded == set()
"""
# The same modules, where they are used: what the test above looks for would be seen.
USER = """
import sys

def test_the_server_is_there(orders_url):
    assert {"orders.testing", "peewee", "tornado", "yaml"} <= set(sys.modules)
"""


def run(*command: str, cwd: Path, timeout_s: float = TIMEOUT_S) -> str:
    """Run a command that has to succeed, with nothing of this run of pytest in its environment; return its output."""
    ours = ("COV", "PYTEST", "PYTHON", "VIRTUAL")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    ended = subprocess.run(
        command,
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout_s,
    )
    assert ended.returncode == 0, f"{shlex.join(command)}: exit code {ended.returncode}\n{ended.stdout}"
    return ended.stdout


def passed(output: str) -> int:
    """Return how many tests have passed, in a run of pytest in which nothing else happened to any test."""
    summary = re.search(r"^(?:=+ )?(\d+) passed in .*$", output, re.MULTILINE)
    assert summary, f"not all tests have passed, or there were none:\n{output}"
    return int(summary[1])


@pytest.fixture(scope="module")
def commands() -> list[list[str]]:
    """The commands of the example's README, from making the venv to running the tests, each with its arguments."""
    block = re.search(r"```sh\n(.*?)```", (EXAMPLE / "README.md").read_text(), re.DOTALL)
    assert block, "the example's README has no commands"
    return [shlex.split(line) for line in block[1].splitlines()]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, commands: list[list[str]]) -> Path:
    """A copy of the example outside of this checkout, with a venv in which all that the README says is installed."""
    project = tmp_path_factory.mktemp("copy") / "project"
    shutil.copytree(EXAMPLE, project, ignore=shutil.ignore_patterns(".*", "__pycache__", "*.egg-info"))
    (_, *venv), install = commands[:2]
    run(sys.executable, *venv, cwd=project)
    # What the README says to those who have copied the project.
    run(*(word.replace("../..", str(ROOT)) for word in install), cwd=project, timeout_s=INSTALL_TIMEOUT_S)
    return project


def test_the_readme_has_its_commands(commands: list[list[str]]) -> None:
    """The README makes a venv, installs this project with its extra, and runs the tests: alone, then side by side."""
    venv, install, alone, parallel = commands
    assert venv == ["python3", "-m", "venv", ".venv"]
    assert install[-1] == "../..[testing]"
    assert (alone, parallel) == ([".venv/bin/pytest"], [".venv/bin/pytest", "-n", "4"])


@pytest.mark.timeout(600)
def test_the_tests_of_the_example_pass(project: Path, commands: list[list[str]]) -> None:
    """They pass one by one, again, and in four processes at once, and it is the same tests each time."""
    *_, alone, parallel = commands
    count = passed(run(*alone, cwd=project))
    assert count >= 20
    assert passed(run(*alone, cwd=project)) == count
    output = run(*parallel, cwd=project)
    assert "4 workers" in output, output
    assert passed(output) == count


@pytest.mark.timeout(600)
def test_the_test_in_the_readme_passes(project: Path, tmp_path: Path) -> None:
    """The test that the README shows is a real one."""
    block = re.search(r"```python\n(.*?)```", (EXAMPLE / "README.md").read_text(), re.DOTALL)
    assert block, "the example's README shows no test"
    imports = "from orders.testing import ReferenceServer\nfrom orders_client import Assigned, OrdersClient\n\n"
    (tmp_path / "test_readme.py").write_text(imports + block[1])
    # The example's own tests see to it themselves that no proxy is asked for 127.0.0.1.
    assert passed(run("env", "no_proxy=127.0.0.1", str(project / ".venv/bin/pytest"), cwd=tmp_path)) == 1


@pytest.mark.timeout(600)
def test_the_plugin_costs_nothing_where_it_is_not_used(project: Path, tmp_path: Path) -> None:
    """A pytest run that asks for no fixture of the plugin imports neither the server nor what it is built on."""
    for name, test in (("test_stranger.py", STRANGER), ("test_user.py", USER)):
        (tmp_path / name).write_text(test)
        assert passed(run(str(project / ".venv/bin/pytest"), name, cwd=tmp_path)) == 1
