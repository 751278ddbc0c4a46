"""What the box tells those who watch over it: the journal, with explanations, and the metrics."""

from hil_tests.box import Box

SCRAPE = (
    'python3 -c "import urllib.request as r;'
    " print(r.urlopen('http://127.0.0.1:9776/metrics').read().decode())\""
)


def test_the_journal_explains_what_happened(box: Box) -> None:
    pair = box.pair()
    box.protect("finance", pair)
    pair.secondary.pull()
    box.await_state("finance", "tracking")
    told = box.shell("journalctl -t cdpd -x -p warning EBBTIDE_VOLUME=finance --no-pager")
    assert "finance" in told
    assert "Subject: " in told
    fields = box.shell("journalctl -t cdpd -p warning EBBTIDE_VOLUME=finance -o json -n 1")
    assert '"EBBTIDE_CODE":"EV' in fields


def test_the_metrics_follow_the_volume(box: Box) -> None:
    pair = box.pair()
    box.protect("finance", pair)
    assert state(box) == "protected"
    pair.secondary.pull()
    box.await_state("finance", "tracking")
    box.until("the metrics say so", lambda: state(box) == "tracking")


def state(box: Box) -> str:
    """Of the volume, as whoever scrapes has it."""
    for line in box.shell(SCRAPE).splitlines():
        if line.startswith("ebbtide_volume_state{") and line.endswith(" 1.0"):
            return line.partition('state="')[2].partition('"')[0]
    return ""
