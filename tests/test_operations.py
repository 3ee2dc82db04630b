"""The operations: each answer of the code is one of the contract, to the letter."""

import json
from collections.abc import Iterator

import pytest
from jsonschema import Draft202012Validator

from harness.client import ACQUIRED, ALREADY_EXISTS, CANCELED, CREATED, NO_ORDERS, not_active
from orders import sqlite
from orders.book import OrderBook
from orders.models import create_tables
from orders.operations import OPERATIONS
from orders.responses import Response
from tests.test_contract import document


@pytest.fixture
def book() -> Iterator[OrderBook]:
    """An empty book in memory."""
    memory = sqlite.database_of(sqlite.MEMORY)
    create_tables(memory)
    yield OrderBook(memory)
    memory.close()


def call(book: OrderBook, operation_id: str, **arguments: str) -> tuple[int, str]:
    """Call an operation; check the answer against its schema in the contract; return status and message."""
    response: Response = OPERATIONS[operation_id](book, **arguments)
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


def test_every_branch_answers_as_the_contract_says(book: OrderBook) -> None:
    """One order on its way through all branches; status, message and schema agree with the contract."""
    order = {"order_id": "o", "executor_id": "e", "zone_id": "z"}
    assert call(book, "acquire_order", executor_id="e") == (200, NO_ORDERS)
    assert call(book, "assign_order", **order) == (200, CREATED)
    assert call(book, "assign_order", **order) == (400, ALREADY_EXISTS)
    assert call(book, "acquire_order", executor_id="e") == (200, ACQUIRED)
    assert call(book, "cancel_order", order_id="o") == (200, CANCELED)
    assert call(book, "cancel_order", order_id="o") == (200, not_active("o"))
    assert call(book, "acquire_order", executor_id="e") == (200, NO_ORDERS)


@pytest.mark.parametrize("order_id", ['"', "\\", "é", "😀", "\u2028", " a ", "%s", "$$order_id", "{}", "</script>"])
def test_cancel_echoes_the_id_as_it_was_read(book: OrderBook, order_id: str) -> None:
    """Whatever the id looks like, cancel names exactly that id."""
    assert call(book, "cancel_order", order_id=order_id) == (200, not_active(order_id))
