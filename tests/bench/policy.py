"""How long does one decision take?

Builds a policy with many rules (conditions in CEL) and contracts, decides again and again about a reply that proposes a
tool call, and prints p50, p99 and the worst in milliseconds of one core's time, and what one condition and reading a
file cost. It is the processor's time, so that other work of the machine counts as little as can be.

    python -m tests.bench.policy --rules 200
"""

import argparse
import time

from gateway.parts import ToolCall
from gateway.policy import Facts, Trace, decide
from gateway.policy.conditions import activate, compile_condition
from gateway.principal import Principal
from gateway.verdict import Label
from tests.gateway.policy.examples import effective, verdict

CONDITIONS = (
    'stage == "response" && tool.name == "transfer_{0}" && tool.arguments.amount > 1000000',
    "verdict.domains.medical >= 0.{0:03} && verdict.scores.allow < 0.5",
    'now.getHours("Asia/Tokyo") >= 22 && principal.owner != "user{0}"',
    'parts.tools.exists(name, name.startsWith("drop_{0}"))',
    'has(tool.arguments.to) && tool.arguments.to.matches("^user{0}@")',
)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rules", type=int, default=200)
    parser.add_argument("--decisions", type=int, default=5000)
    options = parser.parse_args()
    rules = "".join(
        f"  - {{id: r{index}, when: '{CONDITIONS[index % len(CONDITIONS)].format(index)}', effect: escalate}}\n"
        for index in range(options.rules)
    )
    text = f"rules:\n{rules}tools:\n" + "".join(f"  tool_{index}: {{effect: escalate}}\n" for index in range(20))
    begun = time.thread_time()
    policy = effective(text)
    print(f"{options.rules} rules read and checked in {(time.thread_time() - begun) * 1000:.0f} ms")
    call = ToolCall("transfer", '{"amount": 20, "to": "taro@example.com", "note": "' + "x" * 500 + '"}', "/x")
    facts = Facts(
        "response",
        verdict(Label.ALLOW),
        (call,),
        principal=Principal("acme", "k1", "taro"),
        tools=("transfer", "read"),
        now=1_770_000_000_000,
    )
    decision = decide(policy, facts, decision_id="d")
    print(f"{decision.effect.value}, errors: {len(decision.errors)}")
    for name, traced in (("decision", False), ("decision with a trace", True)):
        times = []
        for _ in range(options.decisions if not traced else options.decisions // 10):
            trace = Trace() if traced else None
            begun = time.thread_time()
            decide(policy, facts, decision_id="d", trace=trace)
            times.append((time.thread_time() - begun) * 1000)
        times.sort()
        p50, p99 = times[len(times) // 2], times[len(times) * 99 // 100]
        print(f"{name}: p50 {p50:.3f} ms, p99 {p99:.3f} ms, worst {times[-1]:.3f} ms")
    condition, _ = compile_condition('stage == "response" && conversation.turns > 3')
    assert condition is not None
    values = activate({"stage": "response", "conversation.turns": 4})
    begun = time.thread_time()
    for _ in range(10_000):
        condition.holds(values)
    print(f"one condition: {(time.thread_time() - begun) * 100:.1f} µs")


if __name__ == "__main__":
    main()
