"""Which code makes an HD44780 show which character.

A character is in its ROM, or is drawn into one of the eight places of its CGRAM.
"""

from typing import Final, Literal

from appliance.glyphs import GLYPHS

PLACES: Final = 8
"""Characters of 5×8 dots that CGRAM holds (HD44780U data sheet, table 5)."""
UNKNOWN: Final = ord("?")

_PRINTABLE: Final = {chr(code): code for code in range(0x20, 0x7E)}
ROM_CODES: Final = {
    # A yen sign and two arrows stand where ASCII has \, ~ and DEL.
    "A00": {character: code for character, code in _PRINTABLE.items() if character != "\\"}
    | {"→": 0x7E, "←": 0x7F, "·": 0xA5, "°": 0xDF, "█": 0xFF},
    "A02": _PRINTABLE
    | {"▶": 0x10, "◀": 0x11, "●": 0x16, "↵": 0x17, "↑": 0x18, "↓": 0x19, "→": 0x1A, "←": 0x1B}
    | {"▲": 0x1E, "▼": 0x1F, "~": 0x7E, "·": 0xB7},
}
"""Of each ROM (HD44780U data sheet, table 4), what a glass may carry."""


class Characters:
    """The characters of one display, of which the CGRAM begins empty."""

    def __init__(self, rom: Literal["A00", "A02"]) -> None:
        self._rom = ROM_CODES[rom]
        self._places: dict[str, int] = {}
        """What CGRAM holds, the longest unused first."""

    def encode(self, lines: tuple[str, str]) -> tuple[tuple[bytes, bytes], dict[int, bytes]]:
        """The codes of both lines, and what must be drawn into CGRAM for them: place → rows."""
        wanted = dict.fromkeys("".join(lines))
        drawn = [character for character in wanted if self._is_drawn(character)][:PLACES]
        fresh = {}
        for character in drawn:
            place = self._places.pop(character, None)
            if place is None:
                place = self._free_place(drawn)
                fresh[place] = bytes(GLYPHS[character])
            self._places[character] = place
        codes = {character: self._places[character] for character in drawn} | self._rom
        first, second = (bytes(codes.get(each, UNKNOWN) for each in line) for line in lines)
        return (first, second), fresh

    def _is_drawn(self, character: str) -> bool:
        return character not in self._rom and character in GLYPHS

    def _free_place(self, wanted: list[str]) -> int:
        """One that was never used, else the one unused for longest: it is hardly on the glass."""
        if len(self._places) < PLACES:
            return min(set(range(PLACES)) - set(self._places.values()))
        oldest = next(character for character in self._places if character not in wanted)
        return self._places.pop(oldest)
