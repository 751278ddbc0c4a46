"""TLS between a socket and a session, without a socket: what passes, and what never does."""

import random
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.cdp.interfaces import WRITE
from appliance.cdp.memory import BufferPool
from appliance.cdp.tasks import Completion
from appliance.config import AllowRule
from appliance.hosts.nbd import channel, credentials, wire
from appliance.hosts.nbd.budget import Budget
from appliance.hosts.nbd.channel import Stage
from appliance.hosts.nbd.credentials import Credentials, SharedKeys
from appliance.hosts.nbd.exports import Exports
from appliance.hosts.nbd.guests import AllowList
from appliance.hosts.nbd.session import Phase
from tests.hosts.nbd.authority import Authority
from tests.hosts.nbd.host_words import info_or_go, option, read, request, string, write
from tests.hosts.nbd.memory_target import CountingPool, MemoryTarget, PlayedSource
from tests.hosts.nbd.played_host import Answer
from tests.hosts.nbd.secure_host import SecureHost

ACK = (wire.REPLY_ACK, b"")
SIZE = 64 << 20


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority") / "ours")


@pytest.fixture(scope="module")
def box(authority: Authority) -> Credentials:
    return credentials.load(authority.appliance())


@pytest.fixture(scope="module")
def known(authority: Authority) -> ssl.SSLContext:
    return authority.host("db1.example").context()


@pytest.fixture
def target() -> MemoryTarget:
    return MemoryTarget(SIZE)


@pytest.fixture
def host(box: Credentials, known: ssl.SSLContext, target: MemoryTarget) -> SecureHost:
    exports = Exports(PlayedSource(("finance", target), ("mail", MemoryTarget())))
    return SecureHost(exports, credentials=box, context=known)


def enter(host: SecureHost, name: str = "finance") -> None:
    host.start_tls()
    host.shake_hands()
    host.tell(info_or_go(wire.OPTION_GO, name))
    assert host.replies(wire.OPTION_GO)[-1] == ACK


@pytest.mark.skipif(not getattr(ssl, "HAS_PSK", False), reason="needs Python 3.13 for TLS-PSK")
@pytest.mark.parametrize("name", ["db1", "DB1", "stranger"])
def test_pre_shared_keys(target: MemoryTarget, name: str) -> None:
    key = b"k" * 32
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_psk_client_callback(lambda _hint: (name, key))  # type: ignore[attr-defined, unused-ignore]
    host = SecureHost(
        Exports(PlayedSource(("finance", target))),
        credentials=SharedKeys({"db1": key}),
        context=context,
        allow=AllowList([AllowRule(name="db1")]),
    )
    if name == "db1":
        enter(host)
        assert host.tls.version() == "TLSv1.3"
    else:
        host.start_tls()
        with pytest.raises(ssl.SSLError):
            enter_refused(host)


def test_nothing_but_tls_and_farewell_before_tls(host: SecureHost) -> None:
    host.greet()
    for number, data in (
        (wire.OPTION_LIST, b""),
        (wire.OPTION_INFO, string("finance") + bytes(2)),
        (wire.OPTION_GO, string("finance") + bytes(2)),
        (wire.OPTION_STRUCTURED_REPLY, b""),
        (wire.OPTION_SET_META_CONTEXT, b""),
        (wire.OPTION_LIST, bytes(wire.LARGEST_OPTION + 1)),
        (77, b"unknown"),
    ):
        ((kind, _),) = host.ask(number, data)
        assert kind == wire.REPLY_ERROR_TLS_REQUIRED, number
    assert host.ask(wire.OPTION_STARTTLS, b"x")[0][0] == wire.REPLY_ERROR_INVALID
    assert host.ask(wire.OPTION_ABORT) == [ACK]
    assert host.is_over()


def test_an_export_by_its_name_alone_is_refused_by_closing(host: SecureHost) -> None:
    host.greet()
    host.tell(option(wire.OPTION_EXPORT_NAME, b"finance"))
    assert host.is_over()
    assert "without TLS" in host.channel.fault


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_writes_and_reads_pass(
    authority: Authority, box: Credentials, target: MemoryTarget, version: ssl.TLSVersion
) -> None:
    context = authority.host(f"tls{version.value}.example").context()
    context.minimum_version = context.maximum_version = version
    host = SecureHost(
        Exports(PlayedSource(("finance", target))), credentials=box, context=context, split=1000
    )
    enter(host)
    assert host.tls.version() == version.name.replace("v1_", "v1.")
    data = random.Random(1).randbytes(1 << 20)
    host.tell(write(4096, data))
    target.deliver()
    assert host.answers() == [(1, Answer())]
    assert target.bytes[4096 : 4096 + len(data)] == data
    host.reads[2] = len(data)
    host.tell(read(4096, len(data), cookie=2))
    target.deliver()
    assert host.answers() == [(2, Answer(0, data))]
    assert data[:64] not in host.raw, "it left encrypted"
    assert host.budget.used == 0


@pytest.mark.parametrize("behind", [option(wire.OPTION_STRUCTURED_REPLY), b"\x16", bytes(5000)])
def test_what_is_injected_behind_starttls_is_never_taken(host: SecureHost, behind: bytes) -> None:
    host.greet()
    host.tell(option(wire.OPTION_STARTTLS) + behind)
    assert host.is_over()
    assert "in the clear behind STARTTLS" in host.channel.fault
    assert host.tls_channel.stage is Stage.CLEAR


def test_what_was_said_before_tls_leaves_no_trace(host: SecureHost, target: MemoryTarget) -> None:
    host.greet()
    host.ask(wire.OPTION_STRUCTURED_REPLY)
    host.ask(wire.OPTION_INFO, string("finance") + bytes(2))
    assert host.ask(wire.OPTION_STARTTLS) == [ACK]
    host.shake_hands()
    host.tell(info_or_go(wire.OPTION_GO, "finance"))
    assert host.replies(wire.OPTION_GO)[-1] == ACK
    host.reads[1] = 512
    host.tell(read(0, 512))
    target.deliver()
    assert host.answers() == [(1, Answer(0, bytes(512)))]
    assert not target.submitted[WRITE]


def test_nothing_is_read_until_the_consent_to_tls_has_left(host: SecureHost) -> None:
    host.greet()
    host.tell(option(wire.OPTION_STARTTLS))
    assert not host.channel.reading
    assert len(host.channel.receive_buffer()) == 0
    assert host.replies(wire.OPTION_STARTTLS) == [ACK]
    assert host.channel.reading


def test_tls_a_second_time_is_refused(host: SecureHost) -> None:
    host.start_tls()
    host.shake_hands()
    ((kind, _),) = host.ask(wire.OPTION_STARTTLS)
    assert kind == wire.REPLY_ERROR_INVALID
    assert host.ask(wire.OPTION_LIST)[-1] == ACK


@pytest.mark.parametrize("who", ["nobody", "stranger"])
def test_a_host_without_a_certificate_that_counts_is_refused(
    tmp_path: Path, authority: Authority, box: Credentials, target: MemoryTarget, who: str
) -> None:
    stranger = Authority(tmp_path / "theirs")
    keys = stranger.host(*(["db1.example"] if who == "stranger" else []), trusts=authority)
    source = PlayedSource(("finance", target))
    host = SecureHost(Exports(source), credentials=box, context=keys.context())
    host.start_tls()
    with pytest.raises(ssl.SSLError, match=r"(?i)alert"):
        enter_refused(host)
    assert host.is_over()
    assert host.session.phase is Phase.FINISHING
    assert len(host.refusals) == 1
    assert "TLS handshake" in host.refusals[0]
    assert not source.opened


def enter_refused(host: SecureHost) -> None:
    """TLS 1.3 tells a client of its refusal only when it reads on."""
    host.shake_hands()
    host.tell(info_or_go(wire.OPTION_GO, "finance"))
    host.settle()


def test_a_certificate_for_servers_is_none_for_hosts(
    tmp_path: Path, box: Credentials, authority: Authority, target: MemoryTarget
) -> None:
    """Else whoever runs any server of the same authority could be a host."""
    context = ssl.create_default_context(cafile=str(authority.ca))
    context.load_cert_chain(*authority.server_only(tmp_path))
    host = SecureHost(Exports(PlayedSource(("finance", target))), credentials=box, context=context)
    host.start_tls()
    with pytest.raises(ssl.SSLError, match=r"(?i)alert"):
        enter_refused(host)
    assert "purpose" in host.refusals[0]


def test_old_tls_is_refused(authority: Authority, box: Credentials, target: MemoryTarget) -> None:
    context = authority.host("old.example").context()
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    host = SecureHost(Exports(PlayedSource(("finance", target))), credentials=box, context=context)
    host.start_tls()
    with pytest.raises(ssl.SSLError):
        host.shake_hands()
    assert host.is_over()


def test_garbage_for_a_handshake_is_answered_with_an_alert(host: SecureHost) -> None:
    host.start_tls()
    host.incoming = ssl.MemoryBIO()
    host.tell(b"\x16\x03\x01\x00\x05" + b"\x01\x00\x00\x01x")
    said = b"".join(host.channel.output())
    assert said[:1] == b"\x15", "an alert record"
    assert not host.is_over()
    host.channel.sent(len(said))
    assert host.is_over()
    assert "TLS handshake" in host.channel.fault


def test_a_changed_byte_ends_the_connection(host: SecureHost, target: MemoryTarget) -> None:
    enter(host)
    host.tls.write(write(0, b"x" * 4096))
    record = bytearray(host.outgoing.read())
    record[100] ^= 1
    host.secure = False
    host.tell(bytes(record))
    assert not target.submitted[WRITE]
    assert "TLS" in host.channel.fault
    host._receive()
    assert host.is_over()


def test_the_farewell_is_said_behind_the_last_answer(
    host: SecureHost, target: MemoryTarget
) -> None:
    enter(host)
    host.reads[1] = 4 << 20
    host.tell(read(0, 4 << 20) + request(wire.COMMAND_DISC))
    assert not host.is_over()
    target.deliver()
    with pytest.raises(ssl.SSLZeroReturnError):
        unwrapped(host)
    assert host.answers()[0][0] == 1
    assert host.is_over()


def unwrapped(host: SecureHost) -> None:
    """Read to the end; the library shows a farewell as the end of the file."""
    host.settle()
    if not host.tls.read(1):
        raise ssl.SSLZeroReturnError


def test_the_host_s_farewell_ends_in_order(host: SecureHost, target: MemoryTarget) -> None:
    enter(host)
    host.tls.write(write(0, b"x" * 512))
    with pytest.raises(ssl.SSLWantReadError):
        host.tls.unwrap()
    host._carry()
    assert target.submitted[WRITE] == 1, "what came before the farewell counts"
    assert not host.is_over()
    target.deliver()
    host._carry()
    assert host.is_over()
    assert not host.channel.fault


def test_renegotiation_and_resumption_are_off(box: Credentials) -> None:
    attempt = box.attempt(ssl.MemoryBIO(), ssl.MemoryBIO())
    assert attempt.tls.context.options & ssl.OP_NO_RENEGOTIATION
    assert attempt.tls.context.options & ssl.OP_NO_TICKET
    assert attempt.tls.context.num_tickets == 0


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_no_session_is_resumed(
    authority: Authority, box: Credentials, target: MemoryTarget, version: ssl.TLSVersion
) -> None:
    context = authority.host(f"resumer{version.value}.example").context()
    context.maximum_version = version
    exports = Exports(PlayedSource(("finance", target)))
    first = SecureHost(exports, credentials=box, context=context)
    enter(first)
    first.tell(request(wire.COMMAND_DISC))
    first.settle()
    again = SecureHost(
        exports, credentials=box, context=context, session_to_resume=first.tls.session
    )
    enter(again)
    assert not again.tls.session_reused


def test_files_that_are_renewed_or_spoiled_count_from_the_next_connection_on(
    tmp_path: Path, target: MemoryTarget
) -> None:
    authority = Authority(tmp_path / "ours")
    settings = authority.appliance()
    box = credentials.load(settings)
    exports = Exports(PlayedSource(("finance", target)))
    context = authority.host("db1.example").context()
    enter(SecureHost(exports, credentials=box, context=context))
    other = Authority(tmp_path / "other")
    assert settings.client_ca is not None
    settings.client_ca.write_bytes(other.ca.read_bytes())
    refused = SecureHost(exports, credentials=box, context=context)
    refused.start_tls()
    with pytest.raises(ssl.SSLError):
        enter_refused(refused)
    settings.client_ca.write_bytes(b"spoiled")
    refused = SecureHost(exports, credentials=box, context=context)
    refused.start_tls()
    with pytest.raises(AssertionError, match="does not end"):
        refused.shake_hands()
    assert refused.is_over()
    assert "client_ca" in refused.refusals[0]


def test_a_step_beside_the_loop_holds_the_reading(
    box: Credentials, known: ssl.SSLContext, target: MemoryTarget
) -> None:
    steps: list[tuple[Callable[[], None], Completion[None]]] = []

    def later(work: Callable[[], None]) -> Completion[None]:
        steps.append((work, Completion()))
        return steps[-1][1]

    exports = Exports(PlayedSource(("finance", target)))
    host = SecureHost(exports, credentials=box, context=known, offload=later)
    host.start_tls()
    with pytest.raises(ssl.SSLWantReadError):
        host.tls.do_handshake()
    host.secure = False
    host.tell(host.outgoing.read())
    assert not host.channel.reading
    assert not host.is_over()
    ((work, completion),) = steps
    host.channel.close()
    with pytest.raises(ssl.SSLWantReadError):
        work()
    completion.succeed(None)
    assert host.tls_channel.stage is Stage.CLOSED, "a step that ends late changes nothing"


def test_a_host_that_takes_no_answers_bounds_what_is_encrypted(
    host: SecureHost, target: MemoryTarget
) -> None:
    enter(host)
    host.tls.write(read(0, 32 << 20))
    host.secure = False
    host.tell(host.outgoing.read())
    target.deliver()
    (ciphertext,) = host.channel.output()
    assert channel.SLICE <= len(ciphertext) <= channel.SLICE * 1.01
    (again,) = host.channel.output()
    assert again is ciphertext, "the next slice waits for this one to leave"
    host.channel.sent(len(ciphertext))
    (following,) = host.channel.output()
    assert channel.SLICE <= len(following) <= channel.SLICE * 1.01
    host.channel.close()
    assert host.budget.used == 0


def test_what_a_session_does_not_want_waits_encrypted(
    box: Credentials, known: ssl.SSLContext, target: MemoryTarget
) -> None:
    exports = Exports(PlayedSource(("finance", target)))
    host = SecureHost(exports, Budget(lambda: None, 32 << 20), credentials=box, context=known)
    enter(host)
    host.tell(write(0, b"a" * (32 << 20)))
    host.tls.write(write(0, b"b" * (1 << 20)))
    sealed = host.outgoing.read()
    host.secure = False
    taken = host.tell(sealed)
    assert taken < len(sealed)
    assert not host.channel.reading
    assert target.submitted[WRITE] == 1
    target.deliver()
    host.budget.admit()
    while taken < len(sealed):
        host._receive()
        taken += host.tell(sealed[taken:])
    host._receive()
    target.deliver()
    assert target.submitted[WRITE] == 2
    assert target.bytes[: 1 << 20] == b"b" * (1 << 20)


def test_what_waits_encrypted_is_taken_without_another_byte(
    box: Credentials, known: ssl.SSLContext, target: MemoryTarget
) -> None:
    block, limit = 64 << 10, 32 << 20
    exports = Exports(PlayedSource(("finance", target)))
    host = SecureHost(exports, Budget(lambda: None, limit), credentials=box, context=known)
    enter(host)
    host.tell(write(0, bytes(limit - block)))
    # The session has room for one more, in its budget and in its ring.
    stream = write(0, bytes(block)) * 4 + write(0, bytes(4096))
    host.tell(stream[: block - 100])
    host.tls.write(stream[block - 100 :])
    sealed = host.outgoing.read()
    host.secure = False
    assert host.tell(sealed) == len(sealed)
    assert target.submitted[WRITE] == 2
    for _ in range(6):
        target.deliver()
        host.budget.admit()
        host._receive()
    assert target.submitted[WRITE] == 6


def test_names_decide_what_is_shown_and_given(
    box: Credentials, known: ssl.SSLContext, target: MemoryTarget
) -> None:
    view = MemoryTarget(read_only=True)
    source = PlayedSource(("finance", target), ("mail", MemoryTarget()), ("mail@-10m", view))
    allow = AllowList([AllowRule(name="db1.example", volumes=frozenset({"mail"}))])
    host = SecureHost(Exports(source), credentials=box, context=known, allow=allow)
    host.start_tls()
    host.shake_hands()
    shown = [data for kind, data in host.ask(wire.OPTION_LIST) if kind == wire.REPLY_SERVER]
    assert shown == [
        string("mail") + b"the mail volume",
        string("mail@-10m") + b"the mail@-10m volume",
    ]
    for name in ("finance", "finance@-10m", "nowhere", ""):
        ((kind, sentence),) = host.ask(wire.OPTION_INFO, string(name) + bytes(2))
        assert kind == wire.REPLY_ERROR_POLICY, name
        assert b"not allowed" in sentence
    assert len(host.refusals) == 4
    assert not source.opened
    host.tell(info_or_go(wire.OPTION_GO, "mail"))
    assert host.replies(wire.OPTION_GO)[-1] == ACK


def test_noise_through_tls_is_survived(
    box: Credentials, known: ssl.SSLContext, target: MemoryTarget
) -> None:
    """What a host may say inside TLS is fuzzed with the session; here, both together."""
    chance = random.Random(7)
    for round_ in range(40):
        pool = CountingPool()
        source = PlayedSource(("finance", target))
        host = SecureHost(
            Exports(source), Budget(lambda: None), pool, credentials=box, context=known
        )
        host.start_tls()
        host.shake_hands()
        if round_ % 2:
            host.tell(info_or_go(wire.OPTION_GO, "finance"))
        for _ in range(5):
            if host.is_over():
                break
            host.tell(chance.randbytes(chance.choice([1, 28, 5000, 70_000])))
            target.deliver()
        host.channel.close()
        assert host.budget.used == 0
        assert pool.out == 0
        assert source.connected["finance"] == 0


def test_noise_in_any_stage_of_tls_is_survived(box: Credentials, known: ssl.SSLContext) -> None:
    chance = random.Random(8)
    for _ in range(100):
        target, pool = MemoryTarget(), BufferPool()
        source = PlayedSource(("finance", target))
        host = SecureHost(
            Exports(source), Budget(lambda: None), pool, credentials=box, context=known
        )
        host.start_tls()
        stage = chance.randrange(3)
        try:
            if stage:
                host.shake_hands()
            else:
                host.tls.do_handshake()
        except ssl.SSLWantReadError:
            pass
        record = bytearray(host.outgoing.read())
        if stage == 2:
            host.tls.write(write(0, b"x" * 512))
            record += host.outgoing.read()
        record += chance.randbytes(chance.randrange(200))
        for _ in range(chance.randrange(4)):
            if record:
                record[chance.randrange(len(record))] = chance.randrange(256)
        host.secure = False
        host.tell(bytes(record))
        for _ in range(5):
            host._receive()
        assert sum(target.submitted.values()) == 0
        host.channel.close()
        assert host.budget.used == 0
