"""`make golden`: write the images of the present format anew.

Only when the format itself has changed, under a new format number: images of
an older format stay, so that every release goes on reading them.
"""

from tests.golden.making import SECTORS, make

for name in SECTORS:
    made = make(name)
    made.save(name)
    print(f"{name}: {len(made.points)} points")
