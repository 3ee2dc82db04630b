"""The operations: each answer of the code is one of the contract, to the letter."""

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest
from jsonschema import Draft202012Validator

from harness.client import ACQUIRED, ALREADY_EXISTS, CANCELED, CREATED, NO_ORDERS, not_active
from orders.http.responses import Response
from orders.lifecycle import Orders
from orders.operations import OPERATIONS
from orders.storage.database import DatabaseURL
from tests.test_contract import document


async def call(orders: Orders, operation_id: str, **arguments: str) -> tuple[int, str]:
    """Call an operation; check the answer against its schema in the contract; return status and message."""
    response: Response = await OPERATIONS[operation_id](orders, **arguments)
    contract = document()
    (definition,) = [
        operation
        for path in contract["paths"].values()
        for operation in path.values()
        if operation["operationId"] == operation_id
    ]
    content = json.loads(response.body)
    schema = definition["responses"][str(response.status)]["content"]["application/json"]["schema"]
    validator = Draft202012Validator(
        {**schema, "components": contract["components"]}, format_checker=Draft202012Validator.FORMAT_CHECKER
    )
    errors = [error.message for error in validator.iter_errors(content)]
    assert not errors, f"{operation_id} {arguments}: {content}: {errors}"
    return response.status, content["message"]


def with_orders(scenario: Callable[[Orders], Awaitable[None]]) -> None:
    """Run a scenario with a database in memory, which is empty."""

    async def run() -> None:
        orders = Orders(DatabaseURL.parse("sqlite:///:memory:"))
        await scenario(orders)
        await orders.close()

    asyncio.run(run())


def test_every_branch_answers_as_the_contract_says() -> None:
    """One order on its way through all branches; status, message and schema agree with the contract."""

    async def scenario(orders: Orders) -> None:
        order = {"order_id": "o", "executor_id": "e", "zone_id": "z"}
        assert await call(orders, "acquire_order", executor_id="e") == (200, NO_ORDERS)
        assert await call(orders, "assign_order", **order) == (200, CREATED)
        assert await call(orders, "assign_order", **order) == (400, ALREADY_EXISTS)
        assert await call(orders, "acquire_order", executor_id="e") == (200, ACQUIRED)
        assert await call(orders, "cancel_order", order_id="o") == (200, CANCELED)
        assert await call(orders, "cancel_order", order_id="o") == (200, not_active("o"))
        assert await call(orders, "acquire_order", executor_id="e") == (200, NO_ORDERS)

    with_orders(scenario)


@pytest.mark.parametrize("order_id", ['"', "\\", "é", "😀", "\u2028", " a ", "%s", "$$order_id", "{}", "</script>"])
def test_cancel_echoes_the_id_as_it_was_read(order_id: str) -> None:
    """Whatever the id looks like, cancel names exactly that id."""

    async def scenario(orders: Orders) -> None:
        assert await call(orders, "cancel_order", order_id=order_id) == (200, not_active(order_id))

    with_orders(scenario)
