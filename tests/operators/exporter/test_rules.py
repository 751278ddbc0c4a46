"""The delivered alerts speak of what is exposed, and go off when they should."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from appliance.errors import every_error
from appliance.events import KINDS
from appliance.operators.exporter.metrics import PROTECTIONS, STATES, Metrics
from tests.operators.exporter.test_metrics import READING
from tests.service.service_process import BIN

RULES = Path(__file__).parents[3] / "firmware_config" / "prometheus" / "ebbtide.rules.yml"
EXPRESSIONS = re.findall(r"expr: (?:\|\n((?: {10}.*\n)+)|(.*)\n)", RULES.read_text())

PROTECTED = 'ebbtide_volume_protection{volume="v",protection="protected"}'
TRACKING = 'ebbtide_volume_protection{volume="v",protection="tracking"}'
WINDOW = 'ebbtide_volume_window_seconds{volume="v"}'
HISTORY_USED = 'ebbtide_volume_history_used_bytes{volume="v"}'
HISTORY = 'ebbtide_volume_history_capacity_bytes{volume="v"}'


def event(code: str) -> str:
    return f'ebbtide_events_total{{code="{code}",severity="{KINDS[code].severity}"}}'


def test_only_what_is_exposed_is_asked_for() -> None:
    exposed = {sample.name for family in Metrics(READING).collect() for sample in family.samples}
    assert len(EXPRESSIONS) == RULES.read_text().count("- alert: ")
    for expression in map("".join, EXPRESSIONS):
        asked = set(re.findall(r"\bebbtide_\w+", expression))
        assert asked
        assert asked <= exposed
        for label, words in (("state", STATES), ("protection", PROTECTIONS), ("code", KINDS)):
            for told in re.findall(rf'\b{label}=~?"([^"]*)"', expression):
                assert set(told.split("|")) <= set(words)


def test_only_codes_that_there_are_are_explained() -> None:
    told = re.findall(r"explain (E[BVC]\d+)", RULES.read_text())
    assert told
    assert set(told) <= {*KINDS, *every_error()}


def promtool(*words: str | Path) -> "subprocess.CompletedProcess[str]":
    tool = shutil.which("promtool") or shutil.which("promtool", path=str(BIN))
    if tool is None:
        pytest.skip("needs promtool")
    return subprocess.run([tool, *words], capture_output=True, text=True, timeout=30, check=False)


def test_promtool_takes_the_rules() -> None:
    done = promtool("check", "rules", RULES)
    assert done.returncode == 0, done.stderr
    assert f"{len(EXPRESSIONS)} rules found" in done.stdout


@pytest.mark.parametrize(
    ("series", "minutes", "alert"),
    [
        ({"ebbtide_up": "1x9 0x30"}, 13, "EbbtideAway"),
        ({"ebbtide_up": "1x9 0x30"}, 11, None),
        ({PROTECTED: "0x90", TRACKING: "1x90"}, 6, "EbbtideNotProtected"),
        ({PROTECTED: "1x90", TRACKING: "0x90"}, 60, None),
        ({'ebbtide_volume_alert{volume="v",code="EV213"}': "1x9"}, 1, "EbbtideRestoreInterrupted"),
        ({'ebbtide_volume_state{volume="v",state="offline"}': "1x9"}, 2, "EbbtideVolumeOffline"),
        ({'ebbtide_volume_state{volume="v",state="offline"}': "0x9"}, 2, None),
        ({'ebbtide_volume_suspect_maps{volume="v"}': "0x4 3x9"}, 6, "EbbtideSuspectPoints"),
        ({event("EV412"): "0x4 1x9"}, 6, "EbbtideDifferences"),
        ({event("EV412"): "1x9"}, 6, None),
        ({event("EV409"): "0x4 1x9"}, 6, "EbbtideDataUnreadable"),
        ({event("EV104"): "0x4 1x9"}, 6, "EbbtideDiskTrouble"),
        ({'ebbtide_disk_health{disk="a",health="failing"}': "0x4 1x9"}, 6, "EbbtideDiskFailing"),
        ({'ebbtide_disk_temperature_celsius{disk="a"}': "61x30"}, 11, "EbbtideDiskHot"),
        ({event("EV940"): "0x4 1x9"}, 6, "EbbtideFlood"),
        (
            {'ebbtide_last_job_success{volume="v",kind="verify"}': "0x30"},
            11,
            "EbbtideJobFailed",
        ),
        (
            {WINDOW: "3600x90", PROTECTED: "1x90", HISTORY_USED: "95x90", HISTORY: "100x90"},
            61,
            "EbbtideWindowShort",
        ),
        (  # a young volume reaches back as far as it is old
            {WINDOW: "3600x90", PROTECTED: "1x90", HISTORY_USED: "5x90", HISTORY: "100x90"},
            61,
            None,
        ),
    ],
)
def test_alerts_go_off_when_they_should(
    tmp_path: Path, series: dict[str, str], minutes: int, alert: str | None
) -> None:
    lines = [f"rule_files: [{RULES}]", "evaluation_interval: 1m", "tests:", "  - interval: 1m"]
    lines += ["    input_series:"]
    for name, values in series.items():
        lines += [f"      - series: '{name}'", f"        values: '{values}'"]
    lines += [
        "    promql_expr_test:",
        "      - expr: 'count by (alertname) (ALERTS{alertstate=\"firing\"})'",
    ]
    lines += [f"        eval_time: {minutes}m", "        exp_samples:"]
    if alert is None:
        lines[-1] += " []"
    else:
        lines += [f"          - labels: '{{alertname=\"{alert}\"}}'", "            value: 1"]
    (tmp_path / "test.yml").write_text("\n".join(lines) + "\n")
    done = promtool("test", "rules", tmp_path / "test.yml")
    assert done.returncode == 0, done.stdout + done.stderr
