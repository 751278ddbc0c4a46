"""What hosts are told of volumes that do not serve: no list has them, and the refusal says why."""

import socket
from collections.abc import Callable

import pytest

from appliance.hosts.nbd import wire
from tests.hosts.nbd import host_words
from tests.hosts.nbd.host_words import ExportRefusedError, info_or_go, option
from tests.service.service_process import MIB, Service


@pytest.fixture
def service(make_service: Callable[..., Service]) -> Service:
    """With a volume `finance` on `alpha` and `beta`."""
    service = make_service(wait_for_secondary_seconds=60)
    service.disk("alpha", 8 * MIB)
    service.disk("beta", 64 * MIB)
    service.start("alpha", "beta")
    service.protect("finance", "alpha", "beta")
    return service


class Haggler:
    """A connection that asks for options and nothing else."""

    def __init__(self, service: Service) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(30)
        self._socket.connect(str(service.nbd))
        self._stream = self._socket.makefile("rwb")
        host_words.greet(self._stream.read, self._say)

    def close(self) -> None:
        self._stream.close()
        self._socket.close()

    def _say(self, data: bytes) -> None:
        self._stream.write(data)
        self._stream.flush()

    def ask(self, number: int, name: str | None = None) -> list[host_words.Reply]:
        """The replies to an option, to the last."""
        self._say(option(number) if name is None else info_or_go(number, name))
        return host_words.replies(self._stream.read, number)

    def exports(self) -> dict[str, str]:
        """What LIST shows: description by name."""
        found = {}
        for kind, data in self.ask(wire.OPTION_LIST)[:-1]:
            assert kind == wire.REPLY_SERVER
            (length,) = wire.LENGTH.unpack_from(data)
            found[data[4 : 4 + length].decode()] = data[4 + length :].decode()
        return found


def assert_refused(service: Service, told: Haggler, reason: str) -> None:
    """INFO and GO, by name and by none, of a host that comes now and of one that was told."""
    fresh = Haggler(service)
    for host in (fresh, told):
        assert host.exports() == {}
        for name in ("finance", ""):
            for asked in (wire.OPTION_INFO, wire.OPTION_GO):
                ((kind, sentence),) = host.ask(asked, name)
                assert kind == wire.REPLY_ERROR_UNKNOWN
                assert sentence.decode() == f"volume finance is offline: {reason}"
    fresh.close()
    with pytest.raises(ExportRefusedError, match=reason):
        service.connect("finance")


def test_a_volume_whose_primary_was_pulled(service: Service) -> None:
    alpha, away = service.disks / "alpha.img", service.room / "alpha.img"
    told = Haggler(service)
    assert told.exports() == {"finance": "volume, protected"}
    assert told.ask(wire.OPTION_INFO, "finance")[-1] == (wire.REPLY_ACK, b"")
    with service.connect("finance") as holder:
        holder.write(0, b"kept" * 128)
        alpha.rename(away)
        service.until_state("finance", "offline")
        assert_refused(service, told, "hosts cannot attach now")
        assert holder.read(0, 512) == b"kept" * 128, "from the secondary"
    assert_refused(service, told, "hosts cannot attach now")
    away.rename(alpha)
    service.until_state("finance", "protected")
    assert told.ask(wire.OPTION_GO, "finance")[-1] == (wire.REPLY_ACK, b"")
    told.close()


@pytest.mark.parametrize(("missing", "role"), [("beta", "secondary"), ("alpha", "primary")])
def test_a_volume_that_has_not_started(service: Service, missing: str, role: str) -> None:
    service.stop()
    file, away = service.disks / f"{missing}.img", service.room / "away.img"
    file.rename(away)
    there = "alpha" if missing == "beta" else "beta"
    service.start(there)
    told = Haggler(service)

    def is_known() -> bool:
        ((_, sentence),) = told.ask(wire.OPTION_INFO, "finance")
        return b"offline" in sentence

    service.wait(is_known, "the volume")
    assert_refused(service, told, f"it waits for its {role}")
    away.rename(file)
    service.wait_for_disks(missing)
    service.wait(lambda: bool(service.ask("status")["volumes"]), "the volume to start")
    service.until_state("finance", "protected")
    assert told.ask(wire.OPTION_GO, "")[-1] == (wire.REPLY_ACK, b"")
    told.close()
