"""Makes fresh clones of this project, as a reader has them."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent


def make_clone(clone: Path) -> None:
    """Clone this project into a new directory. Changes that are not committed yet are committed there."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    listed = ["git", "ls-files", "--modified", "--others", "--exclude-standard"]
    changed = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    for name in filter(lambda name: (ROOT / name).exists(), changed):
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        (clone / name).write_bytes((ROOT / name).read_bytes())
    author = ["-c", "user.name=tests", "-c", "user.email=tests@example.com"]
    subprocess.run(["git", "add", "--all"], cwd=clone, check=True)
    commit = ["git", *author, "commit", "--quiet", "--allow-empty", "--message", "Changes that are not committed yet"]
    subprocess.run(commit, cwd=clone, check=True)
