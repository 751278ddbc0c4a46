"""What `cdpctl check` can find, with stable codes, a severity each, and what it means.

Codes are never reused; the hundreds digit tells what it is about: 1
superblocks and the pair, 2 the dirty region log, 3 the history's directory,
4 the journal's records, 5 contents.

An *error* means that data, or points in time, are lost or cannot be trusted.
A *warning* is a loss of redundancy that the service mends by itself, or what a
crash leaves behind.  A *note* tells a fact.
"""

from dataclasses import dataclass
from typing import Final, Literal

Severity = Literal["note", "warning", "error"]


@dataclass(frozen=True, slots=True)
class FindingKind:
    """One thing that can be found.  `explanation` says what follows from it, and what to do."""

    code: str
    severity: Severity
    explanation: str


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found: `what` names the structure, `reason` what is wrong with it.

    `disk` is the id of the disk; `offset` and `length` are the bytes of it
    that are meant, or None where it is not about a place.
    """

    kind: FindingKind
    disk: str
    what: str
    reason: str
    offset: int | None = None
    length: int | None = None

    @property
    def code(self) -> str:
        return self.kind.code

    @property
    def severity(self) -> Severity:
        return self.kind.severity

    def __str__(self) -> str:
        place = f" (byte {self.offset}, {self.length} bytes)" if self.length is not None else ""
        return f"{self.disk}: {self.what}: {self.reason}{place}"


_MENDS = "The service mends it at its next start."

FOREIGN: Final = FindingKind(
    "EC101", "error", "No trace of Ebbtide is on the disk; it is blank, or used by something else."
)
SUPERBLOCK_COPY: Final = FindingKind(
    "EC102",
    "warning",
    "One of the two copies of the superblock is damaged or cannot be read.  The other one counts;"
    " both are written again when the service starts, or the disk changes its generation.",
)
NO_SUPERBLOCK: Final = FindingKind(
    "EC103",
    "error",
    "No copy of the superblock can be believed, so nothing else on the disk can be found.",
)
SUPERBLOCK_AGE: Final = FindingKind(
    "EC104",
    "warning",
    "The two copies of the superblock are of different age: a crash came between their writes, or"
    " one is stale.  The newer one counts.",
)
SUPERBLOCK_CONTRADICTION: Final = FindingKind(
    "EC105",
    "error",
    "Two whole superblocks of the same age say different things; no crash does that.",
)
TOO_NEW: Final = FindingKind(
    "EC106", "error", "A newer release wrote the disk; check it with that release."
)
NO_PAIR: Final = FindingKind(
    "EC111",
    "error",
    "The two disks do not belong together.  Each is checked by itself, their contents are not"
    " compared.",
)
SECONDARY_BEHIND: Final = FindingKind(
    "EC112",
    "note",
    "The primary has served hosts without this secondary.  What was written meanwhile is in the"
    " dirty region log, and is copied when the secondary is attached again.",
)
UNPAIRED: Final = FindingKind(
    "EC113", "note", "Only one disk of the pair was given, so contents are not compared."
)

INTENT_SLOT: Final = FindingKind(
    "EC201",
    "warning",
    "A slot of the intent log is damaged or cannot be read.  Since it may be the newest one, the"
    f" service takes every region for dirty and compares all.  {_MENDS}",
)
BITMAP_PAGE: Final = FindingKind(
    "EC202",
    "warning",
    "A page of the out-of-sync bitmap is damaged or cannot be read.  Every region counts as"
    f" dirty, and is compared.  {_MENDS}",
)
INTENT_ORDER: Final = FindingKind(
    "EC203",
    "warning",
    "The slots of the intent log do not follow each other: one is stale or out of its place, or"
    " was damaged and has been skipped since.  The newest one counts; if that is the one that is"
    " missing, intents are lost, which a comparison of both disks shows.",
)
INTENTS: Final = FindingKind(
    "EC204",
    "note",
    "The service did not stop in order, or runs: writes to these regions are perhaps not on both"
    " disks.  Its next start makes them equal.",
)
OUT_OF_SYNC: Final = FindingKind(
    "EC205", "note", "These regions are known to differ until a synchronisation has ended."
)
RESTORE_OWED: Final = FindingKind(
    "EC206",
    "note",
    "A restore has begun and has not come to its end: part of the primary is as it was at the"
    " restored moment.  The service keeps hosts out and goes on with it when both disks are there.",
)

CHECKPOINT_SLOT: Final = FindingKind(
    "EC301",
    "warning",
    "One of the two checkpoints is damaged or cannot be read, as a crash in its write leaves it."
    "  The other one counts.",
)
NO_CHECKPOINT: Final = FindingKind(
    "EC302", "error", "No checkpoint can be believed: the history cannot be read."
)
CHECKPOINT_ORDER: Final = FindingKind(
    "EC303",
    "warning",
    "The numbers of the two checkpoints do not follow each other: one is stale or out of place."
    "  The newer one counts.",
)
CHECKPOINT_GENERATION: Final = FindingKind(
    "EC304",
    "error",
    "The checkpoint was written under a generation that the superblock has never heard of: the"
    " history, or the superblock, comes from elsewhere.",
)
DIRECTORY: Final = FindingKind(
    "EC305", "error", "The numbers of the directory contradict each other."
)
SNAPSHOT: Final = FindingKind(
    "EC306", "error", "A snapshot names a moment that cannot be restored."
)
GAP: Final = FindingKind("EC307", "error", "The gaps of the timeline contradict each other.")
INCOMPLETE: Final = FindingKind(
    "EC308",
    "note",
    "The newest moments cannot be restored before a synchronisation has ended.",
)

SEGMENT_HEADER: Final = FindingKind(
    "EC401",
    "error",
    "The header of a segment is damaged or is not the one that belongs there.  Indexed points are"
    " still readable; the records of the map cannot be followed there.",
)
RECORD_HEADER: Final = FindingKind(
    "EC402",
    "error",
    "A record of the journal is damaged or is not the one that belongs there.  If the map has a"
    " whole index, its points are still readable.",
)
PAYLOAD: Final = FindingKind(
    "EC403",
    "error",
    "Data in the history does not match its checksum.  Points that need it answer with an error"
    " there, never with wrong data.",
)
RECORD_COUNT: Final = FindingKind(
    "EC404", "error", "Records of a delta map are missing; points in and behind it need them."
)
MAP_TOTALS: Final = FindingKind(
    "EC405", "error", "The directory says other things of a delta map than its records."
)
INDEX_DAMAGED: Final = FindingKind(
    "EC406",
    "warning",
    "The index of a delta map is damaged.  The records say the same, and are read instead.",
)
INDEX_CONTRADICTION: Final = FindingKind(
    "EC407",
    "error",
    "The index of a delta map is whole, and says other things than its records; no crash does"
    " that.",
)
BEHIND_TAIL: Final = FindingKind(
    "EC408",
    "warning",
    "Behind the end of the journal lie records of the same life of the service.  A power cut"
    " leaves that behind if writes were not flushed; else the record in between was damaged, and"
    " what the later ones held comes back only from the primary.",
)
TAIL: Final = FindingKind(
    "EC409", "note", "The journal goes on behind the checkpoint; the next start follows it."
)
JOURNAL_SHORT: Final = FindingKind(
    "EC410",
    "error",
    "The journal ends before a write behind which it had been flushed: records are lost.  The next"
    " start takes every region for dirty and compares all; points behind the end are lost.",
)

DIFFERENT: Final = FindingKind(
    "EC501",
    "error",
    "The primary and the newest point of the history differ, in a region that neither the intent"
    " log nor the bitmap lists.  `cdpctl sync --full` makes the history follow the primary.",
)
PRIMARY_UNREADABLE: Final = FindingKind(
    "EC502", "error", "The primary cannot read data of the volume."
)
BASE_UNREADABLE: Final = FindingKind(
    "EC503", "error", "The secondary cannot read a part of its base image."
)
POINT_UNREADABLE: Final = FindingKind(
    "EC504", "error", "A part of the newest point cannot be read, and was not compared."
)
EXCLUDED: Final = FindingKind(
    "EC505", "note", "Regions that may differ were read, but not compared."
)
NOT_COMPARED: Final = FindingKind(
    "EC506", "note", "The contents of the two disks were not compared."
)
MORE: Final = FindingKind("EC900", "note", "Of one kind only so many findings are listed.")

KINDS: Final[dict[str, FindingKind]] = {
    kind.code: kind for kind in list(globals().values()) if isinstance(kind, FindingKind)
}
