"""labgrid drivers of our own; imported by a rig's settings file."""

from hil_tests.drivers import bench, far, panel, recorded, stick, virtual

__all__ = ["bench", "far", "panel", "recorded", "stick", "virtual"]
