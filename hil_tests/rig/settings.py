"""What a rig's box has in /etc beside the image's own: files by their path below it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from hil_tests.rig.authority import Authority

PROMPT: Final = "rig# "
"""Of the shell on the system's line."""

_SERVICE: Final = """\
# Written by the rig.
[hosts]
nbd_tcp = "0.0.0.0:10809"

[hosts.tls]
certificate = "/etc/ebbtide/tls/box.pem"
key = "/etc/ebbtide/tls/box.key"
client_ca = "/etc/ebbtide/tls/hosts.pem"

[panel]
board = "qemu-q35"
"""

_LOGIN: Final = """\
[Service]
ExecStart=
ExecStart=-/sbin/agetty --autologin root --noclear --keep-baud 115200 %I dumb
"""

_SHELL: Final = f"""\
PATH=/etc/rig:$PATH:/usr/lib/ebbtide
PS1='{PROMPT}'
export PAGER=cat SYSTEMD_PAGER=cat SYSTEMD_COLORS=0
stty columns 500
# What the kernel says comes on the journal's line; here it would garble answers.
dmesg -n 1
"""

_WARM: Final = """\
import os, shlex, signal, sys
from appliance.cli.main import main

ASK = "/run/rig/ask"
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
os.makedirs(os.path.dirname(ASK), exist_ok=True)
os.mkfifo(ASK)
while True:
    with open(ASK) as asked:
        for line in asked:
            place, *words = shlex.split(line)
            if os.fork():
                continue
            out = os.open(place + "/out", os.O_WRONLY)
            os.dup2(out, 1)
            os.dup2(out, 2)
            sys.argv = ["cdpctl", *words]
            try:
                main()
            except SystemExit as end:
                with open(place + "/code", "w") as code:
                    code.write(str(end.code or 0))
            sys.stdout.flush()
            os._exit(0)
"""
"""cdpctl that has begun already: beginning takes it seconds under TCG, so a saved state has one
that stands ready and forks for each call."""

_CDPCTL: Final = """\
#!/bin/sh
test -p /run/rig/ask || exec /opt/ebbtide/bin/cdpctl "$@"
place=$(mktemp -d /run/rig/call.XXXXXX)
mkfifo "$place/out"
echo "$place" "$*" >/run/rig/ask
cat "$place/out"
read -r code <"$place/code"
rm -r "$place"
exit "${code:-1}"
"""

WARM_UP: Final = (
    "systemd-run --unit=rig-warm /opt/ebbtide/bin/python /etc/rig/warm.py;"
    " until test -p /run/rig/ask; do sleep 1; done"
)
"""Typed before a state is saved."""

_JOURNAL: Final = """\
[Journal]
ForwardToConsole=yes
TTYPath=/dev/ttyS2
MaxLevelConsole=debug
"""

_KERNEL: Final = """\
# Twice so many seconds without a switch are a soft lockup.  A guest under TCG that waits for the
# machine's own processors has not locked up.
kernel.watchdog_thresh = 60
"""


@dataclass(frozen=True, slots=True)
class NetworkCard:
    """By which a machine is joined to one other."""

    mac: str
    address: str


BOX_CARD: Final = NetworkCard("52:54:00:eb:b7:01", "10.9.0.1")
FAR_CARD: Final = NetworkCard("52:54:00:eb:b7:02", "10.9.0.2")


def _network(card: NetworkCard) -> bytes:
    # An address that came and went with the cable would be one more thing that breaks.
    return (
        f"[Match]\nMACAddress={card.mac}\n\n[Link]\nRequiredForOnline=no\n\n"
        f"[Network]\nAddress={card.address}/24\nIgnoreCarrierLoss=yes\n"
        "LinkLocalAddressing=no\nIPv6AcceptRA=no\n"
    ).encode()


def settings(authority: Authority) -> Mapping[str, bytes]:
    """A shell for root on the system's line, hosts over TLS, and the panel."""
    certificate, key = authority.box()
    return {
        "ebbtide/ebbtide.toml": _SERVICE.encode(),
        "ebbtide/tls/box.pem": certificate,
        "ebbtide/tls/box.key": key,
        "ebbtide/tls/hosts.pem": authority.certificate,
        "systemd/system/serial-getty@ttyS0.service.d/rig.conf": _LOGIN.encode(),
        "profile.d/rig.sh": _SHELL.encode(),
        "rig/warm.py": _WARM.encode(),
        "rig/cdpctl": _CDPCTL.encode(),
        "systemd/journald.conf.d/rig.conf": _JOURNAL.encode(),
        "sysctl.d/rig.conf": _KERNEL.encode(),
        # Every machine has both, and the card decides which of them it is.
        "systemd/network/10-cable-box.network": _network(BOX_CARD),
        "systemd/network/10-cable-far.network": _network(FAR_CARD),
        "inputrc": b"set enable-bracketed-paste off\n",
    }
