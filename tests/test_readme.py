"""The README's commands, run as a reader would run them, in a clone of their own."""

import os
import re
import shlex
import signal
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """Return the README's code blocks in a language."""
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def normalised(answer: str) -> str:
    """Return an answer with its UUIDs and times made equal."""
    answer = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UUID", answer)
    return re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", "TIME", answer)


def test_the_readme_has_its_commands_first() -> None:
    """The first two blocks are the command that runs the server and the one that runs the tests, a line each."""
    install, test, *_ = blocks("sh")
    assert install.strip().endswith("orders serve") and install.count("\n") == 1
    assert test.strip().endswith("tox") and test.count("\n") == 1


def test_ci_runs_the_test_command_of_the_readme() -> None:
    """What CI runs is what a reader runs."""
    assert (ROOT / ".ci" / "run").read_text().endswith(f"\n{blocks('sh')[1]}")


@pytest.mark.timeout(600)
def test_the_commands_work_and_the_answers_are_real(tmp_path: Path) -> None:
    """In a fresh clone, the first command starts the server, and the curl calls are answered as the README says."""
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    changed = subprocess.run(
        ["git", "ls-files", "--modified", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    for name in changed.stdout.split():
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        (clone / name).write_bytes((ROOT / name).read_bytes())
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("COV", "PYTHON", "VIRTUAL"))
    }
    server = subprocess.Popen(
        ["sh", "-c", blocks("sh")[0]],
        cwd=clone,
        env={**environment, "ORDERS_PORT": "0"},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert server.stdout
        ready = next((line for line in server.stdout if line.startswith("orders listening on ")), "")
        assert ready, "the server did not start"
        url = ready.split()[-1]
        (console,) = blocks("console")
        calls = re.findall(r"^\$ (curl .*)\n(.*)$", console, re.MULTILINE)
        assert len(calls) == 3
        for command, answer in calls:
            arguments = shlex.split(command.replace("http://127.0.0.1:8080", url))
            output = subprocess.run([*arguments, "--silent"], capture_output=True, text=True, timeout=20).stdout
            assert normalised(output) == normalised(answer), command
        assert (clone / "orders.db").exists()
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(20)
        if server.stdout:
            server.stdout.close()
