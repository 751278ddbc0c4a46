from appliance.simulated.clock import BOOT_NS, FIRST_WALL_NS, SimulatedClock


def test_time_passes_only_when_told() -> None:
    clock = SimulatedClock()
    assert (clock.wall_ns(), clock.monotonic_ns()) == (FIRST_WALL_NS, BOOT_NS)
    clock.advance(5)
    assert (clock.wall_ns(), clock.monotonic_ns()) == (FIRST_WALL_NS + 5, BOOT_NS + 5)


def test_a_step_moves_the_wall_clock_alone() -> None:
    clock = SimulatedClock()
    clock.step(-7_000)
    assert clock.wall_ns() == FIRST_WALL_NS - 7_000
    assert clock.monotonic_ns() == BOOT_NS


def test_a_reboot_starts_the_monotonic_time_again() -> None:
    clock = SimulatedClock()
    clock.advance(1_000)
    clock = clock.rebooted(500)
    assert clock.monotonic_ns() == BOOT_NS
    assert clock.wall_ns() == FIRST_WALL_NS + 1_500
