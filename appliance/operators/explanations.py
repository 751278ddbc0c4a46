"""What codes mean.  Works without the service."""

import difflib
import inspect
from typing import Final

from appliance.cdp.check.findings import KINDS as FINDINGS
from appliance.errors import REFUSED, UnknownCode, every_error
from appliance.events import KINDS
from appliance.operators.answers import ExplanationAnswer
from appliance.wording import printable

WORTH_GUESSING: Final = 8
"""Characters: whatever is longer was no code, and comparing it costs the caller's time."""


def explain(code: str) -> ExplanationAnswer:
    """The meaning of the code of an error, event or finding, in either case; raises UnknownCode,
    with what may have been meant."""
    wanted = "".join(filter(str.isalnum, code)).upper()
    kind = KINDS.get(wanted)
    if kind is not None:
        return ExplanationAnswer(
            code=kind.code,
            is_event=True,
            severity=kind.severity,
            sentence=kind.sentence,
            explanation=kind.explanation,
            remedy=kind.remedy or None,
        )
    finding = FINDINGS.get(wanted)
    if finding is not None:
        return ExplanationAnswer(
            code=finding.code,
            is_event=False,
            severity=finding.severity,
            sentence="found by `cdpctl check`",
            explanation=finding.explanation,
            remedy=None,
        )
    error = every_error().get(wanted)
    if error is None:
        raise UnknownCode(_guess(wanted), name=printable(code))
    return ExplanationAnswer(
        code=error.code,
        is_event=False,
        severity="refused" if error.exit_code == REFUSED else "error",
        sentence=error.sentence,
        explanation=" ".join(inspect.getdoc(error).split()),  # type: ignore[union-attr]  # a test holds that each has one
        remedy=error.remedy,
    )


def _guess(wanted: str) -> str | None:
    """What to do about a code that there is not, if it looks like some that there are."""
    codes = sorted([*every_error(), *KINDS, *FINDINGS])
    near = [code for code in codes if code[2:] == wanted.lstrip("EBVC")]
    if not near and len(wanted) <= WORTH_GUESSING:
        near = sorted(difflib.get_close_matches(wanted, codes, n=3))
    return f"perhaps {' or '.join(near)}" if near else None
