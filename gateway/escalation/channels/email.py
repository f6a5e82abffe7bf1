"""Mail: plain text with an HTML alternative, over a verified connection where there is encryption at all."""

import ssl
from contextlib import suppress
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime, localtime
from socket import gethostname
from typing import Final

import aiosmtplib
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from gateway.errors import DeliveryPostponed, DeliveryRefused
from gateway.escalation.notices import Notice
from gateway.settings import SmtpSettings, is_loopback

TIMEOUT_S: Final = 20.0
IMPLICIT_TLS: Final = 465

_pages: Final = Environment(
    loader=PackageLoader("gateway.escalation.channels"),
    autoescape=select_autoescape(["html"]),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


class EmailChannel:
    """A target's address is a mail address. One connection a notice.

    Certificates are always verified; ``tls_context`` is for those of an authority of one's own. A login over an
    unencrypted connection is refused, except on this machine.
    """

    def __init__(
        self,
        settings: SmtpSettings,
        password: str | None = None,
        *,
        timeout_s: float = TIMEOUT_S,
        tls_context: ssl.SSLContext | None = None,
    ) -> None:
        self._settings = settings
        self._password = password
        self._timeout_s = timeout_s
        self._tls = tls_context or ssl.create_default_context()
        self._sender = settings.sender or f"so8t@{gethostname()}"

    async def send(self, notice: Notice) -> None:
        """Hand the notice to the mail server.

        DeliveryPostponed: 4xx, a broken connection, a time-out, a failed TLS handshake. DeliveryRefused: 5xx, an
        impossible address, a server that cannot do what is needed.
        """
        message = build_mail(notice, self._sender)
        client = aiosmtplib.SMTP(
            hostname=self._settings.host,
            port=self._settings.port,
            timeout=self._timeout_s,
            use_tls=self._settings.port == IMPLICIT_TLS,
            start_tls=self._start_tls(),
            tls_context=self._tls,
        )
        try:
            await client.connect()
            await self._login(client)
            await client.send_message(message)
        except aiosmtplib.SMTPRecipientsRefused as error:
            raise _refused(error.recipients[0].code) from None
        except aiosmtplib.SMTPResponseException as error:
            raise _refused(error.code) from None
        except TimeoutError:
            raise DeliveryPostponed("timeout") from None
        except ssl.SSLError:
            raise DeliveryPostponed("tls_failed") from None
        except OSError as error:
            raise DeliveryPostponed(
                "tls_failed" if isinstance(error.__cause__, ssl.SSLError) else "unreachable"
            ) from None
        except (aiosmtplib.SMTPException, ValueError):
            raise DeliveryRefused("smtp_unsupported") from None
        else:
            with suppress(aiosmtplib.SMTPException, OSError):
                await client.quit()
        finally:
            client.close()

    async def close(self) -> None:
        """Nothing is kept open."""

    def _start_tls(self) -> bool | None:
        if self._settings.port == IMPLICIT_TLS:
            return False
        return {"auto": None, "always": True, "never": False}[self._settings.starttls]

    async def _login(self, client: aiosmtplib.SMTP) -> None:
        if self._settings.username is None:
            return
        if client.get_transport_info("sslcontext") is None and not is_loopback(str(self._settings.host)):
            raise DeliveryRefused("login_unencrypted")
        await client.login(self._settings.username, self._password or "")


def build_mail(notice: Notice, sender: str) -> EmailMessage:
    """Return the mail; DeliveryRefused for an impossible address.

    The Message-ID is the notice's, so that a repeated mail is known as one; all mails of a case are one thread.
    """
    mail = EmailMessage()
    try:
        mail["From"] = sender
        mail["To"] = Address(addr_spec=notice.target)
        mail["Subject"] = notice.subject
    except (ValueError, MessageError, IndexError):
        raise DeliveryRefused("address_invalid") from None
    domain = mail["From"].addresses[0].domain
    mail["Date"] = format_datetime(localtime())
    mail["Message-ID"] = f"<{notice.id}@{domain}>"
    mail["References"] = f"<{notice.case_id}@{domain}>"
    mail["Auto-Submitted"] = "auto-generated"
    mail["X-Auto-Response-Suppress"] = "All"
    mail.set_content(_pages.get_template("notice.txt").render(notice=notice))
    mail.add_alternative(_pages.get_template("notice.html").render(notice=notice), subtype="html")
    return mail


def _refused(code: int) -> DeliveryRefused | DeliveryPostponed:
    return DeliveryRefused(f"smtp_{code}") if 500 <= code < 600 else DeliveryPostponed(f"smtp_{code}")
