"""The journal's catalog, made from the table of events: what `journalctl -x` shows beside them.

`python -m appliance.operators.journal_catalog` prints it; the file in
`firmware_config/journal` is that, and a test holds them equal.  The journal
puts the fields of a message in the places of `@NAME@`.
"""

import string
import textwrap
from collections.abc import Iterator

from appliance.events import KINDS, EventKind, message_id

WIDTH = 76


def catalog() -> str:
    """Every event, by its code."""
    head = "# Made by `make catalog` from the table of events; do not edit.\n"
    return head + "".join("\n" + "\n".join(_entry(KINDS[code])) + "\n" for code in sorted(KINDS))


def _entry(kind: EventKind) -> Iterator[str]:
    yield f"-- {message_id(kind.code).hex}"
    yield f"Subject: {kind.code}: {_with_fields(kind.sentence)}"
    yield "Defined-By: Ebbtide"
    yield ""
    yield from textwrap.wrap(" ".join(kind.explanation.split()), WIDTH)
    if kind.remedy:
        yield ""
        yield from textwrap.wrap(f"What to do: {kind.remedy}.", WIDTH)


def _with_fields(sentence: str) -> str:
    return "".join(
        text + (f"@EBBTIDE_{field.upper()}@" if field else "")
        for text, field, _, _ in string.Formatter().parse(sentence)
    )


if __name__ == "__main__":
    print(catalog(), end="")
