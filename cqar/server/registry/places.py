"""Where assets live and trade: chains and venues, by names that no two of them share (R5)."""

from __future__ import annotations

import msgspec

from cqar.model import CHAIN, VENUE, Chain, Kind, Venue, VenueType
from cqar.patches import ChainPatch, VenuePatch
from cqar.rules.records import normal
from cqar.server.registry._base import (
    FIRST_PAGE,
    Answer,
    Base,
    N,
    Page,
    PageRequest,
    locked,
    named,
    own_names,
    patched,
    taken,
    writes,
    written,
)
from cqar.server.transaction import Tx


class Places(Base):
    """The operations on chains and venues. An inactive one is found by its names, and not listed unless asked for."""

    @writes()
    def create_chain(self, tx: Tx, chain: Chain) -> Answer[Chain]:
        """Register a chain. Raises InvalidError, NotFoundError, and ConflictError if another has one of its names (R5)."""
        chain = normal(chain)
        require_free_names(tx, CHAIN, chain, is_new=True)
        return Answer(record=tx.put(chain))

    @writes()
    def update_chain(
        self, tx: Tx, chain: str, patch: ChainPatch, expected_position: int | None = None
    ) -> Answer[Chain]:
        """Change some fields of a chain, given by any of its names; `is_active` false takes it out of lists.

        Raises NotFoundError, AmbiguousError, InvalidError, ConflictError if another has one of its new names, and StaleError.
        """
        slug = named(tx, CHAIN, chain, "chain").chain_id
        before = locked(tx, CHAIN, slug, "chain", expected_position)
        after = patched(before, patch)
        require_free_names(tx, CHAIN, after)
        return written(tx, before, after)

    def get_chain(self, chain: str) -> Answer[Chain]:
        """Give a chain by any of its names; raises NotFoundError and AmbiguousError."""
        with self._store.view() as view:
            return Answer(record=named(view, CHAIN, chain, "chain"), position=view.position)

    def list_chains(self, *, include_inactive: bool = False, page: PageRequest = FIRST_PAGE) -> Page[Chain]:
        """List chains."""
        with self._store.view() as view:
            filters = {"is_active": None if include_inactive else True}
            found = self._page("list_chains", CHAIN, page, view, filters)
            return msgspec.structs.replace(found, position=view.position)

    @writes()
    def create_venue(self, tx: Tx, venue: Venue) -> Answer[Venue]:
        """Register a venue. Raises InvalidError, NotFoundError, and ConflictError if another has one of its names."""
        if venue.chain_id:
            venue = msgspec.structs.replace(venue, chain_id=named(tx, CHAIN, venue.chain_id, "chain_id").chain_id)
        venue = normal(venue)
        require_free_names(tx, VENUE, venue, is_new=True)
        return Answer(record=tx.put(venue))

    @writes()
    def update_venue(
        self, tx: Tx, venue: str, patch: VenuePatch, expected_position: int | None = None
    ) -> Answer[Venue]:
        """Change some fields of a venue, given by any of its names; `is_active` false takes it out of lists.

        Raises NotFoundError, AmbiguousError, InvalidError, ConflictError if another has one of its new names, and StaleError.
        """
        slug = named(tx, VENUE, venue, "venue").venue_id
        before = locked(tx, VENUE, slug, "venue", expected_position)
        if patch.get("chain_id"):
            patch = {**patch, "chain_id": named(tx, CHAIN, patch["chain_id"] or "", "chain_id").chain_id}
        after = patched(before, patch)
        require_free_names(tx, VENUE, after)
        return written(tx, before, after)

    def get_venue(self, venue: str) -> Answer[Venue]:
        """Give a venue by any of its names; raises NotFoundError and AmbiguousError."""
        with self._store.view() as view:
            return Answer(record=named(view, VENUE, venue, "venue"), position=view.position)

    def list_venues(
        self, *, venue_type: VenueType | None = None, include_inactive: bool = False, page: PageRequest = FIRST_PAGE
    ) -> Page[Venue]:
        """List venues by type."""
        with self._store.view() as view:
            filters = {"venue_type": venue_type, "is_active": None if include_inactive else True}
            found = self._page("list_venues", VENUE, page, view, filters)
            return msgspec.structs.replace(found, position=view.position)


def require_free_names(tx: Tx, kind: Kind[N], record: N, *, is_new: bool = False) -> None:
    """Raise ConflictError if another chain or venue has one of the names; keeps others from taking them meanwhile."""
    tx.lock(kind.table)
    names, key = own_names(record), kind.key_of(record)
    for other in tx.find(kind, any_name=sorted(names)):
        if kind.key_of(other) != key:
            raise_if_shared(kind, names, other)
        elif is_new:
            raise taken(kind, key, f"{kind.name} {key} is there already")


def raise_if_shared(kind: Kind[N], names: set[str], other: N) -> None:
    """Raise ConflictError if the other chain or venue has one of the names for its own."""
    shared = names & own_names(other)
    if shared:
        key = kind.key_of(other)
        raise taken(kind, key, f"{min(shared)} is a name of {kind.name} {key}", reason="NAME_TAKEN")
