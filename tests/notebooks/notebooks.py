"""Notebooks: executed in fresh kernels, compared with the outputs that they are stored with, and stored."""

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
# Its sitecustomize.py keeps the kernels from the internet.
GUARD = Path(__file__).parent / "guard"
REFRESH = "tox run -e notebooks -- --refresh"
CELL_TIMEOUT_S = 240

METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
# Variables of this run of pytest, and those that make the width and the colours of a run of pytest in a notebook.
OURS = ("COLUMNS", "COV", "FORCE_COLOR", "LINES", "ORDERS", "PY", "TMPDIR")

NUMBER = r"(?<![\w.-])-?\d[\d,]*(?:\.\d+)?"
# What may differ between two runs, and what is compared in its place.
VOLATILE = [
    (r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "UUID"),
    (r"\b[0-9a-f]{32}\b", "ID"),
    (r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)", "TIME"),
    (r"\b[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT\b", "DATE"),
    (r"(127\.0\.0\.1|localhost):\d+", r"\1:PORT"),
    (rf"{NUMBER}(?:/| requests/| orders/)s\b", "RATE"),
    (rf"{NUMBER} ×", "RATIO"),
    (rf"{NUMBER}(?:s| s| ms| [µμ]s| minutes)\b", "DURATION"),
    # Where figures are aligned, the spaces before them are as many as their digits leave.
    (r" {2,}(RATE|RATIO|DURATION)\b", r" \1"),
    (r"/tmp/[\w./+-]*", "/tmp/PATH"),
]


class ExecutionError(Exception):
    """A notebook that does not run to its end; the message says where and why."""


def read(path: Path) -> NotebookNode:
    """Return the notebook that is stored in a file."""
    notebook: NotebookNode = nbformat.read(path, as_version=4)
    return notebook


def execute(path: Path) -> NotebookNode:
    """Execute a notebook in a fresh kernel, in the notebooks' folder, without internet; return it as it is then.

    Raises ExecutionError at the first cell that fails or takes too long. The kernel has ended in any case.
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
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    with tempfile.TemporaryDirectory() as profile:
        try:
            client.execute(env=inherited | {"PYTHONPATH": str(GUARD), "IPYTHONDIR": profile})
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            cell = started[-1]
            why = without_colours(str(error))
            what = "" if cell.source in why else f"{cell.source}\n\n"
            raise ExecutionError(f"{path.name}, cell [{len(started)}] ({cell.id}): {what}{why}") from None
    return as_stored(notebook)


def without_colours(text: str) -> str:
    """Return text without what sets a terminal's colours."""
    return re.sub(r"\x1b\[[\d;]*m", "", text)


def as_stored(notebook: NotebookNode) -> NotebookNode:
    """Return a notebook as its file has it: no metadata of its tools and cells, no standard error."""
    stored = deepcopy(notebook)
    stored.metadata = nbformat.from_dict(METADATA)
    for cell in stored.cells:
        cell.metadata = NotebookNode()
        if cell.cell_type == "code":
            cell.outputs = joined(output for output in cell.outputs if output.get("name") != "stderr")
    return stored


def joined(outputs: Iterable[NotebookNode]) -> list[NotebookNode]:
    """Return outputs with the neighbours among the texts made one: how they were cut depends on the moment."""
    found: list[NotebookNode] = []
    for output in outputs:
        if found and output.output_type == found[-1].output_type == "stream":
            found[-1].text += output.text
        else:
            found.append(output)
    return found


def as_text(notebook: NotebookNode) -> str:
    """Return a notebook as the text of its file."""
    return f"{nbformat.writes(notebook)}\n"


def store(notebook: NotebookNode, path: Path) -> None:
    """Write a notebook to its file."""
    path.write_text(as_text(notebook))


def normalised(text: str) -> str:
    """Return text with all that may differ between two runs made equal."""
    for pattern, replacement in VOLATILE:
        text = re.sub(pattern, replacement, text)
    return text


def lines_of(cell: NotebookNode) -> list[str]:
    """Return what is compared of a cell's outputs: their kinds, and their texts, normalised."""
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
    """Return how the fresh outputs of a notebook differ from the stored ones, cell by cell; nothing if they do not."""
    found = []
    for number, (before, after) in enumerate(zip(code_cells(stored), code_cells(fresh), strict=True), 1):
        if diff := "\n".join(unified_diff(lines_of(before), lines_of(after), "stored", "fresh", lineterm="")):
            found.append(f"{name}, cell [{number}] ({after.id}): the outputs differ\n{diff}")
    return "\n\n".join([*found, f"To store the fresh ones: {REFRESH}"]) if found else ""


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """Return the cells of a notebook that have code."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]
