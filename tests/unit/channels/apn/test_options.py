"""An apn domain's options, and what is found in the certificates and keys that they name."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from pydantic import ValidationError

from channels.apn.options import Options, check, needs
from mcmt.channel.port import Finding, Needs
from mcmt.message.route import parse_route
from mcmt.simulator.topic_extension import encode_topics
from tests.support.manual_clock import ManualClock

NOW = ManualClock().time()
TOPICS = x509.ObjectIdentifier("1.2.840.113635.100.6.3.6")
SANDBOX = x509.ObjectIdentifier("1.2.840.113635.100.6.3.1")
APPLE = [parse_route("apn://api.push.apple.com")]


def key_bytes(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, passphrase: bytes | None = None) -> bytes:
    encryption = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


class Files:
    """Credentials written into a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())

    def write(self, name: str, content: bytes, mode: int = 0o600) -> Path:
        file = self.folder / name
        file.write_bytes(content)
        file.chmod(mode)
        return file

    def key_file(self, name: str = "key.pem", mode: int = 0o600) -> Path:
        return self.write(name, key_bytes(self.key), mode)

    def certificate(
        self,
        *,
        uid: str | None = None,
        topics: Sequence[str] = (),
        begin: float = -1,
        days: float = 100,
        der: bool = False,
        extension: bytes | None = None,
    ) -> bytes:
        names = [x509.NameAttribute(NameOID.COMMON_NAME, "Apple Push Services: com.example.app")]
        if uid:
            names.append(x509.NameAttribute(NameOID.USER_ID, uid))
        now = datetime.fromtimestamp(NOW, UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name(names))
            .issuer_name(x509.Name(names))
            .public_key(self.key.public_key())
            .serial_number(1)
            .not_valid_before(now + timedelta(days=begin))
            .not_valid_after(now + timedelta(days=days))
            .add_extension(x509.UnrecognizedExtension(SANDBOX, b"\x05\x00"), critical=False)
        )
        if topics:
            extension = encode_topics([(topic, "app") for topic in topics])
        if extension is not None:
            builder = builder.add_extension(x509.UnrecognizedExtension(TOPICS, extension), critical=False)
        encoding = serialization.Encoding.DER if der else serialization.Encoding.PEM
        return builder.sign(self.key, hashes.SHA256()).public_bytes(encoding)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def options(**given: object) -> Options:
    return Options.model_validate(given)


def findings(given: Options, routes: str = "apn://api.push.apple.com") -> list[Finding]:
    return list(check(given, [parse_route(routes)], ManualClock()))


def faults(given: Options, routes: str = "apn://api.push.apple.com") -> list[tuple[str, str]]:
    return [(found.option, found.text) for found in findings(given, routes) if found.fault]


def warnings(given: Options, routes: str = "apn://api.push.apple.com") -> list[str]:
    return [f"{found.option} {found.text}" for found in findings(given, routes) if found.warning]


def with_certificate(files: Files, certificate: bytes, **given: object) -> Options:
    return options(tls_certificate=files.write("cert.pem", certificate), tls_key=files.key_file(), **given)


def with_token(files: Files, **given: object) -> Options:
    defaults: dict[str, object] = {
        "apn_auth_key": files.key_file("AuthKey_ABC123DEFG.p8"),
        "apn_key_id": "ABC123DEFG",
        "apn_team_id": "DEF123GHIJ",
        "apn_topic": "com.example.app",
    }
    return options(**{name: value for name, value in (defaults | given).items() if value is not None})


class TestValues:
    """Units are Momentum's."""

    def test_defaults(self) -> None:
        given = options()
        assert given.apn_expiry == 604800.0
        assert given.response_timeout(binary=False) == 30.0
        assert given.response_timeout(binary=True) == 5.0
        assert given.apn_window == 20_000
        assert given.tls_verify == "host"

    def test_a_bare_response_timeout_counts_milliseconds_and_is_held_in_seconds(self) -> None:
        assert options(delivery_response_timeout=5000).delivery_response_timeout == 5.0
        assert options(delivery_response_timeout="5s").delivery_response_timeout == 5.0
        assert options(delivery_response_timeout="2s").response_timeout(binary=False) == 2.0
        assert options(delivery_response_timeout="2s").response_timeout(binary=True) == 2.0

    def test_no_is_a_word_however_yaml_read_it(self) -> None:
        assert options(tls_verify=False).tls_verify == "no"

    @pytest.mark.parametrize(
        "given",
        [
            {"delivery_response_timeout": 0},
            {"apn_window": 0},
            {"tls_verify": "optional"},
            {"apn_key_id": 1234567890},
            {"apn_topic": ""},
            {"apn_topic": "com.example.app "},
            {"apn_topic": "com.example.app\n"},
            {"apn_topics": "x"},
            {"apn_expiry": -1},
        ],
    )
    def test_what_is_out_of_range_is_refused(self, given: dict[str, object]) -> None:
        with pytest.raises(ValidationError):
            options(**given)


class TestProviderToken:
    """A P-256 key with the ids of the key and its team."""

    def test_a_complete_one_has_nothing_wrong(self, files: Files) -> None:
        (found,) = findings(with_token(files))
        assert (found.option, found.fault, found.warning) == ("apn_auth_key", False, False)

    @pytest.mark.parametrize("option", ["apn_key_id", "apn_team_id"])
    def test_both_ids_are_needed(self, files: Files, option: str) -> None:
        assert faults(with_token(files, **{option: None})) == [
            (option, "is missing: a provider token names its key and its team")
        ]

    @pytest.mark.parametrize("option", ["apn_key_id", "apn_team_id"])
    @pytest.mark.parametrize("value", ["ABC123DEF", "ABC123DEFGH", "abc123defg", "ABC-23DEFG", ""])
    def test_an_id_is_ten_capital_letters_and_digits(self, files: Files, option: str, value: str) -> None:
        assert faults(with_token(files, **{option: value})) == [
            (option, f"expected 10 capital letters and digits, got {value!r}")
        ]

    def test_ids_without_a_key_are_a_fault(self) -> None:
        assert ("apn_key_id", "needs apn_auth_key, Apple's .p8 file") in faults(options(apn_key_id="ABC123DEFG"))

    def test_a_missing_file_a_wrong_curve_and_a_passphrase_are_faults(self, files: Files) -> None:
        missing = files.folder / "missing.p8"
        curve = files.write("curve.p8", key_bytes(ec.generate_private_key(ec.SECP384R1())))
        locked = files.write("locked.p8", key_bytes(files.key, b"secret"))
        junk = files.write("junk.p8", b"junk")
        expected = {
            missing: f"{missing} cannot be read: No such file or directory",
            curve: f"{curve} is not a P-256 key, as Apple's .p8 files are",
            locked: f"{locked} is protected by a passphrase; remove it with: openssl pkey -in {locked} -out key.pem",
            junk: f"{junk} is not a private key in PEM",
        }
        for file, text in expected.items():
            assert faults(with_token(files, apn_auth_key=file)) == [("apn_auth_key", text)]

    def test_a_key_that_everyone_may_read_is_a_fault(self, files: Files) -> None:
        key = files.key_file("other.p8", mode=0o644)
        assert faults(with_token(files, apn_auth_key=key)) == [
            ("apn_auth_key", f"everyone on this machine may read {key}: chmod 600 {key}")
        ]

    def test_what_is_probably_not_meant_is_a_warning(self, files: Files) -> None:
        readable = files.key_file("AuthKey_AAA123DEFG.p8", mode=0o660)
        found = warnings(
            with_token(
                files,
                apn_auth_key=readable,
                apn_key_id="ZZZ123DEFG",
                apn_topic=None,
                apn_expiry="31d",
                delivery_response_timeout=500,
                tls_verify="no",
            )
        )
        assert [warning.split()[0] for warning in found] == [
            "apn_auth_key",
            "apn_key_id",
            "apn_topic",
            "tls_verify",
            "apn_expiry",
            "delivery_response_timeout",
        ]


class TestCertificate:
    """A certificate, its key, its topics, its days."""

    def test_it_says_whose_it_is_what_for_and_how_long(self, files: Files) -> None:
        given = with_certificate(files, files.certificate(uid="com.example.app", topics=["com.example.app", "b.voip"]))
        (found,) = [each for each in findings(given) if not each.warning]
        assert found == Finding(
            "tls_certificate",
            "certificate of Apple Push Services: com.example.app; topics com.example.app, b.voip; sandbox; "
            "valid until 2024-02-22, 100 days left",
        )

    def test_the_only_topic_may_be_the_uid(self, files: Files) -> None:
        given = with_certificate(files, files.certificate(uid="com.example.app"))
        assert "topics com.example.app;" in findings(given)[0].text
        assert warnings(given) == []

    @pytest.mark.parametrize(
        "extension", [b"", b"\x30", b"\x30\x82", b"\x30\x7fabc", b"\x0c\x01a", b"\x30\x03\x0c\x01\xff"]
    )
    def test_an_extension_that_cannot_be_read_leaves_the_uid(self, files: Files, extension: bytes) -> None:
        given = with_certificate(files, files.certificate(uid="com.example.app", extension=extension))
        assert "topics com.example.app;" in findings(given)[0].text

    def test_a_topic_that_the_certificate_is_not_for_is_a_fault(self, files: Files) -> None:
        given = with_certificate(files, files.certificate(topics=["a.app", "a.app.voip"]), apn_topic="b.app")
        assert faults(given) == [("apn_topic", "the certificate is not for b.app but for a.app, a.app.voip")]

    def test_several_topics_or_none_without_apn_topic_are_a_warning(self, files: Files) -> None:
        for topics in (["a.app", "b.app"], []):
            (warning,) = warnings(with_certificate(files, files.certificate(topics=topics)))
            assert warning.startswith("apn_topic is not set")
            assert warnings(with_certificate(files, files.certificate(topics=topics), apn_topic="a.app")) == []

    @pytest.mark.parametrize(
        ("begin", "days", "text"),
        [(-100, -1, "has expired"), (1, 100, "is not valid yet")],
    )
    def test_outside_its_days_it_is_a_warning(self, files: Files, begin: float, days: float, text: str) -> None:
        """A fault would keep the engine from starting, and with it the domains whose certificates are good."""
        given = with_certificate(files, files.certificate(uid="a", begin=begin, days=days))
        assert faults(given) == []
        (told,) = warnings(given)
        assert told.startswith(f"tls_certificate {text}, and Apple refuses it")

    def test_the_last_thirty_days_are_a_warning(self, files: Files) -> None:
        assert warnings(with_certificate(files, files.certificate(uid="a", days=29))) == [
            "tls_certificate expires in 29 days; have a new one made"
        ]

    def test_the_key_may_be_in_the_certificates_file(self, files: Files) -> None:
        certificate = files.certificate(uid="a")
        both = files.write("both.pem", certificate + key_bytes(files.key))
        turned = files.write("turned.pem", key_bytes(files.key) + certificate)
        assert faults(options(tls_certificate=both)) == []
        assert faults(options(tls_certificate=turned)) == []

    def test_without_any_key_it_is_a_fault(self, files: Files) -> None:
        ((option, text),) = faults(options(tls_certificate=files.write("cert.pem", files.certificate())))
        assert option == "tls_certificate"
        assert text.startswith("has no key: set tls_key")

    def test_a_key_of_another_certificate_is_a_fault(self, files: Files) -> None:
        other = files.write("other.pem", key_bytes(rsa.generate_private_key(65537, 2048)))
        given = options(tls_certificate=files.write("cert.pem", files.certificate()), tls_key=other)
        ((option, text),) = faults(given)
        assert option == "tls_key"
        assert text == f"the key in {other} is not that of the certificate {files.folder / 'cert.pem'}"

    def test_a_key_alone_is_a_fault(self, files: Files) -> None:
        assert faults(options(tls_key=files.key_file())) == [
            ("tls_key", "needs tls_certificate, the certificate that it belongs to")
        ]

    def test_der_junk_and_missing_files_are_faults_that_say_what_to_do(self, files: Files) -> None:
        der = files.write("cert.der", files.certificate(der=True))
        ((option, text),) = faults(options(tls_certificate=der, tls_key=files.key_file()))
        assert option == "tls_certificate"
        assert "openssl x509 -inform der" in text
        missing = files.folder / "missing.pem"
        certificate = files.write("cert.pem", files.certificate())
        assert faults(options(tls_certificate=missing)) == [
            ("tls_certificate", f"{missing} cannot be read: No such file or directory")
        ]
        assert faults(options(tls_certificate=certificate, tls_key=missing)) == [
            ("tls_key", f"{missing} cannot be read: No such file or directory")
        ]

    def test_a_key_that_everyone_may_read_is_a_fault(self, files: Files) -> None:
        certificate = files.write("cert.pem", files.certificate(uid="a"), 0o644)
        key = files.key_file(mode=0o644)
        assert faults(options(tls_certificate=certificate, tls_key=key)) == [
            ("tls_key", f"everyone on this machine may read {key}: chmod 600 {key}")
        ]
        both = files.write("both.pem", files.certificate(uid="a") + key_bytes(files.key), 0o644)
        assert faults(options(tls_certificate=both)) == [
            ("tls_certificate", f"everyone on this machine may read {both}: chmod 600 {both}")
        ]


def test_a_domain_has_one_credential(files: Files) -> None:
    assert [option for option, _ in faults(options())] == [""]
    both = with_token(
        files,
        tls_certificate=files.write("cert.pem", files.certificate(uid="com.example.app")),
        tls_key=files.key_file(),
    )
    ((option, text),) = faults(both)
    assert option == "apn_auth_key"
    assert text.startswith("stands beside tls_certificate: a domain has a certificate or a provider token, not both")


def test_authorities_must_be_readable(files: Files) -> None:
    good = files.write("ca.pem", files.certificate())
    junk = files.write("junk.pem", b"junk")
    missing = files.folder / "missing.pem"
    assert faults(with_token(files, tls_ca=good)) == []
    assert faults(with_token(files, tls_ca=junk)) == [("tls_ca", f"{junk} has no certificates in PEM")]
    assert faults(with_token(files, tls_ca=missing)) == [
        ("tls_ca", f"{missing} cannot be read: No such file or directory")
    ]


@pytest.mark.parametrize(
    ("route", "text"),
    [
        ("apn://api.push.apple.com?protocol=smtp", "there is no protocol 'smtp'"),
        ("apn://gateway.push.apple.com:2195?protocol=http2", "has been switched off; use api.push.apple.com:443"),
        ("apn://api.push.apple.com?prot=http2", "unknown option prot; there are: port, protocol"),
    ],
)
def test_a_route_with_options_that_cannot_work_is_a_fault(files: Files, route: str, text: str) -> None:
    ((option, told),) = faults(with_token(files), route)
    assert option == "routes"
    assert text in told


def test_a_route_may_name_the_protocol_that_it_has(files: Files) -> None:
    assert faults(with_token(files), "apn://localhost:2197?protocol=http2") == []


class TestBinary:
    """Routes with protocol=binary."""

    def test_it_takes_a_certificate_and_needs_no_topic(self, files: Files) -> None:
        given = with_certificate(files, files.certificate(topics=[]))
        assert faults(given, "apn://gateway.example.com?protocol=binary") == []
        assert warnings(given, "apn://gateway.example.com?protocol=binary") == []

    def test_a_provider_token_is_a_fault(self, files: Files) -> None:
        ((option, text),) = faults(with_token(files), "apn://gateway.example.com?protocol=binary")
        assert option == "apn_auth_key"
        assert "the binary protocol has no provider tokens; give tls_certificate and tls_key" in text

    def test_apples_own_gateway_is_gone(self, files: Files) -> None:
        given = with_certificate(files, files.certificate(uid="com.example.app"))
        (warning,) = warnings(given, "apn://gateway.push.apple.com?protocol=binary")
        assert "has been switched off by Apple" in warning
        assert faults(given, "apn://gateway.push.apple.com?protocol=binary") == []

    def test_a_short_silence_is_said_to_hide_errors(self, files: Files) -> None:
        given = with_certificate(files, files.certificate(uid="com.example.app"), delivery_response_timeout=500)
        (warning,) = warnings(given, "apn://gateway.example.com?protocol=binary")
        assert "logged as delivered" in warning

    def test_the_engine_holds_a_window_and_waits_longer_than_silence_lasts(self) -> None:
        binary, modern = parse_route("apn://a?protocol=binary"), parse_route("apn://a")
        assert needs(options(apn_window=7), [modern, binary]) == Needs(longest_silence=5.0, unanswered=7)
        assert needs(options(), [modern]) == Needs()


@pytest.mark.parametrize(
    ("route", "text"),
    [
        ("apn-feedback://gateway.example.com?x=1", "has an unknown option x; there is: port"),
        ("apn-feedback://feedback.push.apple.com", "has been switched off by Apple"),
    ],
)
def test_a_feedback_route_that_cannot_work_is_a_fault(route: str, text: str) -> None:
    found = check(Options.model_validate({"feedback": {"route": route}}), ())
    assert any(text in finding.text for finding in found if finding.fault and finding.option == "feedback")


def test_a_feedback_service_is_asked_seldom_and_with_a_certificate() -> None:
    options = Options.model_validate({"feedback": {"route": "apn-feedback://[::1]:2196", "interval": "5s"}})
    texts = [finding.text for finding in check(options, ()) if finding.warning and finding.option == "feedback"]
    assert texts == [
        "is asked without a client certificate, by which such services know the app",
        "is asked more than once a minute",
    ]


@pytest.mark.parametrize("value", [7, "apn://gateway.example.com", "gateway.example.com"])
def test_what_is_no_feedback_route_is_refused(value: object) -> None:
    with pytest.raises(ValidationError):
        Options.model_validate({"feedback": {"route": value}})
