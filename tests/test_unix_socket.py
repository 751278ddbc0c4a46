"""Whose name a socket takes, and who may use it."""

import grp
import os
import socket
import stat
from pathlib import Path

import pytest

from appliance import unix_socket
from appliance.errors import BadSettings, ServiceRunning

GROUP = "there-is-no-such-group"


def test_it_listens_for_its_owner_and_group(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    with unix_socket.listen(path, GROUP, 4) as listener, socket.socket(socket.AF_UNIX) as client:
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        client.connect(str(path))
        listener.accept()[0].close()
        with pytest.raises(BlockingIOError):
            listener.accept()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give to another group")
@pytest.mark.parametrize("group", ["daemon", GROUP])
def test_it_goes_to_the_group_if_there_is_one(tmp_path: Path, group: str) -> None:
    path = tmp_path / "a.sock"
    with unix_socket.listen(path, group, 4):
        expected = grp.getgrnam(group).gr_gid if group == "daemon" else os.getegid()
        assert path.stat().st_gid == expected
        assert stat.S_IMODE(path.stat().st_mode) == 0o660


def test_a_dead_one_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    unix_socket.listen(path, GROUP, 4).close()
    assert path.is_socket()
    with unix_socket.listen(path, GROUP, 4), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


@pytest.mark.parametrize("full", [False, True])
def test_a_living_one_is_respected(tmp_path: Path, full: bool) -> None:
    path = tmp_path / "a.sock"
    with unix_socket.listen(path, GROUP, 0), socket.socket(socket.AF_UNIX) as waiting:
        if full:
            waiting.connect(str(path))
        with pytest.raises(ServiceRunning, match=r"a\.sock"):
            unix_socket.listen(path, GROUP, 4)
        assert path.is_socket()


@pytest.mark.parametrize("kind", ["file", "link to a file", "link to nothing", "folder"])
def test_something_else_of_that_name_is_left_alone(tmp_path: Path, kind: str) -> None:
    path, other = tmp_path / "a.sock", tmp_path / "other"
    match kind:
        case "file":
            path.write_bytes(b"precious")
        case "folder":
            path.mkdir()
        case _:
            path.symlink_to(other)
            if kind == "link to a file":
                other.write_bytes(b"precious")
    before = path.lstat().st_ino
    with pytest.raises(BadSettings, match="something else has this name"):
        unix_socket.listen(path, GROUP, 4)
    assert path.lstat().st_ino == before
    assert all(file.read_bytes() == b"precious" for file in tmp_path.iterdir() if file.is_file())


@pytest.mark.parametrize("name", ["missing/a.sock", "x" * 200])
def test_a_path_that_cannot_be_a_socket(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadSettings, match="socket"):
        unix_socket.listen(tmp_path / name, GROUP, 4)
