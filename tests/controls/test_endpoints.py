"""The test controls over HTTP: parameters, bodies, web pages of other origins, and `--controls` itself."""

import pytest

from harness.client import NO_ORDERS, Client, message
from harness.server import ServerProcess
from tests.controls.client import IN_MEMORY, ControlledClient


def test_a_wrong_fault_is_a_400(controls: ControlledClient) -> None:
    """The message says what is allowed, and no fault is added."""
    response = controls.control("POST", "faults", json={"operation": "assign", "kind": "drop"})
    assert response.status_code == 400
    expected = "operation must be one of assign_order, acquire_order, cancel_order, *, not 'assign'"
    assert message(response) == expected
    assert controls.faults() == []


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"", "the body must be JSON"),
        (b"{", "the body must be JSON"),
        (b"\xff", "the body must be JSON"),
        (b'{"count": ' + b"9" * 5000 + b"}", "the body must be JSON"),
        (b"[]", "a fault must be a JSON object, not []"),
        (b"null", "a fault must be a JSON object, not None"),
        (b'"drop"', "a fault must be a JSON object, not 'drop'"),
    ],
)
def test_a_body_that_is_no_json_object_is_a_400(controls: ControlledClient, body: bytes, complaint: str) -> None:
    """The message says what the body must be."""
    response = controls.control("POST", "faults", content=body)
    assert (response.status_code, message(response)) == (400, complaint)


def test_orders_that_are_no_json_are_a_400(controls: ControlledClient) -> None:
    """The message says what the body must be."""
    response = controls.control("POST", "orders", content=b"[}")
    assert (response.status_code, message(response)) == (400, "the body must be JSON")


@pytest.mark.parametrize("depth", [900, 950, 1000, 60_000])
def test_a_deep_body_is_a_400(controls: ControlledClient, depth: int) -> None:
    """However deep a body is, it is refused, and it is no internal error."""
    body = b'{"kind": ' + b"[" * depth + b"]" * depth + b"}"
    response = controls.control("POST", "faults", content=body[:65_000])
    assert response.status_code == 400, response.text


@pytest.mark.parametrize(
    ("method", "target", "complaint"),
    [
        ("POST", "reset?really=1", "unknown parameter 'really'; reset has none"),
        ("GET", "faults?=1", "unknown parameter ''; list_faults has none"),
        ("GET", "requests?status=bad", "status must be a whole number from 100 to 599, not 'bad'"),
        ("GET", "requests?status=200&status=400", "status is given more than once"),
        ("GET", "requests?operation=%FF", "operation is not UTF-8"),
        ("GET", "requests?since=yesterday", "since must be a time with its offset, for example 2026-01-31T12:00:00Z"),
        ("GET", "orders?limit=0", "limit must be a whole number from 1 to 10000, not 0"),
        ("GET", "orders?order_id=%00", "order_id: no stored id has the character U+0000"),
    ],
)
def test_a_wrong_parameter_is_a_400(controls: ControlledClient, method: str, target: str, complaint: str) -> None:
    """The message says what is allowed."""
    response = controls.control(method, target)
    assert response.status_code == 400 and message(response).startswith(complaint), response.text


def test_other_methods_and_paths_of_the_controls(controls: ControlledClient) -> None:
    """Other methods are 405 with `Allow`, and other paths are 404, as everywhere (D11)."""
    response = controls.http.put("/_controls/faults")
    assert (response.status_code, response.headers["allow"]) == (405, "GET, POST, DELETE")
    assert controls.http.get("/_controls/nothing").status_code == 404
    assert controls.http.get("/_controls/").status_code == 404


def test_pages_of_other_origins_are_refused(controlled_server: ServerProcess, controls: ControlledClient) -> None:
    """A browser sends any page's POST, so the controls check its origin. The operations do not."""
    controls.assign("order", "executor")
    rebound = {"Host": "rebound.example", "Origin": "http://rebound.example"}
    assert controls.control("POST", "reset", headers=rebound).status_code == 403
    for origin in (
        "http://localhost:3000",
        "https://example.com",
        "null",
        controlled_server.url.replace("http", "https"),
    ):
        response = controls.control("POST", "reset", headers={"Origin": origin})
        assert response.status_code == 403, origin
        if origin == "null":
            assert message(response) == "Pages without an origin may not use the controls"
        else:
            expected = f"Pages of {origin} may not use the controls; --cors-origin {origin} allows it"
            assert message(response) == expected
        for method, path in (("GET", "orders"), ("GET", "requests"), ("DELETE", "faults"), ("POST", "faults")):
            assert controls.control(method, path, headers={"Origin": origin}).status_code == 403, (method, path)
        assert controls.call("acquire_order", {"Origin": origin}).status_code == 200
    assert len(controls.orders()) == 1
    assert controls.control("POST", "reset", headers={"Origin": controlled_server.url}).status_code == 200
    assert controls.orders() == []
    for host in ("localhost:8080", "localhost", "[::1]:8080", "192.0.2.1"):
        headers = {"Host": host, "Origin": f"http://{host}"}
        assert controls.control("GET", "faults", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "rebound.example"},
        {"Host": "rebound.example:8080", "Sec-Fetch-Site": "same-origin"},
        {"Host": "127.0.0.1.rebound.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_pages_that_a_browser_leads_here_are_refused(controls: ControlledClient, headers: dict[str, str]) -> None:
    """A page whose name leads here, and a page of another site without an `Origin`, may neither read nor change."""
    for method, path in (("GET", "requests"), ("GET", "orders"), ("GET", "faults"), ("POST", "reset")):
        response = controls.control(method, path, headers=headers)
        assert response.status_code == 403, f"{method} {path} with {headers} was answered {response.text}"


def test_exposed_controls_may_have_any_name() -> None:
    """With `--expose-controls`, clients may call the server by a name, for example that of a container."""
    options = ("--controls", "--expose-controls", "--database", IN_MEMORY)
    with ServerProcess(*options) as server, ControlledClient(server.url) as controls:
        assert controls.control("POST", "reset", headers={"Host": "orders:8080"}).status_code == 200
        rebound = {"Host": "orders:8080", "Origin": "http://orders:8080"}
        assert controls.control("POST", "reset", headers=rebound).status_code == 403


@pytest.mark.parametrize("path", ["reset", "faults", "requests", "orders", "openapi.json", "openapi.yaml"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_without_the_option_there_are_no_controls(client: Client, method: str, path: str) -> None:
    """Their paths are unknown, and `Prefer` has no effect."""
    response = client.http.request(method, f"/_controls/{path}")
    assert (response.status_code, response.json()) == (404, {"message": "Not found"})
    response = client.http.get("/order/acquire", params={"executor_id": "x"}, headers={"Prefer": "code=500, wait=5"})
    assert message(response) == NO_ORDERS and "preference-applied" not in response.headers


@pytest.mark.parametrize("options", [[], ["--controls"]])
def test_only_the_controls_load_jsonschema(monkeypatch: pytest.MonkeyPatch, options: list[str]) -> None:
    """A server without the controls starts without the library that checks their values."""
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")
    with ServerProcess(*options, database=IN_MEMORY) as server:
        server.stop()
        lines = server.log().splitlines()
    loaded = {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}
    assert "tornado.httpserver" in loaded
    assert ("jsonschema" in loaded) == bool(options)
