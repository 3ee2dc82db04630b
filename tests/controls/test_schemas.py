"""`controls.yaml`: it is valid, agrees with the contract and the code, and refuses values in clear words."""

import json
from typing import Any, get_args

import pytest
from jsonschema import Draft202012Validator

from orders.contract import Contract
from orders.controls.faults import KINDS, Body, Fault, Kind, When
from orders.controls.journal import MAX_REQUESTS, Outcome, RecordedRequest
from orders.controls.schemas import DOCUMENT, SCHEMAS, ControlError, check_parameters
from orders.storage.models import COLUMNS, ExecutionStatus
from tests.controls.client import DEFINITION, ControlledClient, problems

BODIES = {
    "add_fault": {"operation": "assign_order", "kind": "error"},
    "add_orders": {"orders": [{"order_id": "1", "executor_id": "1", "zone_id": "1"}]},
}
OF_AN_ERROR = ("status", "body", "retry_after")


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_schema_is_valid(name: str) -> None:
    """Each schema is one of JSON Schema 2020-12."""
    Draft202012Validator.check_schema(SCHEMAS[name])


def test_every_example_is_valid() -> None:
    """Each example of a body fits its schema."""
    count = 0

    def visit(node: Any) -> None:
        nonlocal count
        if isinstance(node, dict):
            examples = [node["example"]] if "example" in node else []
            examples += [example["value"] for example in node.get("examples", {}).values()]
            for example in examples:
                found = problems(example, node["schema"])
                assert not found, f"{json.dumps(example)}: {found}"
                count += 1
            for value in node.values():
                visit(value)
        elif isinstance(node, list):
            for value in node:
                visit(value)

    visit(DEFINITION["paths"])
    visit(DEFINITION["components"]["responses"])
    assert count == 17


def test_the_definition_agrees_with_the_contract(contract: Contract) -> None:
    """Operations, limits of ids, states of an order and columns are those of the contract."""
    operations = [operation.operation_id for operation in contract.operations]
    assert SCHEMAS["OperationId"]["enum"] == operations
    assert SCHEMAS["FaultOperation"]["enum"] == [*operations, "*"]
    for parameter in (parameter for operation in contract.operations for parameter in operation.parameters):
        limits = (parameter.min_length, parameter.max_length)
        assert limits == (SCHEMAS["Identifier"]["minLength"], SCHEMAS["Identifier"]["maxLength"]), parameter
    contract_schemas = contract.document.data["components"]["schemas"]
    assert SCHEMAS["ExecutionStatus"]["enum"] == list(ExecutionStatus)
    assert list(SCHEMAS["Order"]["properties"]) == list(contract_schemas["OrderProfile"]["properties"]) == list(COLUMNS)


def test_the_definition_agrees_with_the_code() -> None:
    """Faults and recorded requests have the same fields and values in the definition and in the code."""
    assert list(KINDS) == list(get_args(Kind))
    assert SCHEMAS["When"]["enum"] == list(get_args(When))
    for kind, schema in KINDS.items():
        assert schema["properties"]["kind"]["const"] == kind
        fields = [name for name in Fault.__dataclass_fields__ if name not in OF_AN_ERROR or kind == "error"]
        assert list(schema["properties"]) == fields
    assert KINDS["error"]["properties"]["body"]["enum"] == list(get_args(Body))
    assert list(SCHEMAS["Request"]["properties"]) == list(RecordedRequest.__dataclass_fields__)
    assert SCHEMAS["Outcome"]["enum"] == list(Outcome)
    listed = DEFINITION["paths"]["/_controls/requests"]["get"]["responses"]["200"]["content"]["application/json"]
    assert listed["schema"]["properties"]["requests"]["maxItems"] == MAX_REQUESTS


def test_every_control_of_the_definition_works(controls: ControlledClient) -> None:
    """Each path and method gives the answer that the definition has for it."""
    for path, methods in DEFINITION["paths"].items():
        for method, control in methods.items():
            response = controls.control(
                method.upper(), path.removeprefix("/_controls/"), json=BODIES.get(control["operationId"])
            )
            assert response.is_success, f"{method} {path}: {response.text}"


def test_the_definition_is_served(controls: ControlledClient) -> None:
    """The server has it as YAML and as JSON."""
    as_yaml, as_json = controls.http.get("/_controls/openapi.yaml"), controls.http.get("/_controls/openapi.json")
    assert as_yaml.content == DOCUMENT.as_yaml
    assert as_json.json() == DOCUMENT.data
    assert as_yaml.headers["content-type"] == "application/yaml"


@pytest.mark.parametrize(
    ("control", "values", "complaint"),
    [
        ("reset", {"really": "1"}, "unknown parameter 'really'; reset has none"),
        (
            "list_requests",
            {"opertion": "x"},
            "unknown parameter 'opertion'; list_requests has operation, outcome, status, since, after, limit",
        ),
        (
            "list_orders",
            {"zone_id": "1"},
            "unknown parameter 'zone_id'; list_orders has order_id, executor_id, status, limit",
        ),
        (
            "list_requests",
            {"operation": ""},
            "operation must be one of assign_order, acquire_order, cancel_order, not ''",
        ),
        (
            "list_requests",
            {"outcome": "lost"},
            "outcome must be one of pending, answered, dropped, reset, truncated, abandoned, not 'lost'",
        ),
        ("list_requests", {"status": "bad"}, "status must be a whole number from 100 to 599, not 'bad'"),
        ("list_requests", {"status": 99}, "status must be a whole number from 100 to 599, not 99"),
        ("list_requests", {"status": 600}, "status must be a whole number from 100 to 599, not 600"),
        ("list_orders", {"limit": 0}, "limit must be a whole number from 1 to 10000, not 0"),
        ("list_orders", {"limit": 10001}, "limit must be a whole number from 1 to 10000, not 10001"),
        (
            "list_orders",
            {"status": "done"},
            "status must be one of assigned, acquired, completed, cancelled, not 'done'",
        ),
        ("list_orders", {"order_id": "\0"}, "order_id: no stored id has the character U+0000"),
        ("list_orders", {"executor_id": "a\0b"}, "executor_id: no stored id has the character U+0000"),
        ("list_orders", {"order_id": 5}, "order_id must be a string, not 5"),
    ],
)
def test_a_wrong_parameter_is_refused(control: str, values: dict[str, Any], complaint: str) -> None:
    """The message says what is allowed."""
    with pytest.raises(ControlError) as caught:
        check_parameters(control, values)
    assert str(caught.value) == complaint


@pytest.mark.parametrize(
    "since",
    [
        "yesterday",
        "2026-01-31T12:00:00",
        "0001-01-01T00:00:00+05:00",
        "9999-12-31T23:59:59-05:00",
        "",
    ],
)
def test_a_time_needs_an_offset(since: str) -> None:
    """Text that is no time, a time without an offset, and a year that UTC does not have are refused."""
    with pytest.raises(ControlError) as caught:
        check_parameters("list_requests", {"since": since})
    assert str(caught.value) == f"since must be a time with its offset, for example 2026-01-31T12:00:00Z, not '{since}'"


def test_a_parameter_that_is_left_out_has_its_default() -> None:
    """Defaults come from the definition."""
    assert check_parameters("list_orders", {"order_id": "1"}) == {"order_id": "1", "limit": 1000}
    assert check_parameters("list_requests", {}) == {"after": 0, "limit": 1000}
