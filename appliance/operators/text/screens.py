"""What each verb's answer looks like to people."""

import re
from collections.abc import Callable
from typing import Any, Final

from appliance.operators.text import progress, timeline_drawing, words
from appliance.operators.text.tables import Screen

Json = dict[str, Any]

STATE_STYLES: Final = {
    "protected": "green",
    "offline": "bold red",
    "recovering": "yellow",
    "tracking": "bold yellow",
    "syncing": "yellow",
    "restoring": "yellow",
    "failover": "bold yellow",
}
FINDING_STYLES: Final = {"note": "", "warning": "yellow", "error": "bold red"}
SEVERITY_STYLES: Final = {"warning": "yellow", "error": "bold red"}


def show(screen: Screen, verb: str, answer: Json) -> None:
    """Write the answer of `verb`."""
    SCREENS[verb](screen, answer)


def disks(screen: Screen, answer: Json) -> None:
    screen.table(
        ["id", "node", "model", "serial", ">size", ">sector", "role", "volume", "health", "state"],
        [
            [
                disk["id"],
                disk["node"],
                disk["model"],
                disk["serial"],
                words.size(disk["size"]),
                str(disk["logical_block"]),
                disk["role"] or "-",
                disk["volume"] or "-",
                _health(disk, screen.ascii_only),
                disk["state"] if disk["direct"] else f"{disk['state']} (not direct)",
            ]
            for disk in answer["disks"]
        ],
    )
    unknown: dict[str, list[str]] = {}
    for disk in answer["disks"]:
        if disk["health"] == "unknown" and disk["health_reason"]:
            unknown.setdefault(disk["health_reason"], []).append(disk["id"])
    for reason, names in unknown.items():
        screen.line(f"health unknown: {', '.join(names)} ({reason})")
    for disk in answer["disks"]:
        if disk["health"] == "failing":
            screen.line(f"{disk['id']} is failing: {disk['health_reason']}", "bold red")


def _health(disk: Json, ascii_only: bool) -> str:
    temperature = disk["temperature"]
    if temperature is None:
        return str(disk["health"])
    return f"{disk['health']}, {temperature} {'C' if ascii_only else '°C'}"


def status(screen: Screen, answer: Json) -> None:
    if answer["operator"] is not None:
        operator = answer["operator"]
        screen.line(
            f"{operator['actor']} has been changing things since {words.moment(operator['since'])}",
            "bold yellow",
        )
        screen.line()
    if not answer["volumes"]:
        screen.line("no volumes; `cdpctl protect` makes one")
    for number, volume in enumerate(answer["volumes"]):
        if number:
            screen.line()
        _volume(screen, volume)
    if answer.get("image") is not None:
        screen.line()
        _image(screen, answer["image"])


def _image(screen: Screen, image: Json) -> None:
    proven = "works" if image["proven"] else "has not shown yet that it works"
    screen.line(f"image {image['version']} in slot {image['slot']}: {proven}")
    for alert in image["alerts"]:
        screen.line(f"  {alert['code']} {alert['text']}", "bold yellow")


def _volume(screen: Screen, volume: Json) -> None:
    screen.line(f"{volume['name']}: {volume['state']}", STATE_STYLES.get(volume["state"], ""))
    for alert in volume["alerts"]:
        screen.line(f"  {alert['code']} {alert['text']}", "bold yellow")
    used, capacity = volume["history"]["used_bytes"], volume["history"]["capacity_bytes"]
    facts = [
        ("service", f"{volume['service']}, protection {volume['protection']}"),
        ("size", f"{words.size(volume['size'])}, last write {volume['write_number']}"),
        ("primary", _label(volume["primary"])),
        ("secondary", _label(volume["secondary"])),
        ("window", _window(volume["window"])),
        ("history", f"{words.size(used)} of {words.size(capacity)} used"),
    ]
    if volume["dirty_regions"]:
        regions = words.count(volume["dirty_regions"], "region")
        facts.append(("unsettled", f"{regions}, {words.size(volume['dirty_bytes'])}"))
    if volume["job"] is not None:
        facts.append(("job", f"{volume['job']['number']}, {progress.describe(volume['job'])}"))
    if volume["last_job"] is not None:
        facts.append(("last job", _ended(volume["last_job"])))
    for name, fact in facts:
        screen.line(f"  {name:<10}{fact}")


def _label(disk: Json | None) -> str:
    if disk is None:
        return "missing"
    serial = f", serial {disk['serial']}" if disk["serial"] else ""
    return f"{disk['id']} ({disk['node']}{serial})"


def _window(window: Json | None) -> str:
    if window is None:
        return "nothing can be restored yet"
    return (
        f"{words.moment(window['oldest'])} to {words.moment(window['newest'])},"
        f" writes {window['oldest_write']} to {window['newest_write']}"
    )


def _ended(job: Json) -> str:
    text = f"{job['number']}, {job['kind']} {job['result']}"
    if job["ended"] is not None:
        text += f" at {words.moment(job['ended'])}"
    if job["error"] is not None:
        text += f": {job['error']['sentence']}"
    return text


def timeline(screen: Screen, answer: Json) -> None:
    screen.line(timeline_drawing.summary(answer))
    screen.line()
    for text in timeline_drawing.draw(answer, screen.width, screen.ascii_only):
        screen.line(text)
    if answer["snapshots"]:
        screen.line()
        screen.table(
            [">", "snapshot", ">write", "time", ""],
            [
                [
                    str(number),
                    snapshot["name"],
                    str(snapshot["write"]),
                    words.moment(snapshot["time"]),
                    "pinned" if snapshot["pinned"] else "",
                ]
                for number, snapshot in enumerate(answer["snapshots"], 1)
            ],
        )
    for gap in answer["gaps"]:
        screen.line()
        screen.line(f"gap: writes {gap['from_write']} to {gap['to_write']}: {gap['reason']}")


def snapshot(screen: Screen, answer: Json) -> None:
    taken = answer["snapshot"]
    screen.line(
        f"snapshot {taken['name']} of {answer['volume']} {answer['done']}:"
        f" write {taken['write']}, {words.moment(taken['time'])}"
        f"{', pinned' if taken['pinned'] and answer['done'] == 'taken' else ''}"
    )


def plan(screen: Screen, answer: Json) -> None:
    planned = answer["plan"]
    when = f", {words.moment(planned['time'])}" if planned["time"] else ""
    screen.line(
        f"restore {answer['volume']} to {planned['point']} (write {planned['write']}{when})"
    )
    screen.line(
        f"  {words.size(planned['bytes'])} change;"
        " the restore is on the timeline and can be undone by another"
    )
    if planned["disconnects_hosts"]:
        screen.line("  hosts are disconnected")


def restore(screen: Screen, answer: Json) -> None:
    plan(screen, answer)
    if answer["job"] is not None:
        _job(screen, answer["job"])


def volume_job(screen: Screen, answer: Json) -> None:
    if answer["job"] is None:
        screen.line(f"volume {answer['volume']}: done")
    else:
        screen.line(f"volume {answer['volume']}:")
        _job(screen, answer["job"])


def job(screen: Screen, answer: Json) -> None:
    _job(screen, answer["job"])


def _job(screen: Screen, shown: Json) -> None:
    if shown["result"] is None:
        screen.line(f"  {progress.describe(shown)}; `cdpctl job wait {shown['number']}` follows it")
    else:
        screen.line(f"  job {_ended(shown)}, {words.size(shown['bytes_copied'])} copied")
        if shown["kind"] == "verify" and shown["result"] == "done":
            screen.line(f"  {words.size(shown['bytes_different'])} differ")


def job_list(screen: Screen, answer: Json) -> None:
    screen.table(
        [">job", "volume", "kind", "phase", ">percent", "bytes", "left"],
        [
            [
                str(shown["number"]),
                shown["volume"],
                shown["kind"],
                shown["phase"],
                str(progress.percent(shown)),
                progress.amount(shown),
                progress.time_left(shown) or "-",
            ]
            for shown in answer["jobs"]
        ],
    )


def release(screen: Screen, answer: Json) -> None:
    screen.line(f"volume {answer['volume']} is released; its disks are free")


def give_up(screen: Screen, answer: Json) -> None:
    screen.line(f"the restore of volume {answer['volume']} is given up; hosts can attach")


def view(screen: Screen, answer: Json) -> None:
    shown = answer["view"]
    when = f", {words.moment(shown['time'])}" if shown["time"] else ""
    screen.line(f"view {shown['name']} is open (write {shown['write']}{when})")


def view_list(screen: Screen, answer: Json) -> None:
    screen.table(
        ["view", "volume", "point", ">write", "time"],
        [
            [
                shown["name"],
                shown["volume"],
                shown["point"],
                str(shown["write"]),
                words.moment(shown["time"]) if shown["time"] else "-",
            ]
            for shown in answer["views"]
        ],
    )


def dropped(screen: Screen, answer: Json) -> None:
    screen.line(f"view {answer['dropped']} is closed")


def settings(screen: Screen, answer: Json) -> None:
    for name, value in answer["settings"].items():
        screen.line(f"volume {answer['volume']}: {name} is now {value}")


def events(screen: Screen, answer: Json) -> None:
    for event in answer["events"]:
        screen.line(
            f"{words.moment(event['time'])}  {event['code']}  {event['text']}",
            SEVERITY_STYLES.get(event["severity"], ""),
        )


def explanation(screen: Screen, answer: Json) -> None:
    kind = "event" if answer["is_event"] else "error"
    if answer["code"].startswith("EC"):
        kind = "finding"
    sentence = re.sub(r"\{(\w+)\}", lambda field: field[1].upper(), answer["sentence"])
    screen.line(f"{answer['code']} ({kind}, {answer['severity']}): {sentence}", "bold")
    screen.line()
    screen.line(answer["explanation"])
    if answer["remedy"]:
        screen.line()
        screen.line(f"What to do: {answer['remedy']}.")


def unlocked(screen: Screen, _: Json) -> None:
    screen.line("nobody holds the operator lock")


def panel(screen: Screen, answer: Json) -> None:
    corners, side, edge = ("++++", "|", "-") if screen.ascii_only else ("┌┐└┘", "│", "─")
    across = edge * len(answer["lines"][0])
    screen.line(f"{corners[0]}{across}{corners[1]}")
    for line in answer["lines"]:
        screen.line(f"{side}{line}{side}")
    screen.line(f"{corners[2]}{across}{corners[3]} {answer['backlight']}")


def check(screen: Screen, answer: Json) -> None:
    for one in answer["findings"]:
        finding(screen, one)
    verdict(screen, answer)


def finding(screen: Screen, found: Json) -> None:
    place = f" at byte {found['offset']}, {found['length']} bytes" if found["length"] else ""
    screen.line(
        f"{found['code']} {found['severity']}: {found['disk']}: {found['what']}:"
        f" {found['reason']}{place}",
        FINDING_STYLES[found["severity"]],
    )


def verdict(screen: Screen, answer: Json) -> None:
    counts = [
        words.count(answer[f"{severity}s"], severity)
        for severity in ("error", "warning", "note")
        if answer[f"{severity}s"]
    ]
    if not answer["errors"]:
        screen.line(", ".join(["sound", *counts]), "green")
    else:
        screen.line(f"{', '.join(counts)}; `cdpctl explain CODE` tells what they mean", "bold red")


def structure(screen: Screen, shown: Json) -> None:
    screen.line(f"{shown['what']} at byte {shown['offset']}", "bold")
    if shown["damage"] is not None:
        screen.line(f"  damaged: {shown['damage']}", "bold red")
    for name, value in shown["fields"].items():
        if name == "entries" and isinstance(value, list):
            for entry in value:
                facts = "  ".join(f"{field} {number}" for field, number in entry.items())
                screen.line(f"    {facts}")
        else:
            screen.line(f"  {name:<18}{value}")
    screen.line()


SCREENS: Final[dict[str, Callable[[Screen, Json], None]]] = {
    "disks": disks,
    "protect": volume_job,
    "release": release,
    "status": status,
    "timeline": timeline,
    "snapshot": snapshot,
    "sync": volume_job,
    "restore": restore,
    "give-up": give_up,
    "view create": view,
    "view list": view_list,
    "view drop": dropped,
    "set": settings,
    "job list": job_list,
    "job wait": job,
    "job cancel": job,
    "job pause": job,
    "events": events,
    "explain": explanation,
    "panel": panel,
    "unlock": unlocked,
    "check": check,
    "dump": structure,
}
