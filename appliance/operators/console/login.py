"""Who may use the console: a password, chosen at the first use by whoever is at the line.

That the line itself is in the box is what shows that they are there.  Neither
a password nor its length is echoed, logged or kept in any message.
"""

import logging
from typing import Final

from appliance.errors import LoginLocked, LoginRefused, PasswordUnfit
from appliance.operators.access.lockout import Lockout
from appliance.operators.access.passwords import SHORTEST, Passwords, PasswordState
from appliance.operators.answers import ErrorAnswer
from appliance.operators.console.conversation import (
    Conversation,
    Ended,
    Interrupted,
    Rest,
    ask,
    note,
    tell,
)
from appliance.operators.console.outcome import tell_error

_log: Final = logging.getLogger("ebbtide.console")


def log_in(passwords: Passwords, lockout: Lockout, title: str) -> Conversation[None]:
    """Over when somebody may use the console."""
    waits_for = 0
    while True:
        if lockout.failures > waits_for and lockout.seconds:
            yield from tell_error(ErrorAnswer.of(_locked(lockout)))
            yield Rest(lockout.seconds)
        waits_for = lockout.failures
        yield from tell("", title)
        try:
            if passwords.state is PasswordState.UNSET:
                if (yield from _first_use(passwords)):
                    return
            elif (yield from _try_password(passwords, lockout)):
                return
        except (Interrupted, Ended):
            continue


def change_password(passwords: Passwords, lockout: Lockout) -> Conversation[None]:
    """The old one first: an unattended line must not lock its owner out.  A wrong one counts.
    Raises LoginRefused, LoginLocked and PasswordUnfit."""
    if passwords.fixed:
        raise PasswordUnfit(reason="it stands in the settings, and is changed there")
    if lockout.seconds:
        raise _locked(lockout)
    old = yield from ask("Old password: ", secret=True, fresh=True)
    if not _is_right(passwords, lockout, old):
        yield from note("wrong password", lockout.failures)
        raise LoginRefused
    yield from _choose(passwords)
    _log.warning("the password was changed")
    yield from note("password changed")


def _first_use(passwords: Passwords) -> Conversation[bool]:
    yield from tell(
        "No password is set yet. Whoever is at this line chooses it now:",
        f"{SHORTEST} characters or more; it is not shown while you type.",
    )
    try:
        yield from _choose(passwords, at_first=True)
    except PasswordUnfit as error:
        yield from tell_error(ErrorAnswer.of(error))
        return False
    _log.warning("the password was chosen at the first use")
    yield from note("password changed")
    return True


def _choose(passwords: Passwords, at_first: bool = False) -> Conversation[None]:
    """Raises PasswordUnfit."""
    first = yield from ask("New password: ", secret=True, fresh=True)
    again = yield from ask("New password again: ", secret=True, fresh=True)
    if first != again:
        raise PasswordUnfit(reason="the two were not the same")
    if at_first and passwords.state is not PasswordState.UNSET:
        # The prompt may have stood for hours: its owner has chosen on another line since.
        raise PasswordUnfit("log in with that one", reason="another one was set meanwhile")
    try:
        passwords.change(first)
    except OSError as error:
        raise PasswordUnfit(
            "look at the state directory of the console",
            reason=f"it cannot be kept: {error.strerror}",
        ) from None


def _try_password(passwords: Passwords, lockout: Lockout) -> Conversation[bool]:
    if passwords.state is PasswordState.DAMAGED:
        yield from tell(
            "The kept password cannot be read. `cdp-console --set-password` on a shell",
            "of the box sets a new one.",
        )
    typed = yield from ask("Password: ", secret=True, fresh=True)
    if not typed:
        return False
    if _is_right(passwords, lockout, typed):
        _log.info("login")
        return True
    yield from note("wrong password", lockout.failures)
    yield from tell_error(ErrorAnswer.of(LoginRefused()))
    return False


def _is_right(passwords: Passwords, lockout: Lockout, typed: str) -> bool:
    """The try is counted before it is judged."""
    lockout.count()
    if not passwords.is_right(typed):
        _log.warning("wrong password, %d in a row", lockout.failures)
        return False
    lockout.clear()
    return True


def _locked(lockout: Lockout) -> LoginLocked:
    return LoginLocked(failures=lockout.failures, seconds=f"{lockout.seconds:.0f}")
