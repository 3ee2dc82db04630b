"""What the notebooks share: starting a server, printing answers and rows, and the style of the charts."""

import atexit
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from uuid import uuid4

import httpx
import matplotlib.pyplot as plt
from IPython.display import Markdown

from orders.testing import ReferenceServer

# The notebooks are a part of the checkout, so they use its other packages, which are not installed.
sys.path.insert(0, str(Path(__file__).parent.parent))
from harness.guard import DIRECTORY, MARKED, guard

# The colours of the statuses in charts. Colour-blind readers can distinguish them (Okabe and Ito).
COLOURS = {"assigned": "#e69f00", "acquired": "#0072b2", "completed": "#009e73", "cancelled": "#999999"}

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
    os.environ |= {mark: value, "TMPDIR": str(folder)}
    tempfile.tempdir = str(folder)


_end_with_kernel()

_server: ReferenceServer | None = None


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
    return _server


def show(response: httpx.Response) -> None:
    """Print the method and the target of a request, and the status and the JSON of its answer."""
    request = response.request
    print(f"{request.method} {unquote(str(request.url.raw_path, 'ascii'))}")
    print(f"{response.status_code} {response.reason_phrase}")
    print(json.dumps(response.json(), indent=2, ensure_ascii=False))


def table(rows: Iterable[Mapping[str, Any]], *columns: str) -> Markdown:
    """Return rows as a Markdown table. Without `columns`, it has the columns of the first row."""
    found = list(rows)
    names = columns or tuple(found[0] if found else ())
    lines = [names, ["---"] * len(names), *([_cell(row[name]) for name in names] for row in found)]
    return Markdown("\n".join(f"| {' | '.join(line)} |" for line in lines) if names else "*no rows*")


def _cell(value: Any) -> str:
    text = "" if value is None else str(value)
    return text.replace("|", "\\|")


def use_style() -> None:
    """Set the style of the charts. Their light background makes them readable on light and dark pages."""
    plt.rcParams.update(
        {
            "figure.figsize": (9, 3.6),
            "figure.dpi": 110,
            "figure.facecolor": "white",
            "figure.constrained_layout.use": True,
            "axes.grid": True,
            "axes.axisbelow": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "grid.alpha": 0.3,
            "savefig.facecolor": "white",
        }
    )
