"""The server beside others that do the same, measured in one run."""
