"""Jobs: who waits for a call hears of its outcome at once, and once."""

import logging

import pytest

from orders.jobs import Job


def test_the_outcome_is_handed_out_at_once() -> None:
    """The callback runs in `resolve`, or when it is given if the job is done already."""
    job = Job(lambda book: "unused")
    heard: list[str] = []
    job.when_done(lambda job: heard.append(job.outcome()))
    job.result = "result"
    assert not job.done
    job.resolve()
    assert job.done and heard == ["result"]
    job.when_done(lambda job: heard.append("late"))
    assert heard == ["result", "late"]


def test_an_outcome_counts_once() -> None:
    """A job that has expired is not answered a second time when its call ends after all."""
    job = Job(lambda book: "unused")
    heard: list[Exception | None] = []
    job.when_done(lambda job: heard.append(job.error))
    job.expire()
    job.result, job.error = "too late", None
    job.resolve()
    assert len(heard) == 1 and isinstance(heard[0], TimeoutError)


def test_an_error_is_raised_or_made_a_result() -> None:
    """Whoever asks for the outcome gets the error, unless there is something to say in its place."""
    failed = Job(lambda book: "unused")
    failed.error = ValueError("no")
    failed.resolve()
    with pytest.raises(ValueError, match="no"):
        failed.outcome()
    excused = Job(lambda book: "unused").otherwise(lambda error: f"instead of {error}")
    excused.error = ValueError("no")
    excused.resolve()
    assert excused.outcome() == "instead of no"


def test_a_callback_that_fails_does_not_stop_the_next(caplog: pytest.LogCaptureFixture) -> None:
    """An error while an answer is handed out is logged, and whoever resolves the jobs goes on."""

    def fail(job: Job[str]) -> None:
        raise RuntimeError("the client has gone")

    job = Job(lambda book: "unused")
    job.when_done(fail)
    with caplog.at_level(logging.ERROR, "orders"):
        job.resolve()
    assert "the client has gone" in caplog.text
