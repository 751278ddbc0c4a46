"""labgrid drivers of our own; imported by a rig's settings file."""

from hil_tests.drivers import recorded, virtual

__all__ = ["recorded", "virtual"]
