"""JupyterLab, started as the README and `tox run -e lab` start it."""

import json
import re
import shlex
import sys
import urllib.request
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path

import pytest

from harness.processes import end_group, start
from harness.server import is_listening, wait_until
from tests.notebooks.notebooks import NOTEBOOKS, ROOT

TOKEN = "token"


def commands() -> dict[str, str]:
    """Return the command that opens the notebooks, by the file that has it."""
    tox = ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini")
    found = {"tox.ini": tox["testenv:lab"]["commands"].removesuffix(" {posargs}")}
    for page in ("README.md", "notebooks/README.md"):
        (command,) = re.findall(r"\.venv/bin/(jupyter lab .*)", (ROOT / page).read_text())
        found[page] = command
    return found


def test_pages_and_tox_have_the_same_command() -> None:
    """Both pages and tox open the notebooks with the same command."""
    assert len(set(commands().values())) == 1, commands()


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[str]:
    """The address that JupyterLab prints after that command, without a browser.

    JupyterLab chooses the first free port. With port 0, the address would not have the real port.
    """
    _, *arguments = shlex.split(commands()["tox.ini"])
    options = ["--no-browser", "--allow-root", f"--IdentityProvider.token={TOKEN}"]
    environment = {
        "HOME": str(tmp_path),
        "PATH": str(Path(sys.executable).parent),
        "JUPYTER_RUNTIME_DIR": str(tmp_path),
    }
    server = start([sys.executable, "-m", "jupyter", *arguments, *options], cwd=ROOT, env=environment, stdout=None)
    try:
        assert server.stderr
        printed = ""
        for line in server.stderr:
            printed += line
            if address := re.search(r"http://127\.0\.0\.1:\S+", line):
                break
        else:
            pytest.fail(f"JupyterLab did not start: {printed}")
        yield address[0]
    finally:
        end_group(server.pid)
        server.communicate()


def test_jupyterlab_opens_the_quickstart(lab: str) -> None:
    """JupyterLab prints the address of the first notebook, and can open all notebooks and the files they link to."""
    assert lab.partition("?")[0].endswith("/lab/tree/notebooks/1_quickstart.ipynb"), lab
    root = lab.partition("/lab/")[0]

    def get(path: str) -> dict[str, object]:
        """Call Jupyter's API; return the JSON of the response."""
        with urllib.request.urlopen(f"{root}/api/{path}?token={TOKEN}", timeout=30) as response:
            found: dict[str, object] = json.load(response)
            return found

    # JupyterLab prints its address before it listens.
    wait_until(lambda: is_listening(root), "JupyterLab listens")
    for notebook in NOTEBOOKS:
        assert get(f"contents/notebooks/{notebook.name}")["type"] == "notebook"
    assert get("contents/examples/README.md")["type"] == "file"
    assert "python3" in str(get("kernelspecs"))
