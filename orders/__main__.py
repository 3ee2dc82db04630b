"""`python -m orders`: the command `orders`."""

import sys

from orders.cli import main

if __name__ == "__main__":
    sys.exit(main())
