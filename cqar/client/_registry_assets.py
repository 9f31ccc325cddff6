"""The write surface for assets, and for what belongs to one: deployments and identifiers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Unpack

import msgspec

from cqar.answers import Position
from cqar.client._arguments import whole
from cqar.client._checked import checked
from cqar.client._registry_base import Base, Written, optional_enum
from cqar.client._replies import record_of
from cqar.model import Asset, AssetType, Deployment, GroupMember, Identifier, Severity
from cqar.patches import AssetPatch, DeploymentPatch, IdentifierPatch
from cqar.v1 import registry_pb2 as pb
from cqar.wire import record_to_wire


class CreatedAsset(msgspec.Struct, frozen=True):
    """A new asset with what was created beside it, in one transaction."""

    asset: Asset
    deployments: tuple[Deployment, ...]
    identifiers: tuple[Identifier, ...]
    memberships: tuple[GroupMember, ...]
    position: Position


@checked
class Assets(Base):
    """Assets, deployments, identifiers."""

    # --- assets ---------------------------------------------------------------------------------------------------

    def create_asset(
        self,
        asset: Asset,
        *,
        deployments: Iterable[Deployment] = (),
        identifiers: Iterable[Identifier] = (),
        memberships: Iterable[GroupMember] = (),
        request_id: str = "",
    ) -> CreatedAsset:
        """Create an asset, with its first deployments, identifiers and memberships in groups, all or nothing.

        Leave `asset_id` empty and the server assigns it; that of the others may be empty in any case.
        """
        request = pb.CreateAssetRequest(
            asset=record_to_wire(asset),
            deployments=[record_to_wire(deployment) for deployment in deployments],
            identifiers=[record_to_wire(identifier) for identifier in identifiers],
            memberships=[record_to_wire(member) for member in memberships],
            request_id=request_id,
        )
        reply, position = self._remote.write("CreateAsset", request)
        return CreatedAsset(
            record_of(Asset, reply.asset),
            tuple([record_of(Deployment, message) for message in reply.deployments]),
            tuple([record_of(Identifier, message) for message in reply.identifiers]),
            tuple([record_of(GroupMember, message) for message in reply.memberships]),
            position,
        )

    def get_asset(self, asset_id: str) -> Asset:
        """Give a live asset."""
        return self._get(Asset, "GetAsset", "asset", pb.GetAssetRequest(asset_id=asset_id))

    def update_asset(
        self,
        asset_id: str,
        *,
        expected_position: int | None = None,
        request_id: str = "",
        **changes: Unpack[AssetPatch],
    ) -> Written[Asset]:
        """Change the given fields of an asset: one that is left out stays, one that is None or empty is cleared.

        With `expected_position`, raises StaleError if the asset was written after that position; so do all updates and deletes.
        """
        return self._update(
            Asset,
            "UpdateAsset",
            "asset",
            changes,
            asset_id=asset_id,
            expected_position=expected_position,
            request_id=request_id,
        )

    def delete_asset(self, asset_id: str, *, expected_position: int | None = None, request_id: str = "") -> Position:
        """Take an asset, with all that hangs on it, out of the registry; give the position of the write."""
        return self._delete(
            "DeleteAsset", asset_id=asset_id, expected_position=expected_position, request_id=request_id
        )

    def list_assets(
        self,
        *,
        asset_type: AssetType | None = None,
        category: str | None = None,
        symbol: str | None = None,
        chain: str | None = None,
        venue: str | None = None,
    ) -> Iterator[Asset]:
        """Yield the live assets that meet all conditions, by id."""
        request = pb.ListAssetsRequest(
            asset_type=optional_enum(asset_type), category=category, symbol=symbol, chain=chain, venue=venue
        )
        return self._list(Asset, "ListAssets", "assets", request)

    def search_assets(
        self,
        query: str,
        *,
        chain: str | None = None,
        venue: str | None = None,
        asset_type: AssetType | None = None,
        category: str | None = None,
        min_severity: Severity | None = None,
        limit: int | None = 100,
    ) -> Iterator[Asset]:
        """Yield live assets by symbol, name, address, identifier, ticker or id: exact first, then prefix, then substring."""
        request = pb.SearchAssetsRequest(
            query=query,
            chain=chain,
            venue=venue,
            asset_type=optional_enum(asset_type),
            category=category,
            min_severity=optional_enum(min_severity),
        )
        if limit is not None:
            whole(limit, "limit", 1)
        return self._list(Asset, "SearchAssets", "assets", request, limit)

    # --- deployments ----------------------------------------------------------------------------------------------

    def create_asset_deployment(self, deployment: Deployment, *, request_id: str = "") -> Written[Deployment]:
        """Put an asset on a chain."""
        request = pb.CreateAssetDeploymentRequest(deployment=record_to_wire(deployment), request_id=request_id)
        return self._write(Deployment, "CreateAssetDeployment", "deployment", request)

    def update_asset_deployment(
        self,
        deployment_id: str,
        *,
        expected_position: int | None = None,
        request_id: str = "",
        **changes: Unpack[DeploymentPatch],
    ) -> Written[Deployment]:
        """Change the given fields of a deployment; for another address delete it and create another."""
        return self._update(
            Deployment,
            "UpdateAssetDeployment",
            "deployment",
            changes,
            deployment_id=deployment_id,
            expected_position=expected_position,
            request_id=request_id,
        )

    def delete_asset_deployment(
        self, deployment_id: str, *, expected_position: int | None = None, request_id: str = ""
    ) -> Position:
        """Take an asset off a chain; give the position of the write."""
        return self._delete(
            "DeleteAssetDeployment",
            deployment_id=deployment_id,
            expected_position=expected_position,
            request_id=request_id,
        )

    def get_asset_deployment(
        self, deployment_id: str | None = None, *, chain: str | None = None, address: str | None = None
    ) -> Deployment:
        """Give a deployment by its id, or by chain and address."""
        request = pb.GetAssetDeploymentRequest(deployment_id=deployment_id)
        if deployment_id is None:
            request.address.chain, request.address.address = chain or "", address or ""
        return self._get(Deployment, "GetAssetDeployment", "deployment", request)

    def list_asset_deployments(self, *, asset_id: str | None = None, chain: str | None = None) -> Iterator[Deployment]:
        """Yield the live deployments of an asset, of a chain, or of both."""
        request = pb.ListAssetDeploymentsRequest(asset_id=asset_id, chain=chain)
        return self._list(Deployment, "ListAssetDeployments", "deployments", request)

    # --- identifiers ----------------------------------------------------------------------------------------------

    def create_asset_identifier(self, identifier: Identifier, *, request_id: str = "") -> Written[Identifier]:
        """Record the name that a data source has for an asset."""
        request = pb.CreateAssetIdentifierRequest(identifier=record_to_wire(identifier), request_id=request_id)
        return self._write(Identifier, "CreateAssetIdentifier", "identifier", request)

    def update_asset_identifier(
        self,
        identifier_id: str,
        *,
        expected_position: int | None = None,
        request_id: str = "",
        **changes: Unpack[IdentifierPatch],
    ) -> Written[Identifier]:
        """Change the given fields of an identifier; one that becomes primary takes the place of the present one."""
        return self._update(
            Identifier,
            "UpdateAssetIdentifier",
            "identifier",
            changes,
            identifier_id=identifier_id,
            expected_position=expected_position,
            request_id=request_id,
        )

    def move_asset_identifier(
        self,
        identifier_id: str | None = None,
        *,
        to: str,
        source: str | None = None,
        external_id: str | None = None,
        expected_position: int | None = None,
        request_id: str = "",
    ) -> Written[Identifier]:
        """Let a source's name, given by its id or by source and external id, stand for another asset: `to` is its id."""
        request = pb.MoveAssetIdentifierRequest(
            identifier_id=identifier_id, asset_id=to, expected_position=expected_position, request_id=request_id
        )
        if identifier_id is None:
            request.external.source, request.external.external_id = source or "", external_id or ""
        return self._write(Identifier, "MoveAssetIdentifier", "identifier", request)

    def delete_asset_identifier(
        self, identifier_id: str, *, expected_position: int | None = None, request_id: str = ""
    ) -> Position:
        """Forget a source's name for an asset; give the position of the write."""
        return self._delete(
            "DeleteAssetIdentifier",
            identifier_id=identifier_id,
            expected_position=expected_position,
            request_id=request_id,
        )

    def get_asset_identifier(
        self, identifier_id: str | None = None, *, source: str | None = None, external_id: str | None = None
    ) -> Identifier:
        """Give an identifier by its id, or by source and external id."""
        request = pb.GetAssetIdentifierRequest(identifier_id=identifier_id)
        if identifier_id is None:
            request.external.source, request.external.external_id = source or "", external_id or ""
        return self._get(Identifier, "GetAssetIdentifier", "identifier", request)

    def list_asset_identifiers(self, *, asset_id: str | None = None, source: str | None = None) -> Iterator[Identifier]:
        """Yield the identifiers of an asset, of a source, or of both."""
        request = pb.ListAssetIdentifiersRequest(asset_id=asset_id, source=source)
        return self._list(Identifier, "ListAssetIdentifiers", "identifiers", request)
