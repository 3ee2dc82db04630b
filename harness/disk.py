"""A small disk, and a way to fill it. Only root can mount a disk."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.guard import DIRECTORY, MOUNT, guard, release
from harness.programs import find_program


def can_mount() -> bool:
    """Return whether this process may mount a disk."""
    return os.geteuid() == 0 and find_program("mount") is not None


@contextmanager
def mounted_disk(size: int) -> Iterator[Path]:
    """Mount an empty file system of `size` bytes until the end of the block; yield its directory."""
    # Not pytest's own directory: PostgreSQL runs as a user who cannot enter that.
    with tempfile.TemporaryDirectory(prefix="orders-disk-") as directory:
        os.chmod(directory, 0o755)
        guard(DIRECTORY, directory)
        disk = Path(directory) / "disk"
        disk.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=0755", "tmpfs", disk], check=True)
        guard(MOUNT, disk)
        try:
            yield disk
        finally:
            subprocess.run(["umount", "--lazy", disk], check=True)
            release(MOUNT, disk)
    release(DIRECTORY, directory)


@contextmanager
def filled(disk: Path) -> Iterator[None]:
    """Fill a disk until the end of the block."""
    filler = disk / "filler"
    with open(filler, "wb", buffering=0) as file:
        for size in (65536, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
    try:
        yield
    finally:
        filler.unlink()
