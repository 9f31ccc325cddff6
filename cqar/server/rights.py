"""Which role each method of each service needs. What is not in this table, nobody may call, not even an admin.

A new method is refused until it has its line here; `tests/integration/test_auth.py` compares the table with the descriptors.
Three rules are finer than methods, and the registry keeps them with the roles in its `Call`: clearing a CRITICAL flag or
lowering its severity, by whichever way, needs an approver; so does leading a name away from an asset with such a flag
(`registry.roads`); and a flag within UpsertRecords or UpsertStream needs a flagger.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from cqar.access import Role

_ANYBODY: Final = None

_TABLE: Final[tuple[tuple[Role | None, str, str], ...]] = (
    # Probes have no token, and learn nothing but "serving".
    (_ANYBODY, "grpc.health.v1.Health", "Check List Watch"),
    (Role.READER, "grpc.reflection.v1alpha.ServerReflection", "ServerReflectionInfo"),
    (Role.READER, "cqar.v1.Replication", "FetchSnapshot GetHead ListSnapshots WatchChanges"),
    (
        Role.READER,
        "cqar.v1.AssetRegistry",
        """
        CheckTradable
        GetAsset GetAssetDeployment GetAssetGroup GetAssetIdentifier GetAssetRelationship
        GetChain GetQualityFlag GetVenue GetVenueSymbol
        ListAssetDeployments ListAssetGroupMembers ListAssetGroups ListAssetIdentifiers ListAssetRelationships
        ListAssetVariants ListAssetVenues ListAssets ListChains ListQualityFlags
        ListVenueAssets ListVenueSymbols ListVenues
        Resolve ResolveMany
        SearchAssets
        """,
    ),
    (
        Role.WRITER,
        "cqar.v1.AssetRegistry",
        """
        AddAssetToGroup RemoveAssetFromGroup UpdateGroupMember
        CreateAsset CreateAssetDeployment CreateAssetGroup CreateAssetIdentifier CreateAssetRelationship
        CreateChain CreateVenue CreateVenueSymbol
        DeleteAsset DeleteAssetDeployment DeleteAssetGroup DeleteAssetIdentifier DeleteAssetRelationship
        DeleteVenueSymbol
        MoveAssetIdentifier
        UpdateAsset UpdateAssetDeployment UpdateAssetGroup UpdateAssetIdentifier UpdateAssetRelationship
        UpdateChain UpdateVenue UpdateVenueSymbol
        UpsertRecords UpsertStream
        """,
    ),
    (Role.FLAGGER, "cqar.v1.AssetRegistry", "RaiseQualityFlag ResolveQualityFlag"),
    (Role.ADMIN, "cqar.v1.Admin", "CreateToken ListAuditEntries ListTokens RevokeToken"),
)

# "/package.Service/Method" -> the role that it needs; None: no token at all.
NEEDED: Final[Mapping[str, Role | None]] = {
    f"/{service}/{method}": role for role, service, methods in _TABLE for method in methods.split()
}
