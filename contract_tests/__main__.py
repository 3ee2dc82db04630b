"""`python -m contract_tests` is the command `orders-contract`."""

import sys

from contract_tests.cli import main

sys.exit(main())
