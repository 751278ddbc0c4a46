"""The page that nobody asked for: how the volumes are, in turn, for whoever walks by."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec

from appliance.events import DISK_FAILING
from appliance.glass import Key
from appliance.operators.answers import (
    AlertAnswer,
    JobDescription,
    VolumeAnswer,
)
from appliance.operators.panel.screen import Face, Screen
from appliance.operators.panel.text import Lines, bar, fit, marquee, marquee_seconds
from appliance.operators.text import words
from appliance.operators.text.progress import percent

PAGE_SECONDS: Final = 3.0
"""A page stands so long, or until all of its name was seen."""
HAND_SECONDS: Final = 15.0
"""One that a person turned to stands so long."""
NOTICE_SECONDS: Final = 5.0
"""News of a disk stands so long before all pages."""
MENU: Final = "↵menu"


@dataclass(frozen=True, slots=True)
class Page:
    """One turn of the idle page; `moving` is the text that moves on the first line, or on the
    second if the first has a `title`."""

    volume: str | None
    moving: str
    second: str = ""
    title: str = ""

    def lines(self, elapsed: float) -> Lines:
        if self.title:
            return fit(self.title), marquee(self.moving, elapsed)
        return marquee(self.moving, elapsed), fit(self.second)

    def same_as(self, other: "Page") -> bool:
        """But for the second line, which changes."""
        return (self.volume, self.title, self.moving) == (other.volume, other.title, other.moving)

    @property
    def seconds(self) -> float:
        return max(PAGE_SECONDS, marquee_seconds(self.moving))


class IdlePage(Screen):
    """Pages turn by themselves; any key but Select turns them by hand, Select calls `menu`."""

    def __init__(self, face: Face, menu: Callable[[], None]) -> None:
        super().__init__(face)
        self._menu = menu
        self._index = 0
        self._by_hand = False
        self._notice: Page | None = None
        self._notice_since = 0.0
        self._pages: list[Page] = [Page(None, "Ebbtide", "starting...")]

    def lines(self) -> Lines:
        if self._notice is not None:
            return self._notice.lines(self.face.now - self._notice_since)
        return self._pages[self._index].lines(self.elapsed)

    def press(self, key: Key) -> None:
        if key is Key.SELECT:
            self._menu()
        else:
            self._notice = None
            self._turn(-1 if key in (Key.UP, Key.LEFT) else 1)
            self._by_hand = True

    def tick(self) -> None:
        if self._notice is not None:
            stood = self.face.now - self._notice_since
            if stood >= max(NOTICE_SECONDS, self._notice.seconds):
                self._notice = None
        page = self._pages[self._index]
        if self.elapsed >= (HAND_SECONDS if self._by_hand else page.seconds):
            self._turn(1)

    def notice(self, first: str, second: str) -> None:
        """Show this at once."""
        self._notice = Page(None, first, second)
        self._notice_since = self.face.now

    def renew(self, pages: list[Page]) -> None:
        """These are the pages from now on; what is shown keeps its place among its volume's."""
        old = self._pages[self._index]
        before = sum(page.same_as(old) for page in self._pages[: self._index])
        exact = [i for i, page in enumerate(pages) if page.same_as(old)][before:]
        same = [i for i, page in enumerate(pages) if page.volume and page.volume == old.volume]
        self._pages = pages
        self._index = next(iter(exact or same), self._index % len(pages))
        self._show()

    def _turn(self, by: int) -> None:
        self._index = (self._index + by) % len(self._pages)
        self._by_hand = False
        self.stand()
        self._show()

    def _show(self) -> None:
        self.face.seen = self._pages[self._index].volume or self.face.seen


def every_alert(face: Face) -> list[tuple[str, AlertAnswer]]:
    """What is wrong, and with which volume or disk, or with the box; a free disk that is failing
    harms nobody."""
    volumes = [(volume.name, alert) for volume in face.volumes for alert in volume.alerts]
    disks = [
        (disk.id, AlertAnswer(DISK_FAILING, f"disk {disk.id} is failing: {disk.health_reason}"))
        for disk in face.disks
        if disk.health == "failing" and disk.volume is not None
    ]
    return volumes + disks + [("box", alert) for alert in face.image_alerts]


def alert_pages(face: Face) -> list[Page]:
    names = {volume.name for volume in face.volumes}
    return [
        Page(name if name in names else None, alert.text, title=f"! {alert.code} alert")
        for name, alert in every_alert(face)
    ]


def pages_of(volume: VolumeAnswer) -> list[Page]:
    """How a volume is: its state, its work, how far back it reaches."""
    pages = [Page(volume.name, volume.name, f"{volume.state:<11}{MENU}")]
    if volume.job is not None:
        pages.append(Page(volume.name, job_line(volume.job), f"{bar(done(volume.job), 10)} {MENU}"))
    pages.append(Page(volume.name, f"{volume.name} window", f"{window(volume):<11}{MENU}"))
    return pages


def done(job: JobDescription) -> float:
    return percent(msgspec.to_builtins(job)) / 100


def job_line(job: JobDescription) -> str:
    """`restore 42% 3min`."""
    left = "" if job.eta_seconds is None else "".join(words.duration(job.eta_seconds).split()[:2])
    return f"{job.kind} {percent(msgspec.to_builtins(job))}% {left}".rstrip()


def window(volume: VolumeAnswer) -> str:
    """How far back it can go: `3 d 4 h`."""
    if volume.window is None:
        return "no past yet"
    oldest, newest = (
        datetime.fromisoformat(time).timestamp()
        for time in (volume.window.oldest, volume.window.newest)
    )
    return words.duration(newest - oldest)
