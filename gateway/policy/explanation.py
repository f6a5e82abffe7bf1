"""Why a policy decides as it does: everything that was tried, what held and why, and what won."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final

from gateway.decision import Decision
from gateway.policy.engine import Facts, decide
from gateway.policy.merge import EffectivePolicy
from gateway.policy.trace import Step, Trace

_MARKS: Final = {True: "yes", False: "no", None: "error"}


@dataclass(frozen=True, slots=True)
class Explanation:
    """A decision, the steps that led to it in the order in which they were tried, and the reason that decided."""

    decision: Decision
    steps: tuple[Step, ...]
    won: str


def explain(policy: EffectivePolicy, facts: Facts, *, decision_id: str = "explain") -> Explanation:
    """Return the decision of ``policy`` about ``facts`` with all that was tried for it."""
    trace = Trace()
    decision = decide(policy, facts, decision_id=decision_id, trace=trace)
    return Explanation(decision, tuple(trace.steps), trace.won or "")


def wins(explanation: Explanation, step: Step) -> bool:
    """Tell whether ``step`` gave the reason that decided."""
    won = explanation.won.removeprefix("error:")
    same = won == step.gate or won.startswith(f"{step.gate}:") or (step.gate == "model" and won.startswith("domain:"))
    return same and step.effect is explanation.decision.effect


def tell(explanation: Explanation) -> Iterator[str]:
    """Yield the explanation in lines for people."""
    decision = explanation.decision
    yield f"{decision.effect.value}{'' if decision.enforced else ' (monitor: recorded, acted on as ALLOW)'}"
    for name, value in summary(explanation):
        yield f"  {name:12}{value}"
    yield ""
    width = max(len(step.gate) for step in explanation.steps)
    layers = max(len(step.layer) for step in explanation.steps)
    for step in explanation.steps:
        won = "  <- decided" if wins(explanation, step) else ""
        about = f" ({shown(step.subject)})" if step.subject is not None else ""
        head = f"  {_MARKS[step.held]:6}{step.gate:{width}}  {step.layer:{layers}}  "
        yield f"{head}{shown(step.why)}{about}{won}"
        if len(step.terms) > 1:
            for term in step.terms:
                yield f"{'':8}{'':{width}}  {_MARKS[term.value]:>5}  {shown(term.text)}"


def summary(explanation: Explanation) -> Iterator[tuple[str, str]]:
    """Yield what was decided, as pairs of a word and its value."""
    decision = explanation.decision
    yield "decided by", explanation.won
    for name, value in (("domain", decision.domain), ("route", decision.route), ("message", decision.message)):
        if value:
            yield name, value
    if decision.approvals > 1:
        yield "approvals", str(decision.approvals)
    if decision.obligations:
        yield "obligations", ", ".join(obligation.name for obligation in decision.obligations)
    for lowering in decision.lowered:
        before, after = lowering.before.value, lowering.after.value
        yield "lowered", f"{lowering.domain} from {before} to {after} by rule:{lowering.rule}"
    if decision.teams:
        yield "teams", ", ".join(decision.teams)
    for error in decision.errors:
        yield "error", error
    yield "policy", f"{decision.policy} ({decision.revision[:19]})"


def plain(explanation: Explanation) -> dict[str, Any]:
    """Return the explanation as JSON has it."""
    decision = asdict(explanation.decision)
    decision["obligations"] = [{"name": one.name, **asdict(one)} for one in explanation.decision.obligations]
    steps = [{**asdict(step), "won": wins(explanation, step)} for step in explanation.steps]
    return {"decision": decision, "won": explanation.won, "steps": steps}


def shown(text: str) -> str:
    """Return ``text`` on one line, with everything that a terminal could act on made visible."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
