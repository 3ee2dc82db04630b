"""Leaves out of tox's environments `py311`, `py312`, … that of the Python that runs tox: `py` has all of its tests."""

import os
import sys

os.environ.setdefault("TOX_SKIP_ENV", "py{}{}".format(*sys.version_info[:2]))
