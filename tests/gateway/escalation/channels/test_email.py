"""Mail, against a real server: what arrives, what is tried again, and that encryption is never only pretended."""

import datetime
import ipaddress
import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gateway.errors import DeliveryPostponed, DeliveryRefused
from gateway.escalation.channels.email import EmailChannel, build_mail
from tests.gateway.escalation.notifying import notice
from tests.gateway.escalation.sinks import MailSink


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file with a key and its self-signed certificate for 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sink")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "sink.pem"
    plain = serialization.NoEncryption()
    file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return file


def server_tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


async def test_a_mail_arrives_in_both_forms_with_its_own_id() -> None:
    async with MailSink() as sink:
        channel = EmailChannel(sink.settings(sender="SO8T <so8t@example.org>"))
        await channel.send(notice("reviewer@example.org"))
        await channel.send(notice("reviewer@example.org"))
    first, second = sink.mails
    assert first["To"] == "reviewer@example.org"
    assert first["From"] == "SO8T <so8t@example.org>"
    assert first["Subject"] == "[SO8T] acme/medical: A request waits for a decision"
    assert first["Auto-Submitted"] == "auto-generated"
    assert first["Message-ID"] == second["Message-ID"] == "<01999999-0000-7000-8000-000000000001@example.org>"
    for kind in ("plain", "html"):
        part = first.get_body((kind,))
        assert part is not None
        text = part.get_content()
        assert "https://so8t.example.org/console/cases/01999999-0000-7000-8000-00000000000a" in text
        for fact in ("acme", "medical", "clinic", "abcd1234", "2026-11-24 20:15 UTC"):
            assert fact in text


async def test_a_japanese_mail_is_japanese() -> None:
    async with MailSink() as sink:
        await EmailChannel(sink.settings()).send(notice("reviewer@example.org", language="ja"))
    mail = sink.mails[0]
    assert mail["Subject"] == "[SO8T] acme/medical: 判断待ちのリクエストがあります"
    body = mail.get_body(("plain",))
    assert body is not None
    assert "2026年11月25日 05:15 JST（20:15 UTC）" in body.get_content()


def test_markup_in_a_name_stays_text() -> None:
    mail = build_mail(notice("a@example.org", route='<b onmouseover="x()">&'), "so8t@example.org")
    html = mail.get_body(("html",))
    assert html is not None
    assert "<b " not in html.get_content()
    assert "&lt;b onmouseover=&#34;x()&#34;&gt;&amp;" in html.get_content()


@pytest.mark.parametrize("address", ["", "nobody", "a@b, c@d", "a@b\nBcc: c@d", "a@b\r\n\r\nbody", "Ann <a@b.c>", "@"])
def test_an_address_is_one_address(address: str) -> None:
    with pytest.raises(DeliveryRefused, match="address_invalid"):
        build_mail(notice(address), "so8t@example.org")


@pytest.mark.parametrize(
    ("values", "error", "kind"),
    [
        ({"answer": lambda _: "550 no such user"}, "smtp_550", DeliveryRefused),
        ({"answer": lambda _: "450 greylisted"}, "smtp_450", DeliveryPostponed),
        ({"final": lambda _: "554 spam"}, "smtp_554", DeliveryRefused),
        ({"final": lambda _: "451 later"}, "smtp_451", DeliveryPostponed),
        ({"hang": True}, "timeout", DeliveryPostponed),
    ],
)
async def test_what_the_server_says_decides(values: dict[str, Any], error: str, kind: type[Exception]) -> None:
    async with MailSink(**values) as sink:
        with pytest.raises(kind, match=error):
            await EmailChannel(sink.settings(), timeout_s=0.5).send(notice("a@example.org"))
    assert sink.mails == []


async def test_a_server_that_is_down_is_tried_again() -> None:
    async with MailSink() as sink:
        settings = sink.settings()
    with pytest.raises(DeliveryPostponed, match="unreachable"):
        await EmailChannel(settings).send(notice("a@example.org"))


async def test_starttls_is_used_where_it_is_offered_and_verified(certificate: Path) -> None:
    async with MailSink(tls=server_tls(certificate)) as sink:
        trusting = ssl.create_default_context(cafile=certificate)
        for starttls in ("auto", "always"):
            await EmailChannel(sink.settings(starttls=starttls), tls_context=trusting).send(notice("a@example.org"))
        assert sink.encrypted == [True, True]
        with pytest.raises(DeliveryPostponed, match="tls_failed"):
            await EmailChannel(sink.settings()).send(notice("a@example.org"))
        await EmailChannel(sink.settings(starttls="never")).send(notice("a@example.org"))
    assert sink.encrypted == [True, True, False]


async def test_always_means_always() -> None:
    async with MailSink() as sink:
        with pytest.raises(DeliveryRefused, match="smtp_unsupported"):
            await EmailChannel(sink.settings(starttls="always")).send(notice("a@example.org"))
    assert sink.mails == []


async def test_a_login(certificate: Path) -> None:
    async with MailSink(tls=server_tls(certificate), password="secret") as sink:
        trusting = ssl.create_default_context(cafile=certificate)
        settings = sink.settings(username="so8t")
        await EmailChannel(settings, "secret", tls_context=trusting).send(notice("a@example.org"))
        with pytest.raises(DeliveryRefused, match="smtp_535"):
            await EmailChannel(settings, "wrong", tls_context=trusting).send(notice("a@example.org"))
    assert len(sink.mails) == 1


async def test_a_password_never_travels_in_the_clear() -> None:
    async with MailSink(password="secret") as sink:
        here = sink.settings(username="so8t", starttls="never")
        await EmailChannel(here, "secret").send(notice("a@example.org"))
        elsewhere = sink.settings(username="so8t", host="127.1", starttls="never")
        with pytest.raises(DeliveryRefused, match="login_unencrypted"):
            await EmailChannel(elsewhere, "secret").send(notice("a@example.org"))
    assert len(sink.mails) == 1
