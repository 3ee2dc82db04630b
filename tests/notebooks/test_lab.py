"""JupyterLab, started as the README and `tox run -e lab` start it, and the notebooks in it."""

import json
import re
import shlex
import sys
import urllib.request
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from harness.processes import end_group, start
from harness.programs import require_program
from harness.server import is_listening, wait_until
from tests.notebooks.notebooks import FOLDER, NOTEBOOKS, ROOT, read

TOKEN = "token"
TIMEOUT_MS = 60_000


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


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address that JupyterLab prints after that command, without a browser.

    JupyterLab chooses the first free port. With port 0, the address would not have the real port.
    """
    home = str(tmp_path_factory.mktemp("home"))
    _, *arguments = shlex.split(commands()["tox.ini"])
    options = [
        "--no-browser",
        "--allow-root",
        f"--IdentityProvider.token={TOKEN}",
        "--LabApp.expose_app_in_browser=true",
    ]
    environment = {
        "HOME": home,
        "PATH": str(Path(sys.executable).parent),
        "JUPYTER_RUNTIME_DIR": home,
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
        root = address[0].partition("/lab/")[0]
        # JupyterLab prints its address before it listens.
        wait_until(lambda: is_listening(root), "JupyterLab listens", 30)
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

    for notebook in NOTEBOOKS:
        assert get(f"contents/notebooks/{notebook.name}")["type"] == "notebook"
    assert get("contents/examples/README.md")["type"] == "file"
    assert "python3" in str(get("kernelspecs"))


@pytest.fixture
def page(lab: str) -> Iterator[Page]:
    """The notebook about the lifecycle, opened in JupyterLab."""
    with sync_playwright() as playwright:
        # Chromium's sandbox does not start for root, and the browser opens only JupyterLab.
        browser = playwright.chromium.launch(executable_path=require_program("chromium"), chromium_sandbox=False)
        page = browser.new_page(viewport={"width": 1280, "height": 1200}, device_scale_factor=2)
        page.set_default_timeout(TIMEOUT_MS)
        root = lab.partition("/lab/")[0]
        page.goto(f"{root}/lab/tree/notebooks/2_lifecycle.ipynb?token={TOKEN}&reset")
        page.wait_for_function(f"{CONTEXT}?.sessionContext.session?.kernel?.status == 'idle'")
        yield page
        browser.close()


CONTEXT = "window.jupyterapp?.shell.currentWidget?.context"


def test_a_notebook_that_is_opened_is_not_modified(page: Page) -> None:
    """A notebook that is opened, with a kernel, keeps its metadata, except for the version of another Python."""
    opened = page.evaluate(
        f"{CONTEXT}.sessionContext.session.kernel.info.then(() => {CONTEXT}.model.toJSON().metadata)"
    )
    stored = read(FOLDER / "2_lifecycle.ipynb").metadata
    for metadata in (opened, stored):
        del metadata["language_info"]["version"]
    assert opened == stored


def test_the_panel_shows_rows_and_answers(page: Page, refresh: bool) -> None:
    """The buttons of the panel send requests. It shows the rows, the answers, and that an answer was lost."""
    page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells')")
    panel = page.locator(".jp-OutputArea-output .widget-vbox")
    expect(panel).to_contain_text("Press a button.", timeout=TIMEOUT_MS)
    page.wait_for_function(f"{CONTEXT}.sessionContext.session.kernel.status == 'idle'")

    def press(button: str, answer: str) -> None:
        """Press a button; wait for a text in the panel."""
        panel.get_by_role("button", name=button).click()
        expect(panel).to_contain_text(answer, timeout=TIMEOUT_MS)

    press("start again", "Press a button.")
    press("assign order-1 to executor-1", "Successfully created")
    press("executor-1 polls", "Successfully acquired")
    press("assign order-1 to executor-2", "already exists")
    panel.get_by_role("button", name="lose the next answer").click()
    press("assign order-2 to executor-1", "no answer")
    expect(panel.locator("tr", has_text="order-1")).to_contain_text("completed")
    expect(panel.locator("tr", has_text="order-2")).to_contain_text("assigned")
    if refresh:
        page.mouse.move(0, 0)
        panel.screenshot(path=FOLDER / "panel.png")
    press("send the last request again", "already exists")
    press("cancel order-2", "Successfully canceled")
