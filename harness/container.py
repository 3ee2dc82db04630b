"""Builds the container image with buildah, and runs commands in it. Needs no daemon, but root."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.processes import run, start
from harness.programs import require_program

ROOT = Path(__file__).parent.parent
BASE = "docker.io/library/python:3.13-slim"
TIMEOUT_S = 900
# The user of the image, who owns its volume.
USER_ID = 10001
# A build downloads packages, as this machine does.
SETTINGS = ("/etc/ssl/certs", "/etc/pip.conf", "/etc/xdg/pip")


class Image:
    """The image, in a storage of its own."""

    def __init__(self, folder: Path) -> None:
        """Build the image in a folder. The base comes from a registry, or else from Debian's packages."""
        self._buildah = [require_program("buildah"), "--root", str(folder / "root"), "--runroot", str(folder / "run")]
        self._buildah += ["--storage-driver", "vfs"]
        if run([*self._buildah, "pull", "--quiet", BASE], timeout_s=TIMEOUT_S).returncode != 0:
            self._import_base(folder)
        settings = [f"--volume={path}:{path}:ro" for path in SETTINGS if os.path.exists(path)]
        options = ["--format", "docker", "--isolation", "chroot", "--pull-never", *settings]
        self._call("build-using-dockerfile", *options, "--tag", "orders", str(ROOT))
        self._container = self._call("from", "--pull-never", "localhost/orders").strip()

    def _import_base(self, folder: Path) -> None:
        """Make a base of the same name, with Python from Debian."""
        packages = "--include=ca-certificates,python3,python3-venv"
        command = [require_program("mmdebstrap"), "--variant=minbase", packages, "bookworm", str(folder / "base.tar")]
        ended = run(command, timeout_s=TIMEOUT_S)
        assert ended.returncode == 0, ended.stderr
        container = self._call("from", "scratch").strip()
        self._call("add", container, str(folder / "base.tar"), "/")
        self._call("commit", "--quiet", "--format", "docker", container, BASE)

    def _call(self, *arguments: str) -> str:
        """Call buildah; return its output."""
        ended = run([*self._buildah, *arguments], timeout_s=TIMEOUT_S, cwd=ROOT)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    def config(self) -> dict[str, Any]:
        """Return what the image says about itself, as Docker reads it."""
        config: dict[str, Any] = json.loads(self._call("inspect", "--type", "image", "orders"))["Docker"]["config"]
        return config

    def command(self, arguments: list[str], volume: Path | None = None, **environment: str) -> list[str]:
        """Return the command that runs a command in the image, on the network of this machine."""
        options = [f"--env={name}={value}" for name, value in environment.items()]
        if volume is not None:
            options.append(f"--volume={volume}:/var/lib/orders")
        return [*self._buildah, "run", "--isolation", "chroot", *options, self._container, "--", *arguments]

    def run(self, arguments: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the image to its end."""
        return run(self.command(arguments, None, **environment), timeout_s=TIMEOUT_S)

    def start(self, arguments: list[str], volume: Path, **environment: str) -> subprocess.Popen[str]:
        """Start a command in the image, with a folder as its volume."""
        return start(self.command(arguments, volume, **environment))

    def remove(self) -> None:
        """Remove the image and its containers."""
        self._call("rm", "--all")
        self._call("rmi", "--all", "--force")


@contextmanager
def built_image(folder: Path) -> Iterator[Image]:
    """Build the image in a folder, and remove both at the end."""
    try:
        image = Image(folder)
        yield image
        image.remove()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
