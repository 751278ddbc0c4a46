"""The panel's screens before a control server with a fake appliance."""

import pytest

from appliance.cdp.interfaces import DiskIdentity
from appliance.errors import ServiceUnreachable
from appliance.glass import Backlight, Key
from appliance.operators.answers import ErrorAnswer
from appliance.operators.control.client import ControlClient
from appliance.operators.panel.machine import IDLE_SECONDS, PanelMachine
from tests.operators.panel.played_panel import Json, PlayedPanel, open_menu
from tests.operators.running_service import RunningService

SELECT, RIGHT, DOWN, UP, LEFT = Key


def pages(panel: PlayedPanel, seconds: float = 20.0) -> set[tuple[str, str]]:
    """What stands on the glass in turn."""
    seen = set()
    for _ in range(int(seconds / 0.5)):
        panel.turn(0.5)
        seen.add(panel.lines)
    return seen


# The idle page


def test_it_tells_before_the_service_has_said_anything() -> None:
    glass = PanelMachine().glass()
    assert glass.lines == ("Ebbtide         ", "starting...     ")
    assert glass.backlight is Backlight.WHITE


def test_keys_do_nothing_before_anything_is_known() -> None:
    machine = PanelMachine()
    for key in Key:
        machine.press(key)
        machine.release(key)
    assert machine.glass().lines[0] == "Ebbtide         "
    assert machine.wishes() == []


def test_pages_in_turn(panel: PlayedPanel) -> None:
    assert {
        ("finance         ", "protected  ↵menu"),
        ("finance window  ", "20 min     ↵menu"),
        ("Press Select    ", "for the menu    "),
    } <= pages(panel)


def test_pages_are_turned_by_hand(panel: PlayedPanel) -> None:
    panel.turn(1.0)
    start = panel.lines
    panel.tap(RIGHT)
    turned = panel.lines
    assert turned != start
    panel.turn(8.0)
    assert panel.lines == turned, "it stays for somebody to read"
    panel.tap(LEFT)
    assert panel.lines == start


def test_a_job_is_shown(panel: PlayedPanel, service: RunningService) -> None:
    def begin() -> None:
        service.finance.stalled = True
        job = service.finance.start("restore")
        job.bytes_total, job.bytes_copied = 100, 42
        job.time_anew()  # at no rate that anybody knows
        service.finance.state = "restoring"

    service.on_loop(begin)
    assert ("restore 42%     ", "████░░░░░░ ↵menu") in pages(panel)
    assert panel.machine.glass().backlight is Backlight.BLUE
    assert ("finance         ", "restoring  ↵menu") in pages(panel)


def test_alerts_are_read_whole(panel: PlayedPanel, service: RunningService) -> None:
    text = "volume finance goes on without its secondary: it was pulled"

    def tell() -> None:
        service.finance.told = [("EV202", text)]

    service.on_loop(tell)
    seen = [lines[1] for lines in pages(panel, 60.0) if lines[0] == "! EV202 alert   "]
    assert {text[:16], text[-16:]} <= set(seen)


@pytest.mark.parametrize(
    ("state", "colour"),
    [
        ("protected", Backlight.GREEN),
        ("syncing", Backlight.YELLOW),
        ("tracking", Backlight.YELLOW),
        ("recovering", Backlight.YELLOW),
        ("restoring", Backlight.BLUE),
        ("failover", Backlight.VIOLET),
        ("offline", Backlight.RED),
        ("unheard-of", Backlight.RED),
    ],
)
def test_colours_and_words_for_states(
    panel: PlayedPanel, service: RunningService, state: str, colour: Backlight
) -> None:
    def change() -> None:
        service.finance.state = state

    service.on_loop(change)
    assert any(state in lines[1] for lines in pages(panel))
    assert panel.machine.glass().backlight is colour


@pytest.mark.parametrize(
    ("code", "colour"), [("EV411", Backlight.YELLOW), ("EV202", Backlight.RED)]
)
def test_colours_for_alerts(
    panel: PlayedPanel, service: RunningService, code: str, colour: Backlight
) -> None:
    def change() -> None:
        service.finance.told = [(code, "something")]

    service.on_loop(change)
    panel.turn(2.0)
    assert panel.machine.glass().backlight is colour


def test_no_volumes(panel: PlayedPanel, service: RunningService) -> None:
    service.on_loop(service.appliance.volumes.clear)
    assert ("No volumes yet  ", "↵menu           ") in pages(panel)
    assert panel.machine.glass().backlight is Backlight.WHITE
    open_menu(panel, "Restore")
    assert panel.lines[1] == "no volumes      "


def test_a_stuck_key_is_told(panel: PlayedPanel) -> None:
    panel.machine.stick(frozenset({DOWN}))
    assert any("stuck" in lines[1] for lines in pages(panel, 40.0))
    panel.machine.stick(frozenset())
    assert not any("stuck" in lines[1] for lines in pages(panel, 40.0))


def test_disks_that_come_and_go_are_told_at_once(
    panel: PlayedPanel, service: RunningService
) -> None:
    labels = service.appliance.labels
    panel.turn(2.0)
    service.on_loop(lambda: labels.pop("a"))
    panel.turn(1.1)
    assert panel.lines == ("a               ", "disk is gone    ")
    service.on_loop(lambda: labels.update(a=DiskIdentity("a", "/dev/sda", "SN-a")))
    panel.turn(1.1)
    assert panel.lines == ("a               ", "disk is here    ")
    panel.turn(6.0)
    assert "disk" not in panel.text


def test_somebody_elses_lock_is_told(panel: PlayedPanel, service: RunningService) -> None:
    with ControlClient(service.socket, "console") as other:
        other.request("lock", {})
        assert any(
            lines[0] == "Being changed by" and "console" in lines[1] for lines in pages(panel, 40.0)
        )


# Going around


def test_left_goes_back_by_one(panel: PlayedPanel) -> None:
    open_menu(panel, "Restore", "By time")
    assert panel.lines[0].startswith("Back to when?")
    panel.tap(LEFT)
    assert panel.lines[1] == "▶By time       ↵"
    panel.tap(LEFT, LEFT)
    assert "menu" in panel.text
    assert panel.asked == []


def test_a_list_ends_at_its_ends_and_says_so(panel: PlayedPanel) -> None:
    panel.tap(SELECT, UP)
    assert panel.lines == ("Menu           ▼", "▶Restore       ↵")
    panel.tap(*[DOWN] * 9)
    assert panel.lines == ("Menu          ▲ ", "▶Alerts        ↵")


def test_a_held_arrow_repeats_and_stops(panel: PlayedPanel) -> None:
    panel.tap(SELECT)
    panel.hold(DOWN, 2.0)
    assert panel.lines[1] == "▶Alerts        ↵"
    panel.hold(UP, 0.4)
    assert panel.lines[1] == "▶Disks         ↵"
    panel.turn(5.0)
    assert panel.lines[1] == "▶Disks         ↵"


def test_an_arrow_does_not_repeat_on_the_next_screen(panel: PlayedPanel) -> None:
    panel.tap(SELECT, DOWN, DOWN)
    panel.machine.press(DOWN)
    panel.tap(SELECT)
    assert panel.lines == ("Sync finance   ▼", "▶Resync        ↵")
    panel.turn(3.0)
    assert panel.lines[1] == "▶Resync        ↵"


def test_nobodys_panel_goes_back_to_the_idle_page(panel: PlayedPanel) -> None:
    open_menu(panel, "Disks")
    panel.turn(IDLE_SECONDS - 2)
    assert panel.lines[0].startswith("Disks")
    panel.turn(3.0)
    assert not panel.lines[0].startswith("Disks")


# What can be read


def test_status(panel: PlayedPanel) -> None:
    open_menu(panel, "Status")
    read = [panel.lines[1].strip()]
    while "▼" in panel.lines[0]:
        panel.tap(DOWN)
        read.append(panel.lines[1].strip())
    assert panel.lines[0].startswith("finance")
    assert read[:3] == ["protected", "window 20 min", "size 64.0 MiB"]
    assert "primary SN-p" in read
    assert "3.0 MiB unsettl" in "".join(read)[:200]
    panel.tap(SELECT)
    assert panel.lines[0].startswith("Menu")


def test_disks(panel: PlayedPanel, service: RunningService) -> None:
    open_menu(panel, "Disks", "p")
    assert panel.lines == ("p              ▼", "primary of finan")
    panel.tap(DOWN, DOWN)
    assert panel.lines[1] == "health unknown  "
    panel.tap(DOWN)
    assert panel.lines[1] == "64.0 MiB        "
    panel.tap(DOWN)
    assert panel.lines[1].startswith("Model")
    service.on_loop(lambda: service.appliance.labels.pop("p"))
    panel.turn(1.5)
    assert panel.lines[1] == "is gone         "


def test_the_entry_under_the_eye_stays_there(panel: PlayedPanel, service: RunningService) -> None:
    open_menu(panel, "Disks")
    panel.tap(DOWN)
    assert panel.lines[1] == "▶b             ↵"
    service.on_loop(lambda: service.appliance.labels.pop("a"))
    panel.turn(1.5)
    assert panel.lines == ("Disks          ▼", "▶b             ↵")


def test_what_comes_first_now_is_not_put_under_the_eye(
    panel: PlayedPanel, service: RunningService
) -> None:
    labels = service.appliance.labels

    def add() -> None:
        known = dict(labels)
        labels.clear()
        labels.update({"0": DiskIdentity("0", "/dev/sd0"), **known})

    open_menu(panel, "Disks")
    assert panel.lines == ("Disks          ▼", "▶a             ↵")
    service.on_loop(add)
    panel.turn(1.5)
    assert panel.lines == ("Disks         ▲▼", "▶a             ↵")


def test_a_failing_disk_of_a_volume_is_an_alert(
    panel: PlayedPanel, service: RunningService
) -> None:
    del service.appliance.disks
    panel.turn(1.5)
    assert panel.machine.glass().backlight is Backlight.RED
    open_menu(panel, "Alerts", "EV109 s")
    assert panel.lines[0].startswith("EV109")
    panel.tap(LEFT, LEFT, LEFT)
    open_menu(panel, "Disks", "s")
    panel.tap(DOWN, DOWN)
    assert panel.lines[1].startswith("health failing")


def test_alerts(panel: PlayedPanel, service: RunningService) -> None:
    open_menu(panel, "Alerts")
    assert panel.lines[1] == "none now        "

    def tell() -> None:
        service.finance.told = [("EV202", "finance goes on without its secondary")]

    service.on_loop(tell)
    panel.turn(1.5)
    assert panel.lines[1] == "▶EV202 finance ↵"
    panel.tap(SELECT)
    assert panel.lines[0].startswith("EV202")
    told = panel.read()
    assert "goes on without" in told
    assert "Hosts are" in told, "what it means follows"


def test_alerts_of_one_label_are_all_reached(panel: PlayedPanel, service: RunningService) -> None:
    alerts = [("EV109", f"disk {disk} is failing") for disk in "pqqr"]
    service.on_loop(lambda: service.finance.told.extend(alerts))
    panel.turn(1.5)
    open_menu(panel, "Alerts")
    shown, read = [panel.lines[1]], []
    for _ in alerts:
        panel.tap(SELECT)
        read.append(panel.read().partition(" failing")[0])
        panel.tap(LEFT, DOWN)
        shown.append(panel.lines[1])
    labels = ["▶EV109 finance ↵", *(f"▶({number}) EV109 fina↵" for number in (2, 3, 4))]
    assert shown == [*labels, labels[-1]]
    assert read == [f"disk {disk} is" for disk in "pqqr"]


def test_the_alert_under_the_eye_stays_there(panel: PlayedPanel, service: RunningService) -> None:
    """And not another one of its label."""
    alerts = [("EV109", f"disk {disk} is failing") for disk in "pqr"]
    service.on_loop(lambda: service.finance.told.extend(alerts))
    panel.turn(1.5)
    open_menu(panel, "Alerts")
    panel.tap(DOWN)
    service.on_loop(lambda: service.finance.told.pop(0))
    panel.turn(1.5)
    assert panel.lines == ("Alerts         ▼", "▶EV109 finance ↵")
    panel.tap(SELECT)
    assert panel.read().startswith("disk q is failing")


def test_pages_behind_equal_ones_are_shown(panel: PlayedPanel, service: RunningService) -> None:
    alerts = [("EV109", "a failing disk")] * 3 + [("EV202", "no secondary")]
    service.on_loop(lambda: service.finance.told.extend(alerts))
    assert {"no secondary    ", "for the menu    "} <= {second for _, second in pages(panel, 40.0)}


def test_two_disks_of_one_id(panel: PlayedPanel, service: RunningService) -> None:
    labels = service.appliance.labels
    service.on_loop(lambda: labels.update(z=DiskIdentity("a", "/dev/sdz", "SN-z", "Other")))
    panel.turn(1.5)
    assert panel.lines == ("a               ", "disk is here    ")
    open_menu(panel, "Disks")
    panel.tap(*[DOWN] * 4)
    assert panel.lines == ("Disks         ▲ ", "▶(2) a         ↵")
    panel.tap(SELECT, *[DOWN] * 4)
    assert panel.lines[1] == "Other           "
    panel.tap(LEFT)
    service.on_loop(lambda: labels.pop("a"))
    panel.turn(1.5)
    assert panel.lines == ("Disks         ▲ ", "▶a             ↵")
    panel.tap(SELECT, *[DOWN] * 4)
    assert panel.lines[1] == "Other           "


# What changes


def test_a_snapshot_is_named_by_its_time(panel: PlayedPanel, service: RunningService) -> None:
    open_menu(panel, "Snapshot")
    assert panel.lines == ("Snapshot of fina", "↵ start   ◀ back")
    panel.tap(SELECT)
    (name,) = [known for known in service.finance.names if known != "before-upgrade"]
    assert name.startswith("20261122T12000")
    assert panel.lines == ("Taken:         ▼", name)
    assert panel.asked[-1] == ("unlock", {})


@pytest.mark.parametrize(
    ("label", "kind"), [("Resync", "resync"), ("Full scan", "full"), ("Verify only", "verify")]
)
def test_synchronising(panel: PlayedPanel, service: RunningService, label: str, kind: str) -> None:
    def stall() -> None:
        service.finance.stalled = True

    service.on_loop(stall)
    open_menu(panel, "Sync", label)
    assert panel.lines[1] == "↵ start   ◀ back"
    panel.tap(SELECT)
    job = service.on_loop(lambda: service.finance.job)
    assert job is not None
    assert job.kind == kind
    assert panel.lines == (f"{kind} 0%".ljust(16), "░" * 16)

    def go_on() -> None:
        service.finance.stalled = False

    service.on_loop(go_on)
    while service.on_loop(lambda: service.finance.job) is not None:
        pass
    panel.turn(1.1)
    assert panel.lines == (f"{kind} done".ljust(16), "finance         ")
    panel.tap(SELECT)
    assert "menu" in panel.text


def test_a_job_that_others_have_followed_does_not_seem_to_run(
    panel: PlayedPanel, service: RunningService
) -> None:
    def stall() -> None:
        service.finance.stalled = True

    def follow() -> None:
        assert service.finance.job is not None
        service.finance.job.cancel()
        service.finance.start("verify").cancel()

    service.on_loop(stall)
    open_menu(panel, "Sync", "Resync")
    panel.tap(SELECT)
    assert panel.lines[0] == "resync 0%       "
    service.on_loop(follow)
    panel.turn(1.1)
    assert panel.lines == ("resync ended    ", "how: not seen   ")


def test_left_changes_nothing(panel: PlayedPanel, service: RunningService) -> None:
    open_menu(panel, "Snapshot")
    panel.tap(LEFT)
    assert list(service.finance.names) == ["before-upgrade"]
    assert [verb for verb, _ in panel.asked] == ["lock", "unlock"]


def test_a_refusal_is_told_with_what_to_do(panel: PlayedPanel, service: RunningService) -> None:
    def stall() -> None:
        service.finance.stalled = True
        service.finance.start("verify")

    service.on_loop(stall)
    open_menu(panel, "Sync", "Resync")
    panel.tap(SELECT)
    told = panel.read()
    assert panel.lines[0].startswith("EB501")
    assert "busy with a" in told
    assert "To do: wait for" in told
    panel.tap(LEFT)
    assert panel.asked[-1] == ("unlock", {})


def test_who_holds_the_lock_is_told_and_nothing_is_planned(
    panel: PlayedPanel, service: RunningService
) -> None:
    with ControlClient(service.socket, "console ttyS0") as other:
        other.request("lock", {})
        open_menu(panel, "Restore", "By time", "10 min ago")
        assert "console ttyS0" in panel.read()
        assert panel.lines[0].startswith("EB604")
        assert panel.requests("restore") == []
        other.request("unlock", {})
    panel.tap(LEFT, SELECT)
    assert "Hold Select 3s" in panel.text


# The service away


class Broken:
    """A service that can go away."""

    def __init__(self, panel: PlayedPanel) -> None:
        self._whole = panel._ask
        self.away = False
        panel._ask = self

    def __call__(self, verb: str, arguments: Json) -> Json:
        if self.away:
            raise ServiceUnreachable(socket="control.sock", reason="connection refused")
        return self._whole(verb, arguments)


def test_a_dead_service_is_told_and_cancels(panel: PlayedPanel) -> None:
    service = Broken(panel)
    open_menu(panel, "Restore", "By time", "10 min ago")
    assert "Hold Select 3s" in panel.text
    service.away = True
    panel.turn(1.5)
    assert panel.lines == ("Service away    ", "trying again... ")
    assert panel.machine.glass().backlight is Backlight.RED
    panel.hold(SELECT, 5.0)
    panel.tap(*Key)
    service.away = False
    panel.turn(1.5)
    assert panel.lines[0] != "Service away    "
    assert "menu" in " ".join(second for _, second in pages(panel))
    assert panel.destroyed == []


def test_a_service_that_hangs_is_away(panel: PlayedPanel) -> None:
    panel.hear = lambda: None  # type: ignore[method-assign]
    open_menu(panel, "Restore", "By time", "10 min ago")
    panel.turn(5.1)
    assert panel.lines[0] == "Service away    "
    assert panel.asked[-1] == ("unlock", {})
    panel.hold(SELECT, 4.0)
    assert panel.destroyed == []
    del panel.hear
    panel.turn(1.1)
    assert panel.lines[0] != "Service away    "


def test_news_of_a_disk_with_a_long_name_is_read_whole(
    panel: PlayedPanel, service: RunningService
) -> None:
    name = "wwn-0x5000c500a1b2c3d4"
    labels = service.appliance.labels
    service.on_loop(lambda: labels.update({name: DiskIdentity(name, "/dev/sdx")}))
    seen = pages(panel, 8.0)
    assert {(name[:16], "disk is here    "), (name[-16:], "disk is here    ")} <= seen


def test_what_is_answered_after_it_was_left_is_dropped(panel: PlayedPanel) -> None:
    open_menu(panel, "Restore", "By time")
    machine = panel.machine
    machine.press(SELECT)
    wished = machine.wishes()
    machine.press(LEFT)
    (unlock,) = machine.wishes()
    assert not hasattr(wished[0], "pin")
    machine.answered(wished[0].number, {"schema": 1, "operator": None})
    machine.refused(12345, ErrorAnswer.of(ServiceUnreachable(socket="s", reason="r")))
    assert machine.wishes() == []
    assert getattr(unlock, "verb", "") == "unlock"
    assert machine.glass().lines[0].startswith("Back to when?")
