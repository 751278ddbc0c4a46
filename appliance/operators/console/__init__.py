"""The serial console: a person, or a rig, at the end of a line that may be slow and noisy."""
