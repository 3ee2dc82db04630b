"""The system programs that some tests and benchmarks need: where they are, and what becomes of a test without one."""

import os
import shutil

# Go with the library that the peer in Go is built with.
GOLANG = "golang-go golang-github-jackc-pgx-v4-dev"

# The package, or packages, of each on Debian and Ubuntu, and the names that its program goes by.
PACKAGES = {
    "chromium": ("chromium", "chromium-browser", "google-chrome"),
    "curl": ("curl",),
    GOLANG: ("go",),
    "nginx": ("nginx",),
    "systemd": ("systemd-analyze",),
    "wrk": ("wrk",),
}


def find_program(package: str) -> str | None:
    """Return the path of a package's program, or None if it is not installed."""
    # Not every user's PATH has the programs of administrators.
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin"
    return next(filter(None, (shutil.which(name, path=path) for name in PACKAGES[package])), None)


def how_to_install(package: str) -> str:
    """Return what is missing without a package, and the command that installs it."""
    return f"{PACKAGES[package][0]} is not installed; on Debian and Ubuntu: apt-get install {package}"


def require_program(package: str) -> str:
    """Return the path of a program that a test needs. Where it is missing, skip the test, or fail it in CI.

    The variable `CI` tells CI, which installs every program, so that it cannot pass by skipping.
    """
    # Benchmarks, which run without pytest, use the rest of this module.
    import pytest

    program = find_program(package)
    if program is None:
        outcome = pytest.fail if os.environ.get("CI") else pytest.skip
        outcome(how_to_install(package))
    return program
