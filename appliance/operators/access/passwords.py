"""The console's password, and the front panel's PIN: kept as a scrypt hash, never as themselves.

A hash stands in one line, in the notation of PHC strings,
`$scrypt$ln=14,r=8,p=1$SALT$HASH` (Base64 without padding), so that its cost
can be raised later.  It stands in the settings; or else, of the console's
password, in a file of the state directory that the console writes itself.
"""

import base64
import binascii
import hashlib
import hmac
import os
import re
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final, Protocol, Self

from appliance.errors import PasswordUnfit
from appliance.operators.access.kept_file import read_kept, write_kept

SHORTEST: Final = 8
LONGEST: Final = 128
LOG2_COST: Final = 14
"""16 MiB and some 50 ms a try (RFC 7914 calls it interactive)."""
BLOCK: Final = 8
_HASH = re.compile(
    r"\$scrypt\$ln=(1[0-8]|[1-9]),r=([1-9]|1[0-6]),p=([1-4])\$([A-Za-z0-9+/]{11,86})\$([A-Za-z0-9+/]{43})"
)
"""Bounded: a hash must not cost more memory than the box has."""


class PasswordState(Enum):
    """Whether somebody can log in."""

    UNSET = "unset"
    SET = "set"
    DAMAGED = "damaged"


class Passwords(Protocol):
    """The one password of the console."""

    @property
    def state(self) -> PasswordState: ...
    @property
    def fixed(self) -> bool:
        """It stands in the settings, and is not changed from here."""
        ...

    def is_right(self, password: str) -> bool: ...
    def change(self, password: str) -> None:
        """Raises PasswordUnfit, or OSError if it cannot be kept."""
        ...


@dataclass(frozen=True, slots=True)
class PasswordHash:
    """What a password is held against."""

    log2_cost: int
    block: int
    parallel: int
    salt: bytes
    digest: bytes

    @classmethod
    def of(cls, password: str, log2_cost: int = LOG2_COST) -> Self:
        """A new hash; raises PasswordUnfit."""
        if not SHORTEST <= len(password) <= LONGEST:
            raise PasswordUnfit(reason=f"it has not {SHORTEST} to {LONGEST} characters")
        if not (password.isascii() and password.isprintable()):
            raise PasswordUnfit(reason="it has characters that are not in ASCII")
        return cls.of_any(password, log2_cost)

    @classmethod
    def of_any(cls, password: str, log2_cost: int = LOG2_COST) -> Self:
        """A new hash of what need not be fit for a password, such as a PIN."""
        salt = os.urandom(16)
        return cls(log2_cost, BLOCK, 1, salt, _scrypt(password, salt, log2_cost, BLOCK, 1))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError."""
        parts = _HASH.fullmatch(text)
        if parts is None:
            raise ValueError("it is no scrypt hash")
        cost, block, parallel = int(parts[1]), int(parts[2]), int(parts[3])
        return cls(cost, block, parallel, _decode(parts[4]), _decode(parts[5]))

    def __str__(self) -> str:
        return (
            f"$scrypt$ln={self.log2_cost},r={self.block},p={self.parallel}"
            f"${_encode(self.salt)}${_encode(self.digest)}"
        )

    def fits(self, password: str) -> bool:
        """Takes the same time for every password."""
        found = _scrypt(password, self.salt, self.log2_cost, self.block, self.parallel)
        return hmac.compare_digest(found, self.digest)


class FixedPassword:
    """The password in the settings, given by its hash."""

    state = PasswordState.SET
    fixed = True

    def __init__(self, text: str) -> None:
        """Raises ValueError."""
        self._hash = PasswordHash.parse(text)

    def is_right(self, password: str) -> bool:
        return self._hash.fits(password)

    def change(self, password: str) -> None:
        del password
        raise PasswordUnfit(reason="it stands in the settings, and is changed there")


class KeptPassword:
    """The password whose hash is in the file at `path`, which is looked at each time.

    A file that does not read is damage and not a first use: else spoiling it
    would let anybody choose a password.
    """

    fixed = False

    def __init__(self, path: Path, log2_cost: int = LOG2_COST) -> None:
        self._path = path
        self._log2_cost = log2_cost

    @property
    def state(self) -> PasswordState:
        try:
            return PasswordState.UNSET if self._read() is None else PasswordState.SET
        except (OSError, ValueError):
            return PasswordState.DAMAGED

    def is_right(self, password: str) -> bool:
        try:
            kept = self._read()
        except (OSError, ValueError):
            return False
        return kept is not None and kept.fits(password)

    def change(self, password: str) -> None:
        write_kept(self._path, f"{PasswordHash.of(password, self._log2_cost)}\n")

    def _read(self) -> PasswordHash | None:
        text = read_kept(self._path)
        return None if text is None else PasswordHash.parse(text)


def _scrypt(password: str, salt: bytes, log2_cost: int, block: int, parallel: int) -> bytes:
    cost = 1 << log2_cost
    return hashlib.scrypt(
        password.encode(),
        salt=salt,
        n=cost,
        r=block,
        p=parallel,
        maxmem=128 * block * (cost + parallel + 2) + (1 << 20),
        dklen=32,
    )


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode().rstrip("=")


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error as error:
        raise ValueError("it is no Base64") from error
