"""Assets: create with what belongs to them, read, update, delete, list, search."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import msgspec

from cqar import model
from cqar.errors import CqarError, InvalidError
from cqar.model import ASSET, CHAIN, Asset, AssetType, Deployment, GroupMember, Identifier, Severity, fold
from cqar.patches import AssetPatch
from cqar.rules.records import normal
from cqar.rules.text import check_text, check_uuid
from cqar.server.registry._base import (
    FIRST_PAGE,
    Answer,
    Base,
    Done,
    Page,
    PageRequest,
    make_token,
    named,
    page_size,
    patched,
    read_token,
    require_fresh_id,
    required_for_update,
    writes,
    written,
)
from cqar.server.registry.groups import add_member
from cqar.server.registry.parts import add_deployment, add_identifier
from cqar.server.search import Place, Search
from cqar.server.transaction import Tx


class AssetAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """An asset with the deployments, identifiers and memberships that were made with it."""

    asset: Asset
    deployments: tuple[Deployment, ...] = ()
    identifiers: tuple[Identifier, ...] = ()
    memberships: tuple[GroupMember, ...] = ()
    position: int = 0


class Assets(Base):
    """The operations on assets."""

    @writes()
    def create_asset(
        self,
        tx: Tx,
        asset: Asset,
        deployments: Sequence[Deployment] = (),
        identifiers: Sequence[Identifier] = (),
        memberships: Sequence[GroupMember] = (),
    ) -> AssetAnswer:
        """Create an asset with its first deployments, identifiers and memberships in groups, all or nothing (R14).

        Raises InvalidError; ConflictError if the chosen id, an address, an external id or the canonical place in a group is
        taken; NotFoundError for a chain or group that is not there.
        """
        asset = normal(asset)
        require_fresh_id(tx, ASSET, asset)
        asset = tx.put(asset)
        added = [add_deployment(tx, _of(asset, deployment)) for deployment in deployments]
        names = [add_identifier(tx, _of(asset, identifier)) for identifier in identifiers]
        places = [add_member(tx, _of(asset, member)) for member in memberships]
        return AssetAnswer(asset=asset, deployments=tuple(added), identifiers=tuple(names), memberships=tuple(places))

    def get_asset(self, asset_id: str) -> Answer[Asset]:
        """Give an asset by its id; raises NotFoundError."""
        return self._get(ASSET, asset_id, "asset_id")

    def get_assets(self, asset_ids: Sequence[str]) -> list[Answer[Asset] | CqarError]:
        """Give the asset with each id, or the error in its place."""
        return self._get_many(ASSET, asset_ids, "asset_id")

    @writes()
    def update_asset(
        self, tx: Tx, asset_id: str, patch: AssetPatch, expected_position: int | None = None
    ) -> Answer[Asset]:
        """Change some fields of an asset. Raises NotFoundError, InvalidError and StaleError."""
        before = required_for_update(tx, ASSET, asset_id, "asset_id", expected_position)
        return written(tx, before, patched(before, patch))

    @writes()
    def delete_asset(self, tx: Tx, asset_id: str, expected_position: int | None = None) -> Done:
        """Delete an asset, its deployments, identifiers, memberships and venue symbols; relationships and flags stay (R12).

        A chain whose native asset it was has none then. Raises NotFoundError and StaleError.
        """
        asset = required_for_update(tx, ASSET, asset_id, "asset_id", expected_position)
        own = {"asset_id": asset.asset_id}
        for deployment in tx.find_for_update(model.DEPLOYMENT, **own):
            tx.remove(deployment)
        for identifier in tx.find_for_update(model.IDENTIFIER, **own):
            tx.remove(identifier)
        for member in tx.find_for_update(model.GROUP_MEMBER, **own):
            tx.remove(member)
        for symbol in tx.find_for_update(model.VENUE_SYMBOL, any_asset_id=asset.asset_id):
            tx.remove(symbol)
        for chain in tx.find_for_update(CHAIN, native_asset_id=asset.asset_id):
            tx.put(msgspec.structs.replace(chain, native_asset_id=None))
        tx.remove(asset)
        return Done()

    def list_assets(
        self,
        *,
        asset_type: AssetType | None = None,
        category: str | None = None,
        symbol: str | None = None,
        chain: str | None = None,
        venue: str | None = None,
        page: PageRequest = FIRST_PAGE,
    ) -> Page[Asset]:
        """List assets by type, category, symbol (in any case), chain (with a deployment) and venue (with a ticker)."""
        with self._store.view() as view:
            filters = {
                "asset_type": asset_type,
                "category": category,
                "symbol_fold": None if symbol is None else fold(symbol.strip()),
                "on_chain": None if chain is None else named(view, CHAIN, chain, "chain").chain_id,
                "on_venue": None if venue is None else named(view, model.VENUE, venue, "venue").venue_id,
            }
            found = self._page("list_assets", ASSET, page, view, filters)
            return msgspec.structs.replace(found, position=view.position)

    def search_assets(
        self,
        query: str,
        *,
        chain: str | None = None,
        venue: str | None = None,
        asset_type: AssetType | None = None,
        category: str | None = None,
        min_severity: Severity | None = None,
        page: PageRequest = FIRST_PAGE,
    ) -> Page[Asset]:
        """Find assets by symbol, name, address, external id, ticker or asset id; exact before prefix before substring.

        The start of an external id or ticker counts from 3 characters on, that of an address from 6: 0x and four.
        """
        query = check_text(query, "query", 256)
        if not query:
            raise InvalidError("query: required", reason="REQUIRED", field="query")
        size = page_size(page)
        with self._store.view() as view:
            filters: dict[str, object] = {
                "query": query,
                "chain_id": None if chain is None else named(view, CHAIN, chain, "chain").chain_id,
                "venue_id": None if venue is None else named(view, model.VENUE, venue, "venue").venue_id,
                "asset_type": asset_type,
                "category": category,
                "min_severity": min_severity,
            }
            after = read_token(page.token, Place, "search_assets", filters)
            question = Search(**filters, asset_id=_as_id(query), after=after, limit=size + 1)  # type: ignore[arg-type]
            found = view.search(question)
            token = ""
            if len(found) > size:
                token = make_token(found[size - 1][0], "search_assets", filters)
            records = tuple([asset for _, asset in found[:size]])
            return Page(records=records, next_page_token=token, position=view.position)


def _of(asset: Asset, part: model.R) -> model.R:
    """Give the deployment, identifier or membership as one of this asset; it may already say so."""
    assert isinstance(part, Deployment | Identifier | GroupMember)
    if part.asset_id and part.asset_id.lower() != asset.asset_id:
        raise InvalidError("asset_id: must be empty or that of the new asset", reason="OTHER_ASSET", field="asset_id")
    return msgspec.structs.replace(part, asset_id=asset.asset_id)


def _as_id(text: str) -> str | None:
    with contextlib.suppress(InvalidError):
        return check_uuid(text, "query")
    return None
