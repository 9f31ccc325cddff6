"""What a symbol may mean, in one statement: the read that trading services repeat (R2, R18).

One round trip and one snapshot: the candidates with their deployments and active flags, the chains that the name of the
chain may mean, and the position at which all of it was true. Many keys at once, and other sorts of keys, are read by
`registry.resolve` with a select for each kind; `tests/integration/test_resolve.py` compares the two.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from cqar.answers import Candidate
from cqar.model import ASSET, DEPLOYMENT, QualityFlag, fold
from cqar.rules.choose import worst_first
from cqar.server.queries import record_of
from cqar.server.session import Sessions

_ASSET: Final = len(ASSET.record.__struct_fields__)
_DEPLOYMENT: Final = len(DEPLOYMENT.record.__struct_fields__)
_decode_flags = msgspec.json.Decoder(list[QualityFlag]).decode


class Candidates(msgspec.Struct, frozen=True):
    """What was read. `chains` are the slugs that the name of the chain may mean; None if none was named."""

    found: list[Candidate]  # on any of the chains
    chains: list[str] | None
    position: int


def _columns(alias: str, kind: Any) -> str:
    return ", ".join([f"{alias}.{name}" for name in kind.record.__struct_fields__])


# The assets come first and then their deployments, one asset at a time (OFFSET 0 keeps it so): before it has statistics
# PostgreSQL would rather walk through a whole chain. That of the look-alikes needs the symbols as their sources write them.
_ASSETS: Final = """
    named AS MATERIALIZED (SELECT * FROM assets WHERE deleted_at IS NULL AND symbol_fold = %(folded)s),
    candidates AS (
        SELECT FALSE AS look_alike, * FROM named
        UNION ALL
        SELECT DISTINCT ON (twin.asset_id) TRUE, twin.*
        FROM (SELECT DISTINCT unnest(skeletons) AS key FROM named) AS looks JOIN LATERAL (
            SELECT * FROM assets WHERE skeletons @> ARRAY[looks.key] OFFSET 0
        ) AS twin ON twin.deleted_at IS NULL AND twin.symbol_fold <> %(folded)s
    )
"""
_FLAGS: Final = """
    (SELECT CAST(json_agg(row_to_json(f)) AS text) FROM asset_quality_flags AS f
     WHERE f.asset_id = a.asset_id AND f.deleted_at IS NULL AND f.cleared_at IS NULL)
"""
_ANYWHERE: Final = f"""
    WITH {_ASSETS}
    SELECT clock.position, NULL, a.look_alike, {_columns("a", ASSET)}, {_FLAGS}, EXISTS (
        SELECT FROM asset_groups AS g JOIN asset_group_members AS m ON m.group_id = g.group_id
        WHERE g.deleted_at IS NULL AND g.canonical_symbol_fold = a.symbol_fold
          AND m.deleted_at IS NULL AND m.asset_id = a.asset_id AND m.is_canonical
    )
    FROM clock LEFT JOIN candidates AS a ON TRUE
"""
_ON_CHAIN: Final = f"""
    WITH {_ASSETS},
    place AS MATERIALIZED (
        SELECT coalesce(array_agg(chain_id), '{{}}') AS chains FROM chains
        WHERE deleted_at IS NULL AND names && ARRAY[%(chain)s]
    )
    SELECT clock.position, place.chains, a.look_alike, {_columns("a", ASSET)}, {_FLAGS}, {_columns("d", DEPLOYMENT)}
    FROM clock CROSS JOIN place LEFT JOIN (
        candidates AS a JOIN LATERAL (
            SELECT * FROM asset_deployments WHERE asset_id = a.asset_id AND deleted_at IS NULL OFFSET 0
        ) AS d ON TRUE
    ) ON d.chain_id = ANY (place.chains)
"""


def of_symbol(sessions: Sessions, symbol: str, chain: str | None) -> Candidates:
    """Read the candidates of a symbol, on a chain by any of its folded names, or anywhere."""
    parameters = {"folded": fold(symbol), "chain": chain}
    rows = sessions.ask(_ANYWHERE if chain is None else _ON_CHAIN, parameters)
    position, chains = rows[0][:2]
    found = [_candidate(row[2:]) for row in rows if row[2] is not None]
    return Candidates(found, chains, position)


def _candidate(row: tuple[Any, ...]) -> Candidate:
    look_alike, asset, flags, rest = row[0], row[1 : 1 + _ASSET], row[1 + _ASSET], row[2 + _ASSET :]
    deployment = record_of(DEPLOYMENT, rest) if len(rest) == _DEPLOYMENT else None
    return Candidate(
        asset=record_of(ASSET, asset),
        deployment=deployment,
        flags=worst_first(_decode_flags(flags)) if flags else (),
        is_canonical=rest[0] if deployment is None else deployment.is_canonical,
        look_alike=look_alike,
    )
