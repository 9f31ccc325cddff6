"""What an update may change of a record of each kind: the fields of its patch.

A patch holds the fields to change and no others: one that is left out stays, one that is None or empty is cleared (R13). What
is missing here is what a record is known by (an address, a ticker, the two ends of an edge): a record with another one is
another record. `tests/contract` proves that the messages `Update…Request` have the same fields.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any, Final, TypedDict

from cqar import model
from cqar.model import AssetType, Record, VenueType


class AssetPatch(TypedDict, total=False):
    """Changes of an asset; `metadata` replaces all of it."""

    symbol: str
    name: str
    asset_type: AssetType
    category: str | None
    logo_url: str | None
    website: str | None
    description: str | None
    metadata: dict[str, str] | tuple[tuple[str, str], ...]
    provenance: str | None


class DeploymentPatch(TypedDict, total=False):
    """Changes of a deployment."""

    decimals: int
    is_canonical: bool
    provenance: str | None


class IdentifierPatch(TypedDict, total=False):
    """Changes of an identifier; moving it to another asset is an operation of its own (R7)."""

    is_primary: bool
    provenance: str | None


class RelationshipPatch(TypedDict, total=False):
    """Changes of a relationship."""

    protocol: str | None
    conversion_rate: Decimal | None
    rate_as_of: datetime | None
    rate_source: str | None
    provenance: str | None


class GroupPatch(TypedDict, total=False):
    """Changes of a group."""

    canonical_symbol: str
    name: str
    description: str | None
    provenance: str | None


class GroupMemberPatch(TypedDict, total=False):
    """Changes of a membership; without a weight it is 1."""

    is_canonical: bool
    weight: Decimal | None
    provenance: str | None


class ChainPatch(TypedDict, total=False):
    """Changes of a chain; its namespace stays, as it says how its addresses are written."""

    name: str
    caip2: str | None
    network_id: int | None
    aliases: tuple[str, ...]
    native_symbol: str | None
    native_decimals: int | None
    native_asset_id: str | None
    explorer_url: str | None
    slip44: int | None
    is_testnet: bool
    is_active: bool
    provenance: str | None


class VenuePatch(TypedDict, total=False):
    """Changes of a venue."""

    name: str
    venue_type: VenueType
    aliases: tuple[str, ...]
    website: str | None
    countries: tuple[str, ...]
    chain_id: str | None
    is_active: bool
    provenance: str | None


class VenueSymbolPatch(TypedDict, total=False):
    """Changes of what a ticker means: its interval, and what is traded against; without a multiplier it is 1."""

    quote_asset_id: str | None
    settle_asset_id: str | None
    multiplier: Decimal | None
    valid_from: datetime | None
    valid_to: datetime | None
    provenance: str | None


PATCHES: Final[dict[type[Record], type[Any]]] = {
    model.Asset: AssetPatch,
    model.Deployment: DeploymentPatch,
    model.Identifier: IdentifierPatch,
    model.Relationship: RelationshipPatch,
    model.Group: GroupPatch,
    model.GroupMember: GroupMemberPatch,
    model.Chain: ChainPatch,
    model.Venue: VenuePatch,
    model.VenueSymbol: VenueSymbolPatch,
}
