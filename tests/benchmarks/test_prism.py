"""What the README says of Prism beside this server: each of these is a row of its table."""

from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest

from benchmarks.measure import stopping
from benchmarks.servers import make_server
from harness.client import CREATED, message


@pytest.fixture(scope="module")
def prism(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of Prism, which mocks our contract."""
    with ExitStack() as stack:
        server = make_server("prism", tmp_path_factory.mktemp("prism"), stack)
        stack.enter_context(stopping(server))
        server.start()
        url = f"http://127.0.0.1:{server.port}"
        yield stack.enter_context(httpx.Client(base_url=url, trust_env=False, timeout=30))


def assign(prism: httpx.Client, prefer: str = "") -> httpx.Response:
    """Assign `order` to `executor`."""
    parameters = {"order_id": "order", "executor_id": "executor", "zone_id": "zone"}
    return prism.put("/orders/assign", params=parameters, headers={"Prefer": prefer} if prefer else {})


def test_each_answer_is_an_example(prism: httpx.Client) -> None:
    """An order can be assigned twice, and whoever asks is given the order of the contract's example."""
    assert [message(assign(prism)) for _ in range(2)] == [CREATED, CREATED]
    for executor_id in ("executor", "other"):
        answer = prism.get("/order/acquire", params={"executor_id": executor_id}).json()
        assert answer["order_profile"]["executor_id"] == "executor-1", answer


@pytest.mark.parametrize("query", ["", "?executor_id=", "?executor_id=a&executor_id=b", f"?executor_id={'x' * 3000}"])
def test_what_makes_no_sense_is_refused_with_an_example(prism: httpx.Client, query: str) -> None:
    """The schema tells what is wrong, but the message is the contract's first example, whatever it is."""
    response = prism.get(f"/order/acquire{query}")
    assert response.status_code == 400, response.text
    assert message(response) == "Missing parameters, please provide executor_id", response.text


def test_errors_come_one_by_one(prism: httpx.Client) -> None:
    """A request can ask for an error itself; the next one knows nothing of it."""
    response = assign(prism, "code=500")
    assert (response.status_code, message(response)) == (500, "Unknown error")
    assert assign(prism).status_code == 200


def test_an_answer_cannot_be_lost(prism: httpx.Client) -> None:
    """There is no way to ask for no answer."""
    assert message(assign(prism, "drop")) == CREATED


@pytest.mark.parametrize("path", ["/_controls/reset", "/__admin/requests", "/requests"])
def test_there_is_nothing_to_ask_for_what_was_sent(prism: httpx.Client, path: str) -> None:
    """No path beside those of the contract is known."""
    assert prism.get(path).status_code == 404
