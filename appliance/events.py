"""What can happen, with stable codes, a sentence each, and what it means.

Rooms raise events through an `Emit`; `appliance.event_log` keeps them.  Codes
are never reused; the hundreds digit tells what it is about: 1 disks,
2 volumes, 3 jobs, 4 the kept past, 9 the service.
"""

import uuid
from dataclasses import dataclass
from typing import Final, Literal, Protocol

MESSAGE_IDS: Final = uuid.UUID("a7526406-31e2-4274-9d0b-629400beecb3")
"""The namespace of the codes' ids in the journal.  Never changes: people's filters name the ids."""

Severity = Literal["info", "warning", "error"]
FieldValue = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class EventKind:
    """One thing that can happen.  `sentence` names its fields in braces, `{volume}` among them.
    What is not merely information has a `remedy`: what to do."""

    code: str
    severity: Severity
    sentence: str
    explanation: str
    remedy: str = ""


def message_id(code: str) -> uuid.UUID:
    """The id of a code's events in the systemd journal."""
    return uuid.uuid5(MESSAGE_IDS, code)


DISK_ARRIVED: Final = "EV101"
DISK_LEFT: Final = "EV102"
DISK_FAILED: Final = "EV103"
DISK_FENCED: Final = "EV104"
DISK_REFUSED: Final = "EV105"
READ_REPAIRED: Final = "EV106"
READ_LOST: Final = "EV107"
DISK_WIPED: Final = "EV108"
DISK_FAILING: Final = "EV109"
VOLUME_ONLINE: Final = "EV201"
SECONDARY_LOST: Final = "EV202"
VOLUME_OFFLINE: Final = "EV203"
VOLUME_PROTECTED: Final = "EV204"
PRIMARY_TROUBLE: Final = "EV205"
VOLUME_CREATED: Final = "EV206"
VOLUME_RELEASED: Final = "EV207"
HISTORY_SMALL: Final = "EV211"
WRITTEN_ELSEWHERE: Final = "EV212"
RESTORE_OWED: Final = "EV213"
SECONDARY_SLOW: Final = "EV214"
SECONDARY_STALE: Final = "EV215"
NOT_SYNCHRONISED: Final = "EV216"
VOLUME_RECOVERED: Final = "EV208"
SECONDARY_BACK: Final = "EV209"
POLICY_CHANGED: Final = "EV210"
JOB_ENDED: Final = "EV301"
JOB_STARTED: Final = "EV302"
RESTORED: Final = "EV303"
SNAPSHOT_TAKEN: Final = "EV401"
SNAPSHOT_DELETED: Final = "EV402"
SNAPSHOT_PINNED: Final = "EV403"
SNAPSHOT_UNPINNED: Final = "EV404"
WINDOW_SHORTENED: Final = "EV405"
GAP_OPENED: Final = "EV406"
VIEW_OPENED: Final = "EV407"
VIEW_CLOSED: Final = "EV408"
HISTORY_DAMAGED: Final = "EV409"
SNAPSHOT_DROPPED: Final = "EV410"
SUSPECTS: Final = "EV411"
DIFFERENCES: Final = "EV412"
MORE_OF_THESE: Final = "EV940"
HOST_REFUSED: Final = "EV930"
HOSTS_REFUSED: Final = "EV931"
SERVICE_STARTED: Final = "EV901"
SERVICE_STOPPED: Final = "EV902"
REQUESTED: Final = "EV903"
LOCK_TAKEN_AWAY: Final = "EV904"
LOCK_EXPIRED: Final = "EV905"
PANEL_WORKED: Final = "EV906"
LOGGED_IN: Final = "EV910"
LOGGED_OUT: Final = "EV911"
WRONG_PASSWORD: Final = "EV912"
PASSWORD_CHANGED: Final = "EV913"
UPDATE_INSTALLED: Final = "EV920"
UPDATE_REFUSED: Final = "EV921"
UPDATE_KNOWN: Final = "EV922"
VERSION_WORKS: Final = "EV923"
WENT_BACK: Final = "EV924"
STATE_IN_MEMORY: Final = "EV925"
REQUEST_LOST: Final = "EV945"
ADDRESS_ABSENT: Final = "EV946"

KINDS: Final[dict[str, EventKind]] = {
    kind.code: kind
    for kind in (
        EventKind(
            DISK_ARRIVED,
            "info",
            "disk {disk} arrived as {node}",
            "A disk was connected, or was there when the service started.",
        ),
        EventKind(
            DISK_LEFT,
            "warning",
            "disk {disk} is gone",
            "A disk was disconnected.  If a volume used it, an event of that volume follows.",
            "connect it again; nothing is needed if it was taken out on purpose",
        ),
        EventKind(
            DISK_FAILED,
            "error",
            "disk {disk} failed: {reason}",
            "The disk answered a request with an error.  Its volume serves hosts from the other"
            " disk as far as that is truthful.",
            "check cables and the disk's health; it is taken back into service when it answers",
        ),
        EventKind(
            DISK_FENCED,
            "error",
            "disk {disk} did not answer for {seconds} s and was taken out of service",
            "A request passed its deadline.  Nothing more is asked of the disk; once it has"
            " answered everything it is opened anew and brought back from what it carries.",
            "check cables, power and the disk's health; replace it if it happens again",
        ),
        EventKind(
            DISK_REFUSED,
            "warning",
            "disk {disk} is not used: {reason}",
            "The disk carries marks of Ebbtide, but is not the one that its volume expects: a"
            " stale twin, or one that went its own way.  Nothing is guessed; a person chooses.",
            "`cdpctl disks` tells why; connect the disk that belongs here, or take a copy away",
        ),
        EventKind(
            DISK_WIPED,
            "warning",
            "disk {disk} was wiped; it carried {what}",
            "A person gave the word, `--wipe` with the disk's id, to make it a secondary.  What it"
            " carried is destroyed.",
            "nothing, if it was meant; `cdpctl events` shows who asked for it",
        ),
        EventKind(
            DISK_FAILING,
            "error",
            "disk {disk} says that it is failing: {reason}",
            "The disk's own diagnosis (SMART), as smartctl reads it.  It still serves.",
            "replace it before it does no more",
        ),
        EventKind(
            READ_REPAIRED,
            "warning",
            "{volume}: {length} bytes at {offset} could not be read from the primary and were"
            " repaired from the secondary",
            "A sector of the primary was unreadable where both disks were known to agree.  The"
            " host got its data from the secondary, and the sector was written again.",
            "nothing now; watch the disk's health, and replace it if this goes on",
        ),
        EventKind(
            READ_LOST,
            "error",
            "{volume}: {length} bytes at {offset} could not be read",
            "A sector of the primary is unreadable and the secondary does not hold it for sure,"
            " so the host got an I/O error.  Writing the sector heals it; a restore may, too.",
            "have the host write the sector anew, or restore; then replace the disk",
        ),
        EventKind(
            VOLUME_ONLINE,
            "info",
            "volume {volume} is online, {state}",
            "Hosts can attach.",
        ),
        EventKind(
            SECONDARY_LOST,
            "error",
            "volume {volume} goes on without its secondary: {reason}",
            "Hosts are served from the primary.  Regions they write are tracked, so that a short"
            " synchronisation suffices later; moments from now on cannot be restored.",
            "connect the secondary again; a resync starts by itself",
        ),
        EventKind(
            SECONDARY_SLOW,
            "error",
            "volume {volume}: hosts waited {seconds} s for the secondary, which is too slow",
            "Under `ack=primary` hosts do not wait for the secondary, but for what lags in memory;"
            " they have filled that faster than it is written.  They go on, and writes are only"
            " tracked; the secondary is brought back after a while.  A faster secondary helps, and"
            " so does `ack=both`, under which hosts are never faster than it.",
            "use a faster secondary, or `cdpctl set VOLUME ack=both`",
        ),
        EventKind(
            SECONDARY_STALE,
            "warning",
            "volume {volume}: disk {disk} lacks writes that its secondary has had; all of it is"
            " compared",
            "The disk is an old copy of the secondary, or it lost what it had confirmed.  Points up"
            " to its last write are its own; what the primary has counts from then on, and the"
            " whole of it is compared.",
            "wait for the end of the comparison; check where the disk has been, and its cache",
        ),
        EventKind(
            NOT_SYNCHRONISED,
            "warning",
            "volume {volume} is not synchronised: its {kind} was cancelled",
            "Somebody has cancelled a baseline or a resync.  Hosts are served, but the disks differ"
            " where it had not come yet, and no moment from its beginning on can be restored before"
            " it has ended.  A restart takes it up again, or the return of a secondary that was"
            " away; nothing else does by itself.",
            "`cdpctl sync VOLUME` goes on with it; `cdpctl set VOLUME throttle=4-max` is gentle",
        ),
        EventKind(
            VOLUME_OFFLINE,
            "warning",
            "volume {volume} is offline: {reason}",
            "Hosts cannot use the volume until what is missing comes back.",
            "connect the primary; `cdpctl disks` tells what is not used, and why",
        ),
        EventKind(
            VOLUME_PROTECTED,
            "info",
            "volume {volume} is protected",
            "Both disks agree, and every write is kept.",
        ),
        EventKind(
            PRIMARY_TROUBLE,
            "error",
            "volume {volume}: the primary failed a request: {reason}",
            "The primary did not take a write or a flush.  The host was told, and the regions are"
            " synchronised anew.",
            "check cables and the disk's health; hosts doubt what they have not flushed",
        ),
        EventKind(
            VOLUME_CREATED,
            "info",
            "volume {volume} was created on {primary}, protected by {secondary}",
            "`cdpctl protect` gave two disks their roles.  A baseline synchronisation follows.",
        ),
        EventKind(
            VOLUME_RELEASED,
            "info",
            "volume {volume} was released",
            "The disks are free again; the primary reads as before, without Ebbtide.",
        ),
        EventKind(
            WRITTEN_ELSEWHERE,
            "warning",
            "volume {volume}: the primary was written elsewhere; all of it is compared",
            "Blocks of the primary differ from what was last written to them here: the disk was"
            " used without Ebbtide, or one of the two is a copy that went its own way.  What the"
            " primary holds counts; the whole of it is compared with the secondary.",
            "check that this is the right disk; then wait for the end of the comparison",
        ),
        EventKind(
            HISTORY_SMALL,
            "warning",
            "volume {volume}: the history is smaller than the volume",
            "Overwriting the whole volume would push out every earlier point.  A larger secondary"
            " gives a longer window.",
            "use a larger secondary: `release`, and `protect` anew",
        ),
        EventKind(
            RESTORE_OWED,
            "error",
            "volume {volume} stays closed to hosts: its restore was interrupted",
            "Part of the volume is as it was at the restored moment and part is not, so no host is"
            " served.  The restore goes on by itself when the secondary is back.  To have another"
            " moment instead, restore that; to take the volume as it is, half restored, give the"
            " restore up: `cdpctl give-up VOLUME --yes`.",
            "connect the secondary; or `cdpctl give-up VOLUME --yes`",
        ),
        EventKind(
            VOLUME_RECOVERED,
            "info",
            "volume {volume} recovered in {seconds} s; {regions} regions were settled",
            "The service or the machine had stopped without a farewell.  Everything that a"
            " completed flush covered is there, and both disks agree again.",
        ),
        EventKind(
            SECONDARY_BACK,
            "info",
            "volume {volume} has its secondary again",
            "A synchronisation brings it up to date.",
        ),
        EventKind(
            POLICY_CHANGED,
            "info",
            "volume {volume}: {setting} is now {value}",
            "A policy was changed with `cdpctl set`; it is kept on the volume's disks.",
        ),
        EventKind(
            JOB_ENDED,
            "info",
            "volume {volume}: {kind} {result}",
            "Long work came to its end: done, cancelled by somebody, or failed.  What it did stays"
            " done and is safe.  `cdpctl job list` shows the last job of each volume.",
        ),
        EventKind(
            RESTORED,
            "info",
            "volume {volume}: {point} was put back; write:{write} is the moment before",
            "A restore is only more writes on the timeline: restoring to the moment before undoes"
            " it, as long as that lies in the window.",
        ),
        EventKind(
            JOB_STARTED,
            "info",
            "volume {volume}: {kind} started (job {job})",
            "Long work began; `cdpctl job wait` shows how far it is.",
        ),
        EventKind(
            SNAPSHOT_TAKEN,
            "info",
            "{volume}: snapshot {name} was taken at write {write}",
            "The moment has a name now; `snapshot:NAME` is a point.",
        ),
        EventKind(
            SNAPSHOT_DELETED,
            "info",
            "{volume}: snapshot {name} was deleted",
            "The name is gone.  The moment itself stays restorable while it is in the window.",
        ),
        EventKind(
            SNAPSHOT_PINNED,
            "info",
            "{volume}: snapshot {name} is pinned",
            "While history is full, all that is older goes first, and then the moment itself, which"
            " is told.  A pin keeps a moment longer; it does not keep it for ever.",
        ),
        EventKind(
            SNAPSHOT_UNPINNED,
            "info",
            "{volume}: snapshot {name} is no longer pinned",
            "The moment goes when the window passes it.",
        ),
        EventKind(
            WINDOW_SHORTENED,
            "info",
            "{volume}: the oldest restorable write is now {write}",
            "History was full, so the oldest part of it was folded into the base image.  A larger"
            " secondary gives a longer window.",
        ),
        EventKind(
            GAP_OPENED,
            "warning",
            "{volume}: no moment from write {from_write} to {to_write} can be restored: {reason}",
            "There is a hole in the kept past.  Moments before and after it are not touched.",
            "nothing; choose a point before or after it",
        ),
        EventKind(
            VIEW_OPENED,
            "info",
            "view {view} was opened",
            "A past moment is offered to hosts as a disk of its own.",
        ),
        EventKind(
            VIEW_CLOSED,
            "info",
            "view {view} was closed",
            "Nothing of the volume or its past is changed by it.",
        ),
        EventKind(
            HISTORY_DAMAGED,
            "error",
            "{volume}: history on disk {disk} is damaged: {reason}",
            "A piece of the kept past cannot be read, or does not match its checksum.  Moments"
            " before it are as good as ever.  What can be taken from the primary is; moments that"
            " only the lost piece could tell become a gap or answer with an error, and never with"
            " wrong data.",
            "wait for `protected`, and restore what is needed from before it; replace the disk if"
            " it happens again",
        ),
        EventKind(
            SNAPSHOT_DROPPED,
            "warning",
            "{volume}: {kind} {name} of write {write} is given up",
            "History was full, or damaged, and the moment cannot be kept any longer.  A pinned"
            " snapshot goes only when nothing older than it is left to give up.  A larger secondary"
            " keeps more.",
            "use a larger secondary, or copy moments that must last out of a view",
        ),
        EventKind(
            SUSPECTS,
            "warning",
            "{volume}: points are suspect",
            "A scan found blocks of the secondary that differ from the primary although nothing"
            " explains it.  Points that answer with these blocks are refused as restore points"
            " unless forced; the timeline shows their delta maps.  `sync --full` makes the newest"
            " point right again; older ones stay suspect.",
            "look after the secondary's cables and health; `cdpctl sync VOLUME --full`",
        ),
        EventKind(
            DIFFERENCES,
            "error",
            "{volume}: {kind} found {different} bytes different and copied {copied}",
            "A scan compared both disks.  What differs was changed behind the appliance's back:"
            " a failing disk, or a writer that should not be.  The primary counts as right.",
            "look after the secondary: cables, health, who has access to it",
        ),
        EventKind(
            MORE_OF_THESE,
            "warning",
            "{of} happened {count} more times within {seconds} s, the last: {last}",
            "So many of one kind came at once that they were counted instead of kept one by one."
            "  What somebody asked for is never left out.",
            "`cdpctl explain` tells of the code that is named; the cause is the same for all of"
            " them",
        ),
        EventKind(
            HOST_REFUSED,
            "warning",
            "host {host} was refused: {reason}",
            "An NBD connection was not let in: it is not on the allow list, showed no certificate"
            " that counts, or too many were there.  At most a few of these are told a minute.",
            "see docs/operations.md if it is yours; if not, see who can reach the box's network",
        ),
        EventKind(
            HOSTS_REFUSED,
            "warning",
            "{count} more refusals of hosts within a minute",
            "The refusals that were not told one by one.  Many of them are a host with wrong"
            " settings, or somebody who tries.",
            "`cdpctl explain EV930` tells of the single ones",
        ),
        EventKind(
            SERVICE_STARTED,
            "info",
            "the service started, release {release}",
            "`cdpd` is up.",
        ),
        EventKind(
            SERVICE_STOPPED,
            "info",
            "the service stopped: {reason}",
            "`cdpd` ended in good order.",
        ),
        EventKind(
            UPDATE_INSTALLED,
            "info",
            "version {version} was installed into slot {slot}",
            "An update was checked and written beside the version that runs.  It counts from the"
            " next start on, and has to show then that it works.",
        ),
        EventKind(
            UPDATE_REFUSED,
            "warning",
            "an update was not installed: {reason}",
            "The version that runs is the one that will be started again, too: a bundle is checked"
            " before anything is written, and what was written in part is not booted.",
            "look at the stick, or at `journalctl --unit=rauc`; bring a bundle for this board that"
            " is signed by whom the box trusts",
        ),
        EventKind(
            UPDATE_KNOWN,
            "info",
            "the update on the stick was installed before",
            "A stick may stay in: what was installed from one is not installed again, even if the"
            " box has gone back from it.  `rauc install` does it all the same.",
        ),
        EventKind(
            VERSION_WORKS,
            "info",
            "version {version} has shown in slot {slot} that it works",
            "The service was ready and answered.  This version is not left again by itself.",
        ),
        EventKind(
            WENT_BACK,
            "warning",
            "version {version} runs in slot {slot}, since {reason}",
            "Another version was to be started.  One that has worked before is tried again at the"
            " next start; one that never has is given up.",
            "look at the journal of the start that failed, `journalctl --list-boots`; bring a"
            " version that works",
        ),
        EventKind(
            STATE_IN_MEMORY,
            "warning",
            "the box keeps its own state in memory: {reason}",
            "The state partition could not be used, or somebody asked to do without it.  Volumes"
            " are served, since their facts are on their own disks; settings are the image's, and"
            " what the box learns until its next start is lost then.",
            "docs/firmware.md tells how the partition is begun anew",
        ),
        EventKind(
            REQUEST_LOST,
            "error",
            "disk {disk} has had a request for {seconds} s that neither completes nor is given up",
            "A disk that does not answer is taken out of service at its deadline, and what it was"
            " asked is given up.  That did not happen, so the service is not itself: its watchdog"
            " is fed no more, and the service manager restarts it.  Nothing acknowledged is lost.",
            "send what `journalctl --unit=cdpd` tells to whoever looks after the software, and"
            " look at the disk",
        ),
        EventKind(
            ADDRESS_ABSENT,
            "warning",
            "no interface has the address of {endpoint} yet, on which hosts are awaited",
            "`cdpd` serves without it, on its Unix socket and to who is at the box.  Hosts connect"
            " over TCP from the moment on at which an interface has the address.",
            "if it does not come, mend the network, or `[hosts] nbd_tcp` in the settings",
        ),
        EventKind(
            REQUESTED,
            "info",
            "{actor} asked for: {request}",
            "Somebody gave a command that changes something; what came of it follows.  Behind the"
            " user's name stands the face of the box that was used; none for `cdpctl`.",
        ),
        EventKind(
            LOCK_TAKEN_AWAY,
            "warning",
            "{actor} took the operator lock away from {holder}",
            "Somebody was in the midst of a change, and `cdpctl unlock --force` ended their lock."
            "  What they were about to confirm is not done.",
            "nothing, if it was agreed; `cdpctl events` shows what was asked for since",
        ),
        EventKind(
            LOCK_EXPIRED,
            "info",
            "{actor} asked for nothing in {seconds} s and lost the operator lock",
            "A dialogue that changes something was left open.  What was about to be confirmed is"
            " not done.",
        ),
        EventKind(
            PANEL_WORKED,
            "info",
            "{actor} works the front panel from afar",
            "Keys were pressed with `cdpctl panel --press`; what the panel asked for from then on"
            " may be theirs.  Told at the first key of a sitting.",
        ),
        EventKind(
            LOGGED_IN,
            "info",
            "{actor} logged in",
            "Somebody gave the password at a console of the box.  Which line it was stands behind"
            " `at`.",
        ),
        EventKind(
            LOGGED_OUT,
            "info",
            "{actor} logged out",
            "By their own word, since nobody typed anything for a while, or since the line went.",
        ),
        EventKind(
            WRONG_PASSWORD,
            "warning",
            "wrong password at {actor}, {failures} in a row",
            "A login at a console of the box failed.  From the third in a row on, that line takes"
            " none for a while, longer each time.",
            "if nobody of yours was at the console then, see who can reach that line",
        ),
        EventKind(
            PASSWORD_CHANGED,
            "warning",
            "{actor} changed the password of the console",
            "It holds for every line of the box at once.  It is also told when the password is"
            " chosen at the first use.",
            "if nobody of yours did, set another with `cdp-console --set-password` on a shell",
        ),
    )
}


class Emit(Protocol):
    """How rooms raise events: a code of this module, and the fields that its sentence names;
    `volume` and `actor` are kept apart.  Never raises for a missing field or a full disk."""

    def __call__(self, code: str, **fields: FieldValue) -> None: ...
