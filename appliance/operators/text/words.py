"""Figures as people read them."""

from typing import Final

UNITS: Final = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def size(count: int) -> str:
    """Bytes, to three digits."""
    if count < 1024:
        return f"{count} B"
    amount = count / 1024
    units = iter(UNITS)
    unit = next(units)
    # What would round up to 1024 is one of the next unit.
    while amount >= 1023.5 and unit != UNITS[-1]:
        amount /= 1024
        unit = next(units)
    return f"{amount:.0f} {unit}" if amount >= 99.95 else f"{amount:.1f} {unit}"


def duration(seconds: float) -> str:
    """A stretch of time, by its two largest units."""
    whole = max(0, round(seconds))
    days, rest = divmod(whole, 86400)
    hours, rest = divmod(rest, 3600)
    minutes, left = divmod(rest, 60)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (left, "s")]
    first = next((index for index, (amount, _) in enumerate(parts) if amount), 3)
    shown = [f"{amount} {unit}" for amount, unit in parts[first : first + 2] if amount]
    return " ".join(shown) or "0 s"


def moment(time: str) -> str:
    """An RFC 3339 time to the second: still a point that commands take."""
    return time.partition(".")[0].removesuffix("Z") + "Z"


def count(amount: int, thing: str) -> str:
    """`1 write`, `2 writes`."""
    return f"{amount} {thing}" if amount == 1 else f"{amount} {thing}s"
