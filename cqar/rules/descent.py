"""What derives from an asset, over any number of steps (R8)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator

from cqar.answers import Variant
from cqar.model import Asset, Relationship, RelationshipType

# What is a form of the asset that it derives from. A fork or a successor of it is another asset: bitcoin cash is no bitcoin.
FORMS = frozenset(RelationshipType) - {RelationshipType.FORK, RelationshipType.MIGRATION}
MAX_DEPTH = 16  # steps; the longest real chain of derivations seen has 5


def descend(
    asset_id: str,
    edges_below: Callable[[str], Iterable[Relationship]],
    live_asset: Callable[[str], Asset | None],
    types: Collection[RelationshipType] = FORMS,
) -> Iterator[Variant]:
    """Yield all that derives from an asset over edges of some types: nearest first, each asset once.

    Of several shortest ways the one with the first edges by id counts. Cycles are harmless; what is below an asset that is
    not live is not reached through it.
    """
    seen = {asset_id}
    frontier: list[tuple[str, tuple[Relationship, ...]]] = [(asset_id, ())]
    for depth in range(1, MAX_DEPTH + 1):
        following = []
        for parent, path in frontier:
            for edge in sorted(edges_below(parent), key=lambda edge: edge.relationship_id):
                child = edge.child_asset_id
                if child in seen or edge.relationship_type not in types:
                    continue
                seen.add(child)
                asset = live_asset(child)
                if asset is not None:
                    way = (*path, edge)
                    yield Variant(asset=asset, path=way, depth=depth)
                    following.append((child, way))
        frontier = following
