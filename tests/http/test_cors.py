"""Cross-origin requests, as a browser makes them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.client import CREATED, Client, message
from harness.server import ServerProcess

ALLOWED = "http://localhost:3000"
OTHER = "http://localhost:3001"
OPERATIONS = [("PUT", "/orders/assign"), ("GET", "/order/acquire"), ("POST", "/order/cancel")]


@pytest.fixture(scope="module")
def sharing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A client of a server that lets pages of two origins in."""
    database = tmp_path_factory.mktemp("cors") / "orders.db"
    options = ["--cors-origin", ALLOWED, "--cors-origin", "https://example.com", "--controls"]
    with ServerProcess(*options, database=database) as service, Client(service.url) as client:
        yield client


def asking(method: str, origin: str = ALLOWED) -> dict[str, str]:
    """Return the headers of a preflight."""
    return {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "content-type,prefer",
    }


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_a_preflight_says_what_a_page_may_send(sharing: Client, method: str, path: str) -> None:
    """It names the method of the operation and the headers that were asked for, and is no request of the operation."""
    response = sharing.http.options(path, headers=asking(method))
    assert response.status_code == 200, response.text
    assert response.headers["access-control-allow-origin"] == ALLOWED
    assert response.headers["access-control-allow-methods"] == method
    assert response.headers["access-control-allow-headers"] == "content-type,prefer"
    assert response.headers["access-control-max-age"] == "600"
    assert "access-control-allow-credentials" not in response.headers


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_what_is_no_preflight_of_an_allowed_page_is_refused(sharing: Client, method: str, path: str) -> None:
    """OPTIONS is 405 as ever (D11): from other origins, without an origin, and without a question."""
    without_origin = {"Access-Control-Request-Method": method}
    for headers in (asking(method, OTHER), asking(method, "null"), without_origin, {"Origin": ALLOWED}, {}):
        response = sharing.http.options(path, headers=headers)
        assert (response.status_code, response.headers["allow"]) == (405, method), headers
        assert "access-control-allow-methods" not in response.headers, headers
    assert "access-control-allow-origin" not in sharing.http.options(path, headers=asking(method, OTHER)).headers


@pytest.mark.parametrize("origin", [ALLOWED, "https://example.com"])
def test_every_answer_can_be_read_by_an_allowed_page(sharing: Client, new_id: str, origin: str) -> None:
    """Answers and errors alike name the origin, and depend on it."""
    parameters = {"order_id": new_id, "executor_id": new_id, "zone_id": "z"}
    calls = [(method, path, status) for method, path in OPERATIONS for status in (200, 400)]
    calls += [("GET", "/nothing", 404), ("DELETE", "/order/cancel", 405), ("GET", "/health", 200)]
    calls += [("GET", "/_controls/orders", 200)]
    for method, path, status in calls:
        query = parameters if status == 200 and not path.startswith("/_") else {}
        response = sharing.http.request(method, path, params=query, headers={"Origin": origin})
        assert response.status_code == status, f"{method} {path}: {response.text}"
        assert response.headers["access-control-allow-origin"] == origin, path
        assert response.headers["vary"] == "Origin", path
        assert response.headers["access-control-expose-headers"] == "Allow, Date, Preference-Applied", path
    response = sharing.http.get(
        "/order/acquire", params={"executor_id": "x"}, headers={"Origin": origin, "Prefer": "code=500"}
    )
    assert (response.status_code, response.headers["access-control-allow-origin"]) == (500, origin)


def test_other_pages_cannot_read_an_answer(sharing: Client, new_id: str) -> None:
    """Their requests are answered, as D11 has it, but no header lets the page see it."""
    for origin in (OTHER, "null", ALLOWED.upper(), f"{ALLOWED}.example.com"):
        response = sharing.http.get("/order/acquire", params={"executor_id": new_id}, headers={"Origin": origin})
        assert response.status_code == 200
        assert "access-control-allow-origin" not in response.headers, origin
        assert response.headers["vary"] == "Origin"
    assert "access-control-allow-origin" not in sharing.acquire(new_id).headers


def test_a_preflight_that_asks_for_no_headers_is_told_of_none(sharing: Client) -> None:
    """Headers are allowed where they are asked for; without a question, or with an empty one, there is no answer."""
    for asked in ({}, {"Access-Control-Request-Headers": ""}):
        headers = {"Origin": ALLOWED, "Access-Control-Request-Method": "PUT", **asked}
        response = sharing.http.options("/orders/assign", headers=headers)
        assert response.status_code == 200
        assert "access-control-allow-headers" not in response.headers


def test_preflights_are_in_the_journal(sharing: Client) -> None:
    """They are requests of no operation."""
    sharing.http.post("/_controls/reset")
    sharing.http.options("/orders/assign", headers=asking("PUT"))
    (recorded,) = sharing.http.get("/_controls/requests").json()["requests"]
    assert (recorded["method"], recorded["operation"], recorded["status"]) == ("OPTIONS", None, 200)


def test_allowed_pages_may_use_the_controls(sharing: Client) -> None:
    """With the option, a page can reset and queue faults, which takes a preflight."""
    response = sharing.http.options("/_controls/faults", headers=asking("POST"))
    assert response.headers["access-control-allow-methods"] == "GET, POST, DELETE"
    assert sharing.http.post("/_controls/reset", headers={"Origin": ALLOWED}).status_code == 200
    assert sharing.http.post("/_controls/reset", headers={"Origin": OTHER}).status_code == 403


def test_a_page_may_not_use_the_controls_as_one_of_all(database: Path) -> None:
    """`*` is for the operations; the controls are for pages of this server, and of origins that are named."""
    options = ["--controls", "--cors-origin", "*", "--cors-origin", ALLOWED]
    with ServerProcess(*options, database=database) as service, Client(service.url) as client:
        for origin, status in ((ALLOWED, 200), (OTHER, 403), ("null", 403), ("*", 403), (service.url, 200)):
            response = client.http.post("/_controls/reset", headers={"Origin": origin})
            assert response.status_code == status, f"{origin}: {response.text}"


def test_any_page_can_be_allowed(database: Path) -> None:
    """`*` lets all origins in, and answers do not depend on them."""
    with ServerProcess("--cors-origin", "*", database=database) as service, Client(service.url) as client:
        for origin in (ALLOWED, OTHER, "null"):
            assert client.http.options("/orders/assign", headers=asking("PUT", origin)).status_code == 200
            response = client.http.get("/order/acquire", headers={"Origin": origin})
            assert (response.status_code, response.headers["access-control-allow-origin"]) == (400, "*")
            assert "vary" not in response.headers
        assert message(client.assign("order", "executor")) == CREATED


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_without_the_option_no_page_is_let_in(client: Client, method: str, path: str) -> None:
    """A preflight is a 405 like any other OPTIONS (D11), and no answer speaks of origins."""
    response = client.http.options(path, headers=asking(method))
    assert (response.status_code, response.headers["allow"]) == (405, method)
    for answer in (response, client.http.request(method, path, headers={"Origin": ALLOWED})):
        assert not [name for name in answer.headers if name.startswith("access-control-") or name == "vary"]
