"""A fixture for all tests of the storage."""

import pytest


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let calls in the test's own process wait so long that they do not fail because the machine is busy."""
    monkeypatch.setattr("orders.storage.sets.ANSWER_TIMEOUT_S", 60.0)
