"""Who may see a case, and as whom a user rules on it."""

from gateway.escalation.case import Case, Reviewer, fold
from gateway.escalation.reviewing import refusal
from gateway.store.users import User


def reviewer(user: User) -> Reviewer:
    """Return a signed-in user as a reviewer."""
    return Reviewer(user.name, user.organization, frozenset(user.groups), user.email, "console")


def may_see(user: User, case: Case) -> bool:
    """Tell whether a user may read what a case is about: whoever may decide it, and the owner of the key that asked."""
    return refusal(case, reviewer(user)) in (None, "owner")


def owns(user: User, case: Case) -> bool:
    """Tell whether the user owns the key that asked: then somebody else must decide."""
    return refusal(case, reviewer(user)) == "owner"


def has_ruled(user: User, case: Case) -> bool:
    """Tell whether the user has ruled on the case already."""
    return any(fold(ruling.by) == fold(user.name) for ruling in case.rulings)
