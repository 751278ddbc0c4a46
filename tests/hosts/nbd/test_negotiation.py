"""What hosts are told before they use an export."""

import logging
import struct

import pytest

from appliance.cdp.tasks import Completion
from appliance.hosts.nbd import wire
from appliance.hosts.nbd.exports import Export, Exports
from appliance.hosts.nbd.session import Phase
from tests.hosts.nbd.host_words import info_or_go, option, read, string
from tests.hosts.nbd.memory_target import MemoryTarget, PlayedSource
from tests.hosts.nbd.played_host import PlayedHost

ACK = (wire.REPLY_ACK, b"")


def host_of(*targets: tuple[str, MemoryTarget], slow: bool = False) -> PlayedHost:
    host = PlayedHost(Exports(PlayedSource(*targets, slow=slow)))
    host.greet()
    return host


def source_of(host: PlayedHost) -> PlayedSource:
    source = host.exports._source
    assert isinstance(source, PlayedSource)
    return source


def informations(replies: list[tuple[int, bytes]]) -> dict[int, bytes]:
    assert replies[-1] == ACK
    assert {kind for kind, _ in replies[:-1]} == {wire.REPLY_INFO}
    return {struct.unpack(">H", data[:2])[0]: data[2:] for _, data in replies[:-1]}


def test_the_list_names_every_export_with_its_description() -> None:
    host = host_of(("finance", MemoryTarget()), ("mail", MemoryTarget()))
    assert host.ask(wire.OPTION_LIST) == [
        (wire.REPLY_SERVER, string("finance") + b"the finance volume"),
        (wire.REPLY_SERVER, string("mail") + b"the mail volume"),
        ACK,
    ]


@pytest.mark.parametrize("number", [wire.OPTION_INFO, wire.OPTION_GO])
@pytest.mark.parametrize("sector", [512, 4096])
def test_info_and_go_tell_size_flags_and_block_sizes(number: int, sector: int) -> None:
    host = host_of(("finance", MemoryTarget(1 << 20, sector)))
    host.tell(info_or_go(number, "finance", wire.INFO_NAME, wire.INFO_DESCRIPTION, 99))
    told = informations(host.replies(number))
    size, flags = struct.unpack(">QH", told[wire.INFO_EXPORT])
    assert size == 1 << 20
    assert flags == (
        wire.EXPORT_HAS_FLAGS
        | wire.EXPORT_SEND_FLUSH
        | wire.EXPORT_SEND_FUA
        | wire.EXPORT_SEND_TRIM
        | wire.EXPORT_SEND_WRITE_ZEROES
        | wire.EXPORT_SEND_FAST_ZERO
        | wire.EXPORT_SEND_CACHE
        | wire.EXPORT_CAN_MULTI_CONN
    )
    assert struct.unpack(">III", told[wire.INFO_BLOCK_SIZE]) == (sector, 4096, 32 << 20)
    assert told[wire.INFO_NAME] == b"finance"
    assert told[wire.INFO_DESCRIPTION] == b"the finance volume"
    assert (host.session.phase is Phase.REQUESTS) == (number == wire.OPTION_GO)


def test_a_read_only_export_offers_nothing_that_writes() -> None:
    host = host_of(("finance@-10m", MemoryTarget(read_only=True)))
    assert host.ask(wire.OPTION_STRUCTURED_REPLY) == [ACK]
    host.tell(info_or_go(wire.OPTION_INFO, "finance@-10m"))
    _, flags = struct.unpack(">QH", informations(host.replies(wire.OPTION_INFO))[0])
    assert flags == (
        wire.EXPORT_HAS_FLAGS
        | wire.EXPORT_READ_ONLY
        | wire.EXPORT_SEND_FLUSH
        | wire.EXPORT_SEND_FUA
        | wire.EXPORT_SEND_DF
        | wire.EXPORT_SEND_CACHE
        | wire.EXPORT_CAN_MULTI_CONN
    )


@pytest.mark.parametrize("no_zeroes", [True, False])
def test_export_name_enters_transmission(no_zeroes: bool) -> None:
    host = PlayedHost(Exports(PlayedSource(("finance", MemoryTarget()))))
    host.greet(wire.FIXED_NEWSTYLE | (wire.NO_ZEROES if no_zeroes else 0))
    host.tell(option(wire.OPTION_EXPORT_NAME, b"finance"))
    size, flags = wire.EXPORT_NAME_REPLY.unpack(host.take(10))
    assert size == 1 << 20
    assert flags & wire.EXPORT_SEND_FUA
    assert host.take(0 if no_zeroes else 124) == bytes(0 if no_zeroes else 124)
    assert host.said == b""
    assert host.session.phase is Phase.REQUESTS


@pytest.mark.parametrize("name", [b"nowhere", b"\xff\xfe", b"x" * 5000])
def test_export_name_can_only_say_no_by_closing(name: bytes) -> None:
    host = host_of(("finance", MemoryTarget()))
    host.tell(option(wire.OPTION_EXPORT_NAME, name))
    assert host.session.over


def test_the_empty_name_is_the_only_export() -> None:
    host = host_of(("finance", MemoryTarget()))
    host.tell(info_or_go(wire.OPTION_GO, "", wire.INFO_NAME))
    assert informations(host.replies(wire.OPTION_GO))[wire.INFO_NAME] == b"finance"


def test_the_empty_name_among_several_is_refused() -> None:
    host = host_of(("finance", MemoryTarget()), ("mail", MemoryTarget()))
    host.tell(info_or_go(wire.OPTION_GO, ""))
    assert host.replies(wire.OPTION_GO)[0][0] == wire.REPLY_ERROR_UNKNOWN


def test_an_unknown_name_is_answered_with_the_sentence_and_cleaned() -> None:
    host = host_of(("finance", MemoryTarget()))
    host.tell(info_or_go(wire.OPTION_GO, "no\x1b[31mwhere"))
    ((kind, sentence),) = host.replies(wire.OPTION_GO)
    assert kind == wire.REPLY_ERROR_UNKNOWN
    assert sentence == b"there is no volume called no?[31mwhere"
    host.tell(info_or_go(wire.OPTION_GO, "finance"))
    assert host.replies(wire.OPTION_GO)[-1] == ACK


def test_an_error_of_ours_is_not_told_to_hosts(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(PlayedSource):
        def open(self, name: str) -> Completion[Export]:
            completion: Completion[Export] = Completion()
            completion.fail(RuntimeError("a secret"))
            return completion

    host = PlayedHost(Exports(Broken()))
    host.greet()
    with caplog.at_level(logging.ERROR):
        host.tell(info_or_go(wire.OPTION_GO, "finance"))
    assert host.replies(wire.OPTION_GO) == [
        (wire.REPLY_ERROR_UNKNOWN, b"the export could not be opened")
    ]
    assert "a secret" in caplog.text


def test_tls_is_refused_and_the_host_may_go_on() -> None:
    host = host_of(("finance", MemoryTarget()))
    ((kind, sentence),) = host.ask(wire.OPTION_STARTTLS)
    assert kind == wire.REPLY_ERROR_POLICY
    assert b"TLS" in sentence
    assert host.ask(wire.OPTION_STRUCTURED_REPLY) == [ACK]


@pytest.mark.parametrize("number", [4, 11, 77, 0xFFFFFFFF])
def test_unknown_options_are_refused_one_by_one(number: int) -> None:
    host = host_of()
    assert host.ask(number, b"whatever")[0][0] == wire.REPLY_ERROR_UNSUPPORTED
    assert host.ask(wire.OPTION_LIST) == [ACK]


@pytest.mark.parametrize("number", [wire.OPTION_LIST_META_CONTEXT, wire.OPTION_SET_META_CONTEXT])
def test_metadata_contexts_come_after_structured_replies_and_are_none(number: int) -> None:
    host = host_of(("finance", MemoryTarget()))
    query = string("finance") + struct.pack(">I", 1) + string("base:allocation")
    assert host.ask(number, query)[0][0] == wire.REPLY_ERROR_INVALID
    host.ask(wire.OPTION_STRUCTURED_REPLY)
    assert host.ask(number, query) == [ACK]
    assert host.ask(number, query[:-1])[0][0] == wire.REPLY_ERROR_INVALID
    assert host.ask(number, query + b"x")[0][0] == wire.REPLY_ERROR_INVALID


@pytest.mark.parametrize(
    ("number", "data"),
    [
        (wire.OPTION_LIST, b"x"),
        (wire.OPTION_STARTTLS, b"x"),
        (wire.OPTION_STRUCTURED_REPLY, b"x"),
        (wire.OPTION_GO, b""),
        (wire.OPTION_GO, b"\0\0"),
        (wire.OPTION_GO, struct.pack(">I", 0xFFFFFFFF) + b"finance"),
        (wire.OPTION_GO, string("finance")),
        (wire.OPTION_GO, string("finance") + struct.pack(">HH", 2, 0)),
        (wire.OPTION_GO, string("finance") + struct.pack(">HHH", 1, 0, 0)),
        (wire.OPTION_GO, string(b"\xff") + bytes(2)),
        (wire.OPTION_GO, string("x" * 4097) + bytes(2)),
    ],
)
def test_malformed_options_are_invalid_and_harmless(number: int, data: bytes) -> None:
    host = host_of(("finance", MemoryTarget()))
    ((kind, sentence),) = host.ask(number, data)
    assert kind == wire.REPLY_ERROR_INVALID
    assert sentence
    assert host.ask(wire.OPTION_LIST)[-1] == ACK


def test_an_oversized_option_is_drained_and_refused() -> None:
    host = host_of()
    assert host.ask(wire.OPTION_LIST, bytes(wire.LARGEST_OPTION + 1))[0][0] == (
        wire.REPLY_ERROR_TOO_BIG
    )
    assert host.ask(99, bytes(wire.LARGEST_OPTION))[0][0] == wire.REPLY_ERROR_UNSUPPORTED
    assert host.ask(wire.OPTION_LIST) == [ACK]


def test_abort_is_acknowledged_and_ends_the_connection() -> None:
    host = host_of()
    host.tell(option(wire.OPTION_ABORT))
    assert not host.session.over
    assert host.replies(wire.OPTION_ABORT) == [ACK]
    assert host.session.over


@pytest.mark.parametrize("flags", [4, 0x80000001])
def test_unknown_client_flags_end_the_connection(flags: int) -> None:
    host = PlayedHost(Exports(PlayedSource()))
    host.greet(flags)
    assert host.session.over


def test_a_wrong_option_magic_ends_the_connection() -> None:
    host = host_of()
    host.tell(b"GET / HTTP/1.1\r\n\r\n")
    assert host.session.over
    assert host.session.fault


def test_a_slow_opening_holds_back_what_was_pipelined_behind_it() -> None:
    target = MemoryTarget()
    host = host_of(("finance", target), slow=True)
    host.tell(info_or_go(wire.OPTION_GO, "finance") + read(0, 512, cookie=7))
    host.settle()
    assert host.said == b""
    assert not host.session.reading
    assert not host.session.negotiating, "the host must not be blamed for our slowness"
    source_of(host).finish_opening()
    assert host.replies(wire.OPTION_GO)[-1] == ACK
    assert target.deliver() == 1
    host.reads[7] = 512
    assert host.answers()[0][0] == 7


def test_a_host_that_leaves_during_the_opening_is_let_go() -> None:
    host = host_of(("finance", MemoryTarget()), slow=True)
    host.tell(info_or_go(wire.OPTION_GO, "finance"))
    host.session.close()
    source = source_of(host)
    source.finish_opening()
    assert source.opened["finance"] == 1
    assert source.connected["finance"] == 0
    assert host.exports.connections("finance") == 0


def test_go_after_info_uses_what_info_opened() -> None:
    host = host_of(("finance", MemoryTarget()), ("mail", MemoryTarget()))
    source = source_of(host)
    host.tell(info_or_go(wire.OPTION_INFO, "finance"))
    assert source.connected["finance"] == 1
    host.tell(info_or_go(wire.OPTION_GO, "finance"))
    assert source.opened == {"finance": 1}


def test_asking_about_another_export_lets_the_first_go() -> None:
    host = host_of(("finance", MemoryTarget()), ("mail", MemoryTarget()))
    source = source_of(host)
    host.tell(info_or_go(wire.OPTION_INFO, "finance") + info_or_go(wire.OPTION_GO, "mail"))
    assert dict(source.connected) == {"finance": 0, "mail": 1}
    host.session.close()
    assert dict(source.connected) == {"finance": 0, "mail": 0}


def test_a_host_that_never_reads_cannot_pile_up_lists() -> None:
    host = host_of(*((f"volume{number:03}", MemoryTarget(512)) for number in range(200)))
    flood = option(wire.OPTION_LIST) * 30_000
    taken = host.tell(flood)
    assert taken < len(flood)
    assert not host.session.reading
    assert sum(map(len, host.session.output())) < 9 << 20
