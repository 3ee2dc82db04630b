"""The parts of the suite that decide something by themselves."""

import ast
import itertools
import json
import math
import re
import runpy
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from contract_tests import conftest
from contract_tests.clauses import CLAUSES, table
from contract_tests.suite import contract, model
from contract_tests.suite.calls import Order, acquire_request, assign_request, cancel_request
from contract_tests.suite.contract import (
    ACQUIRE,
    ACQUIRED,
    ALREADY_EXISTS,
    ASSIGN,
    CANCEL,
    CANCELED,
    CREATED,
    NO_ORDERS,
    Answer,
    Operation,
    not_active,
)
from contract_tests.suite.evidence import shortest
from contract_tests.suite.linearizability import is_linearizable
from contract_tests.suite.rules import expected_answer, judge, parse_time
from contract_tests.suite.transport import Request, Response, Step, Target

SUITE = Path(conftest.__file__).parent


def imported(module: Path) -> set[str]:
    """Return the names that a module imports, with the modules that they come from."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_the_suite_does_not_import_the_reference_implementation() -> None:
    """No module of the suite imports `orders`: the suite knows the contract, and no implementation of it."""
    for module in SUITE.rglob("*.py"):
        names = imported(module)
        assert not any(name.split(".")[0] in ("orders", "tests") for name in names), f"{module} imports {names}"


def test_imports_go_one_way() -> None:
    """Each module of `suite/` imports only those above it in the README."""
    _, _, how_it_works = (SUITE / "README.md").read_text("utf-8").partition("## How it works")
    order = re.findall(r"^  (\w+) ", how_it_works, re.MULTILINE)
    assert {f"{name}.py" for name in order} | {"__init__.py"} == {path.name for path in (SUITE / "suite").glob("*.py")}
    for index, name in enumerate(order):
        names = {other.split(".")[2] for other in imported(SUITE / "suite" / f"{name}.py") if ".suite." in other}
        assert names <= set(order[:index]), f"{name} imports {names}"


def test_the_readme_lists_the_clauses() -> None:
    """The table in the suite's README is the one that `orders-contract --clauses` prints."""
    assert table() in (SUITE / "README.md").read_text("utf-8"), "print it with `orders-contract --clauses`"


def test_every_clause_has_a_test() -> None:
    """Each clause has a test that is marked with it, except the two on errors, which every request checks."""
    source = "".join(path.read_text("utf-8") for path in SUITE.glob("test_*.py"))
    marks = "".join(re.findall(r"@pytest\.mark\.clause\((.*?)\)", source, re.DOTALL))
    assert set(re.findall(r"[A-Z]+-\d+", marks)) == set(CLAUSES) - {"ERROR-1", "ERROR-2"}


def test_the_readme_has_every_option_and_exit_code() -> None:
    """The options and exit codes in the README are those of the code."""
    readme = (SUITE / "README.md").read_text("utf-8")
    options = set(re.findall(r'add\(\s*"(--[a-z-]+)"', (SUITE / "options.py").read_text("utf-8")))
    assert options == set(re.findall(r"^\| `(--[a-z-]+)", readme, re.MULTILINE))
    assert re.findall(r"^\| (\d) \|", readme, re.MULTILINE) == [str(code) for code in range(6)]


@pytest.mark.parametrize(
    ("fact", "changed", "name", "found"),
    [
        ("/orders/assign:", "/orders/register:", "ASSIGN", "/orders/register"),
        ("    put:", "    patch:", "ASSIGN", "PATCH"),
        ("name: zone_id", "name: area_id", "ASSIGN", "('order_id', 'executor_id', 'area_id')"),
        ("'200':", "'201':", "CREATED", "201"),
        ("'400':", "'409':", "ALREADY_EXISTS", "409"),
        ("const: Successfully created", "const: Made", "CREATED", "Made"),
        ("const: AssignedOrder with provided orderId already exists", "const: Known", "ALREADY_EXISTS", "Known"),
        ("const: Successfully acquired", "const: Got", "ACQUIRED", "Got"),
        ("const: There are no orders assigned to you", "const: Nothing", "NO_ORDERS", "Nothing"),
        ("const: Successfully canceled", "const: Ended", "CANCELED", "Ended"),
        ("const: Missing parameters, please provide executor_id", "const: Executor?", "MISSING", "Executor?"),
        ("const: Unknown error", "const: Broken", "UNKNOWN_ERROR", "Broken"),
        ("const: Not found", "const: Nowhere", "NOT_FOUND", "Nowhere"),
        ("'404':", "'410':", "NOT_FOUND", "410"),
        ("const: Method not allowed", "const: Refused", "METHOD_NOT_ALLOWED", "Refused"),
        ("'^AssignedOrder with OrderId ", "'^Order ", "NOT_ACTIVE_START", "Order "),
        ("already been canceled$'", "ended$'", "NOT_ACTIVE_END", "has ended"),
        ("'^Invalid parameter ", "'^Bad ", "INVALID_START", "Bad "),
        ("zone_id): [", "zone_id) is [", "INVALID_MIDDLE", " is "),
        ("maxLength: 255", "maxLength: 64", "MAX_LENGTH", "64"),
        ("enum: [assigned,", "enum: [new,", "STATUSES", "('new', 'acquired', 'completed', 'cancelled')"),
        ("enum: [acquired]", "enum: [taken]", "PROFILE", "'execution_status': {'type': 'string', 'enum': ['taken']}"),
        ("        assign_time:", "        assigned_at:", "PROFILE", "'assigned_at'"),
    ],
)
def test_a_changed_document_changes_what_is_expected(
    fact: str, changed: str, name: str, found: str, tmp_path: Path
) -> None:
    """Each message, status, path, method, parameter, limit and property that the suite expects is the document's."""
    document = contract.PATH.read_text("utf-8")
    assert fact in document
    (tmp_path / "openapi.yaml").write_text(document.replace(fact, changed), "utf-8")
    (tmp_path / "suite").mkdir()
    copy = shutil.copy(contract.__file__, tmp_path / "suite")
    assert found in repr(runpy.run_path(str(copy))[name])


@pytest.mark.parametrize(
    ("operation", "query", "kind", "clause", "parameter"),
    [
        (ASSIGN, "order_id=a&executor_id=b&zone_id=c", "valid", "", ""),
        (ASSIGN, "zone_id=c&x=%FF&executor_id=b&order_id=a", "valid", "", ""),
        (ASSIGN, "order_id=a&executor_id=b", "missing", "ASSIGN-2", ""),
        (ASSIGN, "order_id=a&executor_id=b&zone_id=", "missing", "PARAM-1", ""),
        (ASSIGN, "order_id=%00&executor_id=b", "missing", "PARAM-2", ""),
        (ASSIGN, "zone_id=%00&order_id=%FF&executor_id=b", "invalid", "PARAM-6", "order_id"),
        (ACQUIRE, "", "missing", "ACQUIRE-2", ""),
        (ACQUIRE, "executor_id", "missing", "PARAM-1", ""),
        (ACQUIRE, "executor_id=a&executor_id=a", "invalid", "PARAM-7", "executor_id"),
        (ACQUIRE, "executor_id=" + "%F0%9F%9A%B2" * 255, "valid", "", ""),
        (ACQUIRE, "executor_id=" + "%F0%9F%9A%B2" * 256, "invalid", "PARAM-4", "executor_id"),
        (CANCEL, "order_id=a%7F", "invalid", "PARAM-5", "order_id"),
        (CANCEL, "order_id=a%C2%85+%20", "valid", "", ""),
        (CANCEL, "order_id=%zz", "open", "", ""),
        (CANCEL, "order_id=&order_id=", "open", "", ""),
        (CANCEL, "order_id=a&order_id=", "open", "", ""),
    ],
)
def test_what_is_expected_by_the_parameters(
    operation: Operation, query: str, kind: str, clause: str, parameter: str
) -> None:
    """Missing comes before invalid, and the first invalid parameter is named. What the document leaves open is open."""
    expected = expected_answer(operation, query)
    assert (expected.kind, expected.clause, expected.parameter) == (kind, clause, parameter), query


def response(answer: Answer | tuple[int, str], content_type: str = "application/json", **more: object) -> Response:
    """Return a response with a message, and more properties."""
    status, message = answer
    return Response(status, (("Content-Type", content_type),), json.dumps({"message": message, **more}).encode())


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("127.0.0.1:8080", "does not start with http:// or https://"),
        ("http://", "has no host"),
        ("http://127.0.0.1:port", "port"),
        ("http://127.0.0.1:8080/?x=y", "more than scheme, host, port and path"),
    ],
)
def test_a_wrong_url_is_refused(url: str, words: str) -> None:
    """An error says what is wrong with the URL."""
    with pytest.raises(ValueError, match=words):
        Target(url)


ORDER = Order("a", "b", "c")
CREATE = assign_request(ORDER)
DROP = cancel_request("a")
JSON = (("Content-Type", "application/json"),)
NO_STORE = (("Cache-Control", "no-store"),)


@pytest.mark.parametrize(
    ("request_", "given", "expected", "wrong", "side_findings"),
    [
        (CREATE, response(CREATED), CREATED, False, []),
        (CREATE, response(CREATED, "application/json; charset=utf-8"), CREATED, False, []),
        (CREATE, response((201, CREATED.message)), CREATED, True, []),
        # An answer of another status is wrong anyhow, in whatever form.
        (CREATE, Response(204, (), b""), CREATED, True, []),
        (CREATE, response(CREATED, x=1), CREATED, False, ["ASSIGN-1"]),
        (CREATE, response(CREATED, "text/plain"), CREATED, False, ["WIRE-1"]),
        (CREATE, Response(200, JSON, b'{"message": "Successfully created"} x'), None, True, ["WIRE-1"]),
        (
            CREATE,
            Response(200, JSON, b'{"message": "", "message": "Successfully created"}'),
            None,
            True,
            ["WIRE-1"],
        ),
        (CREATE, response(CREATED), ALREADY_EXISTS, True, []),
        (CREATE, response(ALREADY_EXISTS), None, False, []),
        (DROP, response(not_active("a")), None, False, []),
        (DROP, response(not_active("A")), None, False, ["CANCEL-5"]),
        (DROP, response(not_active("a")), CANCELED, True, []),
        (DROP, response((404, not_active("a").message)), not_active("a"), True, []),
    ],
)
def test_what_is_wrong_with_a_response(
    request_: Request, given: Response, expected: Answer | None, wrong: bool, side_findings: list[str]
) -> None:
    """A wrong status or message is told apart from the side findings."""
    found, others = judge(request_, given, expected)
    assert (bool(found), [finding.clause for finding in others]) == (wrong, side_findings), given


@pytest.mark.parametrize(
    ("changed", "headers", "got"),
    [
        ({}, (("Cache-Control", "max-age=60"),), "Cache-Control: max-age=60"),
        ({}, (), "no Cache-Control"),
        ({}, (("Cache-Control", "no-store"), ("ETag", '"x"')), 'ETag: "x"'),
        ({"execution_status": "assigned"}, NO_STORE, '"execution_status": "assigned"'),
        ({"acquire_time": None}, NO_STORE, '"acquire_time": null'),
        ({"executor_id": "other"}, NO_STORE, '"executor_id": "other"'),
    ],
)
def test_the_wrong_part_of_a_response_is_told(
    changed: dict[str, object], headers: tuple[tuple[str, str], ...], got: str
) -> None:
    """Of a long answer, the finding has the header or the property that is wrong."""
    time = "2026-01-31T12:00:00Z"
    profile = vars(ORDER) | {"assigned_order_id": "5ebb80dc-6fad-4cdf-9f87-9543480c5f4d", "assign_time": time}
    profile |= {"execution_status": "acquired", "acquire_time": time} | changed
    body = json.dumps({"message": ACQUIRED.message, "order_profile": profile}).encode()
    _, findings = judge(acquire_request(ORDER.executor_id), Response(200, JSON + headers, body), ACQUIRED)
    assert [finding.got for finding in findings] == [got]


@pytest.mark.parametrize("text", ["2026-01-31T12:00:00Z", "2026-01-31T12:00:00.5Z", "2026-01-31T12:00:00.123456789Z"])
def test_times_of_any_precision_are_read(text: str) -> None:
    """RFC 3339 allows any number of digits after the second."""
    assert parse_time(text).isoformat().startswith("2026-01-31T12:00:00")


@pytest.mark.parametrize(
    "text",
    ["2026-01-31T12:00:00+00:00", "2026-01-31T12:00:00", "2026-01-31 12:00:00Z", "2026-13-31T12:00:00Z", "now", ""],
)
def test_other_times_are_refused(text: str) -> None:
    """A time that is not in UTC or not in RFC 3339 is refused."""
    with pytest.raises(ValueError, match=r".+"):
        parse_time(text)


ASSIGNED = model.assign(model.State(), ORDER).state
CREATES, ACQUIRES, CANCELS = assign_request(ORDER), acquire_request(ORDER.executor_id), cancel_request(ORDER.order_id)


def history(*calls: tuple[float, float, Request, Answer | None]) -> list[Step]:
    """Return steps: when each request was on its way, the request, and its answer if it has one."""
    return [
        Step(request, response(answer) if answer else None, "", started, ended)
        for started, ended, request, answer in calls
    ]


def test_a_linearizable_history_is_recognised() -> None:
    """Requests that overlap may have come in any order. Others may not."""
    overlapping = history((0, 3, CANCELS, CANCELED), (1, 2, CREATES, CREATED), (1, 4, ACQUIRES, ACQUIRED))
    assert is_linearizable(overlapping, model.State())
    apart = history((0, 1, CANCELS, CANCELED), (2, 3, CREATES, CREATED))
    assert is_linearizable(apart, model.State()) is False


def test_a_history_that_is_not_linearizable_is_recognised() -> None:
    """Two assigns that created one order, two cancels that cancelled it, and an acquire that came too late."""
    created_twice = history((0, 3, CREATES, CREATED), (0, 3, CREATES, CREATED))
    assert is_linearizable(created_twice, model.State()) is False
    cancelled_twice = history((0, 3, CANCELS, CANCELED), (0, 3, CANCELS, CANCELED))
    assert is_linearizable(cancelled_twice, ASSIGNED) is False
    too_late = history((0, 1, CANCELS, CANCELED), (2, 3, ACQUIRES, ACQUIRED))
    assert is_linearizable(too_late, ASSIGNED) is False


def test_a_request_without_an_answer_may_have_taken_effect() -> None:
    """A request without an answer takes effect at any time after its sending, however late, or never."""
    unanswered, acquired = (2, 3, CREATES, None), (5, 6, ACQUIRES, ACQUIRED)
    assert is_linearizable(history(unanswered, (4, 5, ACQUIRES, NO_ORDERS), acquired), model.State())
    assert is_linearizable(history(unanswered, (4, 5, CREATES, CREATED), acquired), model.State())
    assert is_linearizable(history((0, 1, ACQUIRES, ACQUIRED), unanswered), model.State()) is False
    assert is_linearizable(history(unanswered, acquired, (7, 8, ACQUIRES, NO_ORDERS)), model.State()) is False


def test_a_history_must_lead_to_the_final_state() -> None:
    """An answered change must be in the final state. A change without an answer may be, and no other."""
    created, unanswered = (0, 1, CREATES, CREATED), (0, 1, CREATES, None)
    assert is_linearizable(history(created), model.State(), ASSIGNED)
    assert is_linearizable(history(created), model.State(), model.State()) is False
    assert is_linearizable(history(unanswered), model.State(), ASSIGNED)
    assert is_linearizable(history(unanswered), model.State(), model.State())
    assert is_linearizable(history(unanswered), ASSIGNED, model.State()) is False
    assert is_linearizable([], model.State(), ASSIGNED) is False


def test_an_acquired_order_must_be_the_assigned_one() -> None:
    """An acquire that returns another zone than the assign that created the order is not explained."""
    created = history((0, 1, CREATES, CREATED))
    for zone_id, is_right in ((ORDER.zone_id, True), ("other", False)):
        profile = {"order_id": ORDER.order_id, "zone_id": zone_id}
        acquired = Step(ACQUIRES, response(ACQUIRED, order_profile=profile), "", 2, 3)
        assert is_linearizable([*created, acquired], model.State()) is is_right


def test_a_search_that_takes_too_long_gives_up() -> None:
    """When the search reaches its limit, it says neither yes nor no."""
    assigns = [assign_request(Order(f"order-{number}", "executor", "zone")) for number in range(12)]
    many = history(*[(0, 1, request, CREATED) for request in assigns], (0, 1, CANCELS, CANCELED))
    assert is_linearizable(many, model.State(), limit=500) is None
    assert is_linearizable(many[:4], model.State(), limit=500)


def test_the_search_agrees_with_trying_every_order() -> None:
    """On small histories, the search finds what the trial of all permutations finds."""
    calls: list[tuple[Request, Answer | None]] = [
        (CREATES, CREATED),
        (CREATES, ALREADY_EXISTS),
        (CREATES, None),
        (CANCELS, CANCELED),
        (CANCELS, not_active(ORDER.order_id)),
        (CANCELS, None),
        (ACQUIRES, ACQUIRED),
    ]
    spans = [(0, 2), (1, 3), (2.5, 4)]
    for chosen in itertools.product(calls, repeat=3):
        steps = history(*[(*span, *call) for span, call in zip(spans, chosen, strict=True)])
        ends = by_trial(steps)
        assert is_linearizable(steps, model.State()) is bool(ends), chosen
        for end in (model.State(), ASSIGNED, model.cancel(ASSIGNED, ORDER.order_id).state):
            assert is_linearizable(steps, model.State(), end) is (end in ends), (chosen, end)


def by_trial(steps: list[Step]) -> set[model.State]:
    """Return the states to which the orders lead that explain the answers and that the times allow, by trying all."""
    answered = [step for step in steps if step.response is not None]
    unanswered = [replace(step, ended=math.inf) for step in steps if step.response is None]
    return {
        state
        for count in range(len(unanswered) + 1)
        for effective in itertools.combinations(unanswered, count)
        for order in itertools.permutations([*answered, *effective])
        if not any(later.ended < earlier.started for earlier, later in itertools.combinations(order, 2))
        if (state := state_after(order)) is not None
    }


def state_after(order: Sequence[Step]) -> model.State | None:
    """Return the state after steps in this order; None if their answers are others."""
    state = model.State()
    for step in order:
        expected = model.expected(state, step.request)
        assert expected is not None
        if step.response is not None and step.response.answer != expected.answer:
            return None
        state = expected.state
    return state


def test_the_model_keeps_the_lifecycle() -> None:
    """Known ids stay known, and an executor has at most one active order. Random histories rely on this model."""
    first, second = Order("first", "executor", "zone"), Order("second", "executor", "zone")
    state = model.assign(model.State(), first).state
    assert model.assign(state, Order("first", "other", "zone")) == (ALREADY_EXISTS, state, None)
    state = model.assign(state, second).state
    assert model.acquire(state, "executor") == (ACQUIRED, state, second)
    assert model.cancel(state, "first").answer == not_active("first")
    state = model.cancel(state, "second").state
    assert model.acquire(state, "executor").order is None
    assert model.assign(state, second).answer == ALREADY_EXISTS


def test_evidence_is_as_short_as_possible() -> None:
    """Requests that make up for each other are left out, too: here the assign and the cancel of a second order."""
    one, other = Order("order-1", "executor", "zone"), Order("order-2", "executor", "zone")
    order_requests = [(assign_request(order), cancel_request(order.order_id)) for order in (one, other)]
    requests = [*order_requests[0], *order_requests[1], assign_request(one), acquire_request("executor")]

    def still_fails(steps: Sequence[Step]) -> tuple[Step, ...] | None:
        """Fail like a server that takes a repeated assign as new if the executor has no order."""
        kept = [step.request for step in steps]
        is_cancelled = kept[:2] == requests[:2] and kept[-2:] == requests[-2:]
        is_busy = requests[2] in kept and requests[3] not in kept
        return tuple(steps) if is_cancelled and not is_busy else None

    found = shortest([Step(request, None) for request in requests], still_fails)
    assert found is not None and [step.request for step in found] == [*requests[:2], *requests[-2:]]
