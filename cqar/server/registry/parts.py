"""What belongs to one asset: its deployments on chains, and its names in data sources."""

from __future__ import annotations

import msgspec

from cqar import model
from cqar.errors import InvalidError
from cqar.model import CHAIN, DEPLOYMENT, IDENTIFIER, Deployment, Identifier
from cqar.rules.addresses import normalise_address
from cqar.rules.records import normal
from cqar.rules.text import check_uuid
from cqar.server.registry._base import (
    FIRST_PAGE,
    Answer,
    Base,
    Page,
    PageRequest,
    named,
    not_found,
    require_fresh_id,
    require_known_asset,
    taken,
    writes,
)
from cqar.server.transaction import Reader, Tx


class Parts(Base):
    """The operations on deployments and identifiers."""

    @writes()
    def create_asset_deployment(self, tx: Tx, deployment: Deployment) -> Answer[Deployment]:
        """Create a deployment of an asset on a chain. Raises InvalidError, NotFoundError and ConflictError."""
        check_uuid(deployment.asset_id, "asset_id")
        return Answer(record=add_deployment(tx, deployment))

    def get_asset_deployment(self, deployment_id: str) -> Answer[Deployment]:
        """Give a deployment by its id; raises NotFoundError."""
        return self._get(DEPLOYMENT, deployment_id, "deployment_id")

    def get_asset_deployment_at(self, chain: str, address: str) -> Answer[Deployment]:
        """Give the deployment at an address, or the native one for a placeholder; raises NotFoundError."""
        with self._store.view() as view:
            place = named(view, CHAIN, chain, "chain")
            found = at_address(view, place, normalise_address(place, address))
            if found is None:
                raise not_found(DEPLOYMENT, f"at {address.strip()} on {place.chain_id}", field="address")
            return Answer(record=found, position=view.position)

    def list_asset_deployments(
        self, *, asset_id: str | None = None, chain: str | None = None, page: PageRequest = FIRST_PAGE
    ) -> Page[Deployment]:
        """List deployments by asset and chain."""
        with self._store.view() as view:
            filters = {
                "asset_id": require_known_asset(view, asset_id),
                "chain_id": None if chain is None else named(view, CHAIN, chain, "chain").chain_id,
            }
            found = self._page("list_asset_deployments", DEPLOYMENT, page, view, filters)
            return msgspec.structs.replace(found, position=view.position)

    @writes()
    def create_asset_identifier(self, tx: Tx, identifier: Identifier) -> Answer[Identifier]:
        """Create a source's name for an asset; a new primary takes the place of the present one (R7).

        Raises InvalidError, NotFoundError and ConflictError.
        """
        check_uuid(identifier.asset_id, "asset_id")
        identifier = normal(identifier)
        # Without the lock the first two names of a source would both become primary, and one writer would fail for it.
        tx.lock(f"identifiers {identifier.asset_id} {identifier.source}")
        return Answer(record=add_identifier(tx, identifier))

    def get_asset_identifier(self, identifier_id: str) -> Answer[Identifier]:
        """Give an identifier by its id; raises NotFoundError."""
        return self._get(IDENTIFIER, identifier_id, "identifier_id")

    def get_asset_identifier_of(self, source: str, external_id: str) -> Answer[Identifier]:
        """Give the identifier that a source uses; raises NotFoundError."""
        source, external_id = source.strip().lower(), external_id.strip()
        with self._store.view() as view:
            found = view.find(IDENTIFIER, source=source, external_id=external_id)
            if not found:
                raise not_found(IDENTIFIER, f"{source}:{external_id}", source=source, external_id=external_id)
            return Answer(record=found[0], position=view.position)

    def list_asset_identifiers(
        self, *, asset_id: str | None = None, source: str | None = None, page: PageRequest = FIRST_PAGE
    ) -> Page[Identifier]:
        """List identifiers by asset and source."""
        with self._store.view() as view:
            filters = {
                "asset_id": require_known_asset(view, asset_id),
                "source": None if source is None else source.strip().lower(),
            }
            found = self._page("list_asset_identifiers", IDENTIFIER, page, view, filters)
            return msgspec.structs.replace(found, position=view.position)


def at_address(reader: Reader, chain: model.Chain, address: str) -> Deployment | None:
    """Give the live deployment at a normalised address, `model.NATIVE` for the native one."""
    contract = None if address == model.NATIVE else address
    found = reader.find(DEPLOYMENT, chain_id=chain.chain_id, contract_address=contract)
    return found[0] if found else None


def add_deployment(tx: Tx, deployment: Deployment) -> Deployment:
    """Create a deployment; one address of a chain has one, and a chain has one native (R3)."""
    chain = named(tx, CHAIN, deployment.chain_id, "chain_id")
    deployment = normal(deployment, chain)
    require_fresh_id(tx, DEPLOYMENT, deployment)
    existing = at_address(tx, chain, deployment.contract_address or model.NATIVE)
    if existing is not None:
        what = deployment.contract_address or "the native asset"
        raise taken(
            DEPLOYMENT,
            existing.deployment_id,
            f"{what} on {chain.chain_id} is a deployment of asset {existing.asset_id}",
            reason="NATIVE_EXISTS" if deployment.is_native else "ALREADY_EXISTS",
        )
    return tx.put(deployment)


def add_identifier(tx: Tx, identifier: Identifier) -> Identifier:
    """Create an identifier; an asset with any of a source has exactly one that is primary (R7)."""
    identifier = normal(identifier)
    if not identifier.external_id:
        raise InvalidError("external_id: required", reason="REQUIRED", field="external_id")
    require_fresh_id(tx, IDENTIFIER, identifier)
    existing = tx.find(IDENTIFIER, source=identifier.source, external_id=identifier.external_id)
    if existing:
        raise taken(
            IDENTIFIER,
            existing[0].identifier_id,
            f"{identifier.source}:{identifier.external_id} names asset {existing[0].asset_id} already",
        )
    others = tx.find_for_update(IDENTIFIER, asset_id=identifier.asset_id, source=identifier.source, is_primary=True)
    if not others:
        identifier = msgspec.structs.replace(identifier, is_primary=True)
    elif identifier.is_primary:
        tx.put(msgspec.structs.replace(others[0], is_primary=False))
    return tx.put(identifier)
