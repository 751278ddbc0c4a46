"""Answers as text for people: the same on a terminal and on the serial console."""
