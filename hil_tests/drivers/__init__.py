"""labgrid drivers of our own; imported by a rig's settings file."""

from hil_tests.drivers import bench, panel, recorded, stick, virtual

__all__ = ["bench", "panel", "recorded", "stick", "virtual"]
