"""Schemathesis, set up for this contract: what it generates, and what its checks say of the answers.

Identifiers are made new before they are sent (`renew`): a constant `order_id` would be a known one from the second
request on, and "already exists" would hide whatever else is wrong with the answer; and on a server that others use too,
somebody else's order could be meant.
"""

import ssl
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import requests
import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.core.failures import Failure as SchemathesisFailure
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import positive_data_acceptance
from schemathesis.specs.openapi.schemas import OpenApiSchema

from contract_tests import current
from contract_tests.rules import ASSIGN, CONTROL_CHARACTER, MAX_CODE_POINTS
from contract_tests.run import Run
from contract_tests.service import Service
from contract_tests.transport import TRANSPORT_ERRORS, Answer, Exchange, Request, explain

CONTRACT = Path(__file__).parent.parent / "openapi.yaml"

# Text that trips up parsers, storage and logs; a tenth of the generated values.
EDGES = [
    "\0",
    " ",
    "\n",
    "\x1f",
    "\x7f",
    "%00",
    "\u2028",
    "\ufeff",
    "'",
    '"',
    "\\",
    "null",
    "a b",
    "x" * 255,
    "x" * 256,
]


def load() -> OpenApiSchema:
    """Return the contract as Schemathesis reads it, with the settings and the seed of this run."""
    config = {
        "seed": current.run.seed,
        "continue-on-failure": True,
        "cache": {"enabled": False},
        "warnings": False,
        "generation": {
            "database": "none",
            "max-examples": current.run.budget.examples,
            "dictionaries": {"string": {"dictionary": "edges", "probability": 0.1}},
        },
        "dictionaries": {"edges": {"values": EDGES}},
        "checks": {
            # Unlike the default, no 400: identifiers are new, so there is no reason for one.
            "positive_data_acceptance": {"expected-statuses": ["2xx", "5xx"]},
            # Where D4 asks for Cache-Control, ACQUIRE-8 does.
            "response_headers_conformance": {"enabled": False},
        },
        "phases": {
            # All but HEAD, which has no body to check, and TRACE, which HTTP servers answer themselves.
            "coverage": {"unexpected-methods": ["get", "put", "post", "delete", "options", "patch"]},
            "fuzzing": {"generation": {"allow-extra-parameters": False}},
            "stateful": {"max-steps": 8, "generation": {"allow-extra-parameters": False}},
        },
    }
    return schemathesis.openapi.from_path(CONTRACT, config=SchemathesisConfig.from_dict(config))


def new_session() -> requests.Session:
    """Return a session that uses no proxy, and trusts whom the rest of the suite trusts."""
    session = requests.Session()
    session.trust_env = False
    session.verify = ssl.get_default_verify_paths().cafile or True
    return session


def renew(run: Run, query: dict[str, Any], keep: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Return a query with its valid identifiers made new, except those to keep; none becomes too long."""

    def new(value: str) -> str:
        unique = run.new_id("g") + "-"
        return unique + (value[len(unique) :] if len(value) + len(unique) > MAX_CODE_POINTS else value)

    def is_valid(value: object) -> bool:
        return isinstance(value, str) and 0 < len(value) <= MAX_CODE_POINTS and not CONTROL_CHARACTER.search(value)

    named = {name: value for name, value in query.items() if name in ASSIGN.parameters and name not in keep}
    return query | {name: new(value) for name, value in named.items() if is_valid(value)}


def call(service: Service, case: Any, session: requests.Session) -> tuple[Exchange, Any]:
    """Send what Schemathesis generated; return the exchange, and the response as Schemathesis has it."""
    run = service.run
    run.requests += 1
    try:
        response = case.call(
            base_url=run.target.base_url, session=session, timeout=run.target.timeout_s, verify=session.verify
        )
    except (requests.RequestException, *TRANSPORT_ERRORS) as error:
        request = Request(case.method, case.path, urlencode(case.query, doseq=True))
        service.exchanges.append(Exchange(request, None, explain(error)))
        run.check_alive(request, explain(error))
        run.record("ERROR-2", "an answer", service.exchanges)
        service.fail("an answer", otherwise="ERROR-2")
    sent = response.request
    parts = urlsplit(sent.url)
    body = sent.body.encode() if isinstance(sent.body, str) else sent.body or b""
    request = Request(sent.method, parts.path.removeprefix(run.target.prefix), parts.query, (), body)
    headers = tuple((name, value) for name, values in response.headers.items() for value in values)
    exchange = Exchange(request, Answer(response.status_code, headers, response.content))
    service.note(exchange)
    return exchange, response


# Schemathesis's checks that have a clause of their own here.
CLAUSES = {"UnsupportedMethodResponse": "WIRE-3", "AllowHeaderMismatch": "WIRE-3", "ServerError": "ERROR-2"}


def check(service: Service, case: Any, response: Any, *, may_be_refused: bool = False) -> None:
    """Run Schemathesis's own checks on a response; record what they find, and fail with the first of it.

    `may_be_refused` says that the 400 for a known order is due here, although the parameters are valid.
    """
    excluded = [positive_data_acceptance] if may_be_refused else []
    try:
        case.validate_response(response, excluded_checks=excluded)
    except FailureGroup as group:
        for failure in group.exceptions:
            assert isinstance(failure, SchemathesisFailure)
            found = failure.message.splitlines()[0] if failure.message else failure.title
            expected = f"an answer that passes Schemathesis's checks, which say: {found}"
            clause = CLAUSES.get(type(failure).__name__)
            if clause is not None:
                service.run.record(clause, expected, service.exchanges)
        service.fail(expected)
