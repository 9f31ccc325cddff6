"""`cqar events …`: what happens in a registry, as it happens."""

from __future__ import annotations

import asyncio
import contextlib
import difflib
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Annotated

import typer

from cqar.cli import follow, output
from cqar.cli.app import Group, examples
from cqar.cli.connection import Session, with_session
from cqar.errors import InvalidError, NotFoundError
from cqar.events import TYPES, Event

app = typer.Typer(name="events", cls=Group, help="What happens in a registry, as it happens.")

# What tells a record from others at a glance, in this order.
_TELLING = (
    "symbol",
    "canonical_symbol",
    "name",
    "flag_type",
    "severity",
    "relationship_type",
    "source",
    "external_id",
    "venue_id",
    "market_kind",
    "chain_id",
    "contract_address",
    "asset_id",
    "reason",
    "clear_reason",
)


class _Shown:
    """Shows events, each once."""

    def __init__(self, types: frozenset[str], after: int, count: int | None, *, json: bool) -> None:
        self._types, self._after, self._left, self._json = types, after, count, json
        self._last = ("", 0, 0)

    def show(self, event: Event) -> bool:
        """Show it; tell whether that was the last one that was wanted."""
        place = event.log_id, event.position, event.index
        again = place[0] == self._last[0] and place <= self._last
        if again or event.type not in self._types or event.position <= self._after:
            return False
        self._last = place
        if self._json:
            output.json_line({"event_id": event.event_id, **output.plain(event)})
        else:
            actor = f"  by {event.actor}" if event.actor else ""
            output.line(f"{output.shown(event.time)}  {event.position}  {event.type}  {_about(event)}{actor}")
        if self._left is not None:
            self._left -= 1
        return self._left == 0


@app.command(
    epilog=examples(
        "cqar events tail --broker nats://broker:4222",
        "cqar events tail --broker redis://broker:6379/0 --all --json",
        "cqar events tail --target registry:7433 --type 'QualityFlag*'",
    )
)
@with_session
def tail(
    session: Session,
    *,
    broker: Annotated[
        str | None,
        typer.Option(
            envvar="CQAR_EVENTS",
            metavar="URL",
            help="NATS or Redis that the server publishes to; without one the target's own feed is followed,"
            " which does not tell who did it.",
        ),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Begin with everything that is still there.")] = False,
    after: Annotated[
        int | None,
        typer.Option(min=0, metavar="POSITION", help="Begin behind this position, as far as it is still there."),
    ] = None,
    types: Annotated[
        list[str] | None, typer.Option("--type", help="Only events of this type, such as AssetCreated or 'Quality*'.")
    ] = None,
    count: Annotated[int | None, typer.Option(min=1, help="End after so many.")] = None,
) -> None:
    """Follow the events on the terminal until Ctrl-C; with --json as one object a line."""
    wanted = _types(types or ())
    shown = _Shown(wanted, after or 0, count, json=session.json)
    everything = everything or after is not None
    if broker is None:
        with contextlib.closing(follow.changes(session.remote, everything=everything)) as told:
            for event in told:
                if shown.show(event):
                    return
    else:
        asyncio.run(_tail(broker, everything, shown))


async def _tail(broker: str, everything: bool, shown: _Shown) -> None:
    async with contextlib.aclosing(follow.events(broker, everything=everything)) as told:
        async for event in told:
            if shown.show(event):
                return


def _types(patterns: Sequence[str]) -> frozenset[str]:
    """Give the types that are meant; InvalidError for a pattern that means none."""
    wanted = frozenset(name for name in TYPES for each in patterns if fnmatchcase(name.lower(), each.lower()))
    for each in patterns:
        if not any(fnmatchcase(name.lower(), each.lower()) for name in TYPES):
            near = difflib.get_close_matches(each, TYPES, n=5, cutoff=0.3) or sorted(TYPES)
            raise InvalidError(
                f"type: {each!r} is no type of events; {', '.join(near)} are", reason="ENUM", field="type"
            )
    return wanted or frozenset(TYPES)


def _about(event: Event) -> str:
    record = event.record
    if record is None:
        return event.key
    known = [output.shown(getattr(record, name, None)) for name in _TELLING]
    text = " ".join([each for each in known if each])
    if event.before is not None and (changed := output.difference(event.before, record)):
        text += f" ({changed})"
    return text


@app.command(epilog=examples("cqar events forget events --database postgresql://registry/cqar"))
def forget(
    relay: Annotated[str, typer.Argument(help="Name of the relay: events.", show_default=False)],
    database: Annotated[
        str, typer.Option(envvar="CQAR_DATABASE", metavar="URL", help="Database of the servers.", show_default=False)
    ],
) -> None:
    """Forget how far a relay has published, when no server publishes any more: the change log need not be kept for it."""
    from cqar.server.store import Store  # noqa: PLC0415

    with contextlib.closing(Store(database, pool_size=1)) as store:
        position = store.relayed(relay)
        if position is None:
            raise NotFoundError(f"no relay {relay!r} has published from this database", reason="NO_RELAY")
        store.forget_relay(relay)
    output.line(f"forgot that {relay} were published up to position {position}")


def register(root: typer.Typer) -> None:
    """Add these commands."""
    root.add_typer(app)
