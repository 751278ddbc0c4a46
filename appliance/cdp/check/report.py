"""What a check has found so far, and how far it is."""

from collections import Counter
from collections.abc import Callable

from appliance.cdp.check import findings
from appliance.cdp.check.findings import Finding, FindingKind, Severity
from appliance.cdp.interfaces import Disk
from appliance.errors import DiskFailed, EbbtideError

LISTED = 100
"""Findings of one kind that are told one by one."""


class Report:
    """Takes what is found, tells and counts it."""

    def __init__(
        self,
        found: Callable[[Finding], None],
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        self._found = found
        self._progress = progress
        self._kinds: Counter[FindingKind] = Counter()
        self._done = 0
        self.total = 0
        """Bytes that will be read; grows while more comes to light."""

    def __call__(
        self,
        kind: FindingKind,
        disk: Disk,
        what: str,
        reason: object,
        offset: int | None = None,
        length: int | None = None,
    ) -> None:
        self._kinds[kind] += 1
        if self._kinds[kind] <= LISTED:
            self._found(Finding(kind, disk.identity.id, what, str(reason), offset, length))

    def damaged(
        self,
        kind: FindingKind,
        disk: Disk,
        what: str,
        error: EbbtideError,
        offset: int | None = None,
        length: int | None = None,
    ) -> None:
        """A structure that cannot be believed, or not be read."""
        self(kind, disk, what, error.fields.get("reason", error), offset, length)

    def read(self, length: int) -> None:
        """So many bytes more are behind us."""
        self._done += length
        self._progress(min(self._done, self.total), self.total)

    def count(self, severity: Severity) -> int:
        return sum(n for kind, n in self._kinds.items() if kind.severity == severity)

    def tell_rest(self) -> None:
        """How many were not told one by one."""
        for kind, number in list(self._kinds.items()):
            if number > LISTED:
                rest = number - LISTED
                self._found(Finding(findings.MORE, "", kind.code, f"{rest} more were found"))


def raise_if_gone(disk: Disk, error: EbbtideError) -> None:
    """A sector that cannot be read is a finding; a disk that is gone ends the check."""
    if disk.fenced and isinstance(error, DiskFailed):
        raise error
