"""What the notebooks share: a server, printed requests and tables, questions, and the style of the charts."""

import atexit
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import EllipsisType
from typing import Any
from uuid import uuid4

import httpx
import matplotlib.pyplot as plt
from IPython.core.getipython import get_ipython
from IPython.display import Markdown
from matplotlib_inline.backend_inline import set_matplotlib_formats

from orders.testing import RecordedRequest, ReferenceServer

# The notebooks are a part of the checkout, so they use its other packages, which are not installed.
ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
from harness.guard import DIRECTORY, MARKED, guard  # noqa: E402

# Charts have a card of their own, so they can be read on light and on dark pages. On it, each colour has a contrast of
# at least 4.5 : 1. The hues are those of Okabe and Ito, which colour-blind readers can distinguish.
CARD = "#f7f7f5"
INK = "#333333"
COLOURS = {"assigned": "#8a6100", "acquired": "#0069a5", "completed": "#007355", "cancelled": "#6b6b6b"}
BEFORE, AFTER = "#b04500", "#0069a5"

# The headers that matter to a client of this service.
HEADERS = ("Allow", "Content-Type", "Prefer", "Preference-Applied", "Retry-After")

# A proxy from the environment could not reach this machine's own address.
for _name in ("NO_PROXY", "no_proxy"):
    os.environ[_name] = ",".join(filter(None, [os.environ.get(_name), "127.0.0.1"]))


def _end_with_kernel() -> None:
    """Let the processes and the temporary files of a notebook end with its kernel, even if the kernel is killed.

    All processes that the notebook starts inherit the mark and the folder for temporary files.
    """
    mark, value = "NOTEBOOK_KERNEL", str(uuid4())
    # On many systems, /tmp is in memory, where no commit waits for a disk.
    folder = Path(os.environ.get("TMPDIR", "/var/tmp"), f"orders-notebook-{value}")
    guard(DIRECTORY, folder)
    guard(MARKED, f"{mark}={value}")
    folder.mkdir()
    folder.chmod(0o755)  # PostgreSQL does not run as root, and has to enter the folder.
    # Without its variable, Hypothesis would leave a folder beside the notebooks.
    os.environ |= {mark: value, "TMPDIR": str(folder), "HYPOTHESIS_STORAGE_DIRECTORY": str(folder / "hypothesis")}
    tempfile.tempdir = str(folder)


_end_with_kernel()

_server: ReferenceServer | None = None
_cells: set[tuple[str | None, str]] = set()
_ran_before = False


def _note_cell(info: Any) -> None:
    """Note whether the cell that is about to run has run before, since the last `serve`."""
    global _ran_before
    cell = (info.cell_id, info.raw_cell)
    # A program that executes a notebook may give no id.
    _ran_before = info.cell_id is not None and cell in _cells
    _cells.add(cell)


if _shell := get_ipython():
    _shell.events.register("pre_run_cell", _note_cell)


def serve() -> ReferenceServer:
    """Start a server without orders for the notebook; return it.

    The server stops when this function is called again, and at the latest when the kernel ends.
    """
    global _server
    if _server is None:
        _server = ReferenceServer()
        atexit.register(_server.stop)
    _server.stop()
    _server.start()
    _cells.clear()
    return _server


def show(response: httpx.Response) -> None:
    """Print a request as it was sent, and its answer, with the headers that matter.

    If the cell has run before, say that its orders are still stored.
    """
    request = response.request
    _print_message(f"{request.method} {str(request.url.raw_path, 'ascii')} HTTP/1.1", request.headers, request.content)
    print()
    _print_message(f"HTTP/1.1 {response.status_code} {response.reason_phrase}", response.headers, response.content)
    if _ran_before:
        print("\nThis cell has run before, and the server remembers it. For a fresh start, run the first code cell.")


def _print_message(line: str, headers: httpx.Headers, content: bytes) -> None:
    print(line, *(f"{name}: {headers[name]}" for name in HEADERS if name in headers), sep="\n")
    if "json" in headers.get("Content-Type", ""):
        print(json.dumps(json.loads(content), indent=2, ensure_ascii=False))
    elif content:
        print(content.decode())


def reveal(prediction: object, outcome: object) -> None:
    """Compare a reader's prediction with what has happened. The prediction is `...` until the reader writes one."""
    if isinstance(prediction, EllipsisType):
        print("No prediction yet. Replace the ... with yours, and run this cell again.")
    elif prediction == outcome:
        print(f"Right: {outcome}.")
    else:
        print(f"It is {outcome}. You predicted {prediction}.")


def table(rows: Iterable[Mapping[str, Any]], *columns: str) -> Markdown:
    """Return rows as a Markdown table. Without `columns`, it has the columns of the first row."""
    found = list(rows)
    names = columns or tuple(found[0] if found else ())
    lines = [names, ["---"] * len(names), *([_cell(row[name]) for name in names] for row in found)]
    return Markdown("\n".join(f"| {' | '.join(line)} |" for line in lines) if names else "*no rows*")


def _cell(value: Any) -> str:
    text = "" if value is None else str(value)
    return text.replace("|", "\\|").replace("<", "&lt;")


def journal(requests: Iterable[RecordedRequest]) -> Markdown:
    """Return requests of a server's journal as a table: what was asked, which fault it got, and what was answered."""
    return table(
        {
            "number": request.number,
            "operation": request.operation,
            "fault": f"{request.fault.kind}, {request.fault.when}" if request.fault else None,
            "outcome": request.outcome,
            "status": request.status,
            "message": request.answer.get("message") if isinstance(request.answer, dict) else None,
        }
        for request in requests
    )


def use_style() -> None:
    """Set the style of the charts, and store them at twice the resolution."""
    set_matplotlib_formats("retina")
    plt.rcParams.update(
        {
            "figure.figsize": (9, 3.4),
            "figure.dpi": 90,
            "figure.facecolor": CARD,
            "figure.constrained_layout.use": True,
            "axes.facecolor": CARD,
            "axes.edgecolor": INK,
            "axes.labelcolor": INK,
            "axes.titlecolor": INK,
            "axes.grid": True,
            "axes.axisbelow": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "grid.alpha": 0.3,
            "text.color": INK,
            "xtick.color": INK,
            "ytick.color": INK,
            "savefig.facecolor": CARD,
        }
    )
