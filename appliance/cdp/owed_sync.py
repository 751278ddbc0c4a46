"""The baseline or resync that a volume's protection waits for, and who said no to it.

One that a person cancels stays owed, and an alert says so.  It goes on when it
is asked for, or with the secondary's next return, which a restart is, too: the
word holds for as long as the history that it was said of is in service.
"""

from typing import Literal

from appliance import events
from appliance.cdp.history import History
from appliance.cdp.volume import Protection, Volume


class OwedSync:
    """Of one volume."""

    def __init__(self, volume: Volume) -> None:
        self._volume = volume
        self._declined: History | None = None

    def kind(self, history: History) -> Literal["baseline", "resync"] | None:
        """What is owed; None if the disks are equal and everybody knows."""
        volume, chain = self._volume, history.chain
        if not chain.baseline_whole:
            return "baseline"
        syncing = volume.protection is Protection.SYNCING  # perhaps only the end was not noted
        return "resync" if syncing or volume.log.out_of_sync() or chain.incomplete_from else None

    def is_declined(self, history: History) -> bool:
        return history is self._declined

    def decline(self, history: History) -> None:
        """It was cancelled; nothing if nothing is owed."""
        volume, kind = self._volume, self.kind(history)
        if kind is not None:
            self._declined = history
            volume.emit(events.NOT_SYNCHRONISED, volume=volume.name, kind=kind)
            self.tell()

    def want(self) -> None:
        """It goes on."""
        self._declined = None
        self.tell()

    def tell(self) -> None:
        """Raise the alert, or take it back: the secondary may be gone."""
        volume, history = self._volume, self._volume.history
        text = None
        if history is not None and self.is_declined(history):
            text = f"not synchronised: {self._how(history)}"
        volume.alert(events.NOT_SYNCHRONISED, text)

    def reason(self, history: History) -> str:
        """Why the volume is not protected."""
        job = self._volume.job
        if job is not None:
            return f"its {job.kind} is {'held' if job.paused else 'under way'}"
        if self.is_declined(history):
            return self._how(history)
        return f"the {self.kind(history)} that it owes begins by itself"

    def _how(self, history: History) -> str:
        again = f"`sync {self._volume.name}` goes on with it"
        return f"the {self.kind(history)} was cancelled; {again}"
