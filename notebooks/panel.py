"""A panel to play with the lifecycle: buttons that send requests, and beside them the stored orders and the answer."""

import base64
import html
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import httpx
import ipywidgets as widgets

from orders.testing import OperationId, ReferenceServer

# What is shown where no widgets run, for example on GitHub.
PICTURE = Path(__file__).with_name("panel.png")

COLUMNS = ("order_id", "executor_id", "execution_status")
CELL = "text-align: left; line-height: 1.6; padding-right: 1em"
ANSWER = "line-height: 1.4; white-space: pre-wrap; overflow-wrap: anywhere"
CALLS: dict[OperationId, tuple[str, str]] = {
    "assign_order": ("PUT", "/orders/assign"),
    "acquire_order": ("GET", "/order/acquire"),
    "cancel_order": ("POST", "/order/cancel"),
}


class Panel:
    """Buttons that call a server's operations. Each assign is for an order of its own."""

    def __init__(self, server: ReferenceServer) -> None:
        """Forget the server's orders, and show the panel."""
        self._server = server
        self._client = httpx.Client(base_url=server.url)
        self._assign = _button(self._assign_next)
        self._cancel = _button(lambda: self._send("cancel_order", order_id=self._newest))
        self._repeat = _button(lambda: self._send(self._last[0], **self._last[1]), "send the last request again")
        self._lose = widgets.ToggleButton(description="lose the next answer", layout={"width": "auto"})
        others = [
            _button(lambda: self._send("acquire_order", executor_id="executor-1"), "executor-1 polls"),
            self._cancel,
            _button(lambda: self._assign_to("order-1", "executor-2"), "assign order-1 to executor-2"),
        ]
        self._orders = widgets.HTML()
        self._answer = widgets.HTML(layout={"flex": "1 1 0"})
        self._box = widgets.VBox(
            [
                widgets.HBox([self._assign, *others], layout={"flex_flow": "row wrap"}),
                widgets.HBox([self._lose, self._repeat, _button(self.reset, "start again")]),
                widgets.HBox([self._orders, self._answer], layout={"grid_gap": "3em"}),
            ]
        )
        self.reset()

    def reset(self) -> None:
        """Forget all orders and requests."""
        self._server.reset()
        self._number = 0
        self._last: tuple[OperationId, dict[str, str]] = ("acquire_order", {"executor_id": "executor-1"})
        self._rows: list[Mapping[str, Any]] = []
        self._lose.value = False
        self._show("Press a button.")

    @property
    def _newest(self) -> str:
        """The order that was assigned last."""
        return f"order-{max(self._number, 1)}"

    def _assign_next(self) -> None:
        self._number += 1
        self._assign_to(self._newest, "executor-1")

    def _assign_to(self, order_id: str, executor_id: str) -> None:
        self._send("assign_order", order_id=order_id, executor_id=executor_id, zone_id="zone-1")

    def _send(self, operation: OperationId, **parameters: str) -> None:
        """Send a request, and show the answer, or that there is none."""
        self._last = (operation, parameters)
        if self._lose.value:
            self._server.fail_next(operation, "drop", when="after")
        self._lose.value = False
        method, path = CALLS[operation]
        request = self._client.build_request(method, path, params=parameters)
        line = f"{method} {str(request.url.raw_path, 'ascii')}"
        try:
            response = self._client.send(request)
        except httpx.TransportError as error:
            self._show(f"{line}\n\nno answer: {error}")
        else:
            answer = json.dumps(response.json(), indent=2, ensure_ascii=False)
            self._show(f"{line}\n\n{response.status_code} {response.reason_phrase}\n{answer}")

    def _show(self, answer: str) -> None:
        """Show the stored orders and an answer. What has changed in an order is bold."""
        orders = self._server.orders()
        self._orders.value = f"<b>In the database</b>{_table(orders, self._rows)}"
        self._answer.value = f"<b>What the client sees</b><pre style='{ANSWER}'>{html.escape(answer)}</pre>"
        self._rows = list(orders)
        self._assign.description = f"assign order-{self._number + 1} to executor-1"
        self._cancel.description = f"cancel {self._newest}"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        picture = base64.b64encode(PICTURE.read_bytes()).decode()
        return {**self._box._repr_mimebundle_(), "text/plain": "the panel", "image/png": picture}


def _button(press: Callable[[], None], description: str = "") -> widgets.Button:
    button = widgets.Button(description=description, layout={"width": "auto"})
    button.on_click(lambda _: press())
    return button


def _table(orders: Iterable[Mapping[str, Any]], before: list[Mapping[str, Any]]) -> str:
    """Return orders as an HTML table. What differs from `before` is bold."""
    known = {order["order_id"]: order for order in before}
    lines = ["".join(f"<th style='{CELL}'>{name}</th>" for name in COLUMNS)]
    for order in orders:
        old = known.get(order["order_id"], {})
        values = [(html.escape(str(order[name] or "")), order[name] != old.get(name)) for name in COLUMNS]
        cells = (f"<b>{value}</b>" if changed else value for value, changed in values)
        lines.append("".join(f"<td style='{CELL}'>{cell}</td>" for cell in cells))
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"
