"""The header `Prefer` (RFC 7240), with which a request asks for its own fault: `code=500`, `wait=2`, `drop`."""

import re
import reprlib
from collections.abc import Mapping
from dataclasses import replace
from urllib.request import parse_http_list

from orders.contract import Operation
from orders.controls.faults import Fault, make_fault
from orders.controls.schemas import SCHEMAS, ControlError, check_values
from orders.http.responses import Response

PREFERENCES = ("code", "wait", "drop")
MAX_WAIT_S = SCHEMAS["DelayMs"]["maximum"] // 1000


def read_preferences(header: str) -> dict[str, str]:
    """Return the preferences that ask for a fault, with their `when`. Others are ignored (RFC 7240 §2)."""
    given: dict[str, str] = {}
    for preference in parse_http_list(header):
        (name, value), *parameters = map(_name_and_value, preference.split(";"))
        given.setdefault(name, value)
        if name in PREFERENCES and (when := dict(parameters).get("when")) is not None:
            given.setdefault("when", when)
    if given.keys().isdisjoint(PREFERENCES):
        return {}
    return {name: given[name] for name in (*PREFERENCES, "when") if name in given}


def preferred_fault(preferences: Mapping[str, str], operation: Operation) -> Fault | None:
    """Return the fault that the preferences ask for, or None for the normal answer. Raises ControlError."""
    codes = {str(code): code for code in operation.examples}
    check_values(preferences, {"properties": {"code": {"enum": list(codes)}, "when": SCHEMAS["When"]}}, "Prefer")
    if drop := preferences.get("drop"):
        raise ControlError(f"drop takes no value, not {reprlib.repr(drop)}")
    if {"drop", "code"} <= preferences.keys():
        raise ControlError("drop and code exclude each other")
    wait = preferences.get("wait", "0")
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", wait) or float(wait) > MAX_WAIT_S:
        raise ControlError(f"wait must be seconds from 0 to {MAX_WAIT_S}, not {reprlib.repr(wait)}")
    delay_ms = round(float(wait) * 1000)
    code = codes.get(preferences.get("code", ""))
    status = code if code in operation.error_statuses else None
    kind = "drop" if "drop" in preferences else "error" if status else "delay"
    if kind == "delay" and not delay_ms:
        return None
    when = preferences.get("when")
    fields = {"operation": operation.operation_id, "kind": kind, "when": when, "status": status, "delay_ms": delay_ms}
    return make_fault({name: value for name, value in fields.items() if value is not None})


def mark_applied(response: Response, preferences: Mapping[str, str], fault: Fault | None) -> Response:
    """Return `response` with a header that names the preferences that were applied (RFC 7240 §3)."""
    is_applied = {"code": preferences.get("code") == str(response.status), "when": fault is not None}
    text = ", ".join(f"{name}={value}" for name, value in preferences.items() if is_applied.get(name, True))
    return replace(response, headers={**response.headers, "Preference-Applied": text}) if text else response


def _name_and_value(text: str) -> tuple[str, str]:
    name, _, value = map(str.strip, text.partition("="))
    is_quoted = len(value) > 1 and value[0] == value[-1] == '"'
    return name.lower(), value[1:-1] if is_quoted else value
