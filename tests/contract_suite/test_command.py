"""The command `orders-contract`, and `pytest --pyargs contract_tests`."""

import sys
from pathlib import Path

import pytest

from contract_tests import cli
from contract_tests.clauses import table
from contract_tests.suite.run import ExitCode
from harness.processes import clean_environment, run
from tests.contract_suite.runner import Result
from tests.faulty.implementation import Server

URL = "http://127.0.0.1:1"


def run_command(folder: Path, *arguments: str, **environment: str) -> Result:
    """Run Python with arguments in a folder, where the reports go too."""
    ended = run([sys.executable, *arguments], timeout_s=100, cwd=folder, env=clean_environment(**environment))
    return Result(ended.returncode, ended.stdout + ended.stderr, folder / "contract-report")


def test_the_current_directory_does_not_disturb_the_command(tmp_path: Path) -> None:
    """The command runs beside another project's tests and settings, and leaves nothing but its reports."""
    (tmp_path / "conftest.py").write_text("raise SystemExit('another project')")
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --no-such-option\n")
    (tmp_path / "test_other.py").write_text("def test_other(): assert False")
    before = {path.name for path in tmp_path.iterdir()}
    with Server() as server:
        arguments = ("-P", "-m", "contract_tests", server.url, "--clause", "ASSIGN-1", "--seed", "7")
        result = run_command(tmp_path, *arguments, PYTEST_ADDOPTS="--no-such-option", PYTEST_PLUGINS="no_such_plugin")
    assert result.exit_code == 0 and result.report["seed"] == 7, result.output
    assert result.verdicts()["ASSIGN-1"] == "pass"
    assert {path.name for path in tmp_path.iterdir()} == before | {"contract-report"}
    # The progress is pytest's. What else pytest prints is not for users of the suite.
    assert result.output.startswith("contract suite: "), result.output
    assert not any(word in result.output for word in ("deselected", "session", "rootdir", "passed")), result.output


def test_arguments_after_dashes_go_to_pytest(tmp_path: Path) -> None:
    """`orders-contract URL -- -k EXPRESSION` selects tests. If there are none, the exit code is 5."""
    with Server() as server:
        result = run_command(tmp_path, "-m", "contract_tests", server.url, "--", "-k", "no_such_test")
    assert result.exit_code == ExitCode.NOTHING_SELECTED, result.output


@pytest.mark.parametrize("plugins", [(), ("-p", "no:xdist")])
def test_pytest_runs_the_installed_suite(plugins: tuple[str, ...], tmp_path: Path) -> None:
    """`pytest --pyargs contract_tests` takes the suite's options in another project, and refuses wrong ones."""
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers\nfilterwarnings = error\n")
    pytest_arguments = ("-m", "pytest", *plugins, "--pyargs", "contract_tests")
    with Server() as server:
        options = ("--base-url", server.url, "--clause", "ASSIGN-1")
        result = run_command(tmp_path, *pytest_arguments, *options)
        refused = run_command(tmp_path, *pytest_arguments, *options, "-n", "2")
        no_folder = run_command(tmp_path, *pytest_arguments, *options, "--report-dir", "pytest.ini")
    assert result.exit_code == 0 and result.verdicts()["ASSIGN-1"] == "pass", result.output
    assert refused.exit_code == ExitCode.USAGE and "one process" in refused.output, refused.output
    assert no_folder.exit_code == ExitCode.USAGE, no_folder.output
    assert no_folder.output.startswith("ERROR: --report-dir pytest.ini: cannot write there"), no_folder.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["127.0.0.1:8080"], "'127.0.0.1:8080' is not the URL of a server: it does not start with http://"),
        ([""], "'' is not the URL of a server"),
        ([URL, "--base-url", URL], "--base-url: the URL is given already"),
        ([URL, URL], "unrecognized arguments"),
        ([URL, "--budget", "huge"], "--budget: invalid choice: 'huge' (choose from"),
        ([URL, "--clause", "ASSIGN-99"], "--clause ASSIGN-99: no such clause; `orders-contract --clauses` lists"),
        ([URL, "--answer-timeout", "nan"], "--answer-timeout: must be more than 0"),
        ([URL, "-n", "2"], "-n: the suite runs in one process"),
        ([URL, "--report-dir", __file__], f"--report-dir {__file__}: cannot write there: File exists"),
        ([URL, "--report-dir", "/proc/report"], "--report-dir /proc/report: cannot write there: No such file"),
    ],
)
def test_a_wrong_option_is_one_line(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command answers a wrong option with one line that names it, and exits with 4."""
    monkeypatch.setattr(cli, "_run", pytest.fail)
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    output, error = capsys.readouterr()
    assert ended.value.code == ExitCode.USAGE and not output
    assert error.startswith("orders-contract: ") and words in error and error.count("\n") == 1, error


def test_without_the_extra_one_line_says_what_to_install(tmp_path: Path) -> None:
    """Without the extra `contract`, the command prints one line and exits with 3, and `--clauses` works."""
    hide = f"import sys; sys.modules.update(dict.fromkeys({cli.EXTRA})); from contract_tests.cli import main; "
    result = run_command(tmp_path, "-c", f"{hide}sys.exit(main(['{URL}']))")
    assert result.exit_code == ExitCode.ERROR, result.output
    assert result.output == (
        "orders-contract: hypothesis, pytest, requests, schemathesis: not installed; install orders-service[contract]\n"
    )
    listed = run_command(tmp_path, "-c", f"{hide}sys.exit(main(['--clauses']))")
    assert (listed.exit_code, listed.output) == (0, table() + "\n")


def test_the_help_fits_a_screen(capsys: pytest.CaptureFixture[str]) -> None:
    """`--help` has at most 30 lines, and names the suite's options alone."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["--help"])
    output = capsys.readouterr().out
    assert ended.value.code == 0 and output.count("\n") <= 30 and "--numprocesses" not in output, output
