"""Skips the environment `py311`, `py312`, … of the Python that runs tox: `py` runs its tests and more."""

import os
import sys

os.environ.setdefault("TOX_SKIP_ENV", "py{}{}".format(*sys.version_info[:2]))
