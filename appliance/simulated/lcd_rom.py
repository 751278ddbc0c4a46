"""What an HD44780 shows for which code (HD44780U data sheet, table 4).

Some of its characters exist in no character set; they stand here as what they resemble.
"""

from typing import Final

from appliance.glyphs import GLYPHS

NOTHING_LIKE_IT: Final = "\N{REPLACEMENT CHARACTER}"

_ASCII: Final = "".join(map(chr, range(0x20, 0x80)))
_KATAKANA: Final = "".join(map(chr, range(0xFF61, 0xFFA0)))

ROMS: Final = {
    "A00": " " * 32
    + _ASCII.translate({0x5C: "¥", 0x7E: "→", 0x7F: "←"})
    + " " * 33
    + _KATAKANA.translate({0xFF65: "·", 0xFF9F: "°"})
    + "αäβεμσρg√⁻jˣ¢£ñöpqθ∞ΩüΣπxy千万円÷ █",
    "A02": " " * 16
    + "▶◀“”⏫⏬●↵↑↓→←≤≥▲▼"
    + _ASCII.translate({0x7F: "⌂"})
    + "БДЖЗИЙЛПУЦЧШЩЪЫЭ"
    + "α♪ΓπΣσ♬τ🔔θΩδ∞♥ε∩"
    + "‖¡¢£¤¥¦§ƒ©ª«ЮЯ®´"
    + "ᴼ±²³₧μ¶·ω¹º»¼½¾¿"
    + "ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏ"
    + "ÐÑÒÓÔÕÖ×ΦÙÚÛÜÝÞß"
    + "àáâãäåæçèéêëìíîï"
    + "ðñòóôõö÷øùúûüýþÿ",
}
"""By ROM: the character of each code; the first sixteen codes are CGRAM."""

_DOTS: Final = {rows: character for character, rows in GLYPHS.items()}


def drawn_character(rows: bytes) -> str:
    """The character that eight rows of dots resemble."""
    return _DOTS.get(tuple(rows), NOTHING_LIKE_IT)
