"""Words for people, fit for any terminal.

Labels come from disks, names from the network, reasons from files: none of them may move a cursor
or fill a screen.
"""

from collections.abc import Mapping
from typing import Final

from appliance.events import EventKind, FieldValue

TEXT_MAXIMUM: Final = 1000
"""Characters of a field; what is longer is cut."""


def printable(text: str) -> str:
    """What is not printable shows as `?`."""
    return "".join(character if character.isprintable() else "?" for character in text)


def cleaned(fields: Mapping[str, FieldValue]) -> dict[str, FieldValue]:
    """The fields of an event as they may be shown."""
    return {
        name: _short(printable(value)) if isinstance(value, str) else value
        for name, value in fields.items()
    }


def in_words(kind: EventKind, clean: Mapping[str, FieldValue]) -> str:
    """An event's sentence; a field that was not given shows as `?`."""
    return kind.sentence.format_map(_Lenient(clean))


def _short(text: str) -> str:
    return text if len(text) <= TEXT_MAXIMUM else text[:TEXT_MAXIMUM] + "…"


class _Lenient(dict[str, FieldValue]):
    """An event is not lost over a field."""

    def __missing__(self, name: str) -> str:
        return "?"
