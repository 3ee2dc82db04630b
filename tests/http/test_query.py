"""Query strings: how parameters are read, which are missing, and what is wrong with a value (D7 to D10)."""

import pytest

from orders.contract import Contract, Operation
from orders.http.query import ParameterError, read_arguments


def operation(contract: Contract, operation_id: str) -> Operation:
    """Return an operation of the contract by its id."""
    return next(operation for operation in contract.operations if operation.operation_id == operation_id)


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
    assert read_arguments(operation(contract, "cancel_order"), query) == {"order_id": order_id}


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
        read_arguments(operation(contract, "cancel_order"), query)
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
        read_arguments(operation(contract, "assign_order"), query)
    assert str(caught.value) == "Missing parameters, please provide order_id, executor_id and zone_id"


def test_of_several_invalid_parameters_the_first_of_the_contract_is_named(contract: Contract) -> None:
    """The contract's order decides which parameter is named, not the order in the query (D9)."""
    with pytest.raises(ParameterError) as caught:
        read_arguments(operation(contract, "assign_order"), "zone_id=%00&executor_id=%FF&order_id=1")
    assert str(caught.value) == "Invalid parameter executor_id: not UTF-8"
