"""Ebbtide: continuous data protection for a small storage appliance."""

__version__ = "0.1.0"
