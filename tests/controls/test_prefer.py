"""The header `Prefer`: a request asks for a fault of its own."""

import httpx
import pytest

from harness.client import ALREADY_EXISTS, CREATED, message
from tests.controls.client import ControlledClient

MISSING = "Missing parameters, please provide order_id, executor_id and zone_id"


@pytest.mark.parametrize(
    ("header", "status", "answer", "applied", "is_stored"),
    [
        ("code=500", 500, "Unknown error", "code=500", False),
        ("code=500, when=after", 500, "Unknown error", "code=500, when=after", True),
        ("wait=0.02", 200, CREATED, "wait=0.02", True),
        ("wait=0", 200, CREATED, "wait=0", True),
        ("code=500; when=after", 500, "Unknown error", "code=500, when=after", True),
        ("code=500; when=after, when=before", 500, "Unknown error", "code=500, when=after", True),
        ("respond-async; when=after, code=500", 500, "Unknown error", "code=500", False),
        ('x="a, code=500", y="b; drop"', 200, CREATED, None, True),
        ('code="500"', 500, "Unknown error", "code=500", False),
        ('Wait = "0.02" ; x=1,respond-async , CODE=500', 500, "Unknown error", "code=500, wait=0.02", False),
        ("code=500, code=400", 500, "Unknown error", "code=500", False),
        ("code=400", 400, MISSING, "code=400", False),
        ("code=503", 503, "Service unavailable", "code=503", False),
        ("code=504; when=after; body=json", 504, "Gateway timeout", "code=504, when=after, body=json", True),
        ("code=200", 200, CREATED, "code=200", True),
        ("code=200, wait=0.01", 200, CREATED, "code=200, wait=0.01", True),
        ("code=200, when=after", 200, CREATED, "code=200", True),
        ("respond-async, handling=lenient", 200, CREATED, None, True),
        ("when=after", 200, CREATED, None, True),
        ("", 200, CREATED, None, True),
    ],
)
def test_a_request_can_prefer_a_fault(
    controls: ControlledClient, header: str, status: int, answer: str, applied: str | None, is_stored: bool
) -> None:
    """The request gets the fault, the answer lists what was applied, and the faults that were added remain."""
    controls.fault("acquire_order", "error")
    response = controls.call("assign_order", {"Prefer": header})
    assert (response.status_code, message(response)) == (status, answer), header
    assert response.headers.get("preference-applied") == applied
    assert bool(controls.orders()) == is_stored
    if not is_stored:
        assert message(controls.call("assign_order")) == CREATED
    assert len(controls.faults()) == 1
    assert controls.call("acquire_order").status_code == 500


@pytest.mark.parametrize(
    ("header", "error", "outcome", "is_stored"),
    [
        ("drop", httpx.RemoteProtocolError, "dropped", False),
        ("drop, when=after, wait=0.01", httpx.RemoteProtocolError, "dropped", True),
        ("reset", httpx.ReadError, "reset", False),
        ("reset; when=after", httpx.ReadError, "reset", True),
        ("truncate", httpx.RemoteProtocolError, "truncated", True),
    ],
)
def test_a_request_can_prefer_a_broken_connection(
    controls: ControlledClient, header: str, error: type[Exception], outcome: str, is_stored: bool
) -> None:
    """`drop`, `reset` and `truncate` break the connection off, before the transaction or after it."""
    with pytest.raises(error):
        controls.call("assign_order", {"Prefer": header})
    assert [request["outcome"] for request in controls.requests()] == [outcome]
    assert bool(controls.orders()) == is_stored


@pytest.mark.parametrize(("body", "content_type"), [("html", "text/html"), ("empty", "text/plain")])
def test_a_request_can_prefer_the_error_of_a_gateway(controls: ControlledClient, body: str, content_type: str) -> None:
    """`body` and `retry_after` are those of the error."""
    response = controls.call("assign_order", {"Prefer": f"code=503; retry_after=2; body={body}"})
    assert (response.status_code, response.headers["content-type"]) == (503, content_type), response.text
    assert response.headers["retry-after"] == "2" and bool(response.content) == (body == "html"), response.text
    assert response.headers["preference-applied"] == f"code=503, body={body}, retry_after=2"


def test_a_preference_leaves_the_added_faults_alone(controls: ControlledClient) -> None:
    """A request with a preference, even for the normal answer, does not use up a fault that was added."""
    controls.fault("acquire_order", "error", status=400)
    assert controls.call("acquire_order", {"Prefer": "code=500"}).status_code == 500
    assert controls.call("acquire_order", {"Prefer": "code=200"}).status_code == 200
    assert controls.call("acquire_order", {"Prefer": "wait=0"}).status_code == 200
    assert [request["fault"] and request["fault"]["kind"] for request in controls.requests()] == ["error", None, None]
    assert len(controls.faults()) == 1
    assert controls.call("acquire_order").status_code == 400


def test_a_preferred_success_is_not_forced(controls: ControlledClient) -> None:
    """`code=200` is not applied if the normal answer is another one."""
    controls.call("assign_order")
    response = controls.call("assign_order", {"Prefer": "code=200"})
    assert (response.status_code, message(response)) == (400, ALREADY_EXISTS)
    assert "preference-applied" not in response.headers


@pytest.mark.parametrize(
    ("header", "complaint"),
    [
        ("code=600", "code must be 200, or from 400 to 599, not '600'"),
        ("code=", "code must be 200, or from 400 to 599, not ''"),
        ("code=5xx", "code must be 200"),
        ("code=0500", "code must be 200"),
        ('code="500', "code must be 200"),
        ("code=201", "code must be 200"),
        ("drop=no", "drop takes no value, not 'no'"),
        ("truncate=half", "truncate takes no value, not 'half'"),
        ("drop, code=200", "code and drop exclude each other"),
        ("reset, code=500, truncate", "code and reset exclude each other"),
        ("truncate; when=before", "when must be after, not 'before'"),
        ("code=503; body=xml", "body must be one of json, html, empty, not 'xml'"),
        ("code=429; retry_after=soon", "retry_after must be a whole number from 0 to 86400, not 'soon'"),
        ("drop; body=html", "body needs a code from 400 to 599"),
        ("code=200; retry_after=1", "retry_after needs a code from 400 to 599"),
        ("drop, when=never", "when must be one of before, after, not 'never'"),
        ("code=500; when=never", "when must be one of before, after"),
        ("code=200; when=never", "when must be one of before, after"),
        ("wait=soon", "wait must be seconds from 0 to 600, not 'soon'"),
        ("wait=", "wait must be seconds"),
        ("wait=-1", "wait must be seconds"),
        ("wait=600.1", "wait must be seconds"),
        ("wait=601", "wait must be seconds"),
        ("wait=1e1", "wait must be seconds"),
        ("wait=99999999999999999999", "wait must be seconds"),
    ],
)
def test_a_wrong_preference_is_refused(controls: ControlledClient, header: str, complaint: str) -> None:
    """The answer is a 400 that says what is allowed, and nothing has happened."""
    response = controls.call("assign_order", {"Prefer": header})
    assert response.status_code == 400, response.text
    assert message(response).startswith(f"Invalid header Prefer: {complaint}"), response.text
    assert "preference-applied" not in response.headers
    assert controls.orders() == []
