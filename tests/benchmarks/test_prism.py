"""What docs/mocks.md claims about Prism. Each test is a row of its table."""

from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest

from benchmarks.measure import stopping
from benchmarks.servers import make_server
from harness.client import CREATED, message


@pytest.fixture(scope="module")
def prism(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of Prism, which mocks the contract."""
    with ExitStack() as stack:
        server = make_server("prism", tmp_path_factory.mktemp("prism"), stack)
        stack.enter_context(stopping(server))
        server.start()
        url = f"http://127.0.0.1:{server.port}"
        yield stack.enter_context(httpx.Client(base_url=url, trust_env=False, timeout=30))


def assign(prism: httpx.Client, prefer: str = "") -> httpx.Response:
    """Assign `order` to `executor`, with a `Prefer` header if `prefer` is given."""
    parameters = {"order_id": "order", "executor_id": "executor", "zone_id": "zone"}
    return prism.put("/orders/assign", params=parameters, headers={"Prefer": prefer} if prefer else {})


def test_prism_answers_with_examples(prism: httpx.Client) -> None:
    """Prism assigns an order twice, and every executor acquires the order of the contract's example."""
    assert [message(assign(prism)) for _ in range(2)] == [CREATED, CREATED]
    for executor_id in ("executor", "other"):
        response = prism.get("/order/acquire", params={"executor_id": executor_id})
        assert response.json()["order_profile"]["executor_id"] == "executor-1", response.text


@pytest.mark.parametrize("query", ["", "?executor_id=", "?executor_id=a&executor_id=b", f"?executor_id={'x' * 3000}"])
def test_prism_refuses_bad_requests_with_an_example(prism: httpx.Client, query: str) -> None:
    """Prism refuses a request that the schema does not allow, but always with the contract's first example."""
    response = prism.get(f"/order/acquire{query}")
    assert response.status_code == 400, response.text
    assert message(response) == "Missing parameters, please provide executor_id", response.text


def test_prism_fails_one_request_at_a_time(prism: httpx.Client) -> None:
    """A request can ask Prism for an error, which does not affect the next request."""
    response = assign(prism, "code=500")
    assert (response.status_code, message(response)) == (500, "Unknown error")
    assert assign(prism).status_code == 200


@pytest.mark.parametrize("status", [502, 504])
def test_prism_makes_no_errors_of_a_gateway(prism: httpx.Client, status: int) -> None:
    """A request cannot ask Prism for an error that the contract does not have."""
    assert assign(prism, f"code={status}").status_code != status


def test_prism_loses_no_response(prism: httpx.Client) -> None:
    """Prism ignores a request to lose the response."""
    assert message(assign(prism, "drop")) == CREATED


@pytest.mark.parametrize("path", ["/_controls/reset", "/__admin/requests", "/requests"])
def test_prism_has_no_journal(prism: httpx.Client, path: str) -> None:
    """Prism answers 404 to paths outside the contract, including those where other mocks have a journal."""
    assert prism.get(path).status_code == 404
