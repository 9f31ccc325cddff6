"""What belongs to one asset: its deployments on chains, and its names in data sources."""

from __future__ import annotations

import msgspec

from cqar import model
from cqar.errors import ConflictError, InvalidError, PreconditionError
from cqar.model import ASSET, CHAIN, DEPLOYMENT, IDENTIFIER, Deployment, Identifier
from cqar.patches import DeploymentPatch, IdentifierPatch
from cqar.rules.addresses import normalise_address
from cqar.rules.records import normal
from cqar.rules.text import check_uuid
from cqar.server.registry._base import (
    FIRST_PAGE,
    Answer,
    Base,
    Done,
    Page,
    PageRequest,
    named,
    not_found,
    patched,
    require_fresh_id,
    require_known_asset,
    required,
    required_for_update,
    taken,
    writes,
    written,
)
from cqar.server.registry.resolve import SourceKey
from cqar.server.transaction import Reader, Tx


class Parts(Base):
    """The operations on deployments and identifiers."""

    @writes()
    def create_asset_deployment(self, tx: Tx, deployment: Deployment) -> Answer[Deployment]:
        """Create a deployment of an asset on a chain. Raises InvalidError, NotFoundError and ConflictError."""
        check_uuid(deployment.asset_id, "asset_id")
        return Answer(record=add_deployment(tx, deployment))

    @writes()
    def update_asset_deployment(
        self, tx: Tx, deployment_id: str, patch: DeploymentPatch, expected_position: int | None = None
    ) -> Answer[Deployment]:
        """Change some fields of a deployment. Raises NotFoundError, InvalidError and StaleError."""
        before = required_for_update(tx, DEPLOYMENT, deployment_id, "deployment_id", expected_position)
        chain = tx.get(CHAIN, before.chain_id)
        return written(tx, before, patched(before, patch, chain))

    @writes()
    def delete_asset_deployment(self, tx: Tx, deployment_id: str, expected_position: int | None = None) -> Done:
        """Take an asset off a chain; nothing refers to a deployment.

        Raises NotFoundError and StaleError.
        """
        deployment = required_for_update(tx, DEPLOYMENT, deployment_id, "deployment_id", expected_position)
        tx.remove(deployment)
        return Done()

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

    @writes(ConflictError)
    def update_asset_identifier(
        self, tx: Tx, identifier_id: str, patch: IdentifierPatch, expected_position: int | None = None
    ) -> Answer[Identifier]:
        """Change some fields of an identifier; one that becomes primary takes the place of the present one (R7).

        Raises NotFoundError, InvalidError, StaleError, and PreconditionError if the primary one shall be primary no more:
        another one has to take its place.
        """
        before = required_for_update(tx, IDENTIFIER, identifier_id, "identifier_id", expected_position)
        after = patched(before, patch)
        if before.is_primary and not after.is_primary:
            raise PreconditionError(
                f"is_primary: one of {after.source} has to be; make another one primary instead",
                reason="PRIMARY_REQUIRED",
                field="is_primary",
            )
        if after.is_primary and not before.is_primary:
            demote_primary(tx, after.asset_id, after.source)
        return written(tx, before, after)

    @writes(ConflictError)
    def move_asset_identifier(
        self, tx: Tx, key: str | SourceKey, asset_id: str, expected_position: int | None = None
    ) -> Answer[Identifier]:
        """Let a source's name, given by its id or by itself, stand for another asset (R7).

        Each of the two assets keeps exactly one primary: the name becomes the new asset's if it has none of the source, and
        the old asset gets another one. Raises NotFoundError, InvalidError and StaleError.
        """
        identifier_id = key if isinstance(key, str) else of_source(tx, key.source, key.external_id).identifier_id
        before = required_for_update(tx, IDENTIFIER, identifier_id, "identifier_id", expected_position)
        asset_id = required(tx, ASSET, asset_id, "asset_id").asset_id
        if asset_id == before.asset_id:
            return Answer(record=before)
        others = tx.find_for_update(IDENTIFIER, asset_id=asset_id, source=before.source, is_primary=True)
        after = tx.put(msgspec.structs.replace(before, asset_id=asset_id, is_primary=not others))
        promote_heir(tx, before)
        return Answer(record=after)

    @writes(ConflictError)
    def delete_asset_identifier(self, tx: Tx, identifier_id: str, expected_position: int | None = None) -> Done:
        """Forget a source's name; if it was primary, another one of the source becomes it (R7).

        Nothing refers to an identifier. Raises NotFoundError and StaleError.
        """
        before = required_for_update(tx, IDENTIFIER, identifier_id, "identifier_id", expected_position)
        tx.remove(before)
        promote_heir(tx, before)
        return Done()

    def get_asset_identifier(self, identifier_id: str) -> Answer[Identifier]:
        """Give an identifier by its id; raises NotFoundError."""
        return self._get(IDENTIFIER, identifier_id, "identifier_id")

    def get_asset_identifier_of(self, source: str, external_id: str) -> Answer[Identifier]:
        """Give the identifier that a source uses; raises NotFoundError."""
        with self._store.view() as view:
            return Answer(record=of_source(view, source, external_id), position=view.position)

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


def of_source(reader: Reader, source: str, external_id: str) -> Identifier:
    """Give the identifier that a source uses; raises NotFoundError."""
    source, external_id = source.strip().lower(), external_id.strip()
    found = reader.find(IDENTIFIER, source=source, external_id=external_id)
    if not found:
        raise not_found(IDENTIFIER, f"{source}:{external_id}", source=source, external_id=external_id)
    return found[0]


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
        demote(tx, others[0])
    return tx.put(identifier)


def demote_primary(tx: Tx, asset_id: str, source: str) -> None:
    """Make room for another primary identifier of an asset."""
    for other in tx.find_for_update(IDENTIFIER, asset_id=asset_id, source=source, is_primary=True):
        demote(tx, other)


def demote(tx: Tx, primary: Identifier) -> Identifier:
    """Make an identifier primary no more, before another one becomes it: within one statement the order is not ours."""
    demoted = tx.put(msgspec.structs.replace(primary, is_primary=False))
    tx.flush()
    return demoted


def promote_heir(tx: Tx, gone: Identifier) -> Identifier | None:
    """If the primary identifier of an asset went, make the first by external id primary that its source has left."""
    if not gone.is_primary:
        return None
    left = tx.find_for_update(IDENTIFIER, asset_id=gone.asset_id, source=gone.source)
    if not left:
        return None
    heir = min(left, key=lambda identifier: identifier.external_id)
    return tx.put(msgspec.structs.replace(heir, is_primary=True))
