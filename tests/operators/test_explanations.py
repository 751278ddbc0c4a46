"""What codes mean, and what may have been meant by what is no code."""

import pytest

from appliance.cdp.check.findings import KINDS as FINDINGS
from appliance.errors import UnknownCode, every_error
from appliance.events import KINDS
from appliance.operators.explanations import explain

CODES = sorted({*every_error(), *KINDS, *FINDINGS})


@pytest.mark.parametrize("code", CODES)
def test_every_code_is_explained(code: str) -> None:
    told = explain(code)
    assert told.code == code
    assert told.sentence
    assert told.explanation.endswith(".")
    assert told.remedy is None or (told.remedy and not told.remedy.endswith("."))


@pytest.mark.parametrize("code", sorted({*every_error(), *KINDS}))
def test_what_asks_for_something_says_what(code: str) -> None:
    merely_told = code in KINDS and KINDS[code].severity == "info"
    assert merely_told == (explain(code).remedy is None)


@pytest.mark.parametrize("typed", ["ev202", " EV202\n", "EV-202", "ev 202", "[EV202]"])
def test_a_code_may_be_typed_as_it_comes(typed: str) -> None:
    assert explain(typed).code == "EV202"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("202", {"EB202", "EV202", "EC202"}),
        ("E202", {"EB202", "EV202", "EC202"}),
        ("EB1O2", {"EB102"}),
        ("EB1022", {"EB102"}),
        ("EBB102", {"EB102"}),
    ],
)
def test_what_is_nearly_a_code_names_those_it_could_be(typed: str, meant: set[str]) -> None:
    with pytest.raises(UnknownCode) as raised:
        explain(typed)
    assert raised.value.remedy.startswith("perhaps ")
    named = raised.value.remedy.removeprefix("perhaps ").split(" or ")
    assert meant <= set(named) <= set(CODES)
    assert len(named) <= 3


@pytest.mark.parametrize("typed", ["", "finance", "２０２", "\x1b[2J", "E" * 256, "EV202 EV203"])
def test_what_is_nothing_like_a_code_gets_no_guess(typed: str) -> None:
    with pytest.raises(UnknownCode) as raised:
        explain(typed)
    assert raised.value.remedy == UnknownCode.remedy
    assert "\x1b" not in str(raised.value)
