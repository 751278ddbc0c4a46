"""What is told of disks that come, go, change and look alike."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import pyudev
from pytest_mock import MockerFixture

from appliance.cdp.interfaces import DiskIdentity
from appliance.drivers import block_devices
from appliance.drivers.block_devices import BlockDevices, find_block_devices
from appliance.drivers.discovery import Discovery, FoundDisk
from appliance.drivers.disk_directory import DiskDirectory
from appliance.loop import Loop
from appliance.simulated.world import World
from tests.service.media import device_manager, machine

MIB = 1 << 20
LOOPS = Path("/dev/loop-control")


class Told:
    """A listener that keeps what it is told."""

    def __init__(self) -> None:
        self.all: list[tuple[str, FoundDisk]] = []

    def disk_appeared(self, disk: FoundDisk) -> None:
        self.all.append(("appeared", disk))

    def disk_disappeared(self, disk: FoundDisk) -> None:
        self.all.append(("disappeared", disk))

    def disk_changed(self, disk: FoundDisk) -> None:
        self.all.append(("changed", disk))

    def take(self) -> list[tuple[str, str, str | None]]:
        """(what, id, in use) of everything since the last call."""
        taken, self.all = self.all, []
        return [(what, disk.identity.id, disk.in_use) for what, disk in taken]


def found(id: str, node: str, incarnation: str = "1", in_use: str | None = None) -> FoundDisk:
    return FoundDisk(DiskIdentity(id, node), MIB, 512, 4096, incarnation, in_use)


class TestDiscovery:
    """What every source has in common, over a source of our own."""

    @pytest.fixture
    def attached(self) -> list[FoundDisk]:
        return []

    @pytest.fixture
    def world(self) -> World:
        return World(1)

    @pytest.fixture
    def told(self) -> Told:
        return Told()

    @pytest.fixture
    def discovery(self, world: World, told: Told, attached: list[FoundDisk]) -> Discovery:
        return Discovery(world, told, lambda: list(attached), period=10)

    def test_tells_what_is_there_and_what_comes_and_goes(
        self, world: World, told: Told, discovery: Discovery, attached: list[FoundDisk]
    ) -> None:
        attached[:] = [found("a", "/dev/x"), found("b", "/dev/y", in_use="mounted at /")]
        world.run_for(1)
        assert told.take() == [("appeared", "a", None), ("appeared", "b", "mounted at /")]
        attached[:] = [found("b", "/dev/y"), found("c", "/dev/x")]
        world.run_for(10)
        assert told.take() == [
            ("disappeared", "a", None),
            ("changed", "b", None),
            ("appeared", "c", None),
        ]
        assert discovery.disks == attached
        world.run_for(100)
        assert told.take() == []

    def test_a_shower_of_events_is_one_look(
        self, world: World, told: Told, attached: list[FoundDisk]
    ) -> None:
        looks = []

        def find() -> list[FoundDisk]:
            looks.append(1)
            return []

        discovery = Discovery(world, told, find, period=1000)
        world.run_for(1)
        looks.clear()
        for _ in range(20):
            discovery.stir()
            world.run_for(0.004)
        assert looks == []
        world.run_for(1)
        assert looks == [1]

    def test_a_disk_that_was_away_between_two_looks_is_told_as_another(
        self, world: World, told: Told, discovery: Discovery, attached: list[FoundDisk]
    ) -> None:
        attached[:] = [found("a", "/dev/x", "7")]
        world.run_for(1)
        attached[:] = [found("a", "/dev/x", "8")]
        world.run_for(10)
        assert [what for what, _, _ in told.take()] == ["appeared", "disappeared", "appeared"]

    def test_of_two_disks_with_one_id_the_known_one_stays(
        self, world: World, told: Told, discovery: Discovery, attached: list[FoundDisk]
    ) -> None:
        attached[:] = [found("a", "/dev/x")]
        world.run_for(1)
        told.take()
        attached[:] = [found("a", "/dev/w"), found("a", "/dev/x")]
        world.run_for(10)
        assert told.take() == [("appeared", "a", "/dev/x has the same id")]
        world.run_for(100)
        assert told.take() == []
        del attached[1]
        world.run_for(10)
        assert told.take() == [("disappeared", "a", None), ("changed", "a", None)]

    def test_of_two_disks_with_one_id_that_come_together_neither_is_free(
        self, world: World, told: Told, discovery: Discovery, attached: list[FoundDisk]
    ) -> None:
        attached[:] = [found("a", "/dev/x"), found("a", "/dev/y"), found("a", "/dev/z")]
        world.run_for(1)
        assert [disk.in_use is None for _, disk in told.all] == [False] * 3
        told.take()
        del attached[0]
        world.run_for(100)
        assert told.take()[0] == ("disappeared", "a", "/dev/y has the same id")
        assert [disk.in_use is None for disk in discovery.disks] == [False] * 2
        del attached[0]
        world.run_for(10)
        assert told.take()[1:] == [("changed", "a", None)]

    def test_a_foreign_disk_is_told_only_if_it_was_ours(
        self, world: World, told: Told, attached: list[FoundDisk]
    ) -> None:
        discovery = Discovery(world, told, lambda: list(attached), period=10)
        ours, system = found("a", "/dev/x"), found("s", "/dev/y", in_use="mounted at /")
        update = found("bundle", "/dev/loop0", in_use="it is read-only")
        twin = found("a", "/dev/z")
        attached[:] = [ours, *(replace(each, foreign=True) for each in (system, update, twin))]
        world.run_for(1)
        assert told.take() == [("appeared", "a", None)]
        attached[:] = [replace(ours, foreign=True, in_use="udev gives it to others")]
        world.run_for(10)
        assert told.take() == [("changed", "a", "udev gives it to others")]
        attached.clear()
        world.run_for(10)
        assert [what for what, _, _ in told.take()] == ["disappeared"]
        assert discovery.disks == []

    def test_a_look_that_is_asked_for_sees_what_was_there_then(
        self, world: World, told: Told, discovery: Discovery, attached: list[FoundDisk]
    ) -> None:
        first = discovery.look()
        world.run_until(first)
        early = discovery.look()
        attached[:] = [found("a", "/dev/x")]
        late = discovery.look()
        asked = world.clock.monotonic_ns()
        assert [disk.identity.id for disk in world.run_until(late)] == ["a"]
        assert early.finished
        assert world.clock.monotonic_ns() - asked < 1_000_000_000
        assert told.take() == [("appeared", "a", None)]

    def test_a_look_that_fails_says_so_and_the_next_one_is_fresh(
        self, world: World, told: Told
    ) -> None:
        failures = [OSError("gone")]

        def find() -> list[FoundDisk]:
            if failures:
                raise failures.pop()
            return [found("a", "/dev/x")]

        discovery = Discovery(world, told, find, period=10)
        with pytest.raises(OSError, match="gone"):
            world.run_until(discovery.look())
        world.run_for(20)
        assert told.take() == [("appeared", "a", None)]

    def test_a_closed_discovery_tells_nothing(
        self, world: World, told: Told, discovery: Discovery, attached: list[FoundDisk]
    ) -> None:
        attached[:] = [found("a", "/dev/x")]
        discovery.look()
        discovery.close()
        discovery.stir()
        world.run_for(100)
        assert told.take() == []


class TestDiskDirectory:
    def make(self, path: Path, size: int = MIB) -> None:
        path.touch()
        os.truncate(path, size)

    def test_each_regular_file_is_a_disk_called_by_its_stem(self, tmp_path: Path) -> None:
        self.make(tmp_path / "left.img", MIB + 100)
        self.make(tmp_path / "right")
        self.make(tmp_path / ".hidden")
        self.make(tmp_path / "empty", 0)
        (tmp_path / "folder").mkdir()
        (tmp_path / "nowhere").symlink_to(tmp_path / "missing")
        world, told = World(1), Told()
        discovery = DiskDirectory(world, told, tmp_path)
        world.run_for(1)
        assert told.take() == [("appeared", "left", None), ("appeared", "right", None)]
        left = discovery.disks[0]
        assert left.size == MIB
        assert left.identity.node == str(tmp_path / "left.img")
        assert (left.logical_block, left.physical_block) == (512, 4096)

    def test_files_that_come_go_grow_and_are_replaced_are_told(self, tmp_path: Path) -> None:
        world, told = World(1), Told()
        DiskDirectory(world, told, tmp_path / "disks")
        world.run_for(1)
        (tmp_path / "disks").mkdir()
        self.make(tmp_path / "disks" / "a.img")
        world.run_for(1)
        assert told.take() == [("appeared", "a", None)]
        self.make(tmp_path / "disks" / "a.img", 2 * MIB)
        world.run_for(1)
        assert told.take() == [("changed", "a", None)]
        self.make(tmp_path / "disks" / ".new")
        (tmp_path / "disks" / ".new").rename(tmp_path / "disks" / "a.img")
        world.run_for(1)
        assert told.take() == [("disappeared", "a", None), ("appeared", "a", None)]
        (tmp_path / "disks" / "a.img").unlink()
        world.run_for(1)
        assert told.take() == [("disappeared", "a", None)]

    def test_two_files_with_one_stem_are_both_refused(self, tmp_path: Path) -> None:
        self.make(tmp_path / "a.img")
        self.make(tmp_path / "a.raw")
        world, told = World(1), Told()
        DiskDirectory(world, told, tmp_path)
        world.run_for(1)
        assert told.take() == [
            ("appeared", "a", f"{tmp_path}/a.raw has the same id"),
            ("appeared", "a", f"{tmp_path}/a.img has the same id"),
        ]

    def test_odd_names_give_printable_ids(self, tmp_path: Path) -> None:
        self.make(tmp_path / "a \x1b[31mdisk\n.img")
        world, told = World(1), Told()
        DiskDirectory(world, told, tmp_path)
        world.run_for(1)
        assert [id for _, id, _ in told.take()] == ["a__[31mdisk"]


@pytest.fixture
def udevd() -> Iterator[None]:
    """A device manager, unless one runs already."""
    with device_manager():
        yield


class Loops:
    """Loop devices that are detached at the end, however that comes."""

    def __init__(self) -> None:
        self.nodes: list[str] = []

    def attach(self, path: Path, sector: int = 512) -> str:
        if not path.exists():
            path.touch()
            os.truncate(path, 4 * MIB)
        command = ["losetup", "--find", "--show", "--sector-size", str(sector), str(path)]
        node = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
        self.nodes.append(node)
        return node

    def detach(self, node: str) -> None:
        subprocess.run(["losetup", "--detach", node], check=True)
        self.nodes.remove(node)


@pytest.fixture
def loops() -> Iterator[Loops]:
    if os.geteuid() != 0 or shutil.which("losetup") is None:
        pytest.skip("loop devices need root and losetup")
    loops = Loops()
    yield loops
    for node in list(loops.nodes):
        loops.detach(node)


class Rig:
    """Discovery of block devices on a real loop; sees only files of one directory's name."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.told = Told()
        self.loop = Loop()
        self.discovery = BlockDevices(self.loop, self.told)
        self.loop.turn(0)
        self.wait(lambda: bool(self.discovery.disks))

    def wait(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline, f"not told within 30 s; told: {self.told.all}"
            self.loop.turn(0.1)

    def expect(self, *events: tuple[str, str, str | None]) -> None:
        """Wait until exactly these have been told of our own disks."""

        def ours() -> list[tuple[str, str, str | None]]:
            return [
                (what, disk.identity.id.removeprefix(self.prefix), disk.in_use)
                for what, disk in self.told.all
                if disk.identity.id.startswith(self.prefix)
            ]

        self.wait(lambda: len(ours()) >= len(events))
        assert ours() == list(events)
        self.told.all.clear()

    def disk(self, id: str) -> FoundDisk:
        (disk,) = (disk for disk in self.discovery.disks if disk.identity.id == self.prefix + id)
        return disk


@pytest.fixture
def rig(udevd: None, tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(f"ebbtide-{os.getpid()}-{tmp_path.name}-")
    try:
        yield rig
    finally:
        rig.discovery.close()
        rig.loop.close()


class TestBlockDevices:
    def test_loop_devices_come_and_go_with_their_sectors(
        self, rig: Rig, loops: Loops, tmp_path: Path
    ) -> None:
        loops.attach(tmp_path / f"{rig.prefix}a.img", 512)
        rig.expect(("appeared", "a", None))
        node = loops.attach(tmp_path / f"{rig.prefix}b.img", 4096)
        rig.expect(("appeared", "b", None))
        a, b = rig.disk("a"), rig.disk("b")
        assert (a.size, a.logical_block) == (4 * MIB, 512)
        assert (b.size, b.logical_block, b.physical_block) == (4 * MIB, 4096, 4096)
        assert b.identity.node == node
        loops.detach(node)
        rig.expect(("disappeared", "b", None))

    def test_the_same_file_attached_again_is_a_new_attachment(
        self, rig: Rig, loops: Loops, tmp_path: Path
    ) -> None:
        path = tmp_path / f"{rig.prefix}a.img"
        node = loops.attach(path)
        rig.expect(("appeared", "a", None))
        loops.detach(node)
        subprocess.run(["udevadm", "settle", "--timeout=30"], check=True)  # most likely it gets
        loops.attach(path)  # the same node again
        rig.expect(("disappeared", "a", None), ("appeared", "a", None))

    def test_a_second_disk_with_the_same_id_is_not_free(
        self, rig: Rig, loops: Loops, tmp_path: Path
    ) -> None:
        (tmp_path / "other").mkdir()
        first = loops.attach(tmp_path / f"{rig.prefix}a.img")
        rig.expect(("appeared", "a", None))
        loops.attach(tmp_path / "other" / f"{rig.prefix}a.img")
        rig.expect(("appeared", "a", f"{first} has the same id"))

    def test_a_mounted_disk_says_where(self, rig: Rig, loops: Loops, tmp_path: Path) -> None:
        if shutil.which("mkfs.ext4") is None:
            pytest.skip("mkfs.ext4 is not installed")
        node = loops.attach(tmp_path / f"{rig.prefix}a.img")
        rig.expect(("appeared", "a", None))
        subprocess.run(["mkfs.ext4", "-q", node], check=True, capture_output=True)
        place = tmp_path / "a place"
        place.mkdir()
        subprocess.run(["mount", node, place], check=True)
        try:
            rig.discovery.look()
            rig.expect(("changed", "a", f"mounted at {place}"))
        finally:
            subprocess.run(["umount", place], check=True)
        rig.discovery.look()
        rig.expect(("changed", "a", None))

    def test_a_disk_under_a_loop_device_and_a_read_only_one_are_not_free(
        self, rig: Rig, loops: Loops, tmp_path: Path
    ) -> None:
        node = loops.attach(tmp_path / f"{rig.prefix}a.img")
        rig.expect(("appeared", "a", None))
        upper = loops.attach(Path(node))
        rig.discovery.look()
        rig.expect(("changed", "a", f"attached as {upper}"))
        loops.detach(upper)
        rig.discovery.look()
        rig.expect(("changed", "a", None))
        subprocess.run(["blockdev", "--setro", node], check=True)
        try:
            rig.discovery.look()
            rig.expect(("changed", "a", "it is read-only"))
        finally:
            subprocess.run(["blockdev", "--setrw", node], check=True)


def test_the_machines_own_disks_are_not_free() -> None:
    roots = Path("/proc/self/mountinfo").read_text().splitlines()
    number = next(line.split()[2] for line in roots if line.split()[4] == "/")
    device = Path("/sys/dev/block") / number
    if not device.exists():
        pytest.skip("the root file system lies on no disk of its own")
    place = device.resolve()
    name = (place.parent if (place / "partition").exists() else place).name
    if not (Path("/sys/block") / name / "device").exists():
        pytest.skip("the root file system's disk is a virtual one")
    (root,) = (disk for disk in find_block_devices() if disk.identity.node == f"/dev/{name}")
    assert root.in_use is not None


def test_a_disk_is_told_once_udev_has_finished_with_it(
    tmp_path: Path, mocker: MockerFixture
) -> None:
    """Before, it would have another name."""
    for name, text in (("size", "2048"), ("device/wwid", "naa.5000c500a1b2c3d4"), ("ro", "0")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    new = SimpleNamespace(
        sys_name="sdq", sys_path=str(tmp_path), properties={}, is_initialized=False
    )
    mocker.patch.object(pyudev.Context, "list_devices", return_value=[new])
    mocker.patch.object(block_devices, "UDEV", tmp_path)
    assert find_block_devices() == []
    new.is_initialized, new.properties = True, {"ID_SERIAL": "35000c500a1b2c3d4"}
    (disk,) = find_block_devices()
    assert (disk.identity.id, disk.in_use) == ("35000c500a1b2c3d4", None)


def test_a_disk_that_udev_finishes_with_while_it_is_looked_at_waits_for_the_next_look(
    tmp_path: Path, mocker: MockerFixture
) -> None:
    for name, text in (("size", "2048"), ("device/wwid", "naa.5000c500a1b2c3d4"), ("ro", "0")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)

    class Finishing:
        sys_name, sys_path, is_initialized = "sdq", str(tmp_path), False

        @property
        def properties(self) -> dict[str, str]:
            before = {"ID_SERIAL": "35000c500a1b2c3d4"} if self.is_initialized else {}
            self.is_initialized = True
            return before

    mocker.patch.object(pyudev.Context, "list_devices", return_value=[Finishing()])
    mocker.patch.object(block_devices, "UDEV", tmp_path)
    assert find_block_devices() == []
    assert [disk.identity.id for disk in find_block_devices()] == ["35000c500a1b2c3d4"]


def test_a_disk_whose_node_is_kept_from_the_service_is_foreign(
    tmp_path: Path, mocker: MockerFixture
) -> None:
    """The system's own, say, though it is mounted and nobody needs to be told twice."""
    for name, text in (("size", "2048"), ("device/wwid", "naa.5000c500a1b2c3d4"), ("ro", "0")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    system = SimpleNamespace(
        sys_name="null", sys_path=str(tmp_path), properties={"ID_SERIAL": "S"}, is_initialized=True
    )
    mocker.patch.object(pyudev.Context, "list_devices", return_value=[system])
    assert [disk.foreign for disk in find_block_devices()] == [False]
    mocker.patch("os.access", return_value=False)  # under DeviceAllow= not even F_OK
    assert [disk.foreign for disk in find_block_devices()] == [True]


def test_memory_disks_and_empty_loop_devices_are_none() -> None:
    # While other tests do not detach theirs: only root has any.
    with machine(alone=True) if os.geteuid() == 0 and LOOPS.exists() else nullcontext():
        nodes = [disk.identity.node for disk in find_block_devices()]
        attached = [
            loop.parent.parent.name for loop in Path("/sys/block").glob("loop*/loop/backing_file")
        ]
    assert not [node for node in nodes if node.startswith(("/dev/ram", "/dev/zram", "/dev/dm-"))]
    assert not {node for node in nodes if node.startswith("/dev/loop")} - {
        f"/dev/{name}" for name in attached
    }
