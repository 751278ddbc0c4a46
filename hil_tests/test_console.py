"""The product's console, on a line of its own: its menu, its door, and nobody else's words."""

import re

from hil_tests.box import Box
from hil_tests.console import PASSWORD
from hil_tests.host import Host
from hil_tests.oracle import BLOCK, content

FIRMWARE = re.compile(rb"BdsDxe: |Welcome to GRUB|error: no suitable v")
"""What speaks on every line that it finds, until the kernel runs."""
PRODUCT = re.compile(
    rb"(\^C)?|Ebbtide on ebbtide, line ttyS1|Password:.*|OK|> .*|logged out|OK|\s*\d  [A-Z].*"
    rb"|no volumes yet|finance: \w+.*|Type a number, or a command .*"
)


def test_a_restore_by_the_numbers_of_the_menu(box: Box, host: Host) -> None:
    box.protect("finance", box.pair())
    with host.attach("finance") as finance:
        finance.write(0, content(1))
        finance.flush()
        box.cdpctl("snapshot finance good")
        finance.write(0, content(2))
        finance.flush()
    box.console.log_in()
    plan = box.console.choose("8", "2", "1", "11", confirm=True)
    assert "restore finance to snapshot:good" in plan
    box.await_state("finance", "protected")
    with host.attach("finance") as finance:
        assert finance.read(0, BLOCK) == content(1)


def test_guesses_make_the_line_deaf_and_a_power_cut_does_not_help(box: Box) -> None:
    box.console.log_in()
    box.console.log_out()
    for _ in range(2):
        box.console.wrong_password()
        box.console.await_password_prompt()
    box.console.wrong_password()
    waits = box.console.await_deafness()
    box.console.await_password_prompt()
    box.console.wrong_password()
    assert box.console.await_deafness() == 2 * waits > 0
    box.cut_power()
    box.power_on()
    assert box.console.await_deafness() == 2 * waits
    box.console.await_password_prompt()
    assert "no volumes yet" in box.console.log_in(PASSWORD)


def test_nobody_else_speaks_on_the_line(box: Box) -> None:
    """Neither the kernel, at its loudest, nor systemd as it starts and ends, nor a disk."""
    pair = box.pair()
    box.console.log_in()
    box.console.log_out()
    before = box.console.line.length
    box.shell("echo '<0>rig: the kernel is loud' >/dev/kmsg")
    box.shell("wall --timeout 5 everybody must hear this || true")
    pair.secondary.pull()
    pair.secondary.plug()
    box.await_disks(pair)
    box.restart()
    box.console.await_password_prompt()
    said = box.console.line.since(before)
    escapes = re.compile(rb"\x1b\[[0-9;=]*[A-Za-z]")
    lines = [escapes.sub(b"", line).strip() for line in re.split(rb"[\r\n]+", said)]
    others = [line for line in lines if not PRODUCT.fullmatch(line) and not FIRMWARE.search(line)]
    assert others == []
