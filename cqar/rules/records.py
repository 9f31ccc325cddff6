"""The normal form of each kind of record: `normal(record)` gives it, or raises InvalidError with the field and the rule.

Normalising is idempotent. Only what a record says by itself is judged here; what depends on others (uniqueness, cycles,
references) is the database's and the registry's.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, TypeVar, cast

import msgspec

from cqar import model
from cqar.errors import InvalidError
from cqar.rules.addresses import normalise_address
from cqar.rules.caip import parse_chain_id
from cqar.rules.text import (
    check_alias,
    check_decimal,
    check_name,
    check_slug,
    check_symbol,
    check_text,
    check_time,
    check_url,
    check_uuid,
)

R = TypeVar("R", bound=model.Record)

MAX_DECIMALS = 255  # ERC-20 `decimals()` is a uint8 (R4)
MAX_METADATA = 64  # entries of an asset's metadata
MAX_SLIP44 = 2**31 - 1  # SLIP-44 coin types are hardened BIP-32 indexes


def normal(record: R, chain: model.Chain | None = None) -> R:
    """Give the record in its normal form; InvalidError names the field and the rule.

    `chain` is the chain that a deployment is on: it decides how addresses are written.
    """
    checked: R
    if isinstance(record, model.Deployment):
        assert chain is not None, "a deployment is judged by its chain's rules"
        checked = cast("R", _deployment(record, chain))
    else:
        checked = _CHECKS[type(record)](record)
    if record.provenance is None:
        return checked
    return _changed(checked, provenance=_optional(check_text, record.provenance, "provenance", 256))


def _changed(record: R, **values: Any) -> R:
    """Replace what differs; most records come in their normal form already."""
    news = {
        name: value
        for name, value in values.items()
        if (old := getattr(record, name)) is not value and not _same(old, value)
    }
    return msgspec.structs.replace(record, **news) if news else record


def _same(one: Any, other: Any) -> bool:
    if isinstance(other, Decimal):  # 0.10 equals 0.1, and is written otherwise
        return isinstance(one, Decimal) and one.as_tuple() == other.as_tuple()
    return bool(one == other)


def _optional(check: Callable[..., Any], value: Any, *arguments: Any) -> Any:
    """Check a value that may be absent; an empty or blank text counts as absent."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    return check(value, *arguments)


def _id(value: str, field: str) -> str:
    """Check an id that the server assigns if it is empty."""
    return check_uuid(value, field) if value else ""


def _whole(value: int, field: str, low: int, high: int) -> int:
    if not low <= value <= high:
        raise InvalidError(f"{field}: {value} is not within {low} to {high}", reason="RANGE", field=field)
    return value


def _aliases(aliases: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted({check_alias(alias) for alias in aliases}))


def _chain(chain: model.Chain) -> model.Chain:
    namespace = check_slug(chain.namespace, "namespace")
    if chain.caip2 and parse_chain_id(chain.caip2).namespace != namespace:
        raise InvalidError(
            f"caip2: {chain.caip2} is not of the namespace {namespace}", reason="CAIP2_NAMESPACE", field="caip2"
        )
    return _changed(
        chain,
        chain_id=check_slug(chain.chain_id, "chain_id"),
        name=check_name(chain.name, "name"),
        namespace=namespace,
        caip2=chain.caip2 or None,
        network_id=_optional(_whole, chain.network_id, "network_id", 1, 2**63 - 1),
        aliases=_aliases(chain.aliases),
        native_symbol=_optional(check_symbol, chain.native_symbol, "native_symbol"),
        native_decimals=_optional(_whole, chain.native_decimals, "native_decimals", 0, MAX_DECIMALS),
        native_asset_id=_optional(check_uuid, chain.native_asset_id, "native_asset_id"),
        explorer_url=_optional(check_url, chain.explorer_url, "explorer_url"),
        slip44=_optional(_whole, chain.slip44, "slip44", 0, MAX_SLIP44),
    )


def _asset(asset: model.Asset) -> model.Asset:
    if len(asset.metadata) > MAX_METADATA:
        raise InvalidError(f"metadata: more than {MAX_METADATA} entries", reason="METADATA_SIZE", field="metadata")
    entries = {
        check_text(name, "metadata", 64): check_text(value, f"metadata[{name}]", 1000) for name, value in asset.metadata
    }
    return _changed(
        asset,
        asset_id=_id(asset.asset_id, "asset_id"),
        symbol=check_symbol(asset.symbol, "symbol"),
        name=check_name(asset.name, "name"),
        category=_optional(check_text, asset.category, "category", 64),
        logo_url=_optional(check_url, asset.logo_url, "logo_url"),
        website=_optional(check_url, asset.website, "website"),
        description=_optional(check_text, asset.description, "description", 4000),
        metadata=tuple(sorted(entries.items())),
    )


def _deployment(deployment: model.Deployment, chain: model.Chain) -> model.Deployment:
    if deployment.contract_address:
        if deployment.is_native:
            raise InvalidError(
                "contract_address: a native asset has no contract; leave one of the two out",
                reason="NATIVE_WITH_CONTRACT",
                field="contract_address",
            )
        address = normalise_address(chain, deployment.contract_address)
        if address == model.NATIVE:
            raise InvalidError(
                f"contract_address: {deployment.contract_address} stands for the native asset of {chain.chain_id}, it is "
                "no contract; set is_native instead",
                reason="NATIVE_PLACEHOLDER",
                field="contract_address",
            )
    elif deployment.is_native:
        address = None
    else:
        raise InvalidError(
            "contract_address: required unless is_native", reason="ADDRESS_REQUIRED", field="contract_address"
        )
    return _changed(
        deployment,
        deployment_id=_id(deployment.deployment_id, "deployment_id"),
        asset_id=_id(deployment.asset_id, "asset_id"),
        chain_id=chain.chain_id,
        contract_address=address,
        decimals=_whole(deployment.decimals, "decimals", 0, MAX_DECIMALS),
    )


def _identifier(identifier: model.Identifier) -> model.Identifier:
    return _changed(
        identifier,
        identifier_id=_id(identifier.identifier_id, "identifier_id"),
        asset_id=_id(identifier.asset_id, "asset_id"),
        source=check_slug(identifier.source.strip().lower(), "source"),
        external_id=check_text(identifier.external_id, "external_id", 256),
    )


def _relationship(edge: model.Relationship) -> model.Relationship:
    parent = check_uuid(edge.parent_asset_id, "parent_asset_id")
    child = check_uuid(edge.child_asset_id, "child_asset_id")
    if parent == child:
        raise InvalidError(
            "child_asset_id: an asset cannot be derived from itself", reason="SELF_EDGE", field="child_asset_id"
        )
    rate_source = _optional(check_text, edge.rate_source, "rate_source", 256)
    if edge.conversion_rate is not None and (edge.rate_as_of is None or not rate_source):
        raise InvalidError(
            "conversion_rate: give rate_as_of and rate_source with it", reason="RATE_SOURCE", field="conversion_rate"
        )
    return _changed(
        edge,
        relationship_id=_id(edge.relationship_id, "relationship_id"),
        parent_asset_id=parent,
        child_asset_id=child,
        protocol=_optional(check_text, edge.protocol, "protocol", 64),
        conversion_rate=_optional(_positive, edge.conversion_rate, "conversion_rate"),
        rate_as_of=_optional(check_time, edge.rate_as_of, "rate_as_of"),
        rate_source=rate_source,
    )


def _positive(value: Decimal, field: str) -> Decimal:
    return model.exact(check_decimal(value, field, positive=True))


def _group(group: model.Group) -> model.Group:
    return _changed(
        group,
        group_id=_id(group.group_id, "group_id"),
        canonical_symbol=check_symbol(group.canonical_symbol, "canonical_symbol"),
        name=check_name(group.name, "name"),
        description=_optional(check_text, group.description, "description", 4000),
    )


def _group_member(member: model.GroupMember) -> model.GroupMember:
    return _changed(
        member,
        group_id=check_uuid(member.group_id, "group_id"),
        asset_id=check_uuid(member.asset_id, "asset_id"),
        weight=_positive(member.weight, "weight"),
    )


def _quality_flag(flag: model.QualityFlag) -> model.QualityFlag:
    return _changed(
        flag,
        flag_id=_id(flag.flag_id, "flag_id"),
        asset_id=check_uuid(flag.asset_id, "asset_id"),
        source=check_slug(flag.source.strip().lower(), "source"),
        reason=check_text(flag.reason, "reason", 2000),
        evidence_url=_optional(check_url, flag.evidence_url, "evidence_url"),
        raised_by=_optional(check_text, flag.raised_by, "raised_by", 128),
        raised_at=_optional(check_time, flag.raised_at, "raised_at"),
        cleared_by=_optional(check_text, flag.cleared_by, "cleared_by", 128),
        cleared_at=_optional(check_time, flag.cleared_at, "cleared_at"),
        clear_reason=_optional(check_text, flag.clear_reason, "clear_reason", 2000),
    )


def _venue(venue: model.Venue) -> model.Venue:
    for country in venue.countries:
        if not (len(country) == 2 and country.isascii() and country.isupper()):
            raise InvalidError(
                f"countries: {country!r} is not an ISO 3166-1 alpha-2 code", reason="COUNTRY", field="countries"
            )
    return _changed(
        venue,
        venue_id=check_slug(venue.venue_id, "venue_id"),
        name=check_name(venue.name, "name"),
        aliases=_aliases(venue.aliases),
        website=_optional(check_url, venue.website, "website"),
        countries=tuple(sorted(set(venue.countries))),
        chain_id=_optional(check_slug, venue.chain_id, "chain_id"),
    )


def _venue_symbol(row: model.VenueSymbol) -> model.VenueSymbol:
    if row.market_kind is model.MarketKind.ASSET and (row.quote_asset_id or row.settle_asset_id):
        raise InvalidError(
            "quote_asset_id: a ticker of kind ASSET names one asset", reason="ASSET_WITH_QUOTE", field="quote_asset_id"
        )
    start = _optional(check_time, row.valid_from, "valid_from")
    end = _optional(check_time, row.valid_to, "valid_to")
    if start and end and start >= end:
        raise InvalidError("valid_to: must be after valid_from", reason="INTERVAL", field="valid_to")
    asset_id = check_uuid(row.asset_id, "asset_id")
    quote_asset_id = _optional(check_uuid, row.quote_asset_id, "quote_asset_id")
    if asset_id == quote_asset_id:
        raise InvalidError(
            f"quote_asset_id: {row.symbol} on {row.venue_id} would be priced in its own base, {asset_id}; name another asset",
            reason="BASE_IS_QUOTE",
            field="quote_asset_id",
        )
    return _changed(
        row,
        venue_symbol_id=_id(row.venue_symbol_id, "venue_symbol_id"),
        venue_id=check_slug(row.venue_id, "venue_id"),
        symbol=check_symbol(row.symbol, "symbol"),
        asset_id=asset_id,
        quote_asset_id=quote_asset_id,
        settle_asset_id=_optional(check_uuid, row.settle_asset_id, "settle_asset_id"),
        multiplier=_positive(row.multiplier, "multiplier"),
        valid_from=start,
        valid_to=end,
    )


_CHECKS: dict[type[model.Record], Callable[[Any], Any]] = {
    model.Chain: _chain,
    model.Asset: _asset,
    model.Identifier: _identifier,
    model.Relationship: _relationship,
    model.Group: _group,
    model.GroupMember: _group_member,
    model.QualityFlag: _quality_flag,
    model.Venue: _venue,
    model.VenueSymbol: _venue_symbol,
}
