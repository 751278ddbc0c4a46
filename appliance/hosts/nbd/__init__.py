"""The NBD server: protocol, connections, exports."""
