"""Finds the system programs that some tests and benchmarks need, and skips a test whose program is missing."""

import os
import shutil

# The Go compiler, and the library that the benchmarks' Go server needs.
GOLANG = "golang-go golang-github-jackc-pgx-v4-dev"

# Package on Debian and Ubuntu -> the names that its program can have.
PACKAGES = {
    "buildah": ("buildah",),
    "chromium": ("chromium", "chromium-browser", "google-chrome"),
    "curl": ("curl",),
    "mmdebstrap": ("mmdebstrap",),
    "mount": ("mount",),
    GOLANG: ("go",),
    "nginx": ("nginx",),
    "systemd": ("systemd-analyze",),
    "wrk": ("wrk",),
}


def find_program(package: str) -> str | None:
    """Return the path of a package's program, or None if it is not installed."""
    # Some of the programs are in /usr/sbin, which is not in every user's PATH.
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin"
    return next(filter(None, (shutil.which(name, path=path) for name in PACKAGES[package])), None)


def how_to_install(package: str) -> str:
    """Return a message that names the missing program and the command that installs it."""
    return f"{PACKAGES[package][0]} is not installed; on Debian and Ubuntu: apt-get install {package}"


def require_program(package: str) -> str:
    """Return the path of a program that a test needs. If it is missing, skip the test, or fail it in CI.

    CI, which sets the variable `CI`, installs every program: no test may be skipped there.
    """
    # Benchmarks use the rest of this module and run without pytest.
    import pytest

    program = find_program(package)
    if program is None:
        outcome = pytest.fail if os.environ.get("CI") else pytest.skip
        outcome(how_to_install(package))
    return program
