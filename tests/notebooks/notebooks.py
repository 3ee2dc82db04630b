"""Executes notebooks in fresh kernels, and keeps the stored outputs that a run reproduces."""

import json
import os
import re
import tempfile
from copy import deepcopy
from hashlib import sha256
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("[1-9]_*.ipynb"))
# The sitecustomize.py in this folder blocks the kernels' access to the internet.
GUARD = Path(__file__).parent / "guard"
CELL_TIMEOUT_S = 240

# A live widget, which a stored notebook cannot have. Its picture is stored.
WIDGET = "application/vnd.jupyter.widget-view+json"
# Environment variables that kernels do not inherit: those of this test run, and those that change a terminal's look.
EXCLUDED = ("COLUMNS", "COV", "FORCE_COLOR", "LINES", "ORDERS", "PY", "TMPDIR")

NUMBER = r"(?<![\w.-])-?\d[\d,]*(?:\.\d+)?"
# Output that may differ between two runs -> its placeholder.
VOLATILE = [
    (r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "UUID"),
    (r"\b[0-9a-f]{32}\b", "ID"),
    (r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)", "TIME"),
    (r"\b[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT\b", "DATE"),
    (r"(127\.0\.0\.1|localhost):\d+", r"\1:PORT"),
    (rf"{NUMBER}(?:/| requests/| orders/)s\b", "RATE"),
    (rf"{NUMBER} ×", "RATIO"),
    (rf"{NUMBER}(?:s| s| ms| [µμ]s| minutes)\b", "DURATION"),
    # The number of spaces before an aligned figure depends on its digits.
    (r" {2,}(RATE|RATIO|DURATION)\b", r" \1"),
    (r"/tmp/[\w./+-]*", "/tmp/PATH"),
]


def read(path: Path) -> NotebookNode:
    """Return the notebook that is stored in a file."""
    notebook: NotebookNode = nbformat.read(path, as_version=4)
    return notebook


def as_text(notebook: NotebookNode) -> str:
    """Return a notebook as the text of its file, as Jupyter stores it."""
    return f"{nbformat.writes(notebook)}\n"


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """Return the code cells of a notebook."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def run(stored: NotebookNode) -> NotebookNode:
    """Execute a notebook in a fresh kernel, in the notebooks' folder, without internet; return it with its outputs.

    An output that is the same except for what may differ between two runs stays as it was stored. So if nothing has
    changed, the result equals `stored`. Raises nbclient's errors at the first cell that fails or takes too long.
    """
    fresh = deepcopy(stored)
    client = NotebookClient(
        fresh,
        timeout=CELL_TIMEOUT_S,
        kernel_name="python3",
        resources={"metadata": {"path": str(FOLDER)}},
        coalesce_streams=True,
        record_timing=False,
        store_widget_state=False,
    )
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(EXCLUDED)}
    with tempfile.TemporaryDirectory() as profile:
        try:
            client.execute(env=inherited | {"PYTHONPATH": str(GUARD), "IPYTHONDIR": profile})
        except Exception as error:
            error.add_note(f"This is code cell {client.code_cells_executed}.")
            raise
    for before, after in zip(code_cells(stored), code_cells(fresh), strict=True):
        for output in after.outputs:
            data = output.get("data", {})
            data.pop(WIDGET, None)
            # Images are not compared. A change of the code that draws them is noticed.
            if any(kind.startswith("image/") for kind in data):
                output.metadata["source"] = sha256(after.source.encode()).hexdigest()[:8]
        for old, new in zip(before.outputs, after.outputs, strict=False):
            if comparable(old) == comparable(new):
                new.update({key: value for key, value in old.items() if key != "execution_count"})
    # The version of Python does not matter.
    language = stored.metadata.get("language_info", {})
    if {**language, "version": ""} == {**fresh.metadata.language_info, "version": ""}:
        fresh.metadata.language_info = language
    return fresh


def comparable(output: NotebookNode) -> str:
    """Return an output as text, with placeholders for what may differ between two runs, and without its images."""
    if output.output_type == "stream":
        return f"{output.name}:\n{normalised(output.text)}"
    data = {kind: "" if kind.startswith("image/") else normalised(str(text)) for kind, text in output.data.items()}
    metadata = json.dumps(output.metadata, sort_keys=True)
    return "\n".join([*(f"{kind}:\n{text}" for kind, text in sorted(data.items())), metadata])


def normalised(text: str) -> str:
    """Return text with placeholders for everything that may differ between two runs."""
    for pattern, replacement in VOLATILE:
        text = re.sub(pattern, replacement, text)
    return text
