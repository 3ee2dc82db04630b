"""The notebooks run without internet, reproduce their stored outputs, and follow the same conventions."""

import re
from difflib import unified_diff
from itertools import pairwise
from pathlib import Path

import pytest
from nbformat import NotebookNode

from tests.notebooks.notebooks import FOLDER, NOTEBOOKS, ROOT, as_text, code_cells, comparable, read, run

REFRESH = "tox run -e notebooks -- --refresh"

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@each_notebook
@pytest.mark.timeout(280)
def test_a_notebook_reproduces_its_outputs(path: Path, refresh: bool) -> None:
    """A notebook runs to its end in a fresh kernel, and its file is as `--refresh` stores it."""
    stored = path.read_text()
    fresh = as_text(run(read(path)))
    if refresh:
        path.write_text(fresh)
    elif diff := "\n".join(unified_diff(stored.splitlines(), fresh.splitlines(), "stored", "fresh", lineterm="")):
        pytest.fail(f"{without_images(diff)}\nTo store the fresh outputs: {REFRESH}", pytrace=False)


@each_notebook
def test_no_output_is_an_error_or_has_local_paths(path: Path) -> None:
    """No stored output is an error, or has a path of the checkout or of a home directory."""
    for cell in code_cells(read(path)):
        for output in cell.outputs:
            assert output.output_type != "error", cell.id
            text = comparable(output)
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


def without_images(text: str) -> str:
    """Return the text of a notebook, or a part of it, without the data of its images."""
    return re.sub(r'("image/\S+": )".*"', r"\1…", text)


def title(path: Path) -> str:
    """Return the title of a notebook, from its file's name."""
    number, _, words = path.stem.partition("_")
    return f"{number}. {words.replace('_', ' ').capitalize()}"


def minutes(notebook: NotebookNode) -> str:
    """Return the number of minutes in the first cell of a notebook."""
    found = re.search(r"\*\*Time:\*\*\s(\d+)\sminutes", notebook.cells[0].source)
    return found[1] if found else ""
