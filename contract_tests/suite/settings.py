"""Hypothesis's settings for all random checks."""

from hypothesis import HealthCheck, settings

# All are explicit, because Hypothesis has other defaults where it finds that it runs in CI.
SETTINGS = settings(
    deadline=None,
    database=None,
    derandomize=False,
    print_blob=False,
    suppress_health_check=list(HealthCheck),
)
