"""One turn of the panel: keys in, glass out.  What the process repeats every few milliseconds."""

from appliance.glass import Glass
from appliance.operators.panel.fingers import Fingers
from appliance.operators.panel.keypad import Keypad
from appliance.operators.panel.machine import PanelMachine
from appliance.operators.panel.plate import Plate


class PanelStep:
    """Keys from afar go the way of those on the plate, but for the plate's own troubles: a key
    that is stuck or a plate that is pulled stops no remote hand, nor is one of them lost in a
    stall, since it is ours to know how long it was down."""

    def __init__(self, machine: PanelMachine, plate: Plate, fingers: Fingers) -> None:
        self._machine = machine
        self._plate = plate
        self._fingers = fingers
        self._local, self._remote = Keypad(), Keypad(trusted=True)

    def turn(self, now: float, wall: float) -> Glass:
        """It is `now` (monotonic) and `wall` (since 1970): what the glass shows then."""
        reading = self._plate.keys(now)
        edges = self._local.lose() if reading is None else self._local.read(reading, now)
        remote = self._remote.read(self._fingers.down(now, self._machine.busy), now)
        self._fingers.feel(remote, now)
        edges += remote
        for key, down in edges:
            if not down:
                self._machine.release(key)
        self._machine.stick(self._local.stuck)
        self._machine.tick(now, wall)
        for key, down in edges:
            if down:
                self._machine.press(key)
        glass = self._machine.glass()
        self._plate.show(glass, now)
        return glass
