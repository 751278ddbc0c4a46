"""What codes mean.  Works without the service."""

import inspect

from appliance.cdp.check.findings import KINDS as FINDINGS
from appliance.errors import REFUSED, UnknownCode, every_error
from appliance.event_log import printable
from appliance.events import KINDS
from appliance.operators.answers import ExplanationAnswer


def explain(code: str) -> ExplanationAnswer:
    """The meaning of the code of an error, event or finding, in either case; raises UnknownCode."""
    wanted = code.strip().upper()
    kind = KINDS.get(wanted)
    if kind is not None:
        return ExplanationAnswer(
            code=kind.code,
            is_event=True,
            severity=kind.severity,
            sentence=kind.sentence,
            explanation=kind.explanation,
            remedy=None,
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
        raise UnknownCode(name=printable(code))
    return ExplanationAnswer(
        code=error.code,
        is_event=False,
        severity="refused" if error.exit_code == REFUSED else "error",
        sentence=error.sentence,
        explanation=" ".join(inspect.getdoc(error).split()),  # type: ignore[union-attr]  # a test holds that each has one
        remedy=error.remedy,
    )
