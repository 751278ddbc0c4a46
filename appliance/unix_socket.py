"""Sockets in the file system, on which the service listens for local clients."""

import logging
import shutil
import socket
import stat
from pathlib import Path

from appliance.errors import BadSettings, ServiceRunning

_log = logging.getLogger("ebbtide.sockets")


def listen(path: Path, group: str, backlog: int) -> socket.socket:
    """A socket that listens at `path`, does not wait, and is open to its owner and to `group`.

    (To our own group where that one does not exist, or is not ours to give.)
    A socket that a killed service left behind is replaced; nothing else is.
    Raises ServiceRunning if somebody listens there, and BadSettings if
    something else is there or the path cannot be used.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        _remove_dead_socket(path)
        listener.bind(bytes(path))
        # Nobody can connect before listen(), so there is no moment with another mode.
        path.chmod(0o660)
        _give_to_group(path, group)
        listener.listen(backlog)
    except OSError as error:
        listener.close()
        raise BadSettings(reason=f"socket {path}: {error.strerror or error}") from error
    except BaseException:
        listener.close()
        raise
    return listener


def _remove_dead_socket(path: Path) -> None:
    """Raises ServiceRunning if it lives, BadSettings if it is none."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise BadSettings(reason=f"socket {path}: something else has this name, and is left alone")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(bytes(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except BlockingIOError:
            pass
    raise ServiceRunning(socket=path)


def _give_to_group(path: Path, group: str) -> None:
    try:
        shutil.chown(path, group=group)
    except (LookupError, PermissionError):
        _log.info("group %s gets no access to %s", group, path)
