"""Every error that the gateway raises on purpose.

GatewayError
├── RequestError             the caller's bytes are wrong: 400 with what, where and how to mend it
│   ├── AuthenticationError  no key, or a key that is unknown or revoked: 401
│   ├── NotFoundError        no such route or model: 404
│   └── TooLargeError        over a limit: 413
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


class TooLargeError(RequestError):
    """Over a documented limit."""

    status = 413
    code = "request_too_large"


class JudgeUnavailable(GatewayError):
    """No verdict: ``reason`` is ``timeout``, ``crashed``, ``overloaded``, ``starting`` or ``failed``."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class UpstreamError(GatewayError):
    """The upstream did not answer: ``reason`` is ``unreachable``, ``timeout`` or ``invalid``."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


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
