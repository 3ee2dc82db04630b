"""The notebooks run without internet, reproduce their stored outputs, and follow the same conventions."""

import re
from base64 import b64decode
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
    """A notebook runs to its end in a fresh kernel, leaves its folder clean, and is as `--refresh` stores it."""
    stored, files = path.read_text(), {*FOLDER.iterdir(), FOLDER / "__pycache__"}
    fresh = as_text(run(read(path)))
    assert set(FOLDER.iterdir()) <= files
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
    """A cell that draws a chart ends with `plt.show()`, and its image is stored, at twice the resolution."""
    for cell in code_cells(read(path)):
        charts = [output for output in cell.outputs if output.output_type == "display_data"]
        assert len(charts) == cell.source.count("plt.show()"), f"{cell.id} has {len(charts)} charts"
        assert not charts or cell.source.endswith("plt.show()"), f"{cell.id} does not end with its chart"
        for chart in charts:
            pixels = int.from_bytes(b64decode(chart.data["image/png"])[16:20])
            assert pixels == pytest.approx(2 * chart.metadata["image/png"]["width"], abs=2), cell.id


@each_notebook
def test_a_notebook_starts_with_an_introduction(path: Path) -> None:
    """The first cell has the title from the file's name, what the reader can do afterwards, and the time it takes."""
    first = read(path).cells[0]
    assert first.cell_type == "markdown"
    assert first.source.startswith(f"# {title(path)}\n\n**After this notebook you can** ")


@each_notebook
def test_the_time_is_what_a_reader_needs(path: Path) -> None:
    """The time of a notebook is that of reading it, at 180 words per minute, and at most two minutes to run it."""
    notebook = read(path)
    texts = [cell.source for cell in notebook.cells]
    texts += [comparable(output) for cell in code_cells(notebook) for output in cell.outputs]
    reading = len(" ".join(texts).split()) / 180
    assert reading <= int(minutes(notebook)) <= reading + 2, f"reading takes {reading:.1f} minutes"


@each_notebook
def test_a_notebook_says_how_to_open_it(path: Path) -> None:
    """The first code cell starts a server. If it cannot import the course, it says what to do."""
    source = code_cells(read(path))[0].source
    assert "server = serve()" in source.splitlines()
    start, _, _ = source.partition("\n\n")
    with pytest.raises(
        ImportError, match=r"^No module named '\S+'\. Open this notebook as README\.md in its folder says\.$"
    ):
        exec(start.replace("from course import", "from no_course import"))


def test_the_course_is_short() -> None:
    """The texts of all notebooks have at most 5,000 words."""
    words = [
        len(cell.source.split()) for path in NOTEBOOKS for cell in read(path).cells if cell.cell_type == "markdown"
    ]
    assert sum(words) <= 5_000, f"{sum(words)} words"


@pytest.mark.parametrize("name", ["3_retries", "4_testing_your_client"])
def test_the_solution_passes(name: str) -> None:
    """With the solution, all checks of an exercise pass."""
    notebook = read(FOLDER / f"{name}.ipynb")
    ids = [cell.id for cell in notebook.cells]
    exercise, solution = (notebook.cells[ids.index(id)] for id in ("exercise", "solution"))
    (code,) = re.findall(r"^```python\n(.*?)\n```$", solution.source, re.MULTILINE | re.DOTALL)
    _, blank, check = exercise.source.rpartition("\n\n\n")
    exercise.source = f"{code}{blank}{check}"
    notebook.cells = notebook.cells[: ids.index("exercise") + 1]
    printed = run(notebook).cells[-1].outputs[0].text
    assert re.search(r"10 of 10 checks pass|^11 passed", printed, re.MULTILINE), printed


@each_notebook
def test_every_code_cell_is_introduced(path: Path) -> None:
    """Each code cell follows a text cell."""
    cells = pairwise(read(path).cells)
    assert not [after.id for before, after in cells if before.cell_type == after.cell_type == "code"]


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
