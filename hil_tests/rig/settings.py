"""What a rig's box has in /etc beside the image's own: files by their path below it."""

from collections.abc import Mapping
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
PS1='{PROMPT}'
export PAGER=cat SYSTEMD_PAGER=cat SYSTEMD_COLORS=0
stty columns 500
# What the kernel says comes on the journal's line; here it would garble answers.
dmesg -n 1
"""

_JOURNAL: Final = """\
[Journal]
ForwardToConsole=yes
TTYPath=/dev/ttyS2
MaxLevelConsole=debug
"""


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
        "systemd/journald.conf.d/rig.conf": _JOURNAL.encode(),
        "inputrc": b"set enable-bracketed-paste off\n",
    }
