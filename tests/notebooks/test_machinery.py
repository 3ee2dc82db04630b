"""The code that executes, compares and stores notebooks, tested on small notebooks."""

from pathlib import Path

import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from harness.server import is_listening
from tests.notebooks.notebooks import (
    REFRESH,
    ExecutionError,
    as_stored,
    as_text,
    differences,
    execute,
    lines_of,
    normalised,
    read,
    store,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of a notebook that does not exist yet."""
    return tmp_path / "9_small.ipynb"


def notebook_of(*sources: str) -> NotebookNode:
    """Return a notebook with a title and these code cells."""
    cells = [new_code_cell(source, id=f"cell-{number}") for number, source in enumerate(sources, 1)]
    notebook: NotebookNode = new_notebook(cells=[new_markdown_cell("# 9. Small", id="title"), *cells])
    return notebook


def refreshed(path: Path, *sources: str) -> NotebookNode:
    """Store a notebook with its fresh outputs, as --refresh does; return it."""
    store(notebook_of(*sources), path)
    store(execute(path), path)
    return read(path)


def test_the_error_names_a_failing_cell(path: Path) -> None:
    """If a cell fails, the error has the notebook, the cell, its source, and the traceback as plain text."""
    store(notebook_of("answer = 41", "answer / 0", "print('not reached')"), path)
    with pytest.raises(ExecutionError) as raised:
        execute(path)
    message = str(raised.value)
    assert message.startswith("9_small.ipynb, cell [2] (cell-2): ")
    assert "answer / 0" in message and "ZeroDivisionError: division by zero" in message
    assert "\x1b" not in message and "not reached" not in message


def test_the_error_names_a_cell_that_takes_too_long(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a cell does not end in time, the error has the cell and its source."""
    monkeypatch.setattr("tests.notebooks.notebooks.CELL_TIMEOUT_S", 1)
    store(notebook_of("import time\ntime.sleep(600)"), path)
    with pytest.raises(ExecutionError, match=r"cell \[1\] \(cell-1\): (?s:.*)time\.sleep\(600\)"):
        execute(path)


def test_the_error_names_the_cell_in_which_a_kernel_dies(path: Path) -> None:
    """If the kernel dies, the error has the cell that was running, and its source."""
    store(notebook_of("import os", "os._exit(3)"), path)
    with pytest.raises(ExecutionError, match=r"cell \[2\] \(cell-2\): os\._exit\(3\)\s+Kernel died"):
        execute(path)


def test_a_failing_cell_leaves_no_server(path: Path, tmp_path: Path) -> None:
    """A notebook's server ends with the notebook, even if a cell fails before the server is stopped."""
    url = tmp_path / "url"
    start = f"from pathlib import Path\nfrom course import serve\nPath({str(url)!r}).write_text(serve().url)"
    store(notebook_of(start, "1 / 0"), path)
    with pytest.raises(ExecutionError, match="ZeroDivisionError"):
        execute(path)
    assert not is_listening(url.read_text()), "the server is still listening"


def test_a_refreshed_notebook_has_no_differences(path: Path) -> None:
    """After a refresh, the next run finds no differences, although ids and times have changed."""
    volatile = "import time, uuid\nprint(uuid.uuid4(), f'{time.time_ns() % 977} ms')"
    notebook = refreshed(path, volatile, "from course import table\ntable([{'status': 200}])")
    fresh = execute(path)
    assert fresh.cells[1].outputs[0] != notebook.cells[1].outputs[0]
    assert differences(path.name, notebook, fresh) == ""
    assert path.read_text() == as_text(as_stored(notebook))


def test_a_changed_output_is_reported(path: Path) -> None:
    """The report has the notebook, the cell, a diff, and the command that stores the fresh output."""
    refreshed(path, "print('same')", "print('400 Bad Request')\nprint('already exists')")
    path.write_text(path.read_text().replace("400 Bad Request\\n", "200 OK\\n"))
    message = differences(path.name, read(path), execute(path))
    assert message.startswith("9_small.ipynb, cell [2] (cell-2): ")
    assert "\n-200 OK\n+400 Bad Request\n already exists\n" in message
    assert "cell [1]" not in message and message.endswith(REFRESH)


def test_a_stored_notebook_is_reproducible(path: Path) -> None:
    """A stored notebook has no metadata of cells or tools and no standard error, and its printed text is merged."""
    source = "import sys\nprint('a', flush=True)\nprint('!', file=sys.stderr, flush=True)\nprint('b')"
    notebook = notebook_of(source)
    notebook.cells[1].metadata["collapsed"] = True
    store(notebook, path)
    stored = execute(path)
    assert stored.cells[1].outputs == [new_output("stream", name="stdout", text="a\nb\n")]
    assert stored.cells[1].metadata == {} and stored.cells[1].execution_count == 1
    assert sorted(stored.metadata) == ["kernelspec", "language_info"]
    assert as_text(stored).endswith("}\n") and not as_text(stored).endswith("\n\n")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("id 4f0c5f0e-7f5c-4a43-9d55-3a2c2f1de9f1", "id 01a20968-94c1-75f5-8868-59c7905258cb"),
        ("id 4f0c5f0e7f5c4a439d553a2c2f1de9f1", "id 01a2096894c175f5886859c7905258cb"),
        ('"2026-01-31T12:00:00.000000Z"', '"2027-11-01T01:02:03+02:00"'),
        ("Sat, 31 Jan 2026 12:00:00 GMT", "Mon, 23 Nov 2026 23:15:21 GMT"),
        ("http://127.0.0.1:8080/docs", "http://127.0.0.1:43210/docs"),
        ("localhost:8080", "localhost:1"),
        ("took 0.12 s.", "took 12 s."),
        ("in 0.12s ==", "in 3.4s =="),
        ("| 0.9 ms |", "| 1,234.5 ms |"),
        ("5 µs", "17.25 µs"),
        ("  0.5 ms", "123.5 ms".rjust(9)),
        ("2 minutes", "1.5 minutes"),
        ("| 1.8 × |", "| 12 × |"),
        ("8,334 requests/s", "91 requests/s"),
        ("100 orders/s, 7/s", "99.5 orders/s, 1,000/s"),
        ("at /tmp/tmpab_12/orders.db'", "at /tmp/xyz'"),
    ],
)
def test_volatile_output_is_not_compared(one: str, other: str) -> None:
    """Ids, times, ports, durations, ratios, rates and temporary paths may differ."""
    assert normalised(one) == normalised(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("200 OK", "400 Bad Request"),
        ('{"message": "Successfully created"}', '{"message": "Successfully canceled"}'),
        ("order-1 started", "order-2 started"),
        ("order-1 s", "order-2 s"),
        ("3 passed in 0.12s", "2 passed in 0.12s"),
        ("12 requests", "13 requests"),
        ("1.8 × 2", "1.8 × 3"),
        ("D3 says so", "D4 says so"),
        ("http://127.0.0.1:8080/docs", "http://127.0.0.1:8080/health"),
        ("acquire_time: 2026-01-31T12:00:00Z", "acquire_time: null"),
    ],
)
def test_all_other_output_is_compared(one: str, other: str) -> None:
    """Statuses, messages, counts, identifiers and all other output must be equal."""
    assert normalised(one) != normalised(other)


def test_images_are_compared_by_kind() -> None:
    """A chart that looks different is no difference; a missing chart is."""
    one, other, none = notebook_of("draw()"), notebook_of("draw()"), notebook_of("draw()")
    for notebook, data in ((one, "AAAA"), (other, "BBBB")):
        notebook.cells[1].outputs = [new_output("display_data", {"image/png": data})]
    assert differences("9_small.ipynb", one, other) == ""
    assert "-display_data, image/png:" in differences("9_small.ipynb", one, none)


def test_a_proxy_in_the_environment_does_no_harm(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook sends its requests directly to the server, even if the environment names a proxy."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "example.com")
    call = "import httpx\nfrom course import serve\nprint(httpx.get(f'{serve().url}/health').status_code)"
    assert lines_of(refreshed(path, call).cells[1]) == ["stdout:", "200"]


REACH = """
import socket
def reach(family, address):
    with socket.socket(family) as connection:
        try:
            connection.connect(address)
        except OSError as error:
            return type(error).__name__
def look_up(name):
    try:
        socket.getaddrinfo(name, 80)
    except OSError as error:
        return type(error).__name__
print(reach(socket.AF_INET, ("192.0.2.1", 80)), look_up("orders.invalid"))
print(reach(socket.AF_INET, ("127.0.0.1", 9)), reach(socket.AF_UNIX, "/tmp/none"), look_up("localhost"))
"""


def test_a_notebook_has_no_internet(path: Path) -> None:
    """A kernel, and each Python process that it starts, can connect only to this machine, and look up no other name."""
    elsewhere = f"import subprocess, sys\nprint(subprocess.check_output([sys.executable, '-c', {REACH!r}], text=True))"
    notebook = refreshed(path, REACH, elsewhere)
    for cell in notebook.cells[1:]:
        refused, allowed = cell.outputs[0].text.split("\n")[:2]
        assert refused == "PermissionError PermissionError"
        assert allowed == "ConnectionRefusedError FileNotFoundError None"
