"""Somebody who has never seen the box and cannot read its manual: presses what the glass says."""

from collections.abc import Callable
from typing import Protocol

from appliance.glass import Key

WANTED = ("Restore", "By time", "10 min ago")
"""What a person knows who wants a volume as it was ten minutes ago, beside the volume's name."""


class Hands(Protocol):
    """Of whoever stands at the glass."""

    @property
    def lines(self) -> tuple[str, str]: ...
    def tap(self, *keys: Key) -> None: ...
    def hold(self, key: Key, seconds: float) -> None: ...
    def turn(self, seconds: float) -> None: ...


def restore_ten_minutes(
    hands: Hands, volume: str, seen: Callable[[tuple[str, str]], None] = lambda lines: None
) -> int:
    """Restore to ten minutes ago, as `restore` does."""
    return restore(hands, volume, WANTED, seen)


def restore(
    hands: Hands,
    volume: str,
    words: tuple[str, ...],
    seen: Callable[[tuple[str, str]], None] = lambda lines: None,
) -> int:
    """Restore, knowing nothing but the words on the glass: how many presses it took, before the
    one that is held.  `words` are those that are wanted; `seen` is shown every glass."""
    wanted = (volume, *words)
    presses = 0
    for _ in range(40):
        first, second = hands.lines
        seen(hands.lines)
        if second.startswith("Hold Select 3s"):
            hands.hold(Key.SELECT, 4.0)
            seen(hands.lines)
            return presses
        key = None
        if second.endswith("↵menu"):
            # Its own volume is on the glass: a person waits for that.
            key = Key.SELECT if first.split()[0] == volume else None
        elif second.startswith("▶") and second.endswith("↵"):
            label = second[1:-1].strip()
            if label in wanted:
                key = Key.SELECT
            else:
                assert "▼" in first, f"what is wanted is not there: {hands.lines}"
                key = Key.DOWN
        if key is None:
            hands.turn(1.0)
        else:
            presses += 1
            hands.tap(key)
    raise AssertionError(f"lost at {hands.lines}")
