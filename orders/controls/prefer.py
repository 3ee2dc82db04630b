"""The header `Prefer` (RFC 7240), with which a request asks for its own fault, for example `code=503; body=html`."""

import re
import reprlib
from collections.abc import Mapping
from dataclasses import replace
from urllib.request import parse_http_list

from orders.contract import Operation
from orders.controls.faults import Fault, make_fault
from orders.controls.schemas import SCHEMAS, ControlError, check_values
from orders.http.responses import Response

# A request gets one of these at most.
ENDINGS = ("code", "drop", "reset", "truncate")
PREFERENCES = (*ENDINGS, "wait")
# They say more about one of the preferences, and ask for nothing alone.
ERROR_DETAILS = ("body", "retry_after")
DETAILS = ("when", *ERROR_DETAILS)
MAX_WAIT_S = SCHEMAS["DelayMs"]["maximum"] // 1000


def read_preferences(header: str) -> dict[str, str]:
    """Return the preferences that ask for a fault, with their details. Others are ignored (RFC 7240 §2)."""
    given: dict[str, str] = {}
    for preference in parse_http_list(header):
        (name, value), *parameters = map(_name_and_value, preference.split(";"))
        given.setdefault(name, value)
        if name in PREFERENCES:
            for detail, detail_value in parameters:
                if detail in DETAILS:
                    given.setdefault(detail, detail_value)
    if given.keys().isdisjoint(PREFERENCES):
        return {}
    return {name: given[name] for name in (*PREFERENCES, *DETAILS) if name in given}


def preferred_fault(preferences: Mapping[str, str], operation: Operation) -> Fault | None:
    """Return the fault that the preferences ask for, or None for the normal answer. Raises ControlError."""
    check_values(preferences, {"properties": {"when": SCHEMAS["When"]}}, "Prefer")
    ending, *others = [name for name in ENDINGS if name in preferences] or ["code"]
    if others:
        raise ControlError(f"{ending} and {others[0]} exclude each other")
    if ending != "code" and (value := preferences[ending]):
        raise ControlError(f"{ending} takes no value, not {reprlib.repr(value)}")
    code = preferences.get("code", "200")
    if not re.fullmatch("200|[45][0-9]{2}", code):
        raise ControlError(f"code must be 200, or from 400 to 599, not {reprlib.repr(code)}")
    wait = preferences.get("wait", "0")
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", wait) or float(wait) > MAX_WAIT_S:
        raise ControlError(f"wait must be seconds from 0 to {MAX_WAIT_S}, not {reprlib.repr(wait)}")
    kind = ending if ending != "code" else "delay" if code == "200" else "error"
    delay_ms = round(float(wait) * 1000)
    fields: dict[str, object] = {"operation": operation.operation_id, "kind": kind, "delay_ms": delay_ms}
    if kind == "error":
        fields["status"] = int(code)
    for name, text in preferences.items():
        if name in ERROR_DETAILS and kind != "error":
            raise ControlError(f"{name} needs a code from 400 to 599")
        if name in DETAILS:
            fields[name] = int(text) if re.fullmatch("[0-9]{1,9}", text) else text
    return make_fault(fields) if kind != "delay" or delay_ms else None


def mark_applied(response: Response, preferences: Mapping[str, str], fault: Fault | None) -> Response:
    """Return `response` with a header that names the preferences that were applied (RFC 7240 §3)."""
    is_applied = {"code": preferences.get("code") == str(response.status), "when": fault is not None}
    text = ", ".join(f"{name}={value}" for name, value in preferences.items() if is_applied.get(name, True))
    return replace(response, headers={**response.headers, "Preference-Applied": text}) if text else response


def _name_and_value(text: str) -> tuple[str, str]:
    name, _, value = map(str.strip, text.partition("="))
    is_quoted = len(value) > 1 and value[0] == value[-1] == '"'
    return name.lower(), value[1:-1] if is_quoted else value
