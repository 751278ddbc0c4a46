"""Every way in which Ebbtide refuses or fails, with a stable code.

A class per way: its docstring explains it at length (`cdpctl explain CODE`),
`sentence` says what happened in one line fit for a person, `remedy` what to
do.  Fields named in the sentence are given by keyword when it is raised.
Codes are never reused; the hundreds digit tells the room: 1 disks, 2 on-disk
format, 3 volumes, 4 points, 5 jobs, 6 settings and requests, 9 the service.
"""

from typing import ClassVar

FAILED = 1
"""Exit code of what went wrong."""
REFUSED = 3
"""Exit code of what was refused, or needs an explicit word."""


class EbbtideError(Exception):
    """Something went wrong that has no code of its own yet."""

    code: ClassVar[str] = "EB900"
    sentence: ClassVar[str] = "something went wrong: {reason}"
    remedy: str = "see the log of cdpd"
    exit_code: ClassVar[int] = FAILED

    def __init__(self, remedy: str | None = None, **fields: object) -> None:
        """`remedy` is for where more can be said than holds for all of the class."""
        self.fields = fields
        if remedy is not None:
            self.remedy = remedy
        super().__init__(self.sentence.format(**fields))


class DiskNotFound(EbbtideError):
    """No attached disk goes by this id.  Ids are printed by `cdpctl disks`; they are made of the
    serial number or WWN, never of the kernel's name, which changes between boots."""

    code = "EB101"
    sentence = "no attached disk is called {disk}"
    remedy = "`cdpctl disks` lists the appliance's disks and their ids"


class DiskInUse(EbbtideError):
    """The disk is open elsewhere: mounted, part of an array, or held by another process or role."""

    code = "EB102"
    sentence = "disk {disk} is in use: {reason}"
    remedy = "unmount or release it first, or choose another disk"
    exit_code = REFUSED


class DiskNotEmpty(EbbtideError):
    """The disk carries something: a file system, a partition table, an md or LVM label, or another
    volume of Ebbtide.  It is not taken for a role.  A secondary is wiped by explicit word, `--wipe`
    with its id typed again; a primary never is, nor a disk of a volume that is in service."""

    code = "EB103"
    sentence = "disk {disk} is not empty: {reason}"
    remedy = "choose another disk, or empty it yourself if you are sure"
    exit_code = REFUSED


class DiskTooSmall(EbbtideError):
    """The disk cannot hold what its role needs."""

    code = "EB104"
    sentence = "disk {disk} is too small: {size} bytes, {needed} needed"
    remedy = "use a larger disk"
    exit_code = REFUSED


class DiskFailed(EbbtideError):
    """The disk answered with an error, or not at all before its deadline."""

    code = "EB105"
    sentence = "disk {disk} failed: {reason}"
    remedy = "check cables and the disk's health; it is taken back into service when it answers"


class DiskUnreadable(DiskFailed):
    """A scan came upon more than a mebibyte that the disk does not give, and was given up: to try
    the rest, block by block, may take days.  A secondary is taken out of service, as one that
    refuses writes is, and writes are only tracked.  A primary serves on as well as it can."""

    code = "EB107"
    sentence = "disk {disk} cannot be read: {reason}"
    remedy = "check cables and the disk's health, and replace it if that was not it"


class WrongDisk(EbbtideError):
    """The disk is Ebbtide's, but not the one that belongs here: another set, a stale twin, or one
    whose generation went its own way.  Nothing is guessed; a person chooses."""

    code = "EB106"
    sentence = "disk {disk} does not belong here: {reason}"
    remedy = "check which disks are connected; `cdpctl dump DISK` shows what it carries"
    exit_code = REFUSED


class FormatDamaged(EbbtideError):
    """A structure on disk does not read as what it must be: wrong magic, length, checksum or
    contents.  What stands in two copies is read from the other."""

    code = "EB201"
    sentence = "{what} is damaged: {reason}"
    remedy = "`cdpctl check` on the disk tells how far the damage goes"


class FormatTooNew(EbbtideError):
    """The disk was written by a newer release and uses a feature that this one does not know."""

    code = "EB202"
    sentence = "{what} uses features this release does not know (flags {flags})"
    remedy = "use the release that wrote it, or a newer one"
    exit_code = REFUSED


class VolumeNotFound(EbbtideError):
    """No volume goes by this name here."""

    code = "EB301"
    sentence = "there is no volume called {volume}"
    remedy = "`cdpctl status` lists the volumes"


class VolumeExists(EbbtideError):
    """The name is taken."""

    code = "EB302"
    sentence = "there is a volume called {volume} already"
    remedy = "choose another name"
    exit_code = REFUSED


class VolumeNotReady(EbbtideError):
    """The volume's state does not allow this now."""

    code = "EB303"
    sentence = "volume {volume} is {state}: {reason}"
    remedy = "`cdpctl status` shows when it is ready"
    exit_code = REFUSED


class BadPoint(EbbtideError):
    """A point is a time (2026-11-22T10:00:00Z, -10m), a snapshot (snapshot:NAME) or a write
    (write:NUMBER)."""

    code = "EB401"
    sentence = "'{point}' is not a point: {reason}"
    remedy = "write a time (2026-11-22T10:00:00Z or -10m), snapshot:NAME or write:NUMBER"


class PointOutsideWindow(EbbtideError):
    """The point lies before the oldest or after the newest restorable moment."""

    code = "EB402"
    sentence = "{point} is outside the window (writes {oldest} to {newest})"
    remedy = "`cdpctl timeline` shows what can be restored"
    exit_code = REFUSED


class PointInGap(EbbtideError):
    """The history has a hole there: no moment in it can be put back truthfully."""

    code = "EB403"
    sentence = "{point} lies in a gap (writes {from_write} to {to_write}: {reason})"
    remedy = "choose a point before or after the gap"
    exit_code = REFUSED


class PointSuspect(EbbtideError):
    """A later synchronisation found that this point may not match what the host had."""

    code = "EB404"
    sentence = (
        "{point} is suspect: a scan found blocks that differ, for points from write {from_write}"
        " to {until}"
    )
    remedy = "choose another point, look at it with a view, or restore it with --force"
    exit_code = REFUSED


class PointAmbiguous(EbbtideError):
    """The clock was set back: this time happened more than once."""

    code = "EB405"
    sentence = "{point} happened more than once: writes {writes}"
    remedy = "name the write instead: write:NUMBER"
    exit_code = REFUSED


class SnapshotExists(EbbtideError):
    """The name is taken."""

    code = "EB406"
    sentence = "there is a snapshot called {name} already"
    remedy = "choose another name"
    exit_code = REFUSED


class SnapshotNotFound(EbbtideError):
    """No snapshot of the volume goes by this name."""

    code = "EB407"
    sentence = "there is no snapshot called {name}"
    remedy = "`cdpctl timeline` lists the snapshots"


class NoRoom(EbbtideError):
    """The history, or a table in it, cannot take this."""

    code = "EB408"
    sentence = "no room: {reason}"
    remedy = "drop snapshots or views, or use a larger secondary"
    exit_code = REFUSED


class JobRunning(EbbtideError):
    """A volume runs one job at a time."""

    code = "EB501"
    sentence = "volume {volume} is busy with a {kind}"
    remedy = "wait for it (`cdpctl job wait`) or cancel it"
    exit_code = REFUSED


class JobNotFound(EbbtideError):
    """No job goes by this number."""

    code = "EB502"
    sentence = "there is no job {job}"
    remedy = "`cdpctl job list` shows the jobs"


class NeedsConsent(EbbtideError):
    """This would overwrite or give up something; it is done only on an explicit word."""

    code = "EB503"
    sentence = "not done without consent: {consequence}"
    remedy = "say --yes if that is what you want"
    exit_code = REFUSED


class JobFailed(EbbtideError):
    """The job that was waited for did not come to its end.  What it did stays done; it can be
    started again."""

    code = "EB504"
    sentence = "{kind} of volume {volume} failed: {reason}"
    remedy = "`cdpctl events` tells more; mend the cause and start it again"


class JobCancelled(EbbtideError):
    """The job that was waited for was cancelled by somebody.  What it did stays done."""

    code = "EB505"
    sentence = "{kind} of volume {volume} was cancelled"
    remedy = "start it again if it is still wanted"


class RestoreBegun(EbbtideError):
    """A restore that has begun to write is not cancelled: half of it would be a volume that no host
    ever had.  Let it come to its end; restoring the write before it undoes it.  A restore that
    cannot come to its end is given up with `cdpctl give-up VOLUME --yes`: the volume is
    then what it is, half restored."""

    code = "EB506"
    sentence = "the restore of volume {volume} has begun to write and is not cancelled"
    remedy = "let it end, and restore the write before it to undo it; or give it up (`give-up`)"
    exit_code = REFUSED


class BadSettings(EbbtideError):
    """The settings file does not read as what it must be."""

    code = "EB601"
    sentence = "settings: {reason}"
    remedy = "mend the settings file; `cdpd --check-config` tries it"


class BadRequest(EbbtideError):
    """A request on the control socket has a wrong verb, parameter or form."""

    code = "EB602"
    sentence = "bad request: {reason}"
    remedy = "`cdpctl --help` shows the verbs"


class UnknownCode(EbbtideError):
    """Codes are EB and three digits for errors, EV for events, EC for what `check` finds."""

    code = "EB603"
    sentence = "there is no code {name}"
    remedy = "codes stand in front of every error (EB…), event (EV…) and finding (EC…)"


class OperatorLocked(EbbtideError):
    """Somebody is in the midst of changing something, at the console, the front panel or with
    `cdpctl`; until they are done nobody else changes anything, so that what they were shown stays
    true.  Looking is free.  The lock ends with their dialogue, with their connection, or when they
    have done nothing for five minutes."""

    code = "EB604"
    sentence = "{actor} has been changing things since {since}"
    remedy = "wait until they are done; `cdpctl unlock --force` takes their lock away"
    exit_code = REFUSED


class NoPanel(EbbtideError):
    """No process of a front panel is connected to the service."""

    code = "EB605"
    sentence = "no front panel is connected"
    remedy = "start cdp-panel; its log tells why if it ended"


class KeyNotHandled(EbbtideError):
    """A key was pressed from afar and the panel's process did not say that it has dealt with it.
    The glass tells whether it did after all."""

    code = "EB606"
    sentence = "the front panel did not deal with the key {key}: {reason}"
    remedy = "look at the glass (`cdpctl panel`) before you press again"


class LockLost(EbbtideError):
    """The operator lock of this connection was taken away by somebody, or ended because nothing was
    asked for.  Things may have changed since, so nothing is done until it is taken again."""

    code = "EB607"
    sentence = "the operator lock was lost: {reason}"
    remedy = "begin again, and look at the plan anew"
    exit_code = REFUSED


class AnotherPanel(EbbtideError):
    """Two processes say that they are the front panel; the first is believed until it goes, or has
    said nothing for a while.  The other one works for who stands before it, but nobody sees its
    glass from afar."""

    code = "EB608"
    sentence = "another front panel is connected"
    remedy = "end one of the two cdp-panel processes"
    exit_code = REFUSED


class NotUnderstood(EbbtideError):
    """What was typed on the console is no command, or lacks something."""

    code = "EB610"
    sentence = "not understood: {reason}"
    remedy = "`help` lists what can be typed, `help COMMAND` tells more, `menu` shows numbers"


class LoginRefused(EbbtideError):
    """The password was not the right one.  After three in a row the console's line is deaf for some
    seconds, and longer each time."""

    code = "EB611"
    sentence = "wrong password"
    remedy = "try again; `cdp-console --set-password` on a shell of the box sets another one"
    exit_code = REFUSED


class LoginLocked(EbbtideError):
    """Several wrong passwords came in a row on this line of the console.  It takes none for a time,
    also after a restart; other lines and `cdpctl` work."""

    code = "EB612"
    sentence = "{failures} wrong passwords in a row: no login here for {seconds} s"
    remedy = "wait, or use another line"
    exit_code = REFUSED


class NotConfirmed(EbbtideError):
    """A step that gives something up is done only when the words that the console shows were
    typed behind the plan, and in time."""

    code = "EB613"
    sentence = "nothing was done: {reason}"
    remedy = "begin again, and type the words as they are shown, if that is what you want"
    exit_code = REFUSED


class ConsoleInterrupted(EbbtideError):
    """^C (or leaving a question) ended what the console was at.  What the service was asked for
    before takes its course."""

    code = "EB614"
    sentence = "interrupted: {reason}"
    remedy = "`job list` shows what runs"


class LineGarbled(EbbtideError):
    """The line had bytes in it that no keyboard sends, or was too long: noise, or the wrong speed.
    It was not taken for anything."""

    code = "EB615"
    sentence = "not taken: {reason}"
    remedy = "type it again; ^U empties a line first"


class NotHere(EbbtideError):
    """The console has no access to disks: what reads disks that no service uses is done by `cdpctl`
    on a shell of the box."""

    code = "EB616"
    sentence = "{verb} is not done on the console"
    remedy = "use `cdpctl` on a shell of the box"
    exit_code = REFUSED


class PasswordUnfit(EbbtideError):
    """The new password is too short or too long, cannot be typed on every line, or is not to be
    changed here."""

    code = "EB617"
    sentence = "the password was not changed: {reason}"
    remedy = "8 to 128 characters, each a printable one of ASCII"
    exit_code = REFUSED


class LineUnusable(EbbtideError):
    """The serial line is not there, or does not work as one.  The console tries it again, at first
    after a second and later each 30 s."""

    code = "EB618"
    sentence = "serial line {device}: {reason}"
    remedy = "check the device's name and cable, and that no other program (a getty) has it"


class LoggedOut(EbbtideError):
    """Nobody typed anything on the console while it waited for that, so that whoever passes by is
    not taken for who was there.  A job or another answer that is waited for is no silence, however
    long it takes."""

    code = "EB619"
    sentence = "logged out: nobody typed anything for {seconds} s"
    remedy = "log in again; `[console] idle_seconds` in the settings says how long is too long"
    exit_code = REFUSED


class BadBoard(EbbtideError):
    """The file that says how the front panel is wired does not read as what it must be."""

    code = "EB620"
    sentence = "front panel board: {reason}"
    remedy = "mend that file, or name another board in [panel]"


class CannotListen(EbbtideError):
    """A server cannot listen where the settings say: the address is not this machine's, or the port
    is taken."""

    code = "EB640"
    sentence = "cannot listen on {endpoint}: {reason}"
    remedy = "name another address or port in the settings, or stop who has it (`ss -ltnp`)"


class NotAKernelDisk(EbbtideError):
    """A volume cannot be, or be any longer, a block device of this machine's kernel."""

    code = "EB641"
    sentence = "volume {volume} is not at {device}: {reason}"
    remedy = "see `cdpctl status`; its unit tries again by itself"


class HostNotAllowed(EbbtideError):
    """The allow list of the settings (`[hosts] allow`) does not give this host, as its address and
    its certificate show it, the export that it asks for.  Whether there is such a volume is not
    told."""

    code = "EB630"
    sentence = "this host is not allowed to use {export}"
    remedy = "add its network, or its certificate's name, to `[hosts] allow` and restart cdpd"
    exit_code = REFUSED


class ServiceUnreachable(EbbtideError):
    """`cdpd` does not answer on its control socket."""

    code = "EB901"
    sentence = "cdpd does not answer on {socket}: {reason}"
    remedy = "start cdpd, or name its socket with --socket"


class NotAnOperator(ServiceUnreachable):
    """The control socket is for its owner and for group `cdp`: whoever may open it may do whatever
    an operator can.  A new membership counts from the next login on."""

    code = "EB631"
    sentence = "this user may not use {socket}: {reason}"
    remedy = "have the user put into group cdp (`usermod -aG cdp USER`), and log in again"
    exit_code = REFUSED


class ServiceBusy(EbbtideError):
    """The control socket serves a bounded number of connections, in all and for each user, so that
    nobody can starve the volumes, or other users, through it."""

    code = "EB902"
    sentence = "cdpd serves {connections} control connections already"
    remedy = "try again, or end clients that are not needed"


class ServiceRunning(EbbtideError):
    """Somebody listens on a socket that `cdpd` needs: another `cdpd`, most likely; two must not
    share disks."""

    code = "EB903"
    sentence = "another service answers on {socket}"
    remedy = "stop it first, or use another runtime_dir"
    exit_code = REFUSED


def every_error() -> dict[str, type[EbbtideError]]:
    """All errors by code."""
    found: dict[str, type[EbbtideError]] = {}
    pending: list[type[EbbtideError]] = [EbbtideError]
    while pending:
        error = pending.pop()
        assert error.code not in found, f"{error.code} stands for two errors"
        found[error.code] = error
        pending += error.__subclasses__()
    return dict(sorted(found.items()))
