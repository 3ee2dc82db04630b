"""The notebooks run without internet, reproduce their stored outputs, and follow the same conventions."""

import re
from itertools import pairwise
from pathlib import Path

import pytest
from nbformat import NotebookNode

from tests.notebooks.notebooks import (
    FOLDER,
    NOTEBOOKS,
    REFRESH,
    ROOT,
    ExecutionError,
    as_stored,
    as_text,
    code_cells,
    differences,
    execute,
    lines_of,
    read,
    store,
)

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@each_notebook
@pytest.mark.timeout(280)
def test_a_notebook_reproduces_its_outputs(path: Path, refresh: bool) -> None:
    """A notebook runs to its end in a fresh kernel, and its outputs equal the stored ones."""
    try:
        fresh = execute(path)
    except ExecutionError as error:
        pytest.fail(str(error), pytrace=False)
    if refresh:
        store(fresh, path)
    elif report := differences(path.name, read(path), fresh):
        pytest.fail(report, pytrace=False)


@each_notebook
def test_a_notebook_is_stored_in_the_standard_form(path: Path) -> None:
    """A notebook has the outputs of one run from top to bottom, and is stored as `--refresh` stores it."""
    notebook = read(path)
    assert path.read_text() == as_text(as_stored(notebook)), f"another tool has stored it; run {REFRESH}"
    counts = [cell.execution_count for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1))


@each_notebook
def test_no_output_is_an_error_or_has_local_paths(path: Path) -> None:
    """No stored output is an error, or has a path of the checkout or of a home directory."""
    for cell in code_cells(read(path)):
        assert not [output for output in cell.outputs if output.output_type == "error"], cell.id
        text = "\n".join(lines_of(cell))
        assert str(ROOT) not in text and not re.search(r"/(?:home|root|Users)/", text), f"{cell.id}: {text}"


@each_notebook
def test_charts_are_stored(path: Path) -> None:
    """A cell that draws a chart ends with `plt.show()`, and its image is stored."""
    for cell in code_cells(read(path)):
        images = [output for output in cell.outputs if "image/png" in output.get("data", {})]
        assert len(images) == cell.source.count("plt.show()"), f"{cell.id} has {len(images)} images"
        assert not images or cell.source.endswith("plt.show()"), f"{cell.id} does not end with its chart"


@each_notebook
def test_a_notebook_starts_with_an_introduction(path: Path) -> None:
    """The first cell has the title from the file's name, what the reader will learn, and the time that it takes."""
    first = read(path).cells[0]
    assert first.cell_type == "markdown"
    assert first.source.startswith(f"# {title(path)}\n")
    assert "**You will learn** " in first.source
    assert re.search(r"\*\*Time:\*\*\s\d+\sminutes", first.source)


@each_notebook
def test_every_code_cell_is_introduced(path: Path) -> None:
    """Each code cell follows a text cell."""
    cells = pairwise(read(path).cells)
    assert not [after.id for before, after in cells if before.cell_type == after.cell_type == "code"]


@each_notebook
def test_a_notebook_starts_a_server_and_stops_it(path: Path) -> None:
    """The first code cell starts the notebook's server, and the last one stops it."""
    cells = code_cells(read(path))
    assert "server = serve()" in cells[0].source.splitlines()
    assert "server.stop()" in cells[-1].source.splitlines()


@each_notebook
def test_a_notebook_ends_with_a_link_to_the_next(path: Path) -> None:
    """The last text cell links to the next notebook, if there is one, by its title."""
    last = [cell.source for cell in read(path).cells if cell.cell_type == "markdown"][-1]
    following = NOTEBOOKS[NOTEBOOKS.index(path) + 1 :]
    links = [f"[{title(path)}]({path.name})" for path in following[:1]]
    assert not [link for link in links if link not in last]


def test_the_readme_lists_the_notebooks() -> None:
    """notebooks/README.md has a row for each notebook, in order, with the notebook's title and time."""
    rows = re.findall(r"^\| \[(.+?)\]\((.+?)\) \|.*\| (\d+) \|$", (FOLDER / "README.md").read_text(), re.MULTILINE)
    assert rows == [(title(path), path.name, minutes(read(path))) for path in NOTEBOOKS]


def title(path: Path) -> str:
    """Return the title of a notebook, from its file's name."""
    number, _, words = path.stem.partition("_")
    return f"{number}. {words.replace('_', ' ').capitalize()}"


def minutes(notebook: NotebookNode) -> str:
    """Return the number of minutes in the first cell of a notebook."""
    found = re.search(r"\*\*Time:\*\*\s(\d+)\sminutes", notebook.cells[0].source)
    return found[1] if found else ""
