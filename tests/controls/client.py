"""A client that has the test controls at hand, and checks their answers against `controls.yaml`."""

from typing import Any

import httpx
from jsonschema import Draft202012Validator

from harness.client import Client, message
from orders.controls.schemas import DOCUMENT

DEFINITION: Any = DOCUMENT.data
IN_MEMORY = "sqlite:///:memory:"
OPERATIONS = ["assign_order", "acquire_order", "cancel_order"]


def problems(content: Any, schema: dict[str, Any]) -> list[str]:
    """Return what is wrong with a value by a schema of the definition."""
    validator = Draft202012Validator(
        {**schema, "components": DEFINITION["components"]}, format_checker=Draft202012Validator.FORMAT_CHECKER
    )
    return [error.message for error in validator.iter_errors(content)]


class ControlledClient(Client):
    """A client of the operations and of the test controls."""

    def control(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Call a control, and check the answer's status and body against the definition."""
        response = self.http.request(method, f"/_controls/{path}", **options)
        answer = f"{response.request.method} {response.request.url}: {response.status_code} {response.text}"
        assert response.headers["content-type"] == "application/json", answer
        responses = DEFINITION["paths"][f"/_controls/{path.partition('?')[0]}"][method.lower()]["responses"]
        assert str(response.status_code) in responses, answer
        defined = responses[str(response.status_code)]
        if "$ref" in defined:
            defined = DEFINITION["components"]["responses"][defined["$ref"].rpartition("/")[2]]
        found = problems(response.json(), defined["content"]["application/json"]["schema"])
        assert not found, f"{answer}: {found}"
        return response

    def reset(self) -> None:
        """Forget all orders, faults and requests."""
        assert message(self.control("POST", "reset")) == "Successfully reset"

    def fault(self, operation: str, kind: str, **fields: Any) -> Any:
        """Add a fault; return it as the server answered it."""
        response = self.control("POST", "faults", json={"operation": operation, "kind": kind, **fields})
        assert response.status_code == 201, response.text
        return response.json()

    def faults(self) -> Any:
        """Return the faults that are still to happen."""
        return self.control("GET", "faults").json()["faults"]

    def requests(self, **filters: Any) -> Any:
        """Return the requests in the journal."""
        return self.control("GET", "requests", params=filters).json()["requests"]

    def orders(self, **filters: Any) -> Any:
        """Return the stored orders."""
        return self.control("GET", "orders", params=filters).json()["orders"]

    def add_orders(self, *orders: dict[str, Any]) -> Any:
        """Store orders in any state; return them as stored."""
        response = self.control("POST", "orders", json={"orders": orders})
        assert response.status_code == 201, response.text
        return response.json()["orders"]

    def call(self, operation: str, headers: dict[str, str] | None = None) -> httpx.Response:
        """Call an operation with the order `order`, the executor `executor` and the zone `zone`."""
        method, path, names = {
            "assign_order": ("PUT", "/orders/assign", ("order_id", "executor_id", "zone_id")),
            "acquire_order": ("GET", "/order/acquire", ("executor_id",)),
            "cancel_order": ("POST", "/order/cancel", ("order_id",)),
        }[operation]
        parameters = {name: name.removesuffix("_id") for name in names}
        return self.http.request(method, path, params=parameters, headers=headers)
