"""The suite and the server from a wheel, a source archive and a git URL, in fresh environments without a checkout."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.clone import make_clone
from harness.processes import clean_environment, end_group, run, start
from tests.faulty.implementation import Server

TIMEOUT_S = 500
BIN = Path(sys.executable).parent
pytestmark = pytest.mark.timeout(2 * TIMEOUT_S)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh clone."""
    clone = tmp_path_factory.mktemp("install") / "clone"
    make_clone(clone)
    return clone


@pytest.fixture(scope="module")
def built(clone: Path) -> Path:
    """The folder with a wheel and a source archive. The wheel is built from the archive."""
    folder = clone.with_name("built")
    ended = run([BIN / "uv", "build", "--out-dir", folder, clone], timeout_s=TIMEOUT_S, env=clean_environment())
    assert ended.returncode == 0, ended.stderr
    return folder


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The URL of a correct server."""
    with Server() as server:
        yield server.url


def requirement(folder: Path, pattern: str, extra: str = "[contract]") -> str:
    """Return what to install: a file of a folder."""
    (path,) = folder.glob(pattern)
    return f"orders-service{extra} @ {path.as_uri()}"


def run_in(folder: Path, *command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder."""
    return run(command, timeout_s=TIMEOUT_S, cwd=folder, env=clean_environment(**environment))


def check_suite(folder: Path, url: str, *command: str | Path, **environment: str) -> None:
    """Run the suite by a command, in an empty folder. It must give a verdict, and leave only its report there."""
    folder.mkdir()
    ended = run_in(folder, *command, "--clause", "ASSIGN-1", **environment)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    report = json.loads((folder / "contract-report" / "report.json").read_text())
    verdicts = {clause["id"]: clause["verdict"] for clause in report["clauses"]}
    assert (report["url"], verdicts["ASSIGN-1"]) == (url, "pass"), ended.stdout
    assert [path.name for path in folder.iterdir()] == ["contract-report"]


def test_pip_installs_a_wheel(built: Path, url: str, tmp_path: Path) -> None:
    """A wheel without the extra says in one line what is missing. With it, all ways to start the suite work."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    pip = (python, "-m", "pip", "install", "--quiet")
    installed = run_in(tmp_path, *pip, requirement(built, "*.whl", ""))
    assert installed.returncode == 0, installed.stderr
    ended = run_in(tmp_path, python.with_name("orders-contract"), url)
    assert ended.returncode == 3 and "install orders-service[contract]" in ended.stderr, ended.stderr
    assert ended.stderr.count("\n") == 1 and not ended.stdout, ended.stderr
    installed = run_in(tmp_path, *pip, requirement(built, "*.whl"))
    assert installed.returncode == 0, installed.stderr
    check_suite(tmp_path / "command", url, python.with_name("orders-contract"), url)
    check_suite(tmp_path / "module", url, python, "-m", "contract_tests", url)
    pytest_command = (python, "-m", "pytest", "-p", "no:cacheprovider", "--pyargs", "contract_tests")
    check_suite(
        tmp_path / "pytest", url, *pytest_command, "--base-url", url, HYPOTHESIS_STORAGE_DIRECTORY=str(tmp_path)
    )


def test_uvx_runs_a_source_archive(built: Path, url: str, tmp_path: Path) -> None:
    """`uvx --from` runs the suite from a source archive."""
    check_suite(tmp_path / "empty", url, BIN / "uvx", "--from", requirement(built, "*.tar.gz"), "orders-contract", url)


def test_pipx_runs_a_git_url(clone: Path, url: str, tmp_path: Path) -> None:
    """`pipx run --spec` runs the suite from the URL of a git repository."""
    spec = f"orders-service[contract] @ git+{clone.as_uri()}"
    command = (BIN / "pipx", "run", "--no-cache", "--spec", spec, "orders-contract", url)
    check_suite(tmp_path / "empty", url, *command, PIPX_HOME=str(tmp_path / "pipx"))


def test_uvx_runs_the_server(clone: Path, tmp_path: Path) -> None:
    """`uvx --from` runs the server from the URL of a git repository."""
    command = (BIN / "uvx", "--from", f"git+{clone.as_uri()}", "orders", "serve", "--controls")
    environment = clean_environment(ORDERS_PORT="0", ORDERS_DATABASE="sqlite:///:memory:")
    with start(command, cwd=tmp_path, env=environment, stderr=None) as server:
        try:
            assert server.stdout and server.stdout.readline().startswith("orders listening on http://127.0.0.1:")
        finally:
            end_group(server.pid)
    assert not any(tmp_path.iterdir())


def test_the_plugin_fits_older_dependencies(built: Path, tmp_path: Path) -> None:
    """A client's project with the lowest versions that this package allows gets the pytest plugin, and it works."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    lowest = ("--resolution", "lowest-direct", requirement(built, "*.whl", "[testing]"), "tornado<6.5", "click<8.2")
    installed = run_in(tmp_path, BIN / "uv", "pip", "install", "--quiet", "--python", python, *lowest)
    assert installed.returncode == 0, installed.stderr
    (tmp_path / "test_client.py").write_text(
        "import urllib.request\n\n"
        "def test_client(orders_url, orders_server):\n"
        "    urllib.request.urlopen(f'{orders_url}/order/acquire?executor_id=executor-1').close()\n"
        "    assert len(orders_server.requests()) == 1\n"
    )
    ended = run_in(tmp_path, python, "-m", "pytest", "-W", "error", "test_client.py")
    assert ended.returncode == 0, ended.stdout + ended.stderr
