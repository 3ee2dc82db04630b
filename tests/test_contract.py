"""`openapi.yaml` and its loader: what is read from it, what is refused, what is wrong with a value."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from orders.contract import Contract, ContractError, Operation, ParameterError, contract_path, load_contract
from orders.http.app import check_operations
from orders.http.responses import UNKNOWN_ERROR
from orders.operations import OPERATIONS


def document() -> dict[str, Any]:
    """Return a fresh copy of the contract as data."""
    data: dict[str, Any] = yaml.safe_load(contract_path().read_text())
    return data


def operation(contract: Contract, operation_id: str) -> Operation:
    """Return an operation of the contract by its id."""
    return next(operation for operation in contract.operations if operation.operation_id == operation_id)


def load(tmp_path: Path, text: str) -> Contract:
    """Load a contract from its text."""
    path = tmp_path / "openapi.yaml"
    path.write_text(text)
    return load_contract(path)


def test_the_operations_of_the_contract_are_those_of_the_document(contract: Contract) -> None:
    """Methods, paths and parameters come out of the contract in its order."""
    found = [
        (
            operation.operation_id,
            operation.method,
            operation.path,
            [parameter.name for parameter in operation.parameters],
        )
        for operation in contract.operations
    ]
    assert found == [
        ("assign_order", "PUT", "/orders/assign", ["order_id", "executor_id", "zone_id"]),
        ("acquire_order", "GET", "/order/acquire", ["executor_id"]),
        ("cancel_order", "POST", "/order/cancel", ["order_id"]),
    ]


def test_each_documented_answer_has_an_example(contract: Contract) -> None:
    """Status codes and their first examples come out of the contract; one of 500 is what any error is answered with."""
    for known in contract.operations:
        assert list(known.examples) == [200, 400, 500]
        assert known.error_codes == [400, 500]
        assert known.examples[500] == json.loads(UNKNOWN_ERROR.body)
    assert operation(contract, "assign_order").examples[200] == {"message": "Successfully created"}
    names = "order_id, executor_id and zone_id"
    assert operation(contract, "assign_order").examples[400] == {
        "message": f"Missing parameters, please provide {names}"
    }


def test_every_example_is_valid_by_its_schema() -> None:
    """Each named example of an answer fits the schema of its status, and exactly one branch of it."""
    contract = document()
    responses = [
        (operation["operationId"], status, response)
        for path in contract["paths"].values()
        for operation in path.values()
        for status, response in operation["responses"].items()
    ]
    examples = 0
    for operation_id, status, response in responses:
        if "$ref" in response:
            response = contract["components"]["responses"][response["$ref"].rsplit("/", 1)[1]]
        content = response["content"]["application/json"]
        branches = content["schema"].get("oneOf", [content["schema"]])
        assert len(content["examples"]) == len(branches), f"{operation_id} {status}: an example for each branch"
        for name, example in content["examples"].items():
            schema = {**content["schema"], "components": contract["components"]}
            errors = [error.message for error in Draft202012Validator(schema).iter_errors(example["value"])]
            assert not errors, f"{operation_id} {status} {name}: {errors}"
            examples += 1
    assert examples == 15


@pytest.mark.parametrize(
    ("query", "order_id"),
    [
        ("order_id=a", "a"),
        ("order_id=a+b", "a b"),
        ("order_id=a%20b", "a b"),
        ("order_id=a%2Bb", "a+b"),
        ("order_id=%20a%20", " a "),
        ("order_id=+", " "),
        ("order_id=A", "A"),
        ("order_id=a=b", "a=b"),
        ("order_id=%C3%A9", "é"),
        ("order_id=\xc3\xa9", "é"),
        ("order_id=e%CC%81", "e\u0301"),
        ("order_id=%F0%9F%98%80", "😀"),
        ("order_id=%E2%80%A8", "\u2028"),
        ("order_id=%C2%85", "\u0085"),
        ("order_id=%", "%"),
        ("order_id=%zz", "%zz"),
        ("order_id=0", "0"),
        ("order%5Fid=a", "a"),
        ("order_id=a&other=1&other=2&%ff=3", "a"),
        ("order_id=a&Order_id=b", "a"),
        ("&&order_id=a&", "a"),
        ("order_id=" + "%F0%9F%98%80" * 255, "😀" * 255),
    ],
)
def test_an_identifier_is_opaque_text(contract: Contract, query: str, order_id: str) -> None:
    """Identifiers are decoded once and are otherwise left as they are (D7); unknown parameters are ignored (D10)."""
    assert operation(contract, "cancel_order").arguments(query) == {"order_id": order_id}


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("order_id=" + "a" * 256, "longer than 255 characters"),
        ("order_id=" + "%F0%9F%98%80" * 256, "longer than 255 characters"),
        ("order_id=%00", "control characters are not allowed"),
        ("order_id=a%0A", "control characters are not allowed"),
        ("order_id=%1F", "control characters are not allowed"),
        ("order_id=a%7Fb", "control characters are not allowed"),
        ("order_id=%FF", "not UTF-8"),
        ("order_id=\xff", "not UTF-8"),
        ("order_id=%ED%A0%80", "not UTF-8"),
        ("order_id=%C0%80", "not UTF-8"),
        ("order_id=a&order_id=a", "given more than once"),
        ("order_id=a&order_id=b", "given more than once"),
        ("order_id=&order_id=b", "given more than once"),
        ("order_id=%FF&order_id=%FF", "given more than once"),
        ("order_id=a&order%5Fid=a", "given more than once"),
    ],
)
def test_an_invalid_parameter_is_named_with_what_is_wrong(contract: Contract, query: str, problem: str) -> None:
    """Too long, control characters, not UTF-8, or given more than once is invalid (D9)."""
    with pytest.raises(ParameterError) as caught:
        operation(contract, "cancel_order").arguments(query)
    assert str(caught.value) == f"Invalid parameter order_id: {problem}"


@pytest.mark.parametrize(
    "query",
    [
        "",
        "order_id=1&executor_id=2",
        "order_id=1&executor_id=2&zone_id",
        "order_id=1&executor_id=2&zone_id=",
        "order_id=&order_id=&executor_id=2&zone_id=3",
        "order_id=1&executor_id=2&ZONE_ID=3",
        "order_id=%FF&executor_id=2&executor_id=2",
    ],
)
def test_a_missing_parameter_is_reported_before_an_invalid_one(contract: Contract, query: str) -> None:
    """Absent and empty are missing, which comes first; the message lists all of the operation's parameters (D8)."""
    with pytest.raises(ParameterError) as caught:
        operation(contract, "assign_order").arguments(query)
    assert str(caught.value) == "Missing parameters, please provide order_id, executor_id and zone_id"


def test_of_several_invalid_parameters_the_first_of_the_contract_is_named(contract: Contract) -> None:
    """The contract's order decides which parameter is named, not the order in the query (D9)."""
    with pytest.raises(ParameterError) as caught:
        operation(contract, "assign_order").arguments("zone_id=%00&executor_id=%FF&order_id=1")
    assert str(caught.value) == "Invalid parameter executor_id: not UTF-8"


def test_the_limits_are_those_of_the_document(tmp_path: Path) -> None:
    """Limits that are edited in the contract are the limits of the server."""
    contract = document()
    contract["components"]["schemas"]["Identifier"] |= {
        "minLength": 2,
        "maxLength": 3,
        "pattern": "^[a-c]+$",
        "x-pattern-error": "only a, b and c",
    }
    cancel = operation(load(tmp_path, yaml.safe_dump(contract, sort_keys=False)), "cancel_order")
    assert cancel.arguments("order_id=abc") == {"order_id": "abc"}
    for value, problem in [
        ("a", "shorter than 2 characters"),
        ("abca", "longer than 3 characters"),
        ("xy", "only a, b and c"),
    ]:
        with pytest.raises(ParameterError, match=f"^Invalid parameter order_id: {problem}$"):
            cancel.arguments(f"order_id={value}")


def without_operation_id(contract: dict[str, Any]) -> None:
    """Take an operation's id away."""
    del contract["paths"]["/order/cancel"]["post"]["operationId"]


def with_the_same_id_twice(contract: dict[str, Any]) -> None:
    """Give two operations one id."""
    contract["paths"]["/order/cancel"]["post"]["operationId"] = "acquire_order"


def with_an_unknown_keyword(contract: dict[str, Any]) -> None:
    """Constrain a parameter in a way that the server does not enforce."""
    contract["components"]["schemas"]["Identifier"]["format"] = "uuid"


def with_a_dangling_reference(contract: dict[str, Any]) -> None:
    """Refer to what is not there."""
    contract["paths"]["/order/cancel"]["post"]["parameters"] = [{"$ref": "#/components/parameters/nothing"}]


def with_a_circular_reference(contract: dict[str, Any]) -> None:
    """Refer to oneself."""
    contract["components"]["parameters"]["order_id"] = {"$ref": "#/components/parameters/order_id"}


def with_a_header_parameter(contract: dict[str, Any]) -> None:
    """Read a parameter from elsewhere than the query."""
    contract["components"]["parameters"]["order_id"]["in"] = "header"


def with_an_optional_parameter(contract: dict[str, Any]) -> None:
    """Make a parameter optional."""
    contract["components"]["parameters"]["order_id"]["required"] = False


def with_empty_values_allowed(contract: dict[str, Any]) -> None:
    """Allow an empty value, which the service takes for a missing one."""
    contract["components"]["schemas"]["Identifier"]["minLength"] = 0


def with_a_broken_pattern(contract: dict[str, Any]) -> None:
    """Write a pattern that is none."""
    contract["components"]["schemas"]["Identifier"]["pattern"] = "(["


def with_a_path_template(contract: dict[str, Any]) -> None:
    """Put a parameter into a path."""
    contract["paths"]["/order/{id}"] = contract["paths"].pop("/order/cancel")


def with_a_misspelled_method(contract: dict[str, Any]) -> None:
    """Misspell a method."""
    contract["paths"]["/order/cancel"]["pots"] = contract["paths"]["/order/cancel"].pop("post")


def with_another_version(contract: dict[str, Any]) -> None:
    """Claim to be of another OpenAPI version."""
    contract["openapi"] = "3.0.3"


def with_a_reserved_path(contract: dict[str, Any]) -> None:
    """Put an operation where the server's own paths are."""
    contract["paths"]["/_controls/cancel"] = contract["paths"].pop("/order/cancel")


def without_responses(contract: dict[str, Any]) -> None:
    """Forget what an operation answers."""
    del contract["paths"]["/order/cancel"]["post"]["responses"]


def with_a_range_of_codes(contract: dict[str, Any]) -> None:
    """Document all client errors as one."""
    responses = contract["paths"]["/order/cancel"]["post"]["responses"]
    responses["4XX"] = responses.pop("400")


def without_an_example(contract: dict[str, Any]) -> None:
    """Forget the examples of an answer."""
    del contract["components"]["responses"]["UnknownError"]["content"]["application/json"]["examples"]


def without_an_example_s_value(contract: dict[str, Any]) -> None:
    """Have an example that shows nothing."""
    examples = contract["components"]["responses"]["UnknownError"]["content"]["application/json"]["examples"]
    del examples["unknown_error"]["value"]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (with_a_reserved_path, "path '/_controls/cancel' begins with /_, which is the server's own"),
        (without_responses, "cancel_order: responses is not a mapping"),
        (with_a_range_of_codes, "cancel_order: response 4XX: '4XX' is not a status code"),
        (without_an_example, "assign_order: response 500: examples is not a mapping"),
        (without_an_example_s_value, "assign_order: response 500: its first example has no value"),
        (without_operation_id, "post /order/cancel has no operationId"),
        (with_the_same_id_twice, "operationId acquire_order is used more than once"),
        (with_an_unknown_keyword, "assign_order: parameter order_id: its schema: format is not supported"),
        (
            with_a_dangling_reference,
            "cancel_order: a parameter: $ref '#/components/parameters/nothing' points to nothing",
        ),
        (with_a_circular_reference, "is not a reference into this document"),
        (with_a_header_parameter, "assign_order: parameter order_id: `in` must be query"),
        (with_an_optional_parameter, "assign_order: parameter order_id: `required` must be true"),
        (with_empty_values_allowed, "assign_order: parameter order_id: minLength must be at least 1, not 0"),
        (with_a_broken_pattern, "pattern '([' is not a regular expression"),
        (with_a_path_template, "path '/order/{id}' is not a fixed path"),
        (with_a_misspelled_method, "path /order/cancel: 'pots' is not supported"),
        (with_another_version, "openapi is '3.0.3', not 3.1.x"),
    ],
)
def test_a_contract_that_cannot_be_kept_is_refused(tmp_path: Path, change: Any, complaint: str) -> None:
    """A mistake in the contract is named in one line, with the file."""
    contract = document()
    change(contract)
    with pytest.raises(ContractError) as caught:
        load(tmp_path, yaml.safe_dump(contract, sort_keys=False))
    text = str(caught.value)
    assert text.startswith(f"{tmp_path / 'openapi.yaml'}: "), text
    assert complaint in text
    assert "\n" not in text


@pytest.mark.parametrize(
    "text", ["", "[]", "openapi: [", "\0", "openapi: 3.1.0\npaths: 7", "a: !!python/object:os.system x"]
)
def test_a_file_that_is_no_contract_is_refused(tmp_path: Path, text: str) -> None:
    """What is not a contract at all is refused in one line, with the file."""
    with pytest.raises(ContractError) as caught:
        load(tmp_path, text)
    assert str(tmp_path / "openapi.yaml") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_contract_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """A missing file is named."""
    with pytest.raises(ContractError, match=r"cannot read .*openapi\.yaml: No such file or directory"):
        load_contract(tmp_path / "openapi.yaml")


def test_contract_and_code_have_the_same_operations(contract: Contract) -> None:
    """An operation without a function, a function without an operation, and other arguments are each named."""

    def archive_order() -> None:
        """An operation that the contract does not have."""

    def cancel_order(book: object, executor_id: str) -> None:
        """An operation with other arguments than the contract's."""

    check_operations(contract, OPERATIONS)
    without_cancel = {name: function for name, function in OPERATIONS.items() if name != "cancel_order"}
    for functions, complaint in [
        (without_cancel, "the contract has cancel_order, for which orders.operations has no function"),
        (
            {**OPERATIONS, "archive_order": archive_order},
            "orders.operations has archive_order, which the contract does not",
        ),
        (
            {**OPERATIONS, "cancel_order": cancel_order},
            "cancel_order has the parameters order_id in the contract and exec",
        ),
    ]:
        with pytest.raises(ContractError, match=complaint):
            check_operations(contract, functions)  # type: ignore[arg-type]


def test_the_document_is_served_as_it_is(contract: Contract) -> None:
    """`/openapi.yaml` is the file to the letter, and `/openapi.json` the same data."""
    assert contract.document.as_yaml == contract_path().read_bytes()
    assert json.loads(contract.document.as_json) == document()
