"""What the notebooks share: a server to play with, answers and rows printed to be read, and the look of the charts."""

import atexit
import json
import os
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import unquote

import httpx
import matplotlib.pyplot as plt
from IPython.display import Markdown

from orders.testing import ReferenceServer

# Colours that can be told apart by everybody (Okabe and Ito), one a status wherever statuses are drawn.
COLOURS = {"assigned": "#e69f00", "acquired": "#0072b2", "completed": "#009e73", "cancelled": "#999999"}

# No proxy that the environment names can reach this machine's own address.
for _name in ("NO_PROXY", "no_proxy"):
    os.environ[_name] = ",".join(filter(None, [os.environ.get(_name), "127.0.0.1"]))

_server: ReferenceServer | None = None


def serve() -> ReferenceServer:
    """Start a server of the notebook's own, with no orders; return it.

    It is stopped with the kernel at the latest, whatever has failed, or when the next one is started.
    """
    global _server
    if _server is None:
        _server = ReferenceServer()
        atexit.register(_server.stop)
    _server.stop()
    _server.start()
    return _server


def show(response: httpx.Response) -> None:
    """Print a request and its answer: the line that was sent, the status, the JSON."""
    request = response.request
    print(f"{request.method} {unquote(str(request.url.raw_path, 'ascii'))}")
    print(f"{response.status_code} {response.reason_phrase}")
    print(json.dumps(response.json(), indent=2, ensure_ascii=False))


def table(rows: Iterable[Mapping[str, Any]], *columns: str) -> Markdown:
    """Return rows as a table for the notebook, of some columns or of those of the first row."""
    found = list(rows)
    names = columns or tuple(found[0] if found else ())
    lines = [names, ["---"] * len(names), *([_cell(row[name]) for name in names] for row in found)]
    return Markdown("\n".join(f"| {' | '.join(line)} |" for line in lines) if names else "*no rows*")


def _cell(value: Any) -> str:
    text = "" if value is None else str(value)
    return text.replace("|", "\\|")


def use_style() -> None:
    """Set the look of the charts: a light ground of their own, so that they read well in light and dark pages."""
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
