"""Whom a command asks: the options for it, and the session that comes of them.

Reading without a target answers from the bundled catalogue, and says so. Reading with one goes through the client and its
replica, like a trading service; writing goes to the server straight, without a replica.
"""

from __future__ import annotations

import difflib
import functools
import getpass
import inspect
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, Literal, ParamSpec, Self, TypeVar

import typer

from cqar.cli import output
from cqar.errors import AmbiguousError, CqarError, InvalidError, NotFoundError, UnavailableError
from cqar.model import Chain, Venue, fold, names_of

if TYPE_CHECKING:
    from cqar.client import Client, Tls
    from cqar.client._admin import Admin
    from cqar.client._registry import Registry
    from cqar.client._remote import Remote

P = ParamSpec("P")
N = TypeVar("N", bound=Chain | Venue)
_PANEL = "Server and output"

Target = Annotated[
    str | None,
    typer.Option(
        "--target", "-t", envvar="CQAR_TARGET", metavar="HOST:PORT", help="Server to ask.", rich_help_panel=_PANEL
    ),
]
Token = Annotated[
    str | None,
    typer.Option(envvar="CQAR_TOKEN", help="Access token, if the server wants one.", rich_help_panel=_PANEL),
]
Encrypted = Annotated[
    bool,
    typer.Option(
        "--tls", envvar="CQAR_TLS", help="Use TLS; implied by --ca and --client-cert.", rich_help_panel=_PANEL
    ),
]
CaFile = Annotated[
    Path | None,
    typer.Option("--ca", envvar="CQAR_CA", metavar="FILE", help="PEM CAs to trust.", rich_help_panel=_PANEL),
]
CertFile = Annotated[
    Path | None,
    typer.Option(
        envvar="CQAR_CLIENT_CERT",
        metavar="FILE",
        help="PEM certificate, if the server wants one.",
        rich_help_panel=_PANEL,
    ),
]
KeyFile = Annotated[
    Path | None,
    typer.Option(envvar="CQAR_CLIENT_KEY", metavar="FILE", help="PEM key of --client-cert.", rich_help_panel=_PANEL),
]
Timeout = Annotated[
    float, typer.Option(min=0.1, max=3600, help="Seconds to wait for the server.", rich_help_panel=_PANEL)
]
ReplicaDir = Annotated[
    Path | None,
    typer.Option(
        envvar="CQAR_REPLICA_DIR",
        help="Folder of this host's replicas; default ~/.cache/cqar/replica.",
        rich_help_panel=_PANEL,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.", rich_help_panel=_PANEL)]
ChainName = Annotated[
    str | None, typer.Option("--chain", "-c", help="A chain by any name: ethereum, eip155:1, 1, an alias.")
]
VenueName = Annotated[str | None, typer.Option("--venue", "-v", help="A venue by any name: binance, an alias.")]


class Session:
    """What a command asks, and how it prints. The client and the registry are made when first used."""

    def __init__(
        self,
        *,
        target: str | None,
        token: str | None,
        tls: bool,
        ca: Path | None,
        client_cert: Path | None,
        client_key: Path | None,
        timeout: float,
        replica_dir: Path | None,
        json: bool,
    ) -> None:
        self.target = target or None
        self.json = json
        self.timeout = timeout
        self.replica_dir = replica_dir
        self.snapshots: str | None = None  # where the server publishes, if the command was told
        self._token = token or None
        self._files = {"ca": ca, "cert": client_cert, "key": client_key}
        self._encrypted = tls or any(self._files.values())
        self._remote: Remote | None = None
        self._client: Client | None = None

    @property
    def client(self) -> Client:
        """The replica of the target, or the bundled catalogue."""
        if self._client is None:
            if self.target is None:
                self._client = self._catalogue()
            else:
                self._must_answer()
                return self.connected()
        return self._client

    @property
    def _tls(self) -> Tls | None:
        from cqar.client import Tls  # noqa: PLC0415

        return Tls(**self._files) if self._encrypted else None

    def fresh(self) -> Client:
        """Make another client of the same data, which has given no answer yet; the caller closes it."""
        from cqar.client import connect, open_snapshot  # noqa: PLC0415

        if self.target is None:
            return open_snapshot(replica_dir=self.replica_dir)
        return connect(
            self.target,
            token=self._token,
            tls=self._tls or False,
            actor=actor(),
            replica_dir=self.replica_dir,
            timeout=self.timeout,
        )

    def _catalogue(self) -> Client:
        from cqar.client import open_snapshot  # noqa: PLC0415

        with output.progress("building the replica") as progress:
            client = open_snapshot(replica_dir=self.replica_dir, progress=progress)
        made = datetime.now(UTC) - timedelta(seconds=client.age - 0.5)  # rounded: it is of midnight
        output.note(
            f"no server given: answering from the bundled catalogue of {made:%Y-%m-%d};"
            " --target or CQAR_TARGET to ask a server"
        )
        return client

    def _must_answer(self) -> None:
        """Say at once that the server is not there, if there is no replica that could answer in its place."""
        from cqar.client._place import default_replica_dir, folder_of  # noqa: PLC0415

        if not (folder_of(self.replica_dir or default_replica_dir(), self.checked_target) / "head").exists():
            self.remote.head(timeout=self.timeout)

    def connected(self, start: Literal["replica", "server"] = "replica") -> Client:
        """Connect to the target; see `cqar.client.connect`."""
        from cqar.client import State, connect  # noqa: PLC0415

        target = self.checked_target
        with output.progress("building the replica") as progress:
            client = connect(
                target,
                token=self._token,
                tls=self._tls or False,
                actor=actor(),
                snapshots=self.snapshots,
                replica_dir=self.replica_dir,
                start=start,
                timeout=self.timeout if start == "replica" else 1.0,
                progress=progress,
            )
        self._client = client
        status = client.status()
        if status.state is not State.FRESH and start == "replica":
            output.note(
                f"{target}: {status.state}; answering from position {status.position}"
                f" of {status.head_position} ({status.last_error or 'still loading'})"
            )
        return client

    @property
    def checked_target(self) -> str:
        """The target; an error in one line if there is none, or it is none."""
        if self.target is None:
            raise InvalidError(
                "this needs a server: give --target HOST:PORT or set CQAR_TARGET", reason="NO_TARGET", field="target"
            )
        host, _, port = self.target.rpartition(":")
        if not host or not port.isdecimal():
            raise InvalidError(
                f"target: {self.target!r} is not HOST:PORT, such as localhost:7433", reason="TARGET", field="target"
            )
        return self.target

    @property
    def registry(self) -> Registry:
        """The server itself, to write to or to ask what only it knows."""
        from cqar.client._registry import Registry  # noqa: PLC0415

        return Registry(self.remote)

    @property
    def admin(self) -> Admin:
        """Its tokens and its audit."""
        from cqar.client._admin import Admin  # noqa: PLC0415

        return Admin(self.remote)

    @property
    def remote(self) -> Remote:
        """The connection to the server."""
        if self._remote is None:
            from cqar.client._remote import Remote  # noqa: PLC0415

            self._remote = Remote(
                self.checked_target, token=self._token, actor=actor(), timeout=self.timeout, tls=self._tls
            )
        return self._remote

    # --- chains and venues ------------------------------------------------------------------------------------------

    @functools.cached_property
    def chains(self) -> dict[str, Chain]:
        """All chains by slug."""
        return {chain.chain_id: chain for chain in self.client.list_chains(include_inactive=True)}

    def chain(self, name: str) -> Chain:
        """Give a chain by any of its names."""
        return _named(self.chains.values(), name, "chain")

    def venue(self, name: str) -> Venue:
        """Give a venue by any of its names."""
        return _named(self.client.list_venues(include_inactive=True), name, "venue")

    def address(self, chain_id: str | None, address: str | None) -> str:
        """Give an address as people read it: checksummed on EVM chains."""
        if address is None:
            return "native"
        from cqar.rules.addresses import display_address  # noqa: PLC0415

        chain = self.chains.get(chain_id or "")
        return address if chain is None else display_address(chain, address)

    def improved(self, error: NotFoundError, *names: tuple[str, str | None]) -> NotFoundError:
        """Tell whether it is the chain or the venue that is not known, and name near matches.

        `names` are pairs of "chain" or "venue" and the name that was given. Whoever raised the error need not know which.
        """
        try:
            for what, name in names:
                known = () if name is None else self._known(what)
                if name is not None and not _having(known, name):
                    return _unknown(what, name, near_names(known, name))
        except CqarError:  # no list to compare with: what was said first will do
            pass
        return error

    def _known(self, what: str) -> Sequence[Chain | Venue]:
        if what == "chain":
            return tuple(self.chains.values())
        return self.client.list_venues(include_inactive=True)

    # --- life -------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._client is not None:
            self._client.close()
        if self._remote is not None:
            self._remote.close()


def actor() -> str:
    """Who does it, for the server's audit."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no such account, as in some containers
        return "cqar-cli"


def unreachable(target: str, error: UnavailableError) -> UnavailableError:
    """Say in one line which server does not answer and what to try; what the server itself reported stays as it is."""
    if error.reason not in {UnavailableError.default_reason, "DEADLINE_EXCEEDED", "CANCELLED"}:
        return error
    why = "no answer in time" if error.reason == "DEADLINE_EXCEEDED" else error.message.rpartition(": ")[2].rstrip("]")
    return UnavailableError(
        f"{target} cannot be reached: {why}; does `cqar serve` run there? correct --target (CQAR_TARGET),"
        " or leave it out to read the bundled catalogue",
        reason=error.reason,
        **error.metadata,
    )


def _slug(record: Chain | Venue) -> str:
    return record.chain_id if isinstance(record, Chain) else record.venue_id


def _having(known: Iterable[N], name: str) -> dict[str, N]:
    """Give the records with a name, by slug."""
    word = (fold(name.strip()),)
    return {_slug(record): record for record in known if word in set(names_of(record))}


def _named(known: Iterable[N], name: str, what: str) -> N:
    """Give the record that has a name; the slug wins over aliases (R5)."""
    known = list(known)
    found = _having(known, name)
    if name in found:
        return found[name]
    if len(found) > 1:
        raise AmbiguousError(
            f"{what}: {name!r} may mean {', '.join(found)}; use one of these", reason=f"{what.upper()}_AMBIGUOUS"
        )
    if not found:
        raise _unknown(what, name, near_names(known, name))
    return next(iter(found.values()))


def _unknown(what: str, name: str, near: Sequence[str]) -> NotFoundError:
    hint = f"did you mean {' or '.join(near)}?" if near else f"see cqar {what} list"
    return NotFoundError(
        f"{what}: {name!r} is not known; {hint}", reason=f"{what.upper()}_NOT_FOUND", field=what, name=name
    )


def near_names(known: Iterable[Chain | Venue], name: str) -> list[str]:
    """Give the slugs of up to three chains or venues with names like this one."""
    slugs = {word: _slug(record) for record in known for (word,) in names_of(record)}
    near = difflib.get_close_matches(fold(name), slugs, n=6, cutoff=0.7)
    return list(dict.fromkeys([slugs[word] for word in near]))[:3]


def _options(
    *,
    target: Target = None,
    token: Token = None,
    tls: Encrypted = False,
    ca: CaFile = None,
    client_cert: CertFile = None,
    client_key: KeyFile = None,
    timeout: Timeout = 10.0,
    replica_dir: ReplicaDir = None,
    json: Json = False,
) -> None:
    """Carry the options that every command with a session has."""


def with_session(command: Callable[Concatenate[Session, P], None]) -> Callable[..., None]:
    """Turn a function of a session and its own parameters into a command that has the session's options besides."""
    signature = inspect.signature(command, eval_str=True)
    shared = inspect.signature(_options, eval_str=True).parameters
    own = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in list(signature.parameters.values())[1:]]

    @functools.wraps(command)
    def run(**values: Any) -> None:
        with Session(**{name: values.pop(name) for name in shared}) as session:
            try:
                command(session, **values)  # type: ignore[call-arg]
            except NotFoundError as error:
                names = [(what, values.get(what)) for what in ("chain", "venue")]
                raise session.improved(error, *names) from None
            except UnavailableError as error:
                if session.target is None:
                    raise
                raise unreachable(session.target, error) from None

    run.__signature__ = signature.replace(parameters=[*own, *shared.values()])  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in (*own, *shared.values())}
    del run.__wrapped__  # typer would look past the signature
    return run
