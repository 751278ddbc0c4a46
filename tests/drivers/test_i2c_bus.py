"""Buses found by name, and unmodified smbus2 under the front panel's driver."""

import os
from collections.abc import Callable, Iterator
from errno import EBUSY, EINVAL, ENODEV, ENOENT, ENOTTY, ENXIO, EREMOTEIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pytest_mock import MockerFixture
from smbus2 import i2c_msg, smbus2

from appliance.boards import read_board
from appliance.drivers.front_panel import FrontPanel
from appliance.drivers.i2c_bus import NamedBus, find_bus
from appliance.glass import Key
from appliance.simulated.front_panel import SimulatedPanel
from tests.drivers.panel_rig import glass

I2C_FUNCS = 0x0705
I2C_RDWR = 0x0707
BOARD = read_board("hand-wired")


@pytest.fixture
def adapters(tmp_path: Path) -> Path:
    for number, name in ((0, "SMBus I801 adapter at 0700"), (7, "i2c-tiny-usb at bus 001")):
        adapter(tmp_path, number, name)
    return tmp_path


def adapter(place: Path, number: int, name: str) -> Path:
    (place / f"i2c-{number}").mkdir()
    (place / f"i2c-{number}" / "name").write_text(f"{name}\n")
    return place / f"i2c-{number}"


def remove(place: Path) -> None:
    (place / "name").unlink()
    place.rmdir()


def test_a_bus_is_found_by_how_its_name_begins(adapters: Path) -> None:
    assert find_bus("i2c-tiny-usb", adapters) == "/dev/i2c-7"
    assert find_bus("SMBus I801 adapter at 0700", adapters) == "/dev/i2c-0"


def test_a_path_is_a_bus_already(tmp_path: Path) -> None:
    assert find_bus("/dev/i2c-3", tmp_path / "missing") == "/dev/i2c-3"


@pytest.mark.parametrize("name", ["bcm2835", "I801", "i2c-tiny-usb at bus 0012"])
def test_no_bus_of_that_name(adapters: Path, name: str) -> None:
    with pytest.raises(OSError, match=f"'{name}…': there is none") as raised:
        find_bus(name, adapters)
    assert raised.value.errno == ENODEV


def test_two_buses_of_that_name(adapters: Path) -> None:
    adapter(adapters, 9, "i2c-tiny-usb at bus 002")
    with pytest.raises(OSError, match="they are i2c-7, i2c-9") as raised:
        find_bus("i2c-tiny-usb", adapters)
    assert raised.value.errno == ENODEV


def test_an_adapter_that_goes_while_one_looks(adapters: Path) -> None:
    (adapters / "i2c-0" / "name").unlink()
    assert find_bus("i2c-tiny-usb", adapters) == "/dev/i2c-7"


def test_without_i2c_dev_there_is_no_bus(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="there is none"):
        NamedBus("i2c-tiny-usb", tmp_path / "missing").i2c_rdwr()


class PlayedKernel:
    """The system calls that smbus2 makes, with a panel behind `/dev/i2c-N`; what is opened is a
    file in `place`."""

    def __init__(self, mocker: MockerFixture, place: Path) -> None:
        self._place = place
        self.panels: dict[str, SimulatedPanel] = {}
        self.opened: dict[int, str] = {}
        self.calls: list[str] = []
        self.fail: Callable[[int], None] = lambda request: None
        played = SimpleNamespace(open=self.open, close=self.close, O_RDWR=os.O_RDWR)
        mocker.patch.object(smbus2, "os", played)
        mocker.patch.object(smbus2, "ioctl", self.ioctl)

    def open(self, path: str, flags: int) -> int:
        self.calls.append(path)
        if path not in self.panels:
            raise OSError(ENOENT, os.strerror(ENOENT), path)
        assert flags == os.O_RDWR
        descriptor = os.open(self._place / Path(path).name, flags | os.O_CREAT)
        self.opened[descriptor] = path
        return descriptor

    def close(self, descriptor: int) -> None:
        del self.opened[descriptor]
        os.close(descriptor)

    def ioctl(self, descriptor: int, request: int, data: Any) -> None:
        self.fail(request)
        panel = self.panels.get(self.opened[descriptor])
        if panel is None:
            raise OSError(ENODEV, os.strerror(ENODEV))
        if request == I2C_RDWR:
            panel.i2c_rdwr(*(data.msgs[number] for number in range(data.nmsgs)))
        else:
            assert request == I2C_FUNCS


@pytest.fixture
def kernel(
    mocker: MockerFixture, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PlayedKernel]:
    kernel = PlayedKernel(mocker, tmp_path_factory.mktemp("dev"))
    yield kernel
    for descriptor in list(kernel.opened):
        kernel.close(descriptor)


@pytest.fixture
def panel(kernel: PlayedKernel) -> SimulatedPanel:
    kernel.panels["/dev/i2c-7"] = SimulatedPanel(BOARD)
    return kernel.panels["/dev/i2c-7"]


@pytest.fixture
def driver(adapters: Path, panel: SimulatedPanel) -> FrontPanel:
    return FrontPanel(NamedBus(BOARD.bus, adapters), BOARD, panel.sleep)


def test_through_smbus2_to_the_glass_and_back(
    kernel: PlayedKernel, panel: SimulatedPanel, driver: FrontPanel
) -> None:
    driver.show(glass("through smbus2", "▲▼"))
    assert panel.glass() == glass("through smbus2", "▲▼")
    panel.press(Key.DOWN)
    assert driver.keys() == {Key.DOWN}
    assert kernel.calls == ["/dev/i2c-7"], "opened once"


@pytest.mark.parametrize("error", [ENXIO, EREMOTEIO])
def test_a_nak_opens_the_bus_anew(
    kernel: PlayedKernel, panel: SimulatedPanel, driver: FrontPanel, error: int
) -> None:
    driver.show(glass("one"))
    panel.nak(error=error)
    with pytest.raises(OSError, match=r".") as raised:
        driver.show(glass("two"))
    assert raised.value.errno == error
    assert not kernel.opened, "no descriptor stays behind"
    driver.show(glass("two"))
    assert panel.glass() == glass("two")
    assert len(kernel.opened) == 1


def test_a_bus_belongs_to_the_first_who_uses_it(
    kernel: PlayedKernel, adapters: Path, panel: SimulatedPanel, driver: FrontPanel
) -> None:
    other = FrontPanel(NamedBus(BOARD.bus, adapters), BOARD, panel.sleep)
    driver.show(glass("first"))
    for _ in range(2):
        with pytest.raises(OSError, match="another process has its bus") as raised:
            other.show(glass("second"))
        assert raised.value.errno == EBUSY
        assert len(kernel.opened) == 1
    panel.nak()
    with pytest.raises(OSError, match=r"."):
        driver.keys()  # and so the first lets go of it
    other.show(glass("second"))
    assert panel.glass() == glass("second")


def test_a_bus_that_vanishes_and_comes_back_under_another_number(
    kernel: PlayedKernel, adapters: Path, driver: FrontPanel
) -> None:
    driver.show(glass("before"))
    panel = kernel.panels.pop("/dev/i2c-7")
    for _ in range(2):
        with pytest.raises(OSError, match=r".") as raised:
            driver.keys()
        assert raised.value.errno in (ENODEV, ENOENT)
        assert not kernel.opened
    remove(adapters / "i2c-7")
    with pytest.raises(OSError, match="there is none"):
        driver.keys()
    adapter(adapters, 12, "i2c-tiny-usb at bus 004")
    panel.unplug()
    panel.plug()
    kernel.panels["/dev/i2c-12"] = panel
    driver.show(glass("after"))
    assert panel.glass() == glass("after")


def test_a_bus_that_opens_and_has_no_functions_leaks_no_descriptor(
    kernel: PlayedKernel, driver: FrontPanel
) -> None:
    def fail(request: int) -> None:
        if request == I2C_FUNCS:
            raise OSError(ENODEV, os.strerror(ENODEV))

    kernel.fail = fail
    for _ in range(3):
        with pytest.raises(OSError, match=r".") as raised:
            driver.show(glass("nothing"))
        assert raised.value.errno == ENODEV
    assert not kernel.opened


def test_an_adapter_that_cannot_do_plain_i2c(kernel: PlayedKernel, driver: FrontPanel) -> None:
    def fail(request: int) -> None:
        if request == I2C_RDWR:
            raise OSError(EINVAL, os.strerror(EINVAL))

    kernel.fail = fail
    with pytest.raises(OSError, match=r".") as raised:
        driver.show(glass("nothing"))
    assert raised.value.errno == EINVAL


def test_a_close_that_fails_hides_no_error(
    kernel: PlayedKernel, panel: SimulatedPanel, driver: FrontPanel, mocker: MockerFixture
) -> None:
    driver.show(glass("one"))

    def fail(descriptor: int) -> None:
        kernel.close(descriptor)
        raise OSError(ENODEV, "closing")

    mocker.patch("smbus2.smbus2.os.close", fail)
    panel.nak(error=EREMOTEIO)
    with pytest.raises(OSError, match=r".") as raised:
        driver.show(glass("two"))
    assert raised.value.errno == EREMOTEIO
    driver.show(glass("two"))
    assert panel.glass() == glass("two")


def open_descriptors() -> set[str]:
    return {each.name for each in Path("/proc/self/fd").iterdir()}


def test_what_is_no_bus_at_all() -> None:
    """Real system calls."""
    before = open_descriptors()
    for path, error in (("/dev/null", ENOTTY), ("/dev/i2c-missing", ENOENT)):
        with pytest.raises(OSError, match=r".") as raised:
            NamedBus(path).i2c_rdwr(i2c_msg.write(0x20, [0]))
        assert raised.value.errno == error
    assert open_descriptors() == before
