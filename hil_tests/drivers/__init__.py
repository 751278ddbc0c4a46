"""labgrid drivers of our own; imported by a rig's settings file."""

from hil_tests.drivers import panel, recorded, virtual

__all__ = ["panel", "recorded", "virtual"]
