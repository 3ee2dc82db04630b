"""Hypothesis, set up for all random checks."""

from hypothesis import HealthCheck, settings
from hypothesis.errors import Flaky

from contract_tests.suite.run import ServerLost, Violation

# All are explicit, because Hypothesis has other defaults where it finds that it runs in CI.
SETTINGS = settings(
    deadline=None,
    database=None,
    derandomize=False,
    print_blob=False,
    suppress_health_check=list(HealthCheck),
)


def raised_by_check(error: BaseException) -> BaseException:
    """Return what a check raised, if Hypothesis raised an error of its own in its place.

    Hypothesis raises a group if it found several failures, and `Flaky` if a history ended where an equal one went on,
    for example because the server has died since then.
    """
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    cause: BaseException | None = error
    while isinstance(cause, Flaky):
        cause = cause.__context__
    return cause if isinstance(cause, Violation | ServerLost) else error
