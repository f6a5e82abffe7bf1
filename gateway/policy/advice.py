"""What is allowed in a policy and hardly meant: told, never refused."""

from collections.abc import Iterator, Mapping, Set

from gateway.policy.document import EmailNotice, Policy, Team
from gateway.policy.source import Problem


def advise(policy: Policy, environment: Mapping[str, str] | None = None) -> tuple[Problem, ...]:
    """Return what the owner of ``policy`` should look at, in the order of the file.

    With ``environment`` also the variables that its channels need and that are not set there.
    """
    return tuple(sorted({*_routes(policy, _used(policy)), *_variables(policy, environment), *_contracts(policy)}))


def _used(policy: Policy) -> Set[str]:
    named: set[str | None] = {policy.default_route}
    layers: tuple[Policy | Team, ...] = (policy, *policy.teams.values())
    for layer in layers:
        named.add(layer.default_route)
        named |= {rule.route for rule in layer.domains.values()} | {rule.route for rule in layer.rules}
        for contract in layer.tools.contracts:
            named |= {contract.route, contract.otherwise.route}
    return {name for name in named if name is not None}


def _routes(policy: Policy, used: Set[str]) -> Iterator[Problem]:
    for name, route in policy.routes.items():
        at = ("routes", name)
        if name not in used:
            yield policy.source.problem(at, f"no case ever goes to the route `{name}`; name it or remove it", key=True)
        elif not route.notify:
            what = f"nobody is told of cases of the route `{name}`: they wait in the console until somebody looks"
            yield policy.source.problem(at, f"{what}; add `notify`", key=True)


def _variables(policy: Policy, environment: Mapping[str, str] | None) -> Iterator[Problem]:
    for name, route in policy.routes.items() if environment is not None else ():
        for index, notice in enumerate(route.notify):
            if not isinstance(notice, EmailNotice) and environment is not None and not environment.get(notice.variable):
                what = f"the variable {notice.variable} is not set here; without it this channel cannot be reached"
                yield policy.source.problem(("routes", name, "notify", index), what)


def _contracts(policy: Policy) -> Iterator[Problem]:
    for contract in policy.tools.contracts:
        if (
            contract.effect is not None
            and contract.arguments is not None
            and contract.effect is contract.otherwise.effect
        ):
            what = f"`{contract.pattern}` stops every call with the same effect; its `arguments` change nothing"
            yield policy.source.problem(("tools", contract.pattern, "arguments"), what, key=True)
