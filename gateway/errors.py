"""Every error that the gateway raises on purpose.

GatewayError
├── RequestError             the caller's bytes are wrong: 400 with what, where and how to mend it
│   ├── AuthenticationError  no key, or a key that is unknown or revoked: 401
│   ├── NotFoundError        no such route or model: 404
│   │   └── CaseNotFound     no such case
│   ├── TooLargeError        over a limit: 413
│   ├── UnmetObligation      the policy obliges to something that this route cannot do: 400
│   ├── RulingError          a ruling that nobody could give: no text, or a lesson that does not fit: 400
│   ├── NotReviewerError     this person may not rule on the case: 403
│   ├── CaseGone             what a case kept is erased or its time is over: 410
│   └── CaseStateError       the case is not in the state that this needs: 409
├── TooManyCases             too many cases of one key wait for people already
├── DeliveryError            a notice about a case was not taken
│   ├── DeliveryPostponed    it may be taken later
│   └── DeliveryRefused      it will not be taken, however often it is tried
├── JudgeUnavailable         the Safety head gave no verdict: 503, nothing was forwarded
├── UpstreamError            the upstream is down, slow or answers garbage: 502
├── AuditUnavailable         the log cannot be written: 503, nothing leaves
├── PolicyError              a policy file is wrong; the last good one stays in force
├── ReleaseError             a release is missing, altered or does not load
└── SettingsError            settings contradict each other or are unknown
"""


class GatewayError(Exception):
    """Base of all errors below."""


class RequestError(GatewayError):
    """The caller's request cannot be read or served.

    ``param`` is a JSON pointer into the body, or None.
    """

    status = 400
    code = "invalid_request"

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        if code is not None:
            self.code = code


class AuthenticationError(RequestError):
    """No key, or one that is unknown or revoked."""

    status = 401
    code = "invalid_api_key"


class NotFoundError(RequestError):
    """No such route or model."""

    status = 404
    code = "not_found"


class CaseNotFound(NotFoundError):
    """No such case."""

    code = "case_not_found"


class TooLargeError(RequestError):
    """Over a documented limit."""

    status = 413
    code = "request_too_large"


class UnmetObligation(RequestError):
    """The policy asks for something that this route cannot do: nothing is forwarded."""

    code = "obligation_unmet"


class RulingError(RequestError):
    """A ruling lacks its text, or carries a lesson that does not fit."""

    code = "invalid_ruling"


class NotReviewerError(RequestError):
    """Whoever rules may not rule on this case.

    ``ground`` is ``other_organization``, ``owner``, ``not_named``, ``cli_forbidden`` or ``ruled_already``.
    """

    status = 403
    code = "not_reviewer"

    def __init__(self, ground: str, message: str) -> None:
        super().__init__(message)
        self.ground = ground


class CaseGone(RequestError):
    """What the case kept is erased, or its time is over."""

    status = 410
    code = "case_gone"


class CaseStateError(RequestError):
    """The case is not in the state that this needs: ``status`` of the case is ``case_status``."""

    status = 409
    code = "case_state"

    def __init__(self, case_status: str, message: str) -> None:
        super().__init__(message)
        self.case_status = case_status


class TooManyCases(GatewayError):
    """Too many cases of one key are pending: ``decision_id`` is recorded, nothing was opened."""

    def __init__(self, decision_id: str, limit: int) -> None:
        super().__init__(f"{limit} cases of this key wait for people already")
        self.decision_id = decision_id
        self.limit = limit


class DeliveryError(GatewayError):
    """A notice was not taken. ``error`` is a closed word or a status: never a text from outside, never a secret."""

    def __init__(self, error: str) -> None:
        super().__init__(error)
        self.error = error


class DeliveryPostponed(DeliveryError):
    """It may be taken later, but not before ``after_s`` seconds where the receiver said so."""

    def __init__(self, error: str, after_s: float | None = None) -> None:
        super().__init__(error)
        self.after_s = after_s


class DeliveryRefused(DeliveryError):
    """It will not be taken, however often it is tried."""


class JudgeUnavailable(GatewayError):
    """No verdict: ``reason`` is ``timeout``, ``crashed``, ``overloaded``, ``starting`` or ``failed``."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class UpstreamError(GatewayError):
    """The upstream did not answer: ``reason`` is ``unreachable``, ``timeout``, ``invalid`` or ``interrupted``.

    ``sent``: whether it may have got the request.
    """

    def __init__(self, reason: str, message: str, *, sent: bool = True) -> None:
        super().__init__(message)
        self.reason = reason
        self.sent = sent


class AuditUnavailable(GatewayError):
    """The audit log could not be made durable (disk full, I/O error, locked)."""


class PolicyError(GatewayError):
    """A policy file is wrong: ``problems`` holds one ``file:line:column: what`` a problem."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class ReleaseError(GatewayError):
    """A release is missing, altered, or cannot be loaded."""


class SettingsError(GatewayError):
    """A setting is unknown, has a wrong type, or contradicts another one."""
