"""Venues, from JSON. A venue that its source calls gone or renamed is refused: it may be one of the others under an old name."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from cqar.errors import AmbiguousError, ConflictError, CqarError, InvalidError, NotFoundError
from cqar.importers._aliases import Aliases
from cqar.importers._files import read_json, rows_of
from cqar.importers._lookups import Lookups
from cqar.importers._plan import Importer, Options, Parsed, Plan, once
from cqar.model import Venue, VenueType
from cqar.rules.records import normal
from cqar.rules.text import check_url

_COUNTRY = re.compile("[A-Z]{2}")
TYPES = {"cex": VenueType.CEX, "dex": VenueType.DEX}  # anything else: OTHER


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A venue as the file has it."""

    venue_id: str
    name: str
    type: str = ""
    countries: tuple[str, ...] = ()
    url: str | None = None
    chain: str | None = None
    ccxt_id: str | None = None
    in_ccxt: str | None = None
    coingecko_market_id: str | None = None
    other_coingecko_ids: tuple[str, ...] = ()

    @property
    def slug(self) -> str:
        """The id without the mark of its source ("cg:orca")."""
        return self.venue_id.rpartition(":")[2]

    @property
    def aliases(self) -> list[str]:
        """All that sources call it."""
        coingecko = [name for name in (self.coingecko_market_id, *self.other_coingecko_ids) if name]
        return [f"ccxt:{self.ccxt_id}"] * bool(self.ccxt_id) + [f"coingecko:{name}" for name in coingecko]


def parse(path: Path) -> Parsed[Entry]:
    """Read venues.json."""
    elements = read_json(path, list[msgspec.Raw], "a list of venues")
    return rows_of(path, elements, Entry, "venue_id", f"file:{path.name}")


def plan(parsed: Parsed[Entry], lookups: Lookups, _options: Options) -> Plan:
    """Plan a venue for each row."""
    made = Plan()
    claims = Aliases(lookups.venues.by_id, [(entry.slug, entry.aliases) for _, entry in parsed.rows])
    seen: set[str] = set()
    for number, entry in parsed.rows:
        with made.row(number, entry.slug):
            once(entry.slug, seen, entry.slug)
            if "gone or renamed" in (entry.in_ccxt or ""):
                raise InvalidError(
                    f"{entry.slug} is {entry.in_ccxt}: register it by hand, or add its name as an alias",
                    reason="GONE_OR_RENAMED",
                )
            _require_new_name(entry.slug, lookups)
            venue = Venue(
                venue_id=entry.slug,
                name=entry.name,
                venue_type=TYPES.get(entry.type, VenueType.OTHER),
                aliases=claims.granted(made, number, entry.slug, entry.aliases),
                website=made.optional(number, entry.slug, check_url, entry.url, "website"),
                countries=_countries(made, number, entry),
                chain_id=_chain(made, number, entry, lookups),
                provenance=f"ccxt@{entry.in_ccxt}" if entry.in_ccxt else parsed.provenance,
            )
            made.add(number, entry.slug, normal(venue))
    return made


def _require_new_name(slug: str, lookups: Lookups) -> None:
    """Refuse a venue whose id is the name that a source has for a registered one."""
    try:
        known = lookups.venues[slug]
    except (NotFoundError, AmbiguousError):
        return
    if known.venue_id != slug:
        raise ConflictError(f"{slug} is a name of {known.venue_id}", reason="OTHER_NAME", existing_id=known.venue_id)


def _countries(made: Plan, row: int, entry: Entry) -> tuple[str, ...]:
    """Give the ISO codes among what the file has for countries."""
    for text in entry.countries:
        if not _COUNTRY.fullmatch(text):
            made.leave_out(row, entry.slug, "COUNTRY", f"countries: {text} is not an ISO 3166-1 alpha-2 code")
    return tuple(filter(_COUNTRY.fullmatch, entry.countries))


def _chain(made: Plan, row: int, entry: Entry, lookups: Lookups) -> str | None:
    """Give the slug of a decentralised venue's chain."""
    if not entry.chain:
        return None
    try:
        return lookups.chains[entry.chain].chain_id
    except CqarError as error:
        made.leave_out(row, entry.slug, error.reason, error.message)
        return None


VENUES = Importer(name="venues", help="venues with their aliases: venues.json", parse=parse, plan=plan)
