"""HTTP in, a response out: the app, its pages, and what browsers need."""
