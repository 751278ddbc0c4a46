"""A device outlives a cdpd that went away, and never a volume that may have become another one."""

import socket
from collections.abc import Callable
from dataclasses import replace

import pytest

from appliance.operators.kernel_disk import keeper
from appliance.operators.kernel_disk.attachment import Attachment, NotAdmitted
from appliance.operators.kernel_disk.keeper import Keeper, Parted, Past

PAST = Past(primary="disk-a", restore="2026-11-22T10:00:00Z", restoring=False)
SIZE = 64 << 20

Turn = Callable[[], Attachment]


class Story:
    """cdpd as it is met, one attempt after the other, and the kernel's device."""

    def __init__(self) -> None:
        self.turns: list[Turn] = []
        self.past: Past | None = PAST
        self.past_at_end: Past | None = None
        """What a cdpd says as it goes away, if it says anything."""
        self.told: list[str] = []
        self.theirs: list[socket.socket] = []
        self.ended = False

    def meets(self, server: int, size: int = SIZE, past: Past | None = PAST) -> None:
        """cdpd lets it in, and goes away as soon as the device has its connection."""

        def turn() -> Attachment:
            ours, theirs = socket.socketpair()
            self.theirs.append(theirs)
            self.past = past
            return Attachment(ours, server, size, 0x2D, 512)

        self.turns.append(turn)

    def is_refused(self, server: int | None, past: Past | None = None) -> None:
        def turn() -> Attachment:
            self.past = past
            raise NotAdmitted("not now", server)

        self.turns.append(turn)

    def attach(self) -> Attachment:
        if not self.turns:
            self.ended = True
            raise SystemExit  # as a signal does
        return self.turns.pop(0)()

    # The kernel's device

    def connect(self, attachment: Attachment) -> None:
        self.told.append(f"connected {attachment.server}")
        self.past = self.past_at_end
        self.theirs.pop().close()

    def reconnect(self, attachment: Attachment) -> None:
        self.told.append(f"reconnected {attachment.server}")
        self.theirs.pop().close()

    def disconnect(self) -> None:
        self.told.append("disconnected")

    def tell(self, patience: float = 30) -> list[str]:
        kept = Keeper(self.attach, self, lambda: self.past, patience)
        try:
            kept.keep(lambda: self.told.append("ready"))
        finally:
            for each in self.theirs:
                each.close()
        return self.told


@pytest.fixture
def story(monkeypatch: pytest.MonkeyPatch) -> Story:
    monkeypatch.setattr(keeper, "RETRY_SECONDS", 0.0)
    return Story()


def test_a_cdpd_that_was_started_anew_gets_its_device_back(story: Story) -> None:
    story.meets(server=100)
    story.is_refused(None)
    story.is_refused(200, past=Past("", "", restoring=False))  # it recovers
    story.meets(server=200)
    with pytest.raises(SystemExit):
        story.tell()
    assert story.told == ["connected 100", "ready", "reconnected 200", "disconnected"]


def test_a_restore_is_seen_though_whoever_did_it_is_gone_at_once(story: Story) -> None:
    story.meets(server=100, past=replace(PAST, restore="2026-11-22T11:00:00Z"))
    story.meets(server=200, past=replace(PAST, restore=""))
    story.past_at_end = replace(PAST, restore="2026-11-22T11:30:00Z", restoring=True)
    with pytest.raises(Parted, match="restored"):
        story.tell()
    assert story.told == ["connected 100", "ready", "disconnected"]


def test_a_last_job_that_was_forgotten_is_no_restore(story: Story) -> None:
    story.meets(server=100)
    story.meets(server=200, past=replace(PAST, restore=""))
    with pytest.raises(SystemExit):
        story.tell()
    assert "reconnected 200" in story.told


@pytest.mark.parametrize("refused", [True, False])
def test_a_cdpd_that_is_there_and_sends_its_hosts_away_ends_the_device(
    story: Story, refused: bool
) -> None:
    story.meets(server=100)
    if refused:
        story.is_refused(100, past=PAST)
    else:
        story.meets(server=100)
    with pytest.raises(Parted, match="sent its hosts away"):
        story.tell()
    assert story.told == ["connected 100", "ready", "disconnected"]


def test_a_restore_that_goes_on_after_a_crash_ends_the_device(story: Story) -> None:
    story.meets(server=100)
    story.is_refused(None)
    story.is_refused(200, past=replace(PAST, restoring=True))
    with pytest.raises(Parted, match="restored"):
        story.tell()
    assert story.told[-1] == "disconnected"


@pytest.mark.parametrize(
    "past",
    [
        replace(PAST, restore="2026-11-22T11:00:00Z"),
        replace(PAST, restoring=True),
        replace(PAST, primary="disk-b"),
        None,
    ],
)
def test_a_volume_that_may_be_another_one_ends_the_device(story: Story, past: Past | None) -> None:
    story.meets(server=100)
    story.meets(server=200, past=past)
    with pytest.raises(Parted):
        story.tell()
    assert story.told == ["connected 100", "ready", "disconnected"]


def test_a_volume_of_another_size_ends_the_device(story: Story) -> None:
    story.meets(server=100)
    story.meets(server=200, size=SIZE + 512)
    with pytest.raises(Parted):
        story.tell()
    assert story.told[-1] == "disconnected"


def test_patience_ends(story: Story) -> None:
    story.meets(server=100)
    for _ in range(3):
        story.is_refused(None)
    with pytest.raises(Parted, match="has not let it in"):
        story.tell(patience=0)
    assert story.told == ["connected 100", "ready", "disconnected"]


def test_a_volume_that_is_restored_is_not_attached(story: Story) -> None:
    story.meets(server=100, past=replace(PAST, restoring=True))
    with pytest.raises(NotAdmitted):
        story.tell()
    assert story.told == []
