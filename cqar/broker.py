"""What the server and its followers agree on at a broker: streams, subjects, headers, and how an address is read.

Two things travel. *Events*, for anybody, one message each: see `cqar.events`. And the *feed*, for replicas: the very messages
of `Replication.WatchChanges`, in a JetStream stream that holds one unbroken history; its headers say which positions a message
goes from and to, so that a follower proves it with its token (`mark`) before it believes it.

Heartbeats are not stored. Like those of a gRPC stream they count time from the start of a session, here that of the server that
publishes: a follower asks that server once, at CALL, how long ago it was, by the follower's own clock at least so long.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, urlsplit, urlunsplit

import msgspec

from cqar.errors import InvalidError, UnavailableError
from cqar.model import FeedToken

if TYPE_CHECKING:
    from nats.aio.client import Client as Nats

REDIS: Final = ("redis://", "rediss://", "unix://")  # how addresses of a Redis begin

EVENTS: Final = "cqar.events.v1"  # subject, with the type behind it; in Redis the key of the stream
EVENTS_STREAM: Final = "CQAR_EVENTS"

FEED_STREAM: Final = "CQAR_FEED"
BATCHES: Final = (
    "cqar.feed.v1.batches"  # stored: WatchChangesResponse, in parts if the server of NATS wants them smaller
)
HEARTBEATS: Final = "cqar.feed.v1.heartbeats"  # not stored: WatchChangesResponse with nothing but the heartbeat
CALL: Final = "cqar.feed.v1.call"  # with the session behind it; answered with how many milliseconds ago that began

LOG: Final = "Cqar-Log"  # header: the log's id
AFTER: Final = "Cqar-After"  # header: the mark that the batches of a message follow
UPTO: Final = "Cqar-Upto"  # header: the mark of the last one; of a heartbeat: of where its publisher is, if it tells
PART: Final = (
    "Cqar-Part"  # header: "2/3" for the second of three parts of one message; they follow each other in the stream
)
SESSION: Final = "Cqar-Session"  # header: of the publisher, whose heartbeats count from its beginning

CONNECT_SECONDS: Final = 3  # to one server
_PING_SECONDS: Final = 3  # and two that are not answered: a frozen server is noticed after nine


def mark(token: FeedToken) -> str:
    """Write position and chain of a token as the headers have it."""
    return f"{token.position}:{token.chain.hex()}"


def marked(log_id: str, text: str) -> FeedToken:
    """Read the token of a mark; InvalidError for what is none."""
    position, separator, chain = text.partition(":")
    try:
        if separator and position.isascii():
            return FeedToken(log_id=log_id, position=int(position), chain=bytes.fromhex(chain))
    except ValueError:
        pass
    raise InvalidError(f"{text[:80]!r} is not a position and a chain", reason="MARK", field="mark")


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """Where a NATS is, and who one is there."""

    servers: tuple[str, ...]  # may hold a password: `shown` does not
    credentials: Path | None = None
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    @property
    def shown(self) -> str:
        """Its servers without passwords, for logs and errors."""
        return ",".join([urlunsplit(urlsplit(each)._replace(netloc=_bare(each))) for each in self.servers])

    def __repr__(self) -> str:
        """Show it without passwords."""
        return f"Address({self.shown})"


def _bare(server: str) -> str:
    return urlsplit(server).netloc.rpartition("@")[2]


def address(url: str, field: str) -> Address:
    """Read the address of a NATS; InvalidError that names `field` for one that is none.

    `nats://user:password@host:4222`, or `tls://…`; several servers of one cluster with commas between them. Behind a question mark:
    `creds`, a file of credentials (nsc, NGS); `ca`, `cert` and `key`, PEM files for TLS.
    """
    places, _, query = url.partition("?")
    servers = [each if "://" in each else f"nats://{each}" for each in places.split(",")]
    given = dict(parse_qsl(query, keep_blank_values=True))
    names = {"creds": "credentials", "ca": "ca", "cert": "cert", "key": "key"}
    why = ""
    if not all(urlsplit(each).scheme in {"nats", "tls"} and urlsplit(each).hostname for each in servers):
        why = "is not an address such as nats://host:4222"
    elif unknown := sorted(given.keys() - names.keys()):
        why = f"has {', '.join(unknown)} behind the question mark; known are {', '.join(names)}"
    elif "key" in given and "cert" not in given:
        why = "has a key and no cert"
    if why:
        raise InvalidError(f"{field}: {places.rpartition('@')[2]} {why}", reason="BROKER", field=field)
    files = {names[name]: Path(value).expanduser() for name, value in given.items()}
    return Address(servers=tuple(servers), **files)


def require_nats() -> None:
    """Raise UnavailableError unless the package that speaks with NATS is installed."""
    if find_spec("nats") is None:
        raise UnavailableError("NATS needs another package: pip install 'cqar[nats]'", reason="NOT_INSTALLED")


async def connected(
    where: Address,
    name: str,
    *,
    on_lost: Callable[[], Awaitable[None]] | None = None,
    on_error: Callable[[Exception], Awaitable[None]] | None = None,
) -> Nats:
    """Connect to a NATS as `name`, once: who loses the connection, of which `on_lost` tells, begins anew with a new one.

    `on_error` is told what concerns no one request: that a right is missing, which the request itself would only time out for.
    Raises UnavailableError that says why it cannot be had.
    """
    require_nats()
    import nats.errors  # noqa: PLC0415  (an extra of the client)
    from nats.aio.client import Client  # noqa: PLC0415

    options: dict[str, Any] = {}
    if where.credentials is not None:
        options["user_credentials"] = str(where.credentials)
    if where.ca is not None or where.cert is not None:
        try:
            context = ssl.create_default_context(cafile=where.ca)
            if where.cert is not None:
                context.load_cert_chain(where.cert, where.key)
        except OSError as error:
            raise UnavailableError(f"{where.shown}: {error}", reason="BROKER_TLS") from error
        options["tls"] = context

    connection = Client()
    last: list[Exception] = []

    async def tell(error: Exception) -> None:
        """Keep it for who waits for the connection; otherwise the library would log it."""
        last[:] = [error]
        if on_error is not None:
            await on_error(error)

    async def lost() -> None:
        if on_lost is not None and not connecting:
            await on_lost()

    connecting = True
    try:
        await connection.connect(
            list(where.servers),
            name=name,
            allow_reconnect=False,
            max_reconnect_attempts=1,  # of each server, for the first connection: otherwise sixty, with pauses
            reconnect_time_wait=0,
            connect_timeout=CONNECT_SECONDS,
            ping_interval=_PING_SECONDS,
            max_outstanding_pings=2,
            error_cb=tell,
            closed_cb=lost,
            **options,
        )
        connecting = False
    except (OSError, TimeoutError, nats.errors.Error) as error:
        await connection.close()  # the library leaves its socket open
        why = last[0] if last and isinstance(error, nats.errors.NoServersError) else error
        said = " ".join(str(why).split()) or type(why).__name__
        raise UnavailableError(f"{where.shown}: NATS cannot be reached: {said}", reason="BROKER") from error
    return connection
