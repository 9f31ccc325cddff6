"""The server's settings: one frozen value from flags, `CQAR_*` variables and a TOML file, in that order of precedence.

Everything about a setting (type, bounds, default, help) stands at its field in `Config`; the command line and the
reference in the documentation are generated from `fields()`. A password is part of `database` and is never shown.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args
from urllib.parse import SplitResult, parse_qsl, quote, urlencode, urlsplit, urlunsplit

import msgspec
from msgspec import Meta

from cqar import broker, locations
from cqar.errors import InvalidError
from cqar.server.postgres import default_data_dir

Seconds = Annotated[float, Meta(ge=0.01, le=86_400)]
SecondsOrOff = Annotated[float, Meta(ge=0, le=86_400)]
Count = Annotated[int, Meta(ge=1, le=100_000)]


def _default_folder() -> Path:
    return default_data_dir().parent


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """How one server runs. Raises InvalidError for an address to listen on that is not one."""

    # 7433: not assigned by IANA, below the ephemeral ports, and the default of no database, broker or proxy in use.
    listen: Annotated[str, Meta(description="Address to serve on, HOST:PORT; port 0 takes a free one.")] = (
        "127.0.0.1:7433"
    )
    database: Annotated[
        str,
        Meta(
            description="URL of the PostgreSQL database, postgresql://user:password@host/name. Empty: an embedded one."
        ),
    ] = ""
    redis: Annotated[
        str,
        Meta(description="URL of a Redis that remembers answers, redis://user:password@host:6379/0. Empty: none."),
    ] = ""
    events: Annotated[
        str,
        Meta(
            description="URL of a broker to publish every change to, nats://user:password@host:4222 or redis://host:6379/0."
            " Empty: none."
        ),
    ] = ""
    feed: Annotated[
        str,
        Meta(
            description="URL of a NATS with JetStream that brings followers the feed, nats://host:4222. Empty: by gRPC only."
        ),
    ] = ""
    stream_replicas: Annotated[
        int, Meta(ge=1, le=5, description="Copies that NATS keeps of a stream that the server makes there.")
    ] = 1
    stream_days: Annotated[
        float, Meta(ge=0.01, le=36_500, description="Days that a broker keeps what is published to it.")
    ] = 7.0
    data_dir: Annotated[Path, Meta(description="Folder of the embedded PostgreSQL and of the snapshots.")] = (
        msgspec.field(default_factory=_default_folder)
    )
    insecure: Annotated[
        bool, Meta(description="Serve on an address that other machines reach without any API token: all may do all.")
    ] = False
    tls_cert: Annotated[Path | None, Meta(description="PEM certificate chain of the server. Default: no TLS.")] = None
    tls_key: Annotated[Path | None, Meta(description="PEM key of the certificate, without a password.")] = None
    tls_client_ca: Annotated[
        Path | None, Meta(description="PEM CAs, of one of which a client must have a certificate (mTLS).")
    ] = None
    snapshots: Annotated[
        str,
        Meta(
            description="Folder or URI (s3://bucket/prefix, gs://…) to publish snapshots in. Empty: `snapshots` in the data folder."
        ),
    ] = ""
    snapshot_interval: Annotated[SecondsOrOff, Meta(description="Seconds between two snapshots; 0 makes none.")] = 300.0
    snapshot_keep: Annotated[
        Count, Meta(description="Snapshots to keep at least; besides, all of the last hour and one per hour of a day.")
    ] = 3
    log_keep: Annotated[
        float,
        Meta(
            ge=0,
            le=36_500,
            description="Days of the change log, which is also the audit trail, to keep at least; 0 keeps it for ever.",
        ),
    ] = 0.0
    migrate: Annotated[bool, Meta(description="Bring the schema up to date at the start, rather than wait for it.")] = (
        True
    )
    migrate_wait: Annotated[
        SecondsOrOff, Meta(description="Seconds to wait for `cqar migrate` when the server may not migrate itself.")
    ] = 300.0
    workers: Annotated[Count, Meta(description="Threads that answer calls, each with a database connection.")] = 16
    max_concurrent_rpcs: Annotated[
        Count,
        Meta(
            description="Calls at once; more are refused with RESOURCE_EXHAUSTED. Reads may have half of them, open feeds five"
            " eighths, both together seven eighths."
        ),
    ] = 2_000
    calls_per_token: Annotated[
        Count, Meta(description="Reads that one API token may have under way at once, and as many writes.")
    ] = 256
    feeds_per_token: Annotated[Count, Meta(description="Feeds that one API token may have open at once.")] = 1_200
    feed_history: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000_000,
            description="Positions behind the head from which on a follower is sent to a newer snapshot, if there is one.",
        ),
    ] = 50_000
    poll_interval: Annotated[Seconds, Meta(description="Seconds until new changes are found without a wake-up.")] = 0.25
    wakeups: Annotated[
        bool, Meta(description="Tell the other servers of the database of changes at once, by LISTEN and NOTIFY.")
    ] = True
    heartbeat_interval: Annotated[Seconds, Meta(description="Seconds between two heartbeats on an idle feed.")] = 5.0
    http_listen: Annotated[
        str,
        Meta(description="Address of /metrics, /health/live and /health/ready, such as 127.0.0.1:7434. Empty: none."),
    ] = ""
    drain_seconds: Annotated[
        SecondsOrOff,
        Meta(description="Seconds to take calls still after SIGTERM while health says no; 5 behind a load balancer."),
    ] = 0.0
    otlp_endpoint: Annotated[
        str,
        Meta(
            description="URL of an OpenTelemetry collector, such as http://localhost:4317; OTEL_* variables say the rest."
            " Empty: no traces."
        ),
    ] = ""
    reflection: Annotated[bool, Meta(description="Describe the services to tools such as grpcurl.")] = True
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], Meta(description="Least level to log.")] = "INFO"
    log_format: Annotated[
        Literal["text", "json"], Meta(description="Lines for people, or one JSON object per line.")
    ] = "text"

    def __post_init__(self) -> None:
        """Check what the types cannot say."""
        _check_address("listen", self.listen, "127.0.0.1:7433")
        if self.http_listen:
            _check_address("http_listen", self.http_listen, "127.0.0.1:7434")
        if self.otlp_endpoint and not self.otlp_endpoint.startswith(("http://", "https://")):
            raise InvalidError(
                "otlp_endpoint: must be a URL such as http://localhost:4317", reason="URL", field="otlp_endpoint"
            )
        for name in BROKERS:
            url = getattr(self, name)
            if url and not (name == "events" and url.startswith(broker.REDIS)):
                broker.address(url, name)
        locations.folder_of(self.snapshots)
        if (self.tls_cert is None) != (self.tls_key is None) or (self.tls_client_ca and self.tls_cert is None):
            raise InvalidError(
                "tls_cert: TLS needs tls_cert and tls_key; tls_client_ca goes with both", reason="TLS", field="tls_cert"
            )

    def __repr__(self) -> str:
        """Show every setting, without a password."""
        shown = {name: self.shown(name) for name in SECRET}
        values = {name: getattr(self, name) for name in self.__struct_fields__} | shown
        return f"Config({', '.join([f'{name}={value!r}' for name, value in values.items()])})"

    __str__ = __repr__

    def shown(self, name: str) -> str:
        """Give the URL of a setting fit for a log: without passwords."""
        url: str = getattr(self, name)
        if name == "snapshots":
            return locations.shown(url)
        if name not in BROKERS or not url or url.startswith(broker.REDIS):
            return redacted(url)
        return broker.address(url, name).shown

    @property
    def host(self) -> str:
        """The host to listen on; an IPv6 address keeps its brackets."""
        return self.listen.rpartition(":")[0]

    @property
    def snapshot_root(self) -> str:
        """The folder or URI that snapshots are published in."""
        return self.snapshots or str(self.data_dir / "snapshots")

    @property
    def postgres_dir(self) -> Path:
        """The folder of the embedded PostgreSQL."""
        return self.data_dir / "postgres"


def _check_address(field: str, value: str, example: str) -> None:
    host, separator, port = value.rpartition(":")
    if not (host and separator and port.isascii() and port.isdigit() and int(port) <= 65_535):
        raise InvalidError(f"{field}: {value!r} is not HOST:PORT, such as {example}", reason="LISTEN", field=field)


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """One setting, described for a command line or a document."""

    name: str
    help: str
    type: Any  # bool, int, float, str, Path, or a tuple of the permitted words
    default: object

    @property
    def flag(self) -> str:
        """Name on the command line."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def variable(self) -> str:
        """Name in the environment."""
        return f"{_PREFIX}{self.name.upper()}"


_PREFIX: Final = "CQAR_"
SECRET: Final = ("database", "redis", "events", "feed", "otlp_endpoint", "snapshots")  # may hold a password
BROKERS: Final = ("events", "feed")
CONFIG_FILE: Final = "CQAR_CONFIG"  # names the TOML file where no flag does
_INFO: Final = {info.name: info for info in msgspec.structs.fields(Config)}


def fields() -> tuple[Field, ...]:
    """List all settings in the order in which a person should meet them."""
    return tuple([_described(info) for info in _INFO.values()])


def _described(info: msgspec.structs.FieldInfo) -> Field:
    plain, *metas = get_args(info.type)
    options = [option for option in get_args(plain) if option is not type(None)]
    default = info.default_factory() if info.default is msgspec.NODEFAULT else info.default
    return Field(
        name=info.name,
        help=next(meta.description for meta in metas if isinstance(meta, Meta) and meta.description),
        type=tuple(options) if len(options) > 1 else next(iter(options), plain),
        default=default,
    )


def load(
    flags: Mapping[str, object] | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    file: Path | None = None,
) -> Config:
    """Give the settings: flags before `CQAR_*` variables before the file before the defaults.

    `flags` maps names to what was given; None and an empty variable mean "not given". The file is `file`, or what
    CQAR_CONFIG names. Raises InvalidError that names the flag, the variable or the file and its key.
    """
    variables = os.environ if environment is None else environment
    path = file or (Path(variables[CONFIG_FILE]) if variables.get(CONFIG_FILE) else None)
    given: dict[str, object] = {}
    if path is not None:
        given |= {name: _converted(name, value, f"{path}: {name}") for name, value in _read(path).items()}
    for setting in fields():
        flag = None if flags is None else flags.get(setting.name)
        if flag is not None:
            given[setting.name] = _converted(setting.name, flag, setting.flag)
        elif value := variables.get(setting.variable):
            given[setting.name] = _converted(setting.name, value, setting.variable)
    return Config(**given)  # type: ignore[arg-type]


def _read(path: Path) -> dict[str, object]:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidError(f"{path}: {error.strerror}", reason="CONFIG_FILE", field="config") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidError(f"{path}: not a TOML file: {error}", reason="CONFIG_FILE", field="config") from None
    if unknown := sorted(values.keys() - _INFO.keys()):
        raise InvalidError(
            f"{path}: unknown: {', '.join(unknown)}; known are {', '.join(_INFO)}",
            reason="CONFIG_KEY",
            field=unknown[0],
        )
    return values


def _converted(name: str, value: object, origin: str) -> object:
    """Convert a value to its setting's type; text from a flag or a variable may stand for a number or a truth value."""
    typed = not isinstance(value, str)
    if name in SECRET and typed:
        # The value is not shown: it may hold a password.
        raise InvalidError(f"{origin}: expected a text", reason="CONFIG_VALUE", field=name)
    try:
        return msgspec.convert(value, _INFO[name].type, strict=typed, dec_hook=_folder)
    except msgspec.ValidationError as error:
        words = _described(_INFO[name]).type
        rule = f"one of {', '.join(words)}" if isinstance(words, tuple) else str(error)
        raise InvalidError(f"{origin}: {value!r}: {rule}", reason="CONFIG_VALUE", field=name) from None


def _folder(kind: type, value: object) -> object:
    if kind is Path and isinstance(value, str):
        return Path(value).expanduser()
    raise TypeError(f"Expected `{kind.__name__}`, got `{type(value).__name__}`")


def redacted(url: str) -> str:
    """Give a database URL fit for a log: without its password, wherever it stands."""
    try:
        parts = urlsplit(url)
        query = [(name, "***" if "password" in name.lower() else value) for name, value in parse_qsl(parts.query)]
        shown = parts._replace(netloc=_without_password(parts), query=urlencode(query, safe="*/", quote_via=quote))
    except ValueError:
        return "***"
    return urlunsplit(shown) if parts.scheme or not url else "***"


def _without_password(parts: SplitResult) -> str:
    user, separator, place = parts.netloc.rpartition("@")
    return f"{user.partition(':')[0]}{':***' if ':' in user else ''}{separator}{place}"


def database_host(url: str) -> str:
    """Give the host, or the folder of the socket, that a database URL names."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "the database's host"
    return (parts.hostname or dict(parse_qsl(parts.query)).get("host", "localhost")) + port
