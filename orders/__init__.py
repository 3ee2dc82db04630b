"""The reference implementation of the orders service API."""

__version__ = "0.1.0"
