"""The stick with an update of the virtual rig, as labgrid has it."""

from pathlib import Path
from typing import ClassVar

import attr
from labgrid import target_factory
from labgrid.driver import Driver
from labgrid.step import step

from hil_tests.drivers.protocols import StickProtocol
from hil_tests.drivers.virtual import VirtualBox
from hil_tests.rig.bundles import Bundles, stick


@target_factory.reg_driver
@attr.s(eq=False)
class VirtualStick(Driver, StickProtocol):
    """Its updates are made of the bundle that was built with the image."""

    bindings: ClassVar = {"box": VirtualBox}

    @property
    def _bundles(self) -> Bundles:
        built = self.box.image.with_suffix(".raucb")
        return Bundles(built, self.box.machine.directory.parent.parent / "bundles")

    def working(self, version: str) -> Path:
        return self._bundles.working(version)

    def failing(self, version: str) -> Path:
        return self._bundles.failing(version)

    def strangers(self) -> Path:
        return self._bundles.strangers()

    @step(args=["bundle"])
    def plug(self, bundle: Path) -> None:
        image = self.box.machine.directory.parent / "stick.raw"
        stick(bundle, image)
        self.box.machine.plug_stick(image)

    @step()
    def pull(self) -> None:
        self.box.machine.pull_stick()
