"""Compares the code with the contract when the server starts: operations, answers, and the columns of an order."""

import inspect
import re
from collections.abc import Awaitable, Callable
from typing import Any, get_args

from orders.contract import Answer, Contract, Operation
from orders.openapi import DocumentError, facts, require, well_formed
from orders.operations import OPERATIONS, Result
from orders.storage.models import COLUMNS, AssignedOrder, ExecutionStatus

COMMON_ANSWERS = {"BadRequest", "MethodNotAllowed", "NotFound", "UnknownError"}
# Type of a column -> the schema that the contract must have for it.
COLUMN_SCHEMAS = {
    "UUID": {"type": "string", "format": "uuid"},
    "TIMESTAMPTZ": {"type": "string", "format": "date-time", "pattern": "Z$"},
}


def check(contract: Contract) -> None:
    """Raise DocumentError, which names the difference, if the server does not do what the contract says."""
    require("operations", [operation.operation_id for operation in contract.operations], [*OPERATIONS])
    require("common answers", {*contract.common_answers}, COMMON_ANSWERS)
    for name, answer in contract.common_answers.items():
        require(f"{name}: its properties", [*answer.properties], ["message"])
        _check_message(name, answer, [])
    for operation in contract.operations:
        _check_operation(operation, OPERATIONS[operation.operation_id])
        require(
            f"{operation.operation_id}: UnknownError",
            operation.answers["UnknownError"],
            contract.common_answers["UnknownError"],
        )
    _check_profile(contract.document.data)


def _check_operation(operation: Operation, function: Callable[..., Awaitable[Result]]) -> None:
    operation_id = operation.operation_id
    signature = inspect.signature(function)
    parameters = [parameter.name for parameter in operation.parameters]
    require(f"{operation_id}: parameters", parameters, [*signature.parameters][1:])
    results = {result.__name__: result for result in get_args(signature.return_annotation)}
    missing = f"{operation_id.removesuffix('_order').capitalize()}ParametersMissing"
    require(f"{operation_id}: answers", {*operation.answers}, {*results, missing, "ParameterInvalid", "UnknownError"})
    for name, result in results.items():
        answer = operation.answers[name]
        properties = [field for field in result._fields if field in answer.properties]
        require(f"{name}: its properties", [*answer.properties], ["message", *properties])
        _check_message(name, answer, [field for field in result._fields if field not in properties])
    _check_message(missing, operation.answers[missing], [])
    for parameter in parameters:
        _check_message("ParameterInvalid", operation.parameter_invalid, [parameter, "a problem"])


def _check_message(name: str, answer: Answer, values: list[str]) -> None:
    """Check that the message of an answer takes these values."""
    require(f"{name}: the number of values in its message", len(answer.texts) - 1, len(values))
    pattern = answer.properties["message"].get("pattern", "")
    if not re.search(pattern, answer.message(*values)):
        raise DocumentError(f"{name}: the pattern {pattern!r} does not allow {answer.message(*values)!r}")


@well_formed()
def _check_profile(root: Any) -> None:
    """Check that `OrderProfile` is the row in the database: the same columns in the same order (D6)."""
    schemas = root["components"]["schemas"]
    profile = facts(root, schemas["OrderProfile"])
    properties = profile.pop("properties")
    require("OrderProfile", [*properties], [*COLUMNS])
    require("OrderProfile", profile, {"type": "object", "required": [*COLUMNS], "additionalProperties": False})
    identifier = facts(root, schemas["Identifier"])
    columns = {field.column_name: field.field_type for field in AssignedOrder._meta.sorted_fields}
    expected = {column: COLUMN_SCHEMAS.get(field_type, identifier) for column, field_type in columns.items()}
    expected["execution_status"] = {"type": "string", "enum": [status.value for status in ExecutionStatus]}
    for column, schema in properties.items():
        require(f"OrderProfile: {column}", schema, expected[column])
    # An answer adds to the schema of a row that the order is acquired.
    acquired = {"properties": {"execution_status": {"type": "string", "enum": [ExecutionStatus.ACQUIRED.value]}}}
    order_profile = schemas["OrderAcquired"]["properties"]["order_profile"]
    require("order_profile", order_profile, {"allOf": [{"$ref": "#/components/schemas/OrderProfile"}, acquired]})
