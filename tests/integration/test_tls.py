"""TLS and mTLS with real certificates: what connects, and that every way to fail is told as what it is."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from cqar.access import Role
from cqar.client import Tls, connect
from cqar.client._remote import Remote
from cqar.errors import InvalidError, PreconditionError, UnauthenticatedError, UnavailableError
from cqar.server.config import Config
from cqar.server.server import ServerThread, running_server
from cqar.server.store import Store
from cqar.server.tokens import Tokens


class Pair(NamedTuple):
    """A certificate and its key, in memory and in files."""

    certificate: x509.Certificate
    private: ec.EllipticCurvePrivateKey
    cert: Path
    key: Path


class Authority:
    """Makes certificates."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self.root = self._made(name, None, hosts=[], is_ca=True, days=1)

    @property
    def ca(self) -> Path:
        """The file to trust."""
        return self.root.cert

    def issue(self, name: str, *, hosts: tuple[str, ...] = ("localhost", "127.0.0.1"), days: int = 1) -> Pair:
        """Make a certificate for a server or a client; it has expired if `days` is negative."""
        return self._made(name, self.root, hosts=list(hosts), is_ca=False, days=days)

    def _made(self, name: str, issuer: Pair | None, *, hosts: list[str], is_ca: bool, days: int) -> Pair:
        private = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        signer = private if issuer is None else issuer.private
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject if issuer is None else issuer.certificate.subject)
            .public_key(private.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=3))
            .not_valid_after(now + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(private.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        )
        if is_ca:
            usage = dict.fromkeys(
                ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), False
            )
            builder = builder.add_extension(
                x509.KeyUsage(
                    digital_signature=True,
                    key_cert_sign=True,
                    crl_sign=True,
                    encipher_only=False,
                    decipher_only=False,
                    **usage,
                ),
                critical=True,
            )
        if hosts:
            names = [_name(host) for host in hosts]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        certificate = builder.sign(signer, hashes.SHA256())
        cert, key = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        cert.write_bytes(certificate.public_bytes(Encoding.PEM))
        _write_key(key, private, NoEncryption())
        return Pair(certificate, private, cert, key)


def _name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey, encryption: KeySerializationEncryption) -> None:
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Give the CA that the server's and the clients' certificates are of."""
    return Authority(tmp_path, "authority")


@pytest.fixture
def other(tmp_path: Path) -> Authority:
    """Give a CA that nobody should trust here."""
    return Authority(tmp_path, "other")


@pytest.fixture
def base(migrated_url: str, open_folder: Path) -> Config:
    """Give the settings of a small server without TLS."""
    return Config(
        listen="127.0.0.1:0",
        database=migrated_url,
        data_dir=open_folder,
        workers=4,
        heartbeat_interval=0.2,
        snapshot_interval=0.0,
    )


def with_tls(base: Config, pair: Pair, client_ca: Path | None = None) -> Config:
    """Give the settings with a certificate."""
    values = {name: getattr(base, name) for name in base.__struct_fields__}
    return Config(**{**values, "tls_cert": pair.cert, "tls_key": pair.key, "tls_client_ca": client_ca})


@pytest.fixture
def server(base: Config, authority: Authority) -> Iterator[ServerThread]:
    """Run a server with TLS."""
    with running_server(with_tls(base, authority.issue("server"))) as server:
        yield server


@pytest.fixture
def mutual(base: Config, authority: Authority) -> Iterator[ServerThread]:
    """Run a server that wants client certificates of its own CA."""
    with running_server(with_tls(base, authority.issue("server"), authority.ca)) as server:
        yield server


def failure(target: str, tls: Tls | None) -> UnavailableError:
    """Give the error of a call."""
    remote = Remote(target, token=None, actor=None, timeout=5.0, tls=tls)
    with pytest.raises(UnavailableError) as caught:
        remote.head()
    remote.close()
    return caught.value


def test_a_replica_comes_up_over_tls(server: ServerThread, authority: Authority, tmp_path: Path) -> None:
    """Calls and feed are encrypted; the server is known by its address and by its name."""
    for target in (server.target, f"localhost:{server.server.port}"):
        with connect(target, tls=Tls(ca=authority.ca), replica_dir=tmp_path / "replica") as client:
            assert client.age < 5
            assert client.list_chains() == ()


def test_a_client_certificate_admits(mutual: ServerThread, authority: Authority, tmp_path: Path) -> None:
    """With mTLS a certificate of the right CA connects."""
    mine = authority.issue("me", hosts=("me",))
    tls = Tls(ca=authority.ca, cert=mine.cert, key=mine.key)
    with connect(mutual.target, tls=tls, replica_dir=tmp_path / "replica") as client:
        assert client.age < 5


def test_a_client_certificate_does_not_stand_for_a_token(base: Config, authority: Authority, store: Store) -> None:
    """A client certificate admits the connection, the token decides what it may do."""
    _, secret = Tokens(store).create("ops", [Role.ADMIN], created_by="test")
    mine = authority.issue("ops", hosts=("ops",))
    tls = Tls(ca=authority.ca, cert=mine.cert, key=mine.key)
    with running_server(with_tls(base, authority.issue("server"), authority.ca)) as server:
        without = Remote(server.target, token=None, actor="ops", timeout=5.0, tls=tls)
        with pytest.raises(UnauthenticatedError):
            without.head()
        having = Remote(server.target, token=secret, actor=None, timeout=5.0, tls=tls)
        assert having.head().position == 0
        without.close()
        having.close()


def test_a_wrong_authority_is_no_outage(server: ServerThread, other: Authority) -> None:
    """A server whose CA is not trusted is told as that."""
    for tls in (Tls(ca=other.ca), Tls()):
        error = failure(server.target, tls)
        assert error.reason == "TLS_UNTRUSTED"
        assert "certificate is not trusted" in error.message


def test_an_expired_certificate_and_a_wrong_name_are_told(base: Config, authority: Authority) -> None:
    """What is wrong with the server's certificate is said in words."""
    with running_server(with_tls(base, authority.issue("late", days=-1))) as server:
        error = failure(server.target, Tls(ca=authority.ca))
        assert (error.reason, "expired" in error.message) == ("TLS_UNTRUSTED", True)
    with running_server(with_tls(base, authority.issue("elsewhere", hosts=("elsewhere.example",)))) as server:
        error = failure(server.target, Tls(ca=authority.ca))
        assert (error.reason, "127.0.0.1" in error.message) == ("TLS_UNTRUSTED", True)


def test_plain_text_to_tls_and_tls_to_plain_text_are_told(
    server: ServerThread, base: Config, authority: Authority
) -> None:
    """Each is an error that says what to change."""
    error = failure(server.target, None)
    assert (error.reason, "--tls" in error.message) == ("TLS_EXPECTED", True)
    with running_server(base) as plain:
        assert failure(plain.target, Tls(ca=authority.ca)).reason == "TLS_NOT_SPOKEN"


def test_a_missing_or_foreign_client_certificate_is_told(
    mutual: ServerThread, authority: Authority, other: Authority
) -> None:
    """The server hangs up without a word; the client finds out why."""
    foreign = other.issue("stranger", hosts=("stranger",))
    for tls in (Tls(ca=authority.ca), Tls(ca=authority.ca, cert=foreign.cert, key=foreign.key)):
        error = failure(mutual.target, tls)
        assert error.reason == "TLS_CLIENT_CERTIFICATE"
        assert "--client-cert" in error.message
    assert failure(mutual.target, None).reason == "TLS_EXPECTED"


def test_an_outage_is_still_an_outage(authority: Authority) -> None:
    """Where nothing listens, TLS is not blamed."""
    for tls in (None, Tls(ca=authority.ca)):
        assert failure("127.0.0.1:1", tls).reason == UnavailableError.default_reason


def test_a_client_refuses_files_that_are_of_no_use(authority: Authority, other: Authority, tmp_path: Path) -> None:
    """A missing file, no certificate, a key of another, a key without its certificate: each before anything is sent."""
    mine, foreign = authority.issue("me"), other.issue("them")
    broken = tmp_path / "broken.pem"
    broken.write_text("nonsense")
    for tls in (
        Tls(ca=tmp_path / "absent.pem"),
        Tls(ca=broken),
        Tls(cert=mine.cert, key=foreign.key),
        Tls(cert=broken, key=mine.key),
    ):
        with pytest.raises(InvalidError) as caught:
            Remote("localhost:1", token=None, actor=None, timeout=1.0, tls=tls)
        assert caught.value.reason == "TLS_FILES"
    with pytest.raises(InvalidError):
        Tls(cert=mine.cert)


def test_a_server_does_not_start_with_files_that_are_of_no_use(
    base: Config, authority: Authority, other: Authority, tmp_path: Path
) -> None:
    """It says at the start which files and why, since gRPC would say it to nobody, and asks for no password."""
    good, foreign = authority.issue("server"), other.issue("them")
    locked, broken = tmp_path / "locked.key", tmp_path / "broken.pem"
    _write_key(locked, good.private, BestAvailableEncryption(b"secret"))
    broken.write_text("nonsense")
    for pair, client_ca, said in (
        (good._replace(cert=tmp_path / "absent.pem"), None, "absent.pem"),
        (good._replace(key=foreign.key), None, "them.key"),
        (good._replace(key=locked), None, "password"),
        (good._replace(cert=broken), None, "broken.pem"),
        (good, broken, "broken.pem"),
    ):
        with pytest.raises(PreconditionError) as caught, running_server(with_tls(base, pair, client_ca)):
            pass
        assert (caught.value.reason, said in caught.value.message) == ("TLS_FILES", True), caught.value.message


def test_with_tls_nobody_is_warned_of_clear_text(
    base: Config, authority: Authority, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """The warning that tokens travel in clear is for those whose tokens do."""
    _, secret = Tokens(store).create("ops", [Role.ADMIN], created_by="test")
    settings = with_tls(base, authority.issue("server"))
    values = {name: getattr(settings, name) for name in settings.__struct_fields__}
    with caplog.at_level(logging.WARNING), running_server(Config(**{**values, "listen": "0.0.0.0:0"})) as server:
        target = f"localhost:{server.server.port}"
        remote = Remote(target, token=secret, actor=None, timeout=5.0, tls=Tls(ca=authority.ca))
        assert remote.head().position == 0
        remote.close()
    assert "clear" not in caplog.text
