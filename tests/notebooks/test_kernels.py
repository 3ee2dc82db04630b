"""What a notebook starts ends with its kernel: processes and temporary files, at whatever moment the kernel ends."""

import os
import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import psutil
import pytest
from jupyter_client.manager import KernelManager

from harness.server import wait_until
from tests.notebooks.notebooks import FOLDER

MARK = "KERNEL_OF_TEST"

# All kinds of things that the notebooks start. When all of them run, the file `ready` appears.
START = """
import subprocess, sys, tempfile
from pathlib import Path

from course import serve
from harness.postgresql import PostgreSQL

serve()
files = tempfile.mkdtemp()
workers = ["--workers", "2", "--port", "0", "--database", f"sqlite:///{files}/orders.db"]
subprocess.Popen([sys.executable, "-m", "orders", "serve", *workers], stderr=subprocess.DEVNULL)
subprocess.Popen([sys.executable, "-m", "http.server", "0", "--bind", "127.0.0.1"], start_new_session=True)
PostgreSQL()
Path(tempfile.gettempdir(), "ready").touch()
"""


class Kernel:
    """A kernel that starts what notebooks start. Its processes have a mark in their environment."""

    def __init__(self, folder: Path) -> None:
        """Start the kernel, and let it execute `START`. Its temporary files go into a folder."""
        self.mark = str(uuid4())
        self.folder = folder
        self.manager = KernelManager(kernel_name="python3")
        environment = {**os.environ, "TMPDIR": str(folder), "IPYTHONDIR": str(folder), MARK: self.mark}
        self.manager.start_kernel(cwd=str(FOLDER), env=environment)
        client = self.manager.client()
        client.start_channels()
        client.wait_for_ready(timeout=60)
        client.execute(START)
        client.stop_channels()

    def processes(self) -> list[psutil.Process]:
        """Return the kernel and all processes that come from it."""
        found = []
        for process in psutil.process_iter(["cmdline"]):
            with suppress(psutil.Error):
                if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == self.mark:
                    found.append(process)
        return found

    def files(self) -> list[Path]:
        """Return the temporary files of the notebook."""
        return list(self.folder.glob("orders-*"))

    def is_ready(self) -> bool:
        """Return whether everything has been started."""
        return bool(list(self.folder.glob("orders-*/ready")))


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder for temporary files that PostgreSQL's user can enter, too."""
    path = Path(tempfile.mkdtemp(dir="/var/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def kernel(folder: Path) -> Iterator[Kernel]:
    """A kernel."""
    kernel = Kernel(folder)
    yield kernel
    kernel.manager.shutdown_kernel(now=True)


def end(kernel: Kernel, how: str) -> None:
    """End a kernel as Jupyter's menu does (`shutdown`), with Jupyter's last resort, or with SIGKILL to it alone."""
    if how == "kill":
        for process in kernel.processes():
            if "ipykernel_launcher" in process.info["cmdline"]:
                process.kill()
    else:
        kernel.manager.shutdown_kernel(now=how == "now")


def assert_nothing_is_left(kernel: Kernel) -> None:
    """Wait until the processes and the files of a kernel are gone."""
    with suppress(AssertionError):
        wait_until(lambda: not kernel.processes() and not kernel.files(), "nothing is left", 30)
    assert (kernel.processes(), kernel.files()) == ([], [])


@pytest.mark.parametrize("how", ["shutdown", "now", "kill"])
def test_nothing_outlives_a_kernel(kernel: Kernel, how: str) -> None:
    """When a kernel ends, all that it has started ends, and its temporary files are deleted."""
    wait_until(kernel.is_ready, "the kernel has started everything", 60)
    assert len(kernel.processes()) > 6
    end(kernel, how)
    assert_nothing_is_left(kernel)


@pytest.mark.parametrize("seed", range(8))
def test_nothing_outlives_a_kernel_that_is_killed_while_it_starts(kernel: Kernel, seed: int) -> None:
    """The same holds at a random moment while the kernel starts servers."""
    chance = random.Random(seed)
    how = chance.choice(["now", "kill"])
    time.sleep(chance.uniform(0.2, 3.5))
    end(kernel, how)
    assert_nothing_is_left(kernel)
