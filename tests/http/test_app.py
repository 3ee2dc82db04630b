"""HTTP: routes, methods, headers, and the one shape of every answer, whatever caused it."""

import re
from pathlib import Path

import httpx
import pytest

from harness.client import ACQUIRED, ALREADY_EXISTS, CANCELED, CREATED, NO_ORDERS, Client, message, not_active
from harness.server import ServerProcess, execute

OPERATIONS = [("PUT", "/orders/assign"), ("GET", "/order/acquire"), ("POST", "/order/cancel")]
MISSING_FOR_ASSIGN = "Missing parameters, please provide order_id, executor_id and zone_id"
METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"]


def expect(response: httpx.Response, status: int, text: str) -> None:
    """Check an answer's status, message and headers."""
    sent = f"{response.request.method} {response.request.url}"
    came = f"{response.status_code} {response.headers} {response.text!r}"
    assert (response.status_code, response.json()["message"]) == (status, text), f"{sent} was answered {came}"
    assert response.headers["content-type"] == "application/json", came
    assert response.headers["cache-control"] == "no-store", came
    assert "date" in response.headers, came
    assert not {"etag", "server"} & set(response.headers), came


def test_the_life_of_an_order(client: Client, new_id: str) -> None:
    """Assign, acquire and cancel answer with the document's own words (D1, D5)."""
    expect(client.acquire(new_id), 200, NO_ORDERS)
    expect(client.assign(new_id, new_id), 200, CREATED)
    expect(client.acquire(new_id), 200, ACQUIRED)
    expect(client.cancel(new_id), 200, CANCELED)
    expect(client.cancel(new_id), 200, not_active(new_id))
    expect(client.acquire(new_id), 200, NO_ORDERS)
    expect(client.assign(new_id, new_id), 400, ALREADY_EXISTS)


def test_a_new_assignment_completes_the_active_order(client: Client, new_id: str) -> None:
    """The executor's earlier order is completed, acquired or not, and cannot be cancelled any more (D2)."""
    for n in range(3):
        expect(client.assign(f"{new_id}-{n}", new_id), 200, CREATED)
    assert client.acquire(new_id).json()["order_profile"]["order_id"] == f"{new_id}-2"
    expect(client.assign(f"{new_id}-3", new_id), 200, CREATED)
    assert client.acquire(new_id).json()["order_profile"]["order_id"] == f"{new_id}-3"
    for n in range(3):
        expect(client.cancel(f"{new_id}-{n}"), 200, not_active(f"{new_id}-{n}"))


def test_a_refused_assign_changes_nothing(client: Client, new_id: str) -> None:
    """A known order_id is refused whatever else is in the request, and neither executor's order is touched (D3)."""
    client.assign(f"{new_id}-1", f"{new_id}-a")
    client.assign(f"{new_id}-2", f"{new_id}-b")
    before = [client.acquire(f"{new_id}-{executor}").content for executor in "ab"]
    for executor, zone in [("a", "zone"), ("b", "zone"), ("b", "other zone"), ("c", "zone")]:
        expect(client.assign(f"{new_id}-1", f"{new_id}-{executor}", zone), 400, ALREADY_EXISTS)
    assert [client.acquire(f"{new_id}-{executor}").content for executor in "ab"] == before
    expect(client.acquire(f"{new_id}-c"), 200, NO_ORDERS)


def test_acquire_is_repeatable(client: Client, new_id: str) -> None:
    """Every acquire of an order answers with the same bytes (D4)."""
    client.assign(new_id, new_id)
    first, *rest = [client.acquire(new_id).content for _ in range(5)]
    assert set(rest) == {first}


def test_the_profile_is_the_row(client: Client, new_id: str) -> None:
    """The profile has the row's columns, in their order, with UTC times and a UUID (D6)."""
    client.assign(new_id, f"{new_id} executor", f"{new_id} zone")
    profile = client.acquire(f"{new_id} executor").json()["order_profile"]
    assert list(profile) == [
        "assigned_order_id",
        "order_id",
        "executor_id",
        "zone_id",
        "execution_status",
        "assign_time",
        "acquire_time",
    ]
    assert profile["order_id"] == new_id
    assert profile["executor_id"] == f"{new_id} executor"
    assert profile["zone_id"] == f"{new_id} zone"
    assert profile["execution_status"] == "acquired"
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", profile["assigned_order_id"])
    for name in ("assign_time", "acquire_time"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", profile[name]), profile
    assert profile["assign_time"] <= profile["acquire_time"]


@pytest.mark.parametrize(
    "identifier", [" a ", "é", "e\u0301", "É", "😀", "\u2028", "\u0085", "\ufeff", "a/b?c&d=e#f%20", '"\\', "0", "null"]
)
def test_identifiers_come_back_as_they_were_sent(client: Client, new_id: str, identifier: str) -> None:
    """Nothing is trimmed, folded or normalised on the way in or out (D7)."""
    identifier = f"{identifier}{new_id}{identifier}"
    expect(client.assign(identifier, identifier, identifier), 200, CREATED)
    profile = client.acquire(identifier).json()["order_profile"]
    assert (profile["order_id"], profile["executor_id"], profile["zone_id"]) == (identifier,) * 3
    expect(client.acquire(identifier.swapcase()), 200, NO_ORDERS)
    expect(client.cancel(identifier), 200, CANCELED)
    expect(client.cancel(identifier), 200, not_active(identifier))


@pytest.mark.parametrize(
    ("method", "target", "text"),
    [
        ("PUT", "/orders/assign", MISSING_FOR_ASSIGN),
        ("PUT", "/orders/assign?order_id=1&executor_id=%00&zone_id=", MISSING_FOR_ASSIGN),
        ("GET", "/order/acquire?", "Missing parameters, please provide executor_id"),
        ("GET", "/order/acquire?executor_id=", "Missing parameters, please provide executor_id"),
        ("POST", "/order/cancel?executor_id=1", "Missing parameters, please provide order_id"),
        ("GET", "/order/acquire?executor_id=%FF", "Invalid parameter executor_id: not UTF-8"),
        ("POST", "/order/cancel?order_id=%00", "Invalid parameter order_id: control characters are not allowed"),
        ("POST", f"/order/cancel?order_id={'a' * 256}", "Invalid parameter order_id: longer than 255 characters"),
        ("POST", "/order/cancel?order_id=1&order_id=2", "Invalid parameter order_id: given more than once"),
    ],
)  # fmt: skip
def test_bad_parameters_are_a_400(client: Client, method: str, target: str, text: str) -> None:
    """Missing (D8) and invalid (D9) parameters are answered as the contract says, never with a 500."""
    expect(client.http.request(method, target), 400, text)


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/x-www-form-urlencoded", b"order_id=from-the-body"),
        ("application/json", b'{"order_id": "from-the-body"}'),
        ("application/json", b"{broken"),
        ("multipart/form-data; boundary=x", b"--x\r\nbroken"),
        ("multipart/form-data", b"no boundary"),
        ("application/octet-stream", bytes(range(256)) * 256),
        ("", b"?"),
    ],
    # The name of the test is part of the identifiers that it sends.
    ids=range(7),
)
def test_bodies_are_ignored(client: Client, new_id: str, content_type: str, body: bytes) -> None:
    """Parameters come from the query alone, whatever is in the body and whatever it claims to be (D10)."""
    headers = {"Content-Type": content_type, "Content-Encoding": "gzip"}
    response = client.http.post("/order/cancel", content=body, headers=headers)
    expect(response, 400, "Missing parameters, please provide order_id")
    response = client.http.post("/order/cancel", params={"order_id": new_id}, content=body, headers=headers)
    expect(response, 200, not_active(new_id))


def test_unknown_parameters_are_ignored(client: Client, new_id: str) -> None:
    """Thousands of parameters that no operation has change nothing (D10)."""
    noise = "&".join(f"x{n}={n}" for n in range(3000))
    expect(client.http.get(f"/order/acquire?{noise}&executor_id={new_id}&%ff=%ff"), 200, NO_ORDERS)


@pytest.mark.parametrize(
    "path", ["/nothing", "/orders/assign/", "//order/cancel", "/order", "/order/acquire%2F", "/docs/swagger-ui.js"]
)
@pytest.mark.parametrize("method", ["GET", "PUT", "BREW"])
def test_any_other_path_is_not_found(server: ServerProcess, method: str, path: str) -> None:
    """Unknown paths are 404 for every method (D11)."""
    with Client(server.url) as client:
        expect(client.http.request(method, server.url + path), 404, "Not found")


@pytest.mark.parametrize(("allowed", "path"), [*OPERATIONS, ("GET, HEAD", "/health"), ("GET, HEAD", "/docs")])
def test_any_other_method_is_not_allowed(client: Client, new_id: str, allowed: str, path: str) -> None:
    """Other methods are 405 with `Allow`, unknown ones and HEAD on acquire too, and change nothing (D11)."""
    client.assign(new_id, new_id)
    for method in METHODS:
        if method in allowed.split(", "):
            continue
        parameters = {"order_id": new_id, "executor_id": new_id, "zone_id": "z"}
        response = client.http.request(method, path, params=parameters)
        assert response.status_code == 405, f"{method} {path} was answered {response}"
        assert response.headers["allow"] == allowed
        if method != "HEAD":
            expect(response, 405, "Method not allowed")
    profile = client.acquire(new_id).json()["order_profile"]
    assert profile["order_id"] == new_id, "one of the refused requests changed the order"


@pytest.mark.parametrize(
    "header",
    [
        {"If-None-Match": "*"},
        {"If-Match": '"x"'},
        {"If-Modified-Since": "Fri, 31 Dec 2100 00:00:00 GMT"},
        {"Range": "bytes=0-1"},
        {"Accept": "text/html"},
        {"Expect": "100-continue"},
    ],
)
def test_conditional_requests_are_answered_in_full(client: Client, new_id: str, header: dict[str, str]) -> None:
    """No header turns an answer into a 304 or a part of it (D4)."""
    client.assign(new_id, new_id)
    response = client.http.get("/order/acquire", params={"executor_id": new_id}, headers=header)
    expect(response, 200, ACQUIRED)
    assert response.content == client.acquire(new_id).content


def test_health_says_ok(client: Client) -> None:
    """`/health` is 200 while the database answers."""
    response = client.http.get("/health")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})
    assert client.http.head("/health").status_code == 200


def test_an_internal_error_is_not_revealed(database: Path) -> None:
    """Every operation answers 500 `Unknown error`, the log has the whole error with an id, `/health` says 503 (D11)."""
    with ServerProcess(database=database) as server, Client(server.url) as client:
        client.assign("order", "executor")
        execute(database, "ALTER TABLE assigned_order RENAME TO hidden")
        for response in [client.assign("other", "executor"), client.acquire("executor"), client.cancel("order")]:
            expect(response, 500, "Unknown error")
            assert response.json() == {"message": "Unknown error"}
        assert client.http.get("/health").status_code == 503
        execute(database, "ALTER TABLE hidden RENAME TO assigned_order")
        expect(client.acquire("executor"), 200, ACQUIRED)
        assert client.http.get("/health").status_code == 200
        server.stop()
        log = server.log()
    ids = re.findall(r"ERROR orders: internal error ([0-9a-f]{32}): ", log)
    assert len(set(ids)) == 1 and "no such table: assigned_order" in log, log
    assert re.findall(r" 500 .*error=(.*)$", log, re.MULTILINE) == [ids[0]] * 3, log


def test_an_error_while_writing_is_not_revealed(database: Path) -> None:
    """A write that fails is a 500, leaves nothing behind, and the next one succeeds (D3)."""
    with ServerProcess(database=database) as server, Client(server.url) as client:
        client.assign("first", "executor")
        execute(
            database, "CREATE TRIGGER fault BEFORE INSERT ON assigned_order BEGIN SELECT RAISE(ABORT, 'planted'); END"
        )
        expect(client.assign("second", "executor"), 500, "Unknown error")
        assert client.acquire("executor").json()["order_profile"]["order_id"] == "first", "half of the assign was kept"
        execute(database, "DROP TRIGGER fault")
        expect(client.assign("second", "executor"), 200, CREATED)
        assert message(client.cancel("first")) == not_active("first")


def test_the_root_leads_to_the_documentation(client: Client) -> None:
    """`/` redirects to `/docs`."""
    response = client.http.get("/")
    assert (response.status_code, response.headers["location"]) == (302, "/docs")
