"""The control socket: JSON lines between `cdpd` and every face."""
