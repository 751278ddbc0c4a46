"""The power goes in every state that a volume can be in, while hosts write.

What a completed FLUSH covers is there afterwards, what came later is old or new, both disks agree,
and points up to the last flush are exact where the history has no gap.

EBBTIDE_CUTS says how often in each state: `EBBTIDE_CUTS=100 make hil TESTS="-k power_cut_states"`.
"""

import os

import pytest

from hil_tests.accidents import judge, judge_point, judge_points
from hil_tests.box import Box, faults
from hil_tests.host import Host, Load

MIB = 1 << 20
pytestmark = [pytest.mark.lg_feature("fresh-box"), pytest.mark.lg_feature("disk-faults")]


@pytest.fixture(
    autouse=True, params=range(int(os.environ.get("EBBTIDE_CUTS", "1"))), ids="cut {}".format
)
def _cut(request: pytest.FixtureRequest) -> int:
    """Each with a seed of its own."""
    return int(request.param)


def test_while_the_baseline_is_copied(box: Box, host: Host, seed: int) -> None:
    pair = box.pair()
    faults(pair.secondary).slow(8 * MIB)
    box.begin_protecting("finance", pair)
    _throttle(box, "1-1")
    faults(pair.secondary).heal()
    load = host.load("finance", seed)
    load.await_writes(10 + seed % 50)
    assert box.volume("finance")["job"]["kind"] == "baseline"
    box.replace()
    _throttle(box, "16-max")
    judge(box, host, "finance", load.cut_off(), 0, points=False)


def test_while_writes_are_only_tracked(box: Box, host: Host, seed: int) -> None:
    pair = box.pair()
    box.protect("finance", pair)
    before = box.volume("finance")["write_number"]
    load = host.load("finance", seed)
    load.await_writes(50)
    kept = load.oracle.exact_until
    pair.secondary.pull()
    box.await_state("finance", "tracking")
    load.await_writes(10 + seed % 100)
    box.replace()
    oracle = load.cut_off()
    pair.secondary.plug()
    judge(box, host, "finance", oracle, before, points=False)
    judge_points(box, host, "finance", oracle, before, kept)


def test_while_what_differs_is_copied(box: Box, host: Host, seed: int) -> None:
    pair = box.pair()
    box.protect("finance", pair)
    before = box.volume("finance")["write_number"]
    _throttle(box, "1-1")
    load = host.load("finance", seed, blocks=8192)
    load.await_writes(50)
    kept = load.oracle.exact_until
    pair.secondary.pull()
    box.await_state("finance", "tracking")
    load.await_writes(100)
    pair.secondary.plug()
    job = box.until("it gets in step again", lambda: box.volume("finance")["job"])
    assert job["kind"] == "resync"
    load.await_writes(1 + seed % 20, flushed=False)
    assert box.volume("finance")["job"]
    box.replace()
    oracle = load.cut_off()
    _throttle(box, "16-max")
    judge(box, host, "finance", oracle, before, points=False)
    judge_points(box, host, "finance", oracle, before, kept)


def test_while_the_disks_are_compared(box: Box, host: Host, seed: int) -> None:
    pair = box.pair()
    box.protect("finance", pair)
    before = box.volume("finance")["write_number"]
    load = host.load("finance", seed)
    load.await_writes(20)
    _throttle(box, "1-1")
    box.cdpctl("sync finance --verify")
    load.await_writes(1 + seed % 30, flushed=False)
    assert box.volume("finance")["job"]["kind"] == "verify"
    box.replace()
    _throttle(box, "16-max")
    judge(box, host, "finance", load.cut_off(), before)


@pytest.mark.parametrize("again", [False, True], ids=["at first", "as it goes on"])
def test_while_a_point_is_put_back(box: Box, host: Host, seed: int, again: bool) -> None:
    """It ends by itself, and is undone by putting back the write before it."""
    pair = box.pair()
    box.protect("finance", pair)
    before = box.volume("finance")["write_number"]
    load = host.load("finance", seed, blocks=4096)
    load.await_writes(300)
    oracle = load.stop()
    everything, point = len(oracle.writes), 1 + seed % 100
    faults(pair.primary).slow(MIB // 8)
    box.cdpctl(f"restore finance --to write:{before + point} --yes")
    box.until(
        "it copies", lambda: box.volume("finance")["window"]["newest_write"] > before + everything
    )
    assert box.volume("finance")["job"]["kind"] == "restore"
    if again:
        box.replace_slowly(pair, MIB // 4)
        box.until(
            "it goes on", lambda: (box.volume("finance")["job"] or {}).get("kind") == "restore"
        )
    box.replace()
    box.until("it has ended", lambda: _is_at_rest(box))
    judge_point(host, "finance", oracle, point)
    assert box.verify("finance") == 0
    judge_point(host, f"finance@write:{before + everything}", oracle, everything)


def _throttle(box: Box, mebibytes: str) -> None:
    """What synchronisations do a second, once the volume is there to be told."""
    box.until(
        "the throttle is set",
        lambda: box.cdpctl(f"set finance throttle={mebibytes}"),
    )


def _is_at_rest(box: Box) -> bool:
    volume = box.volume("finance")
    return volume["state"] == "protected" and volume["job"] is None


def test_while_it_recovers_from_another_cut(box: Box, host: Host, seed: int) -> None:
    pair = box.pair()
    box.protect("finance", pair)
    before = box.volume("finance")["write_number"]
    load = host.load("finance", seed)
    load.await_writes(20 + seed % 100)
    box.replace_slowly(pair, MIB // 8)
    oracle = load.cut_off()
    box.await_state("finance", "recovering")
    box.replace()
    judge(box, host, "finance", oracle, before)


def test_while_the_oldest_is_folded_away(box: Box, host: Host, seed: int) -> None:
    """Its history is full: the window shortens, and hosts go on."""
    pair = box.plug(box.bay("bay0"), box.bay("small"))
    box.protect("finance", pair)
    before = box.volume("finance")["write_number"]
    load = host.load("finance", seed)
    _fill(box, load, before)
    load.await_writes(seed % 100, flushed=False)
    assert load.failed == []
    box.replace()
    judge(box, host, "finance", load.cut_off(), before)


def _fill(box: Box, load: Load, before: int) -> None:
    """Until what the load wrote first is not kept any more."""
    while box.volume("finance")["window"]["oldest_write"] <= before + 1:
        load.await_writes(100)
