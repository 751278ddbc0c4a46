"""What verbs do: one coroutine a verb, stepped by the loop.

An action has its arguments checked already.  It answers with a struct of
`answers`, or with an iterator of them whose lists belong one after the other:
so no turn of the loop encodes a long answer whole.  A client that goes away
cancels an action that only looks; one that changes something takes its course,
for nothing may stay half changed.
"""

import logging
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final, Literal

from appliance.cdp.jobs import Job
from appliance.cdp.points import Snapshot
from appliance.cdp.tasks import Cancelled, Task
from appliance.errors import (
    BadRequest,
    EbbtideError,
    JobNotFound,
    NeedsConsent,
    RestoreBegun,
    SnapshotNotFound,
    VolumeNotFound,
)
from appliance.events import (
    LOGGED_IN,
    LOGGED_OUT,
    PASSWORD_CHANGED,
    REQUESTED,
    SNAPSHOT_DELETED,
    SNAPSHOT_PINNED,
    SNAPSHOT_TAKEN,
    SNAPSHOT_UNPINNED,
    UPDATE_INSTALLED,
    UPDATE_KNOWN,
    UPDATE_REFUSED,
    VERSION_WORKS,
    WENT_BACK,
    WRONG_PASSWORD,
)
from appliance.operators import answers
from appliance.operators import descriptions as describe
from appliance.operators.explanations import explain
from appliance.operators.interfaces import Volume
from appliance.operators.operator_lock import Operator
from appliance.operators.parameters import Value
from appliance.operators.requests import Desk, Request, follow
from appliance.operators.verbs import VERBS, Verb, command_line

_log = logging.getLogger("ebbtide.control")
PART: Final = 200
"""Entries of each list in one part of a long answer: a millisecond of work."""
EVENTS_SHOWN: Final = 100

SNAPSHOT_EVENTS: Final = {
    "taken": SNAPSHOT_TAKEN,
    "deleted": SNAPSHOT_DELETED,
    "pinned": SNAPSHOT_PINNED,
    "unpinned": SNAPSHOT_UNPINNED,
}

NOTE_EVENTS: Final = {
    "login": LOGGED_IN,
    "logout": LOGGED_OUT,
    "wrong password": WRONG_PASSWORD,
    "password changed": PASSWORD_CHANGED,
}

NEWS_EVENTS: Final = {
    "installed": UPDATE_INSTALLED,
    "refused": UPDATE_REFUSED,
    "known": UPDATE_KNOWN,
    "works": VERSION_WORKS,
    "went back": WENT_BACK,
}

Answer = answers.Answer | Iterator[answers.Answer]


async def perform(
    desk: Desk,
    operator: Operator,
    verb_name: str,
    arguments: Mapping[str, object],
    report: Callable[[answers.JobDescription], None],
) -> Answer:
    """Check a request, write down who asked if it changes something, and do it.

    Raises an EbbtideError; BadRequest if the verb or an argument is wrong,
    OperatorLocked or LockLost if `operator` may not change anything now.
    """
    verb = VERBS.get(verb_name)
    if verb is None or verb.offline:
        raise BadRequest(reason="there is no such verb")
    checked = verb.check(arguments)
    changes = verb.is_change(checked)

    async def act() -> Answer:
        with desk.lock.serving(operator, changes) as change:
            if changes:
                _write_down(desk, operator, verb, checked)
            return await ACTIONS[verb.name](Request(desk, operator, change, checked, report))

    return await (_to_its_end(Task(act())) if changes else act())


def _write_down(desk: Desk, operator: Operator, verb: Verb, arguments: Mapping[str, Value]) -> None:
    volume = arguments.get("volume")
    desk.appliance.emit(
        REQUESTED,
        actor=operator.actor,
        volume=volume if isinstance(volume, str) else None,
        request=command_line(verb, arguments),
    )


async def _to_its_end(work: Task[Answer]) -> Answer:
    """What comes of `work`, which takes its course even if who waits here goes."""
    try:
        return await work
    except Cancelled:
        work.when_finished(lambda: _end_unheard(work))
        raise


def _end_unheard(work: Task[Answer]) -> None:
    """Who asked is gone; a refusal or a failure has nobody to go to."""
    try:
        work.result()
    except EbbtideError as error:
        _log.info("nobody hears any more: %s", error)
    except Exception as error:  # a bug has nobody else to go to
        _log.error("a request failed", exc_info=error)


async def disks(request: Request) -> Answer:
    return answers.DisksAnswer(
        disks=[describe.describe_disk(disk) for disk in request.appliance.disks()]
    )


async def protect(request: Request) -> Answer:
    name = request.text("volume")
    if request.text("primary") == request.text("secondary"):
        raise BadRequest(reason="primary and secondary are the same disk")
    await request.appliance.protect(
        name,
        request.text("primary"),
        request.text("secondary"),
        consent=request.switch("yes"),
        wipe=request.optional_text("wipe"),
    )
    job = request.appliance.volumes[name].job
    if job is not None and request.switch("wait"):
        await follow(request, job)
    return answers.VolumeJobAnswer(
        volume=name, job=None if job is None else describe.describe_job(job)
    )


async def release(request: Request) -> Answer:
    volume = request.volume()
    if not request.switch("yes"):
        raise NeedsConsent(consequence=f"volume {volume.name} would lose all of its past")
    await request.appliance.release(volume.name)
    return answers.ReleaseAnswer(volume=volume.name)


async def status(request: Request) -> Answer:
    appliance, wanted = request.appliance, request.optional_text("volume")
    shown = [
        describe.describe_volume(volume, appliance.disk_alerts(name))
        for name, volume in appliance.volumes.items()
    ]
    shown += map(describe.describe_absent, appliance.absent_volumes())
    if wanted is not None:
        shown = [volume for volume in shown if volume.name == wanted]
        if not shown:
            raise VolumeNotFound(volume=wanted)
    return answers.StatusAnswer(
        volumes=sorted(shown, key=lambda volume: volume.name),
        operator=describe.describe_lock(request.desk.lock),
        image=describe.describe_image(appliance.image),
    )


async def timeline(request: Request) -> Answer:
    return _timeline_parts(request.volume())


def _timeline_parts(volume: Volume) -> Iterator[answers.Answer]:
    # Taken once: what changes while parts are on their way must not shift them.
    window = describe.describe_window(volume.window())
    maps, snapshots, gaps = volume.maps(), volume.snapshots(), volume.gaps()

    def parts() -> Iterator[answers.Answer]:
        for start in range(0, max(len(maps), len(snapshots), len(gaps), 1), PART):
            part = slice(start, start + PART)
            yield answers.TimelineAnswer(
                volume=volume.name,
                window=window,
                maps=[describe.describe_map(delta_map) for delta_map in maps[part]],
                snapshots=[describe.describe_snapshot(snapshot) for snapshot in snapshots[part]],
                gaps=[describe.describe_gap(gap) for gap in gaps[part]],
            )

    return parts()


async def snapshot(request: Request) -> Answer:
    volume, name = request.volume(), request.text("name")
    wishes = [wish for wish in ("pin", "unpin", "delete") if request.switch(wish)]
    if len(wishes) > 1:
        raise BadRequest(reason=f"--{wishes[0]} and --{wishes[1]} exclude each other")
    known = _find_snapshot(volume, name)
    if known is None and (request.switch("delete") or request.switch("unpin")):
        raise SnapshotNotFound(name=name)
    if known is None or not wishes:
        taken = await volume.take_snapshot(name, request.switch("pin"))
        return _snapshot_answer(request, "taken", taken)
    if request.switch("delete"):
        await volume.delete_snapshot(name)
        return _snapshot_answer(request, "deleted", known)
    await volume.pin_snapshot(name, request.switch("pin"))
    known = replace(known, pinned=request.switch("pin"))
    return _snapshot_answer(request, "pinned" if known.pinned else "unpinned", known)


def _find_snapshot(volume: Volume, name: str) -> Snapshot | None:
    return next((snapshot for snapshot in volume.snapshots() if snapshot.name == name), None)


def _snapshot_answer(request: Request, done: str, snapshot: Snapshot) -> Answer:
    volume = request.text("volume")
    request.appliance.emit(
        SNAPSHOT_EVENTS[done],
        volume=volume,
        actor=request.actor,
        name=snapshot.name,
        write=snapshot.write,
    )
    return answers.SnapshotAnswer(
        volume=volume, done=done, snapshot=describe.describe_snapshot(snapshot)
    )


async def sync(request: Request) -> Answer:
    volume = request.volume()
    if request.switch("full") and request.switch("verify"):
        raise BadRequest(reason="--full and --verify exclude each other")
    kind: Literal["full", "resync", "verify"] = "resync"
    if request.switch("full"):
        kind = "full"
    elif request.switch("verify"):
        kind = "verify"
    job = request.appliance.synchronise(volume.name, kind)
    if request.switch("wait"):
        await follow(request, job)
    return answers.VolumeJobAnswer(volume=volume.name, job=describe.describe_job(job))


async def restore(request: Request) -> Answer:
    volume = request.volume()
    point = await volume.resolve(request.text("to"))
    plan = await request.appliance.plan_restore(volume.name, point, request.switch("force"))
    planned = answers.RestoreAnswer(volume=volume.name, plan=describe.describe_plan(plan), job=None)
    if request.switch("plan"):
        return planned
    if not request.switch("yes"):
        raise NeedsConsent(
            consequence=f"volume {volume.name} would go back to write {plan.point.write},"
            f" {plan.bytes} bytes of it change",
            answer=planned,
        )
    job = request.appliance.restore(volume.name, plan)
    if request.switch("wait"):
        await follow(request, job)
    return answers.RestoreAnswer(
        volume=volume.name, plan=planned.plan, job=describe.describe_job(job)
    )


async def give_up(request: Request) -> Answer:
    volume = request.volume()
    if not request.switch("yes"):
        raise NeedsConsent(
            consequence=f"hosts would get volume {volume.name} as it is, restored in part only"
        )
    await request.appliance.give_up_restore(volume.name)
    return answers.GiveUpAnswer(volume=volume.name)


async def view_create(request: Request) -> Answer:
    volume = request.volume()
    view = await request.appliance.create_view(volume.name, request.text("point"))
    return answers.ViewAnswer(view=describe.describe_view(view))


async def view_list(request: Request) -> Answer:
    return answers.ViewsAnswer(
        views=[describe.describe_view(view) for view in request.appliance.list_views()]
    )


async def view_drop(request: Request) -> Answer:
    await request.appliance.drop_view(request.text("view"))
    return answers.DroppedAnswer(dropped=request.text("view"))


async def set_policies(request: Request) -> Answer:
    volume = request.volume()
    wanted = dict(setting.split("=", 1) for setting in request.texts("settings"))
    await request.appliance.set_policies(volume.name, wanted)
    return answers.SettingsAnswer(volume=volume.name, settings=wanted)


async def job_list(request: Request) -> Answer:
    return answers.JobsAnswer(jobs=[describe.describe_job(job) for _, job in _jobs(request)])


async def job_wait(request: Request) -> Answer:
    _, job = _find_job(request)
    await follow(request, job)
    return answers.JobAnswer(job=describe.describe_job(job))


async def job_cancel(request: Request) -> Answer:
    volume, job = _find_job(request)
    if job.must_end and job.result is None:
        raise RestoreBegun(volume=volume.name)
    job.cancel()
    return answers.JobAnswer(job=describe.describe_job(job))


async def job_pause(request: Request) -> Answer:
    volume, job = _find_job(request)
    if volume.job is not job:
        raise JobNotFound(job=job.number)
    request.appliance.pause_job(volume.name, not request.switch("resume"))
    return answers.JobAnswer(job=describe.describe_job(job))


async def events(request: Request) -> Answer:
    found = request.appliance.events(
        request.optional_text("volume"),
        request.whole("after"),
        request.whole("limit", EVENTS_SHOWN),
    )
    return (
        answers.EventsAnswer(events=list(found[start : start + PART]))
        for start in range(0, max(len(found), 1), PART)
    )


async def explain_code(request: Request) -> Answer:
    return explain(request.text("code"))


async def lock(request: Request) -> Answer:
    request.desk.lock.take(request.operator)
    return answers.LockAnswer(operator=describe.describe_lock(request.desk.lock))


async def unlock(request: Request) -> Answer:
    request.desk.lock.give(request.operator, request.switch("force"))
    return answers.LockAnswer(operator=None)


async def note(request: Request) -> Answer:
    request.appliance.emit(
        NOTE_EVENTS[request.text("what")], actor=request.actor, failures=request.whole("failures")
    )
    return answers.NotedAnswer()


async def news(request: Request) -> Answer:
    about = {name: request.optional_text(name) or "?" for name in ("version", "slot", "reason")}
    code = NEWS_EVENTS[request.text("what")]
    request.appliance.emit(code, actor=request.actor, **about)
    if request.appliance.image is not None:
        request.appliance.image.hear(code, **about)
    return answers.NotedAnswer()


async def panel(request: Request) -> Answer:
    key, hold = request.optional_text("press"), request.seconds("hold")
    if key is not None:
        return await request.desk.panel.press(request.operator, key, hold)
    if hold:
        raise BadRequest(reason="--hold says for how long to --press a key")
    return request.desk.panel.glass()


async def panel_exchange(request: Request) -> Answer:
    glass = answers.GlassAnswer(lines=request.texts("lines"), backlight=request.text("backlight"))
    keys = await request.desk.panel.exchange(request.operator, glass, request.whole("handled"))
    return answers.KeysAnswer(keys=keys)


def _jobs(request: Request) -> list[tuple[Volume, Job]]:
    """What runs and what ran last, by number."""
    found = [
        (volume, job)
        for volume in request.appliance.volumes.values()
        for job in (volume.last_job, volume.job)
        if job is not None
    ]
    return sorted(found, key=lambda pair: pair[1].number)


def _find_job(request: Request) -> tuple[Volume, Job]:
    for volume, job in _jobs(request):
        if job.number == request.whole("job"):
            return volume, job
    raise JobNotFound(job=request.whole("job"))


ACTIONS: Final[Mapping[str, Callable[[Request], Coroutine[Any, None, Answer]]]] = {
    "disks": disks,
    "protect": protect,
    "release": release,
    "status": status,
    "timeline": timeline,
    "snapshot": snapshot,
    "sync": sync,
    "restore": restore,
    "give-up": give_up,
    "view create": view_create,
    "view list": view_list,
    "view drop": view_drop,
    "set": set_policies,
    "job list": job_list,
    "job wait": job_wait,
    "job cancel": job_cancel,
    "job pause": job_pause,
    "events": events,
    "explain": explain_code,
    "note": note,
    "news": news,
    "panel": panel,
    "panel exchange": panel_exchange,
    "lock": lock,
    "unlock": unlock,
}
