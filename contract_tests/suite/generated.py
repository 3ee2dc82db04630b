"""Schemathesis, set up for this contract: what it generates, and what its checks say about the answers.

Identifiers are made new before they are sent (`renew`). A constant `order_id` would be known from the second request
on, and "already exists" would hide all else that is wrong with the answer. On a server that others use too, the request
could also mean somebody else's order.
"""

import ssl
from typing import Any
from urllib.parse import urlencode, urlsplit

import requests
import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.core.failures import Failure as SchemathesisFailure
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import positive_data_acceptance
from schemathesis.specs.openapi.schemas import OpenApiSchema

from contract_tests.suite import contract
from contract_tests.suite.contract import ASSIGN, MAX_LENGTH
from contract_tests.suite.rules import CONTROL_CHARACTER
from contract_tests.suite.run import Run
from contract_tests.suite.scenario import Scenario
from contract_tests.suite.transport import TRANSPORT_ERRORS, Request, Response, Step, explain

# Text that often breaks parsers, storage and logs: a tenth of the generated values.
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
    "x" * MAX_LENGTH,
    "x" * (MAX_LENGTH + 1),
]


def load() -> OpenApiSchema:
    """Return the contract as Schemathesis reads it, with the settings and the seed of this run."""
    config = {
        "seed": Run.current.seed,
        "continue-on-failure": True,
        "cache": {"enabled": False},
        "warnings": False,
        "generation": {
            "database": "none",
            "max-examples": Run.current.budget.examples,
            "dictionaries": {"string": {"dictionary": "edges", "probability": 0.1}},
        },
        "dictionaries": {"edges": {"values": EDGES}},
        "checks": {
            # The default also allows 400. Identifiers are new here, so there is no reason for one.
            "positive_data_acceptance": {"expected-statuses": ["2xx", "5xx"]},
            # ACQUIRE-8 checks Cache-Control where D4 requires it.
            "response_headers_conformance": {"enabled": False},
        },
        "phases": {
            # Not HEAD, which has no body to check, nor TRACE, which HTTP servers answer themselves.
            "coverage": {"unexpected-methods": ["get", "put", "post", "delete", "options", "patch"]},
            "fuzzing": {"generation": {"allow-extra-parameters": False}},
            "stateful": {"max-steps": 8, "generation": {"allow-extra-parameters": False}},
        },
    }
    return schemathesis.openapi.from_path(contract.PATH, config=SchemathesisConfig.from_dict(config))


def new_session() -> requests.Session:
    """Return a session that uses no proxy, and trusts the same certificates as the rest of the suite."""
    session = requests.Session()
    session.trust_env = False
    session.verify = ssl.get_default_verify_paths().cafile or True
    return session


def renew(run: Run, query: dict[str, Any], keep: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Return a query with new identifiers in place of valid ones, except those to keep. None of them is too long."""

    def new(value: str) -> str:
        unique = run.new_id("g") + "-"
        return unique + (value[len(unique) :] if len(value) + len(unique) > MAX_LENGTH else value)

    def is_valid(value: object) -> bool:
        return isinstance(value, str) and 0 < len(value) <= MAX_LENGTH and not CONTROL_CHARACTER.search(value)

    named = {name: value for name, value in query.items() if name in ASSIGN.parameters and name not in keep}
    return query | {name: new(value) for name, value in named.items() if is_valid(value)}


def call(scenario: Scenario, case: Any, session: requests.Session) -> tuple[Step, Any]:
    """Send what Schemathesis generated; return the step, and the response as Schemathesis has it."""
    run = scenario.run
    run.requests += 1
    try:
        received = case.call(
            base_url=run.target.base_url, session=session, timeout=run.target.timeout_s, verify=session.verify
        )
    except (requests.RequestException, *TRANSPORT_ERRORS) as error:
        step = Step(Request(case.method, case.path, urlencode(case.query, doseq=True)), None, explain(error))
        scenario.add(step)
        scenario.fail_unanswered(step)
    sent = received.request
    parts = urlsplit(sent.url)
    body = sent.body.encode() if isinstance(sent.body, str) else sent.body or b""
    request = Request(sent.method, parts.path.removeprefix(run.target.prefix), parts.query, (), body)
    headers = tuple((name, value) for name, values in received.headers.items() for value in values)
    response = scenario.understand(request, Response(received.status_code, headers, received.content))
    step = Step(request, response)
    scenario.add(step)
    return step, received


def check(scenario: Scenario, case: Any, received: Any, *, may_be_refused: bool = False) -> None:
    """Run Schemathesis's own checks on a response, and fail with the first thing that they find.

    `may_be_refused` says that 400 for a known order is expected, although the parameters are valid.
    """
    excluded = [positive_data_acceptance] if may_be_refused else []
    try:
        case.validate_response(received, excluded_checks=excluded)
    except FailureGroup as group:
        failure = group.exceptions[0]
        assert isinstance(failure, SchemathesisFailure)
        found = failure.message.splitlines()[0] if failure.message else failure.title
        scenario.fail(f"an answer that passes Schemathesis's checks, which say: {found}")
