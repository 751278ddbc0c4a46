"""The played MCP23017, held to the tables of its data sheet."""

import pytest

from appliance.simulated.io_expander import PlayedExpander

IOCON_BANK_0 = 0x0A
BANK = 0x80
SEQOP = 0x20


@pytest.fixture
def expander() -> PlayedExpander:
    return PlayedExpander()


def write(expander: PlayedExpander, *values: int) -> None:
    expander.start()
    for value in values:
        expander.write(value)


def read(expander: PlayedExpander, register: int, count: int = 1) -> list[int]:
    write(expander, register)
    return [expander.read() for _ in range(count)]


def test_after_a_reset_all_pins_are_inputs(expander: PlayedExpander) -> None:
    """Table 3-5: IODIR is all ones, the rest is zero."""
    assert read(expander, 0, 22) == [0xFF, 0xFF, *[0] * 20]
    assert (expander.driven(0), expander.driven(1)) == (0, 0)


def test_sequential_mode_goes_through_all_registers_and_round(expander: PlayedExpander) -> None:
    write(expander, 0x00, *range(1, 11))
    assert read(expander, 0x00, 10) == list(range(1, 11))
    assert read(expander, 0x15, 3) == [0, 1, 2], "behind the last comes the first"


def test_the_banks_are_the_same_registers_at_other_addresses(expander: PlayedExpander) -> None:
    """Table 3-3 and table 3-4."""
    write(expander, 0x00, *range(0x10, 0x1A))
    write(expander, 0x0C, 0x1C, 0x1D)
    write(expander, 0x14, 0x24, 0x25)
    write(expander, IOCON_BANK_0, BANK)
    assert read(expander, 0x00, 5) == [0x10, 0x12, 0x14, 0x16, 0x18]
    assert read(expander, 0x10, 5) == [0x11, 0x13, 0x15, 0x17, 0x19]
    assert (read(expander, 0x05), read(expander, 0x15)) == ([BANK], [BANK])
    assert (read(expander, 0x06), read(expander, 0x16)) == ([0x1C], [0x1D])
    assert (read(expander, 0x0A), read(expander, 0x1A)) == ([0x24], [0x25])
    assert read(expander, 0x0A, 2) == [0x24, 0x11], "port B follows port A"
    assert read(expander, 0x1A, 2) == [0x25, 0x10]


@pytest.mark.parametrize("register", [0x0B, 0x0F, 0x1B, 0x20, 0xFF])
def test_nothing_is_behind_the_registers_of_a_bank(expander: PlayedExpander, register: int) -> None:
    write(expander, IOCON_BANK_0, BANK | SEQOP)
    write(expander, register, 0x55)
    assert read(expander, register) == [0]
    assert read(expander, 0x05) == [BANK | SEQOP]
    assert (expander.driven(0), expander.driven(1)) == (0, 0)


def test_byte_mode_stays_at_a_register(expander: PlayedExpander) -> None:
    write(expander, IOCON_BANK_0, BANK | SEQOP)
    write(expander, 0x1A, 1, 2, 3)
    assert read(expander, 0x1A, 3) == [3, 3, 3]
    assert read(expander, 0x0A) == [0]


def test_byte_mode_without_banks_toggles_within_a_pair(expander: PlayedExpander) -> None:
    write(expander, IOCON_BANK_0, SEQOP)
    write(expander, 0x14, 1, 2, 3)
    assert read(expander, 0x14, 3) == [3, 2, 3]
    assert read(expander, 0x15, 2) == [2, 3]


def test_both_addresses_of_iocon_are_one_register(expander: PlayedExpander) -> None:
    write(expander, 0x0B, SEQOP)
    assert read(expander, 0x0A) == [SEQOP]
    write(expander, 0x0A, 0x03)
    assert read(expander, 0x0B) == [0x02], "its lowest bit does not exist"


def test_outputs_drive_their_latch(expander: PlayedExpander) -> None:
    write(expander, 0x00, 0x0F)
    write(expander, 0x14, 0b10101010)
    assert (expander.driven(0), expander.high(0), expander.low(0)) == (0xF0, 0xA0, 0x50)
    write(expander, 0x12, 0b01010101)
    assert read(expander, 0x14) == [0b01010101], "writing to the port is writing to its latch"


def test_inputs_are_grounded_or_pulled_up_or_float(expander: PlayedExpander) -> None:
    write(expander, 0x0C, 0b0011)
    expander.grounded[0] = 0b0101
    assert (expander.high(0), expander.low(0)) == (0b0010, 0b0101)
    assert read(expander, 0x12) == [0b0010]
    write(expander, 0x02, 0b1111)
    assert read(expander, 0x12) == [0b1101], "IPOL turns what is read"
    assert (expander.high(1), expander.low(1)) == (0, 0)


def test_registers_of_interrupts_that_happened_are_not_written(expander: PlayedExpander) -> None:
    write(expander, 0x0E, 1, 2, 3, 4)
    assert read(expander, 0x0E, 4) == [0, 0, 0, 0]


def test_a_reset_forgets_all_but_what_is_outside(expander: PlayedExpander) -> None:
    expander.grounded[0] = 1
    write(expander, IOCON_BANK_0, BANK | SEQOP)
    write(expander, 0x00, 0x00)
    expander.reset()
    assert read(expander, 0, 22) == [0xFF, 0xFF, *[0] * 20]
    assert expander.low(0) == 1
