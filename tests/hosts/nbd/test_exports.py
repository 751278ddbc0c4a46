"""Who holds an export, and how it is emptied."""

import pytest

from appliance.cdp.tasks import Completion
from appliance.errors import VolumeNotFound, VolumeNotReady
from appliance.hosts.nbd import wire
from appliance.hosts.nbd.exports import Exports
from tests.hosts.nbd.host_words import info_or_go, option, write
from tests.hosts.nbd.memory_target import MemoryTarget, PlayedSource
from tests.hosts.nbd.played_host import PlayedHost


def nobody() -> None:
    raise AssertionError("nobody is to be sent away")


def done(completion: Completion[None]) -> bool:
    return completion.finished


def over(host: PlayedHost) -> bool:
    return host.session.over


def test_an_export_is_opened_once_and_shared() -> None:
    source = PlayedSource(("finance@-10m", MemoryTarget()), slow=True)
    exports = Exports(source)
    found = [exports.find("finance@-10m", nobody) for _ in range(3)]
    source.finish_opening()
    found.append(exports.find("finance@-10m", nobody))
    assert source.opened == {"finance@-10m": 1}
    assert source.connected == {"finance@-10m": 4}
    assert exports.connections("finance@-10m") == 4
    for lease in found:
        lease.result().release()
    assert source.connected == {"finance@-10m": 0}
    again = exports.find("finance@-10m", nobody)
    source.finish_opening()
    assert again.finished
    assert source.opened == {"finance@-10m": 2}, "a relative point means another moment now"


def test_a_name_that_cannot_be_opened_is_tried_anew() -> None:
    source = PlayedSource()
    exports = Exports(source)
    for attempt in (1, 2):
        with pytest.raises(VolumeNotFound):
            exports.find("finance", nobody).result()
        assert source.opened["finance"] == attempt


def test_disconnect_of_an_unused_export_is_done_at_once() -> None:
    exports = Exports(PlayedSource(("finance", MemoryTarget())))
    assert exports.disconnect("finance", "it is being restored").finished
    with pytest.raises(VolumeNotReady, match="it is being restored"):
        exports.find("finance", nobody).result()
    exports.admit("finance")
    exports.find("finance", nobody).result().release()


def test_disconnect_waits_for_what_is_in_flight_and_spares_other_exports() -> None:
    finance, mail = MemoryTarget(), MemoryTarget()
    exports = Exports(PlayedSource(("finance", finance), ("mail", mail)))
    hosts = [PlayedHost(exports) for _ in range(3)]
    for host, name in zip(hosts, ("finance", "finance", "mail"), strict=True):
        host.go(name)
    first, second, third = hosts
    first.tell(write(0, b"a" * 512))
    emptied = exports.disconnect("finance", "it is being restored")
    assert over(second)
    assert not over(first)
    assert third.session.reading
    assert first.tell(write(512, b"b" * 512)) == 0, "nothing more is taken"
    second.session.close()
    finance.deliver()
    assert not done(emptied), "the answer has not left"
    assert len(first.answers()) == 1
    assert over(first)
    first.session.close()
    assert done(emptied)
    assert exports.connections("finance") == 0


def test_disconnect_catches_a_host_that_only_asked_about_the_export() -> None:
    exports = Exports(PlayedSource(("finance", MemoryTarget())))
    host = PlayedHost(exports)
    host.greet()
    host.tell(info_or_go(wire.OPTION_INFO, "finance"))
    emptied = exports.disconnect("finance", "it is being restored")
    host.settle()
    assert host.session.over
    host.session.close()
    assert done(emptied)


def test_a_volume_that_does_not_serve_is_refused_in_every_way() -> None:
    """Also where others hold it still, and to a host that was told about it before."""
    source = PlayedSource(("finance", MemoryTarget()))
    exports = Exports(source)
    before, asker, late = (PlayedHost(exports) for _ in range(3))
    before.go("finance")
    asker.greet()
    asker.tell(info_or_go(wire.OPTION_INFO, "finance"))
    assert asker.replies(wire.OPTION_INFO)[-1] == (wire.REPLY_ACK, b"")
    source.not_ready.add("finance")
    late.greet()
    for host in (asker, late):
        for asked in (wire.OPTION_INFO, wire.OPTION_GO):
            host.tell(info_or_go(asked, "finance"))
            ((kind, sentence),) = host.replies(asked)
            assert kind == wire.REPLY_ERROR_UNKNOWN
            assert b"finance is offline" in sentence
        assert host.ask(wire.OPTION_LIST) == [(wire.REPLY_ACK, b"")]
    assert source.connected["finance"] == exports.connections("finance") == 1
    assert before.session.reading, "who holds it goes on with what can be had"
    source.not_ready.clear()
    for host in (asker, late):
        host.tell(info_or_go(wire.OPTION_GO, "finance"))
        assert host.replies(wire.OPTION_GO)[-1] == (wire.REPLY_ACK, b"")


def test_the_old_way_to_an_export_that_does_not_serve_ends_the_connection() -> None:
    source = PlayedSource(("finance", MemoryTarget()))
    exports = Exports(source)
    holder, host = PlayedHost(exports), PlayedHost(exports)
    holder.go("finance")
    source.not_ready.add("finance")
    host.greet()
    host.tell(option(wire.OPTION_EXPORT_NAME, b"finance"))
    host.settle()
    assert over(host)
    assert not host.said
    assert exports.connections("finance") == 1


def test_a_host_that_names_none_is_not_given_another_volume() -> None:
    source = PlayedSource(("finance", MemoryTarget()), ("mail", MemoryTarget()))
    source.not_ready.add("finance")
    exports = Exports(source)
    assert [name for name, _ in exports.names()] == ["mail"]
    with pytest.raises(VolumeNotFound, match="name one"):
        exports.find("", nobody).result()
    del source.targets["mail"]
    with pytest.raises(VolumeNotReady, match="finance is offline"):
        exports.find("", nobody).result()


def test_a_host_that_arrives_while_the_export_is_emptied_is_refused() -> None:
    source = PlayedSource(("finance", MemoryTarget()), slow=True)
    exports = Exports(source)
    host = PlayedHost(exports)
    host.greet()
    host.tell(info_or_go(wire.OPTION_GO, "finance"))
    emptied = exports.disconnect("finance", "it is being restored")
    assert not done(emptied)
    source.finish_opening()
    assert done(emptied)
    assert source.connected["finance"] == 0
    ((kind, sentence),) = host.replies(wire.OPTION_GO)
    assert kind == wire.REPLY_ERROR_UNKNOWN
    assert b"it is being restored" in sentence
    exports.admit("finance")
    host.tell(info_or_go(wire.OPTION_GO, "finance"))
    source.finish_opening()
    assert host.replies(wire.OPTION_GO)[-1] == (wire.REPLY_ACK, b"")
