"""The running server: its processes, sockets and log."""
