"""The appliance's figures for Prometheus, from a process of its own."""
