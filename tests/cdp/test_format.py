"""The on-disk structures: three ways of writing them agree, and no damage is ever believed."""

import random
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import construct
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.cdp import format
from appliance.cdp.format import PAGE
from appliance.errors import FormatDamaged, FormatTooNew

DOCUMENT = Path(__file__).parents[2] / "docs" / "format.md"
SET = bytes(range(16))

DTYPES = {
    "Entry": (format.Entry, format.ENTRY_DTYPE),
    "Mark": (format.Mark, format.MARK_DTYPE),
    "MapRow": (format.MapRow, format.MAP_DTYPE),
    "SnapshotRow": (format.SnapshotRow, format.SNAPSHOT_DTYPE),
    "GapRow": (format.GapRow, format.GAP_DTYPE),
    "CompareRow": (format.CompareRow, format.COMPARE_DTYPE),
    "SuspectRow": (format.SuspectRow, format.SUSPECT_DTYPE),
}
STRUCTS = {
    "Entry": (format.Entry, format.ENTRY),
    "Mark": (format.Mark, format.MARK),
    "SegmentHeader": (format.SegmentHeader, format.SEGMENT_HEADER),
    "RecordHeader": (format.RecordHeader, format.RECORD_HEADER),
    "IntentSlot": (format.IntentSlot, format.INTENT_HEADER),
}
SEALED = {
    "Superblock": format.Superblock,
    "IntentSlot": format.IntentSlot,
    "BitmapPage": format.BitmapPage,
    "SegmentHeader": format.SegmentHeader,
    "RecordHeader": format.RecordHeader,
    "Checkpoint": format.Checkpoint,
}
RANGES = {"L": (0, 2**32 - 1), "Q": (0, 2**64 - 1), "q": (-(2**63), 2**63 - 1), "B": (0, 255)}
NAMES = {"L": "u32", "Q": "u64", "q": "i64", "B": "u8"}


def fields(definition: construct.Struct) -> Iterator[tuple[str, Any]]:
    for sub in definition.subcons:
        yield sub.name, sub.subcon


def values(definition: construct.Struct) -> st.SearchStrategy[dict[str, Any]]:
    """Any contents of a structure, envelope included."""

    def strategy(name: str, field: Any) -> st.SearchStrategy[Any]:
        if isinstance(field, construct.Const):
            return st.just(field.value)
        if isinstance(field, construct.FormatField):
            low, high = RANGES[field.fmtstr[-1]]
            return st.integers(low, high)
        if isinstance(field, construct.Bytes):
            return st.binary(min_size=field.sizeof(), max_size=field.sizeof())
        assert isinstance(field, construct.Array)
        if name == "regions":
            return st.just([])
        return st.lists(strategy(name, field.subcon), min_size=field.count, max_size=field.count)

    made = {name: strategy(name, field) for name, field in fields(definition)}
    if "regions" in made:
        made["count"] = st.just(0)
    return st.fixed_dictionaries(made)


def offsets(definition: construct.Struct) -> dict[str, int]:
    found = {}
    at = 0
    for name, field in fields(definition):
        found[name] = at
        at += 0 if name == "regions" else field.sizeof()
    return found


# The definitions agree


@pytest.mark.parametrize("name", DTYPES)
def test_rows_have_the_fields_of_their_definition(name: str) -> None:
    definition, dtype = DTYPES[name]
    assert dtype.itemsize == definition.sizeof()
    assert dtype.fields is not None
    assert {field: dtype.fields[field][1] for field in dtype.names or ()} == offsets(definition)


@pytest.mark.parametrize("name", DTYPES)
def test_rows_are_the_bytes_of_their_definition(name: str) -> None:
    definition, dtype = DTYPES[name]

    @given(values(definition))
    @settings(max_examples=30, deadline=None)
    def hold(made: dict[str, Any]) -> None:
        row = np.array([tuple(made[field] for field in dtype.names or ())], dtype)
        assert row.tobytes() == definition.build(made)

    hold()


@pytest.mark.parametrize("name", STRUCTS)
def test_precompiled_structs_are_the_bytes_of_their_definition(name: str) -> None:
    definition, compiled = STRUCTS[name]

    @given(values(definition))
    @settings(max_examples=30, deadline=None)
    def hold(made: dict[str, Any]) -> None:
        if name == "RecordHeader":
            made["reserved"] = bytes(len(made["reserved"]))  # padding to the precompiled one
        left_out = ("regions",) if name == "IntentSlot" else ("reserved",)
        names = [field for field, _ in fields(definition) if field not in left_out]
        plain = [made[field] for field in names]
        assert compiled.pack(*plain) == definition.build(made)
        assert compiled.unpack(definition.build(made)) == tuple(plain)

    hold()


def test_the_envelope_opens_every_structure() -> None:
    for definition in SEALED.values():
        names = [name for name, _ in fields(definition)]
        assert names[:4] == ["magic", "crc", "length", "set_id"]
        assert offsets(definition)["length"] == format.CRC_FROM
        assert offsets(definition)["crc"] == format.CRC_OFFSET
    assert format.ENVELOPE.size == offsets(format.BitmapPage)["page"]


def test_what_fills_a_page_fits_it() -> None:
    assert format.BitmapPage.sizeof() == PAGE
    assert format.INTENT_HEADER.size + 4 * format.INTENT_CAPACITY <= PAGE
    assert format.RECORD_HEADER.size + format.RECORD_ENTRIES * format.ENTRY.size <= PAGE
    assert format.Checkpoint.sizeof() <= PAGE
    assert format.Superblock.sizeof() <= PAGE


@given(st.binary(max_size=5000))
def test_both_checksums_are_the_same(data: bytes) -> None:
    assert format.crc32c(data) == format.crc32c_cold(data)


def test_the_checksum_is_castagnoli_s() -> None:
    """The check value of RFC 3720, appendix B.4, and of every catalogue of CRCs."""
    assert format.crc32c(b"123456789") == 0xE3069283
    assert format.crc32c(bytes(32)) == 0x8A9136AA


# The document agrees


def document_tables() -> dict[str, list[list[str]]]:
    """The rows of the tables of fields, by the name of their structure."""
    found: dict[str, list[list[str]]] = {}
    heading = ""
    for line in DOCUMENT.read_text().splitlines():
        if line.startswith("#"):
            heading = "".join(word.capitalize() for word in line.lstrip("# ").split())
        elif re.match(r"\| \d", line):
            found.setdefault(heading, []).append([cell.strip() for cell in line.split("|")[1:-1]])
    return found


def type_of(field: Any) -> str:
    if isinstance(field, construct.FormatField):
        return NAMES[field.fmtstr[-1]]
    if isinstance(field, construct.Array):
        inner = type_of(field.subcon)
        if inner == "bytes":
            return f"{field.subcon.sizeof()} bytes × {field.count}"
        return f"{inner} × count"
    return "bytes"


@pytest.mark.parametrize("name", [*SEALED, *DTYPES])
def test_the_document_tells_every_field(name: str) -> None:
    definition = getattr(format, name)
    places = offsets(definition)
    expected = [
        [
            str(places[field]),
            "4 × count" if field == "regions" else str(kind.sizeof()),
            type_of(kind),
            field,
        ]
        for field, kind in fields(definition)
    ]
    assert [row[:4] for row in document_tables()[name]] == expected
    assert all(row[4] for row in document_tables()[name])


def test_the_document_tells_of_no_other_structure() -> None:
    assert set(document_tables()) == {*SEALED, *DTYPES}


def test_the_document_names_every_magic() -> None:
    text = DOCUMENT.read_text()
    for definition in SEALED.values():
        assert f"`{definition.subcons[0].subcon.value.decode()}`" in text


# Damage


def sealed(name: str, **others: Any) -> bytes:
    definition = SEALED[name]
    blank = {
        field: bytes(kind.sizeof())
        if isinstance(kind, construct.Bytes)
        else [bytes(16)] * format.PARENTS
        if field == "parents"
        else []
        if field == "regions"
        else 0
        for field, kind in fields(definition)
        if field not in ("magic", "crc", "length")
    }
    return format.seal(definition, PAGE, **{**blank, "set_id": SET, **others})


@pytest.mark.parametrize("name", SEALED)
def test_what_was_sealed_is_believed(name: str) -> None:
    parsed = format.unseal(SEALED[name], sealed(name), "it")
    assert parsed.set_id == SET
    assert parsed.length == PAGE


@pytest.mark.parametrize("name", SEALED)
def test_any_flipped_bit_is_damage(name: str) -> None:
    raw = sealed(name)

    @given(st.integers(0, PAGE * 8 - 1))
    @settings(max_examples=60, deadline=None)
    def hold(bit: int) -> None:
        spoilt = bytearray(raw)
        spoilt[bit >> 3] ^= 1 << (bit & 7)
        with pytest.raises(FormatDamaged):
            format.unseal(SEALED[name], bytes(spoilt), "it")

    hold()


@pytest.mark.parametrize("name", SEALED)
@pytest.mark.parametrize("length", [0, 1, 31, 32, 511, 512, PAGE - 1])
def test_a_truncated_structure_is_damage(name: str, length: int) -> None:
    with pytest.raises(FormatDamaged, match="cut short"):
        format.unseal(SEALED[name], sealed(name)[:length], "it")


@pytest.mark.parametrize("length", [0, 31, 32, PAGE - 1, PAGE + 1, 2**32 - 1])
def test_an_absurd_length_is_damage_whatever_its_checksum(length: int) -> None:
    raw = bytearray(sealed("SegmentHeader"))
    raw[12:16] = struct.pack("<I", length)
    covered = max(16, min(length, PAGE))
    raw[8:12] = struct.pack("<I", format.crc32c(bytes(raw[12:covered])))
    with pytest.raises(FormatDamaged, match="length"):
        format.check_envelope(bytes(raw), format.SEGMENT_MAGIC, "it")


def test_a_structure_in_the_place_of_another_is_damage() -> None:
    for name, definition in SEALED.items():
        for other in SEALED:
            if other != name:
                with pytest.raises(FormatDamaged, match="magic"):
                    format.unseal(definition, sealed(other), "it")


def test_an_intent_slot_that_counts_more_than_a_page_holds_is_damage() -> None:
    raw = bytearray(sealed("IntentSlot"))
    raw[56:60] = struct.pack("<I", 2**32 - 1)
    format.seal_in_place(memoryview(raw), PAGE)
    with pytest.raises(FormatDamaged):
        format.unseal(format.IntentSlot, bytes(raw), "it")


@given(st.integers(0, 1 << 32))
@settings(max_examples=30, deadline=None)
def test_noise_is_damage(seed: int) -> None:
    noise = random.Random(seed).randbytes(PAGE)
    for definition in SEALED.values():
        with pytest.raises(FormatDamaged):
            format.unseal(definition, noise, "it")


# Features


@pytest.mark.parametrize("flags", ["incompat", "ro_compat"])
def test_unknown_features_are_refused(flags: str) -> None:
    parsed = format.unseal(format.Superblock, sealed("Superblock", **{flags: 1 << 31}), "it")
    with pytest.raises(FormatTooNew, match="0x80000000"):
        format.refuse_unknown_features(parsed, "it")


def test_unknown_compatible_features_are_none_of_our_business() -> None:
    parsed = format.unseal(format.Superblock, sealed("Superblock", compat=1 << 31), "it")
    format.refuse_unknown_features(parsed, "it")
