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


@pytest.mark.parametrize(("header", "is_stored"), [("drop", False), ("drop, when=after, wait=0.01", True)])
def test_a_request_can_prefer_a_drop(controls: ControlledClient, header: str, is_stored: bool) -> None:
    """`drop` closes the connection, before the transaction or after it."""
    with pytest.raises(httpx.RemoteProtocolError):
        controls.call("assign_order", {"Prefer": header})
    assert bool(controls.orders()) == is_stored


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
        ("code=418", "code must be one of 200, 400, 500, not '418'"),
        ("code=", "code must be one of 200, 400, 500, not ''"),
        ("code=5xx", "code must be one of"),
        ("code=0500", "code must be one of"),
        ('code="500', "code must be one of"),
        ("drop=no", "drop takes no value, not 'no'"),
        ("drop, code=200", "drop and code exclude each other"),
        ("drop, code=500", "drop and code exclude each other"),
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
