"""Who can reach a server, and how well guarded it must be for that: TLS, and when calls without a token may be let in.

Tokens decide what a caller may do. A client certificate (mTLS) only admits the connection; its name counts for nothing.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
import ssl
from collections.abc import Iterable
from datetime import UTC, datetime

import grpc

from cqar.access import Role, Token
from cqar.errors import PreconditionError
from cqar.server.config import Config

log = logging.getLogger(__name__)


def credentials(config: Config) -> grpc.ServerCredentials | None:
    """Give what the server proves itself with; None for plain text. PreconditionError for files that are of no use."""
    if config.tls_cert is None or config.tls_key is None:
        return None
    cert, key, client_ca = config.tls_cert, config.tls_key, config.tls_client_ca
    try:
        # gRPC does not look at them until a client calls, and then tells nobody.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key, password=_no_password)
        if client_ca is not None:
            context.load_verify_locations(client_ca)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        files = ", ".join([str(path) for path in (cert, key, client_ca) if path is not None])
        raise PreconditionError(
            f"TLS: {files}: {_said(error)}; wanted are a PEM certificate chain, its key without a password, and PEM CAs",
            reason="TLS_FILES",
        ) from None
    return grpc.ssl_server_credentials(
        [(key.read_bytes(), cert.read_bytes())],
        root_certificates=None if client_ca is None else client_ca.read_bytes(),
        require_client_auth=client_ca is not None,
    )


def _no_password() -> str:
    raise ValueError("the key has a password")


def _said(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error)


def may_be_open(config: Config, tokens: Iterable[Token]) -> bool:
    """Tell whether calls are let in as long as there is no token at all, and warn of what is risky.

    Raises PreconditionError, with the reason INSECURE, if others than this machine can reach the server, there is no valid
    token of an admin, and the configuration does not insist.
    """
    tokens = list(tokens)
    now = datetime.now(UTC)
    local = is_loopback(config.host)
    has_admin = any(Role.ADMIN in token.roles and not token.has_ended(now) for token in tokens)
    if not (local or has_admin or config.insecure):
        raise PreconditionError(
            f"{config.listen} can be reached from other machines, and there is no valid token of an admin: make one with"
            " `cqar token create NAME --role admin` and this server's --database or --data-dir, or listen on 127.0.0.1;"
            " --insecure serves all the same",
            reason="INSECURE",
            listen=config.listen,
        )
    if not tokens:
        who = "everybody on this machine" if local else "EVERYBODY WHO REACHES THIS ADDRESS"
        log.warning(
            "open: there is no API token, so %s may read and write everything; `cqar token create NAME --role admin`"
            " makes one, and then all calls need one",
            who,
        )
    elif not has_admin:
        log.warning(
            "no valid token of an admin is left; `cqar token create NAME --role admin` on the database makes one"
        )
    if tokens and not local and config.tls_cert is None:
        log.warning("no TLS on %s: tokens travel in clear; set --tls-cert and --tls-key", config.listen)
    return local or config.insecure


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches the address; a name counts as all that it stands for."""
    found = socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return all(ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback for *_, address in found)
