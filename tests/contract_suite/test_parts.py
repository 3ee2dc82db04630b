"""The parts of the suite that decide something by themselves."""

import ast
import itertools
import re
from pathlib import Path

import pytest
import yaml

from contract_tests import conftest, model
from contract_tests.clauses import CLAUSES, table
from contract_tests.linearizability import Call, Outcome, call_of, search
from contract_tests.rules import (
    ACQUIRE,
    ACQUIRED,
    ALREADY_EXISTS,
    ASSIGN,
    CANCEL,
    CANCELED,
    CREATED,
    Operation,
    deserves,
    judge,
    not_active,
    parse_time,
)
from contract_tests.service import Order
from contract_tests.transport import Answer, Exchange, Request, Target

SUITE = Path(conftest.__file__).parent


def test_the_suite_does_not_import_the_reference_implementation() -> None:
    """No module of the suite imports `orders`: it knows the contract, and not how it is kept."""
    modules = sorted(SUITE.glob("*.py"))
    assert len(modules) > 10
    for module in modules:
        for node in ast.walk(ast.parse(module.read_text("utf-8"))):
            names = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            assert not any(name.split(".")[0] in ("orders", "tests") for name in names), (module, names)


def test_the_readme_lists_the_clauses() -> None:
    """The table in the suite's README is the one that the code has."""
    assert table() in (SUITE / "README.md").read_text("utf-8"), "print it with `python -m contract_tests`"


def test_every_clause_has_a_test() -> None:
    """Each clause is checked by a test that is marked with it; the two on errors are by every request."""
    source = "".join(path.read_text("utf-8") for path in SUITE.glob("test_*.py"))
    marks = "".join(re.findall(r"@pytest\.mark\.clause\((.*?)\)", source, re.DOTALL))
    assert set(re.findall(r"[A-Z]+-\d+", marks)) == set(CLAUSES) - {"ERROR-1", "ERROR-2"}


def test_the_readme_has_every_option_and_exit_code() -> None:
    """The options and exit codes in the README are those of the code."""
    readme = (SUITE / "README.md").read_text("utf-8")
    options = set(re.findall(r'"(--[a-z-]+)"', Path(conftest.__file__).read_text("utf-8")))
    options -= {"--port", "--no-access-log", "--database"}
    assert options == set(re.findall(r"^\| `(--[a-z-]+)", readme, re.MULTILINE))
    assert re.findall(r"^\| (\d) \|", readme, re.MULTILINE) == [str(code) for code in range(6)]


def test_the_jobs_for_other_projects_are_whole() -> None:
    """Both jobs in the README are YAML, run the suite against a URL, and keep the report."""
    jobs = re.findall(r"```yaml\n(.*?)```", (SUITE / "README.md").read_text("utf-8"), re.DOTALL)
    assert len(jobs) == 2
    for job in jobs:
        assert isinstance(yaml.safe_load(job), dict), job
        assert "pip install './orders-service[contract]'" in job and "contract-report" in job, job
        assert "pytest orders-service/contract_tests --base-url http://127.0.0.1:8080" in job, job


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
def test_what_a_request_deserves(operation: Operation, query: str, kind: str, clause: str, parameter: str) -> None:
    """Missing comes before invalid, the first invalid parameter counts, and what the document leaves open is open."""
    deserved = deserves(operation, query)
    assert (deserved.kind, deserved.clause, deserved.parameter) == (kind, clause, parameter), query


def answer(status: int, body: str, content_type: str = "application/json") -> Answer:
    """Return an answer."""
    return Answer(status, (("Content-Type", content_type),), body.encode())


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("127.0.0.1:8080", "does not start with http:// or https://"),
        ("http://", "names no host"),
        ("http://127.0.0.1:port", "port"),
        ("http://127.0.0.1:8080/?x=y", "more than scheme, host, port and path"),
    ],
)
def test_a_url_that_is_none_is_refused(url: str, words: str) -> None:
    """What is wrong with the URL of a server is said in words."""
    with pytest.raises(ValueError, match=words):
        Target(url)


CREATE = Request("PUT", "/orders/assign", "order_id=a&executor_id=b&zone_id=c")
DROP = Request("POST", "/order/cancel", "order_id=a")


@pytest.mark.parametrize(
    ("request_", "given", "expected", "wrong", "beside"),
    [
        (CREATE, answer(200, '{"message": "Successfully created"}'), CREATED, None, []),
        (
            CREATE,
            answer(200, '{"message": "Successfully created"}', "application/json; charset=utf-8"),
            CREATED,
            None,
            [],
        ),
        (CREATE, answer(201, '{"message": "Successfully created"}'), CREATED, "ASSIGN-1", []),
        (CREATE, answer(200, '{"message": "Successfully created", "x": 1}'), CREATED, None, ["ASSIGN-1"]),
        (CREATE, answer(200, '{"message": "Successfully created"}', "text/plain"), CREATED, None, ["WIRE-1"]),
        (CREATE, answer(200, '{"message": "Successfully created"} x'), None, "ASSIGN-1", ["WIRE-1"]),
        (CREATE, answer(200, '{"message": "x", "message": "Successfully created"}'), None, "ASSIGN-1", ["WIRE-1"]),
        (CREATE, answer(200, '{"message": "Successfully created"}'), ALREADY_EXISTS, "ASSIGN-3", []),
        (CREATE, answer(400, '{"message": "AssignedOrder with provided orderId already exists"}'), None, None, []),
        (DROP, answer(200, f'{{"message": "{not_active("a")}"}}'), None, None, []),
        (DROP, answer(200, f'{{"message": "{not_active("A")}"}}'), None, None, ["CANCEL-5"]),
        (DROP, answer(200, f'{{"message": "{not_active("a")}"}}'), CANCELED, "CANCEL-1", []),
        (DROP, answer(404, f'{{"message": "{not_active("a")}"}}'), not_active("a"), "CANCEL-3", []),
    ],
)
def test_what_is_wrong_with_an_answer(
    request_: Request, given: Answer, expected: str | None, wrong: str | None, beside: list[str]
) -> None:
    """A wrong status or message is told apart from what is wrong beside it."""
    found, others = judge(request_, given, expected)
    assert (found.clause if found else None, [finding.clause for finding in others]) == (wrong, beside), given


@pytest.mark.parametrize("text", ["2026-01-31T12:00:00Z", "2026-01-31T12:00:00.5Z", "2026-01-31T12:00:00.123456789Z"])
def test_times_of_any_precision_are_read(text: str) -> None:
    """RFC 3339 allows any number of digits after the second."""
    assert parse_time(text).isoformat().startswith("2026-01-31T12:00:00")


@pytest.mark.parametrize(
    "text",
    ["2026-01-31T12:00:00+00:00", "2026-01-31T12:00:00", "2026-01-31 12:00:00Z", "2026-13-31T12:00:00Z", "now", ""],
)
def test_other_times_are_refused(text: str) -> None:
    """Not UTC, not RFC 3339, or no time at all."""
    with pytest.raises(ValueError, match=r".+"):
        parse_time(text)


ORDER = Order("order", "executor", "zone")


def calls(*given: tuple[float, float, str, str, Order]) -> list[Call]:
    """Return calls: when each was on its way, its method, the message in its answer, and the order it is about."""
    result = []
    for started, ended, method, message, order in given:
        body = {"message": message}
        exchange = Exchange(
            Request(method, ""), Answer(200, (), str(body).replace("'", '"').encode()), "", started, ended
        )
        result.append(call_of(exchange, order))
    return result


def test_a_history_that_an_order_explains_is_linearizable() -> None:
    """What overlaps may have come in any order; what does not may not."""
    overlapping = calls((0, 3, "POST", CANCELED, ORDER), (1, 2, "PUT", CREATED, ORDER), (1, 4, "GET", ACQUIRED, ORDER))
    assert search(overlapping, model.State()) is Outcome.LINEARIZABLE
    apart = calls((0, 1, "POST", CANCELED, ORDER), (2, 3, "PUT", CREATED, ORDER))
    assert search(apart, model.State()) is Outcome.NOT_LINEARIZABLE


def test_a_history_that_no_order_explains_is_found() -> None:
    """Two who created one order, two who cancelled it, and one who acquired it too late."""
    twice = calls((0, 3, "PUT", CREATED, ORDER), (0, 3, "PUT", CREATED, ORDER))
    assert search(twice, model.State()) is Outcome.NOT_LINEARIZABLE
    start = model.assign(model.State(), ORDER).state
    twice = calls((0, 3, "POST", CANCELED, ORDER), (0, 3, "POST", CANCELED, ORDER))
    assert search(twice, start) is Outcome.NOT_LINEARIZABLE
    late = calls((0, 1, "POST", CANCELED, ORDER), (2, 3, "GET", ACQUIRED, ORDER))
    assert search(late, start) is Outcome.NOT_LINEARIZABLE


def test_a_search_that_takes_too_long_is_undecided() -> None:
    """When the bound is reached there is no verdict, in neither direction."""
    orders = [Order(f"order-{n}", "executor", "zone") for n in range(12)]
    many = calls(*[(0, 1, "PUT", CREATED, order) for order in orders], (0, 1, "POST", CANCELED, ORDER))
    assert search(many, model.State(), limit=500) is Outcome.UNDECIDED
    assert search(many[:4], model.State(), limit=500) is Outcome.LINEARIZABLE


def test_the_search_agrees_with_trying_every_order() -> None:
    """On small histories, the search finds what the trial of all permutations finds."""
    messages = {"PUT": (CREATED, ALREADY_EXISTS), "POST": (CANCELED, not_active("order")), "GET": (ACQUIRED,)}
    steps = [(method, message) for method, known in messages.items() for message in known]
    spans = [(0, 2), (1, 3), (2.5, 4)]
    for chosen in itertools.product(steps, repeat=3):
        history = calls(*[(*span, *step, ORDER) for span, step in zip(spans, chosen, strict=True)])
        assert search(history, model.State()) is by_trial(history), chosen


def by_trial(history: list[Call]) -> Outcome:
    """Try every order of the calls that their times allow."""
    for order in itertools.permutations(history):
        if any(later.ended < earlier.started for earlier, later in itertools.combinations(order, 2)):
            continue
        state: model.State | None = model.State()
        for call in order:
            state = call.apply(state) if state is not None else None
        if state is not None:
            return Outcome.LINEARIZABLE
    return Outcome.NOT_LINEARIZABLE


def test_the_model_keeps_the_lifecycle() -> None:
    """The model is what all random histories are held against: known ids stay known, and one order is active."""
    first, second = Order("first", "executor", "zone"), Order("second", "executor", "zone")
    state = model.assign(model.State(), first).state
    assert model.assign(state, Order("first", "other", "zone")) == (ALREADY_EXISTS, state, None)
    state = model.assign(state, second).state
    assert model.acquire(state, "executor") == (ACQUIRED, state, second)
    assert model.cancel(state, "first").message == not_active("first")
    state = model.cancel(state, "second").state
    assert model.acquire(state, "executor").order is None
    assert model.assign(state, second).message == ALREADY_EXISTS
