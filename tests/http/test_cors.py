"""Cross-origin requests, as browsers send them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.client import CREATED, Client, message
from harness.server import ServerProcess

ALLOWED = "http://localhost:3000"
OTHER = "http://localhost:3001"
OPERATIONS = [("PUT", "/orders/assign"), ("GET", "/order/acquire"), ("POST", "/order/cancel")]


@pytest.fixture(scope="module")
def cors_client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A client of a server that allows pages of two origins."""
    database = tmp_path_factory.mktemp("cors") / "orders.db"
    options = ["--cors-origin", ALLOWED, "--cors-origin", "https://example.com", "--controls"]
    with ServerProcess(*options, database=database) as server, Client(server.url) as client:
        yield client
        server.stop()


def preflight(method: str, origin: str = ALLOWED) -> dict[str, str]:
    """Return the headers of a preflight request."""
    return {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "content-type,prefer",
    }


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_a_preflight_says_what_a_page_may_send(cors_client: Client, method: str, path: str) -> None:
    """The response to a preflight allows the operation's method and the requested headers."""
    response = cors_client.http.options(path, headers=preflight(method))
    assert response.status_code == 200, response.text
    assert response.headers["access-control-allow-origin"] == ALLOWED
    assert response.headers["access-control-allow-methods"] == method
    assert response.headers["access-control-allow-headers"] == "content-type,prefer"
    assert response.headers["access-control-max-age"] == "600"
    assert "access-control-allow-credentials" not in response.headers


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_other_options_requests_are_refused(cors_client: Client, method: str, path: str) -> None:
    """An OPTIONS request other than a preflight of an allowed page is answered 405 (D11)."""
    without_origin = {"Access-Control-Request-Method": method}
    for headers in (preflight(method, OTHER), preflight(method, "null"), without_origin, {"Origin": ALLOWED}, {}):
        response = cors_client.http.options(path, headers=headers)
        assert (response.status_code, response.headers["allow"]) == (405, method), headers
        assert "access-control-allow-methods" not in response.headers, headers
    refused = cors_client.http.options(path, headers=preflight(method, OTHER))
    assert "access-control-allow-origin" not in refused.headers, refused.headers


@pytest.mark.parametrize("origin", [ALLOWED, "https://example.com"])
def test_an_allowed_page_can_read_every_response(cors_client: Client, new_id: str, origin: str) -> None:
    """Every response to an allowed page, errors included, allows its origin and varies with it."""
    parameters = {"order_id": new_id, "executor_id": new_id, "zone_id": "z"}
    calls = [(method, path, status) for method, path in OPERATIONS for status in (200, 400)]
    calls += [("GET", "/nothing", 404), ("DELETE", "/order/cancel", 405), ("GET", "/health", 200)]
    calls += [("GET", "/_controls/orders", 200)]
    for method, path, status in calls:
        query = parameters if status == 200 and not path.startswith("/_") else {}
        response = cors_client.http.request(method, path, params=query, headers={"Origin": origin})
        assert response.status_code == status, f"{method} {path}: {response.text}"
        assert response.headers["access-control-allow-origin"] == origin, path
        assert response.headers["vary"] == "Origin", path
        assert response.headers["access-control-expose-headers"] == "Allow, Date, Preference-Applied, Retry-After", path
    response = cors_client.http.get(
        "/order/acquire", params={"executor_id": "x"}, headers={"Origin": origin, "Prefer": "code=500"}
    )
    assert (response.status_code, response.headers["access-control-allow-origin"]) == (500, origin)


def test_other_pages_cannot_read_a_response(cors_client: Client, new_id: str) -> None:
    """A request from another origin is answered, but no header lets the page read the response."""
    for origin in (OTHER, "null", ALLOWED.upper(), f"{ALLOWED}.example.com"):
        response = cors_client.http.get("/order/acquire", params={"executor_id": new_id}, headers={"Origin": origin})
        assert response.status_code == 200
        assert "access-control-allow-origin" not in response.headers, origin
        assert response.headers["vary"] == "Origin"
    assert "access-control-allow-origin" not in cors_client.acquire(new_id).headers


def test_a_preflight_without_headers_allows_none(cors_client: Client) -> None:
    """If a preflight requests no headers, or an empty list, its response allows none."""
    for requested in ({}, {"Access-Control-Request-Headers": ""}):
        headers = {"Origin": ALLOWED, "Access-Control-Request-Method": "PUT", **requested}
        response = cors_client.http.options("/orders/assign", headers=headers)
        assert response.status_code == 200
        assert "access-control-allow-headers" not in response.headers


def test_preflights_are_in_the_journal(cors_client: Client) -> None:
    """The journal has preflights, without an operation."""
    cors_client.http.post("/_controls/reset")
    cors_client.http.options("/orders/assign", headers=preflight("PUT"))
    (recorded,) = cors_client.http.get("/_controls/requests").json()["requests"]
    assert (recorded["method"], recorded["operation"], recorded["status"]) == ("OPTIONS", None, 200)


def test_only_allowed_pages_may_use_the_controls(cors_client: Client) -> None:
    """A page of an allowed origin may use the controls; any other page is answered 403."""
    response = cors_client.http.options("/_controls/faults", headers=preflight("POST"))
    assert response.headers["access-control-allow-methods"] == "GET, POST, DELETE"
    assert cors_client.http.post("/_controls/reset", headers={"Origin": ALLOWED}).status_code == 200
    assert cors_client.http.post("/_controls/reset", headers={"Origin": OTHER}).status_code == 403


def test_the_wildcard_does_not_open_the_controls(database: Path) -> None:
    """With `*`, only pages of the server itself and of the named origins may use the controls."""
    options = ["--controls", "--cors-origin", "*", "--cors-origin", ALLOWED]
    with ServerProcess(*options, database=database) as server, Client(server.url) as client:
        for origin, status in ((ALLOWED, 200), (OTHER, 403), ("null", 403), ("*", 403), (server.url, 200)):
            response = client.http.post("/_controls/reset", headers={"Origin": origin})
            assert response.status_code == status, f"{origin}: {response.text}"


def test_the_wildcard_allows_every_page(database: Path) -> None:
    """With `*`, every origin may call the operations, and responses do not vary with the origin."""
    with ServerProcess("--cors-origin", "*", database=database) as server, Client(server.url) as client:
        for origin in (ALLOWED, OTHER, "null"):
            assert client.http.options("/orders/assign", headers=preflight("PUT", origin)).status_code == 200
            response = client.http.get("/order/acquire", headers={"Origin": origin})
            assert (response.status_code, response.headers["access-control-allow-origin"]) == (400, "*")
            assert "vary" not in response.headers
        assert message(client.assign("order", "executor")) == CREATED


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_without_the_option_no_page_is_allowed(client: Client, method: str, path: str) -> None:
    """Without `--cors-origin`, a preflight is answered 405 (D11), and no response has CORS headers."""
    response = client.http.options(path, headers=preflight(method))
    assert (response.status_code, response.headers["allow"]) == (405, method)
    for answer in (response, client.http.request(method, path, headers={"Origin": ALLOWED})):
        assert not [name for name in answer.headers if name.startswith("access-control-") or name == "vary"]
