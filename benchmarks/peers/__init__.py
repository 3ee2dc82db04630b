"""The servers to compare with."""
