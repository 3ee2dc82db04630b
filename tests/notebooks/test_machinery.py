"""The code that executes and compares notebooks, tested on small notebooks."""

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError, CellTimeoutError
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook, new_output

from tests.notebooks.notebooks import as_text, normalised, run


def notebook_of(*sources: str) -> NotebookNode:
    """Return a notebook with these code cells."""
    cells = [new_code_cell(source, id=f"cell-{number}") for number, source in enumerate(sources, 1)]
    kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    notebook: NotebookNode = new_notebook(cells=cells, metadata={"kernelspec": kernel})
    return notebook


def test_the_error_shows_a_failing_cell() -> None:
    """If a cell fails, the error has its source, its number, and the exception."""
    with pytest.raises(CellExecutionError, match=r"answer / 0\n(?s:.*)division by zero") as raised:
        run(notebook_of("answer = 41", "answer / 0", "print('not reached')"))
    assert "not reached" not in str(raised.value) and raised.value.__notes__ == ["This is code cell 2."]


def test_the_error_shows_a_cell_that_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """If a cell does not end in time, the error has its source."""
    monkeypatch.setattr("tests.notebooks.notebooks.CELL_TIMEOUT_S", 1)
    with pytest.raises(CellTimeoutError, match=r"time\.sleep\(600\)"):
        run(notebook_of("import time\ntime.sleep(600)"))


def test_a_run_without_a_change_changes_nothing() -> None:
    """An output that is equal except for ids and times stays as it was stored, and so does the version of Python."""
    volatile = "import time, uuid\nprint(uuid.uuid4(), f'{time.time_ns() % 977} ms')"
    stored = run(notebook_of(volatile, "import sys\nprint('!', file=sys.stderr)\nprint('b')"))
    assert stored.metadata.language_info.version
    stored.metadata.language_info.version = "3.11.0"
    assert as_text(run(stored)) == as_text(stored)


def test_only_a_changed_output_is_replaced() -> None:
    """A changed output is replaced. The other outputs of its cell stay as they were stored."""
    stored = run(notebook_of("import time\nprint(f'{time.time_ns()} ms')\ndisplay('400 Bad Request')"))
    before = nbformat.from_dict(stored)
    before.cells[0].outputs[1].data["text/plain"] = "'200 OK'"
    after = run(before)
    assert after.cells[0].outputs == stored.cells[0].outputs


def test_a_result_has_the_number_of_its_cell() -> None:
    """A result that stays as it was stored gets the number that its cell now has."""
    stored = notebook_of("1", "2")
    stored.cells[1].outputs = [new_output("execute_result", {"text/plain": "2"}, execution_count=7)]
    assert run(stored).cells[1].outputs[0].execution_count == 2


def test_outputs_that_a_cell_no_longer_has_are_removed() -> None:
    """A stored output that the run does not have is removed."""
    stored = notebook_of("print('one')")
    stored.cells[0].outputs = [new_output("stream", text="one\n"), new_output("display_data", {"text/plain": "'two'"})]
    assert run(stored).cells[0].outputs == [new_output("stream", text="one\n")]


def test_an_image_stays_while_its_cell_is_the_same() -> None:
    """A chart that looks different stays as it was stored, until its cell is changed. A live widget is not stored."""
    show = "display({'image/png': 'BBBB', 'text/plain': 'a chart', WIDGET: {'model_id': '1'}}, raw=True, "
    show += "metadata={'image/png': {'width': 2, 'height': 1}})"
    show = f"WIDGET = 'application/vnd.jupyter.widget-view+json'\n{show}"
    fresh = run(notebook_of(show))
    assert fresh.cells[0].outputs[0].data == {"image/png": "BBBB", "text/plain": "a chart"}
    fresh.cells[0].outputs[0].data["image/png"] = "AAAA"
    stored = nbformat.reads(as_text(fresh), as_version=4)
    assert as_text(run(stored)) == as_text(fresh)
    fresh.cells[0].source += "  # changed"
    assert run(fresh).cells[0].outputs[0].data["image/png"] == "BBBB"


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


def test_a_notebook_has_no_internet() -> None:
    """A kernel, and each Python process that it starts, can connect only to this machine, and look up no other name."""
    elsewhere = f"import subprocess, sys\nprint(subprocess.check_output([sys.executable, '-c', {REACH!r}], text=True))"
    for cell in run(notebook_of(REACH, elsewhere)).cells:
        refused, allowed = cell.outputs[0].text.split("\n")[:2]
        assert refused == "PermissionError PermissionError"
        assert allowed == "ConnectionRefusedError FileNotFoundError None"
