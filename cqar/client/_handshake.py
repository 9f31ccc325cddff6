"""The files of a `Tls`, and why a connection fails on account of it.

gRPC reports a wrong CA, a missing client certificate and a server without TLS alike, as UNAVAILABLE, which looks like an
outage; so a handshake of our own finds out. It is done only until the server has answered once.
"""

from __future__ import annotations

import os
import socket
import ssl
from pathlib import Path

from cqar.client._tls import Tls
from cqar.errors import InvalidError, UnavailableError

_PATIENCE = 1.0  # seconds for each step of the handshake
_GOOD, _CLOSED, _NO_TLS, _UNREACHABLE = "GOOD", "CLOSED", "NO_TLS", "UNREACHABLE"
_SPEAKS_TLS = ("TLS_EXPECTED", "the server speaks TLS: connect(…, tls=True) or Tls(ca=…), --tls or --ca FILE")
_FAULTS = {
    _GOOD: None,
    _UNREACHABLE: None,
    _NO_TLS: ("TLS_NOT_SPOKEN", "the server does not speak TLS: connect without"),
    _CLOSED: (
        "TLS_CLIENT_CERTIFICATE",
        "the server wants a client certificate of a CA that it trusts: Tls(cert=…, key=…), --client-cert FILE --client-key FILE",
    ),
}


def files(tls: Tls) -> tuple[bytes | None, bytes | None, bytes | None]:
    """Give the bytes of CAs, key and certificate, as gRPC takes them; InvalidError for a file that cannot be used."""
    try:
        _context(tls)  # gRPC does not tell what is wrong with them
        ca, key, cert = [None if path is None else Path(path).read_bytes() for path in (tls.ca, tls.key, tls.cert)]
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        names = ", ".join([os.fspath(path) for path in (tls.ca, tls.cert, tls.key) if path is not None])
        said = (isinstance(error, OSError) and error.strerror) or error
        raise InvalidError(f"tls: {names}: {said}", reason="TLS_FILES", field="tls") from None
    return ca, key, cert


def _context(tls: Tls | None) -> ssl.SSLContext:
    """Give the same for Python's own TLS; None trusts every server."""
    context = ssl.create_default_context(cafile=None if tls is None else tls.ca)
    context.set_alpn_protocols(["h2"])
    if tls is None:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    elif tls.cert is not None:
        context.load_cert_chain(tls.cert, tls.key, password=_no_password)
    return context


def _no_password() -> str:
    raise ValueError("the key has a password")


def diagnosed(target: str, tls: Tls | None) -> UnavailableError | None:
    """Tell why there is no connection to "host:port", if TLS is why."""
    host, _, port = target.rpartition("/")[2].rpartition(":")
    if not port.isdecimal():
        return None
    what = _shaken(host.strip("[]"), int(port), _context(tls))
    if tls is None:
        found = _SPEAKS_TLS if what in {_GOOD, _CLOSED} else None
    else:
        untrusted = f"its certificate is not trusted: {what}; name its CA by Tls(ca=…) or --ca FILE"
        found = _FAULTS.get(what, ("TLS_UNTRUSTED", untrusted))
    return None if found is None else UnavailableError(f"{target}: {found[1]}", reason=found[0])


def _shaken(host: str, port: int, context: ssl.SSLContext) -> str:
    """Shake hands and tell what came of it: one of the words above, or why the certificate is not trusted."""
    try:
        with (
            socket.create_connection((host, port), timeout=_PATIENCE) as raw,
            context.wrap_socket(raw, server_hostname=host) as encrypted,
        ):
            return _greeted(encrypted)
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
    except ssl.SSLError as error:  # an alert comes from a server that speaks TLS
        return _CLOSED if "ALERT" in (error.reason or "") else _NO_TLS
    except OSError:
        return _UNREACHABLE


def _greeted(encrypted: ssl.SSLSocket) -> str:
    """Wait for the server's first byte: it looks at our certificate only after the handshake."""
    try:
        return _GOOD if encrypted.recv(1) else _CLOSED
    except TimeoutError:
        return _GOOD
    except OSError:
        return _CLOSED
