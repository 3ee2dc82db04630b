"""Executes notebooks in fresh kernels, compares their outputs with the stored ones, and stores notebooks."""

import json
import os
import re
import tempfile
from collections.abc import Iterable
from copy import deepcopy
from difflib import unified_diff
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("[1-9]_*.ipynb"))
# The sitecustomize.py in this folder blocks the kernels' access to the internet.
GUARD = Path(__file__).parent / "guard"
REFRESH = "tox run -e notebooks -- --refresh"
CELL_TIMEOUT_S = 240

METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
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


class ExecutionError(Exception):
    """A notebook does not run to its end. The message names the cell and the reason."""


def read(path: Path) -> NotebookNode:
    """Return the notebook that is stored in a file."""
    notebook: NotebookNode = nbformat.read(path, as_version=4)
    return notebook


def execute(path: Path) -> NotebookNode:
    """Execute a notebook in a fresh kernel, in the notebooks' folder, without internet; return it with its outputs.

    Raises ExecutionError at the first cell that fails or takes too long. In any case, the kernel ends.
    """
    notebook = read(path)
    started: list[NotebookNode] = []
    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT_S,
        kernel_name="python3",
        resources={"metadata": {"path": str(FOLDER)}},
        record_timing=False,
        store_widget_state=False,
        on_cell_execute=lambda cell, cell_index: started.append(cell),
    )
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(EXCLUDED)}
    with tempfile.TemporaryDirectory() as profile:
        try:
            client.execute(env=inherited | {"PYTHONPATH": str(GUARD), "IPYTHONDIR": profile})
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            cell = started[-1]
            reason = re.sub(r"\x1b\[[\d;]*m", "", str(error))  # without colours
            source = "" if cell.source in reason else f"{cell.source}\n\n"
            raise ExecutionError(f"{path.name}, cell [{len(started)}] ({cell.id}): {source}{reason}") from None
    return as_stored(notebook)


def as_stored(notebook: NotebookNode) -> NotebookNode:
    """Return a notebook as it is stored: without metadata of tools and cells, and without standard error."""
    stored = deepcopy(notebook)
    stored.metadata = nbformat.from_dict(METADATA)
    for cell in stored.cells:
        cell.metadata = NotebookNode()
        if cell.cell_type == "code":
            cell.outputs = merge_streams(output for output in cell.outputs if output.get("name") != "stderr")
    return stored


def merge_streams(outputs: Iterable[NotebookNode]) -> list[NotebookNode]:
    """Return outputs with adjacent streams merged. How printed text is split into streams differs between runs."""
    merged: list[NotebookNode] = []
    for output in outputs:
        if merged and output.output_type == merged[-1].output_type == "stream":
            merged[-1].text += output.text
        else:
            merged.append(output)
    return merged


def as_text(notebook: NotebookNode) -> str:
    """Return a notebook as the text of its file."""
    return f"{nbformat.writes(notebook)}\n"


def store(notebook: NotebookNode, path: Path) -> None:
    """Write a notebook to its file."""
    path.write_text(as_text(notebook))


def normalised(text: str) -> str:
    """Return text with placeholders for everything that may differ between two runs."""
    for pattern, replacement in VOLATILE:
        text = re.sub(pattern, replacement, text)
    return text


def lines_of(cell: NotebookNode) -> list[str]:
    """Return the lines to compare: the kinds of a cell's outputs and their normalised texts."""
    lines = []
    for output in cell.outputs:
        if output.output_type == "stream":
            lines += [f"{output.name}:", *normalised(output.text).splitlines()]
        elif output.output_type == "error":
            lines.append(f"error: {output.ename}: {output.evalue}")
        else:
            for kind, data in sorted(output.data.items()):
                text = data if isinstance(data, str) else json.dumps(data, indent=1)
                lines.append(f"{output.output_type}, {kind}:")
                lines += [] if kind.startswith("image/") else normalised(text).splitlines()
    return lines


def differences(name: str, stored: NotebookNode, fresh: NotebookNode) -> str:
    """Return a diff of stored and fresh outputs for each cell that differs, or an empty string."""
    found = []
    for number, (before, after) in enumerate(zip(code_cells(stored), code_cells(fresh), strict=True), 1):
        if diff := "\n".join(unified_diff(lines_of(before), lines_of(after), "stored", "fresh", lineterm="")):
            found.append(f"{name}, cell [{number}] ({after.id}): the outputs differ\n{diff}")
    return "\n\n".join([*found, f"To store the fresh outputs: {REFRESH}"]) if found else ""


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """Return the code cells of a notebook."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]
