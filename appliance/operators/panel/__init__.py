"""The front panel as a face: its screens, its keys, and the process that runs them."""
