"""The engine: it knows no hardware, socket or screen."""
