"""Timed figures beside peers, in one run: `python -m bench`, or `make bench`.

Absolute speeds say little about another machine, so every figure is a ratio of
two measurements that took turns on the same kind of disk, or a bound.
"""
