"""`cdpctl`, the command line."""
