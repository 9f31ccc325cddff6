"""Search for assets: in stages, from the best matches to the least, until the page is full.

Each stage is one statement, which gives its matches sorted by a text and the asset's id, from any place on, and leaves out
what an earlier stage gives. Most walk along an index in that order, so a page costs the same however many assets match and
however deep it lies. Where few on the way pass the conditions, the walk is given up after some thousand steps, and what
passes all of them is gathered by whatever indexes PostgreSQL takes for best. When to do so does not rest on statistics: they
are missing after a large import, and take the pieces of a word for independent.
"""

from __future__ import annotations

import functools
from typing import Any, Final, Literal, NamedTuple

import msgspec
from sqlalchemy import TextClause, text

from cqar.model import ASSET, AssetType, Severity, fold
from cqar.server.grams import grams_within
from cqar.server.session import Session

NAME_START: Final = 3  # letters from which on the start of an identifier or ticker is found
ADDRESS_START: Final = 6  # and that of an address: 0x and four
_STEPS: Final = 2000  # of a walk, and a few more for each asset wanted
_LAST: Final = "\U0010ffff"  # sorts behind every letter; no text has it
_FIRST_ID: Final = "00000000-0000-0000-0000-000000000000"


class Place(NamedTuple):
    """Where an asset stands in the list of matches: its stage, and the text and the id by which it is sorted therein."""

    stage: int
    text: str
    asset_id: str


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """A question: the text, filters on the assets, and where the page begins."""

    query: str
    asset_id: str | None = None  # the text, if it is one
    chain_id: str | None = None
    venue_id: str | None = None
    asset_type: AssetType | None = None
    category: str | None = None
    min_severity: Severity | None = None  # with an active flag of at least this severity
    after: Place | None = None  # the last asset of the page before
    limit: int


# --- the conditions on an asset `a` ------------------------------------------------------------------------------------


class _Elsewhere(NamedTuple):
    """A filter on the rows of another table that name the asset in one of some columns."""

    table: str
    columns: tuple[str, ...]
    condition: str

    @property
    def gathered(self) -> str:
        """The condition for PostgreSQL to begin with either side."""
        return f"a.asset_id IN ({' UNION ALL '.join([f'SELECT {name} {self._rows}' for name in self.columns])})"

    @property
    def probed(self) -> str:
        """The condition to test on one asset after the other, which OFFSET 0 sees to."""
        return f"EXISTS (SELECT {self._rows} AND ({' OR '.join([f'{n} = a.asset_id' for n in self.columns])}) OFFSET 0)"

    @property
    def _rows(self) -> str:
        return f"FROM {self.table} WHERE deleted_at IS NULL AND {self.condition}"


_ELSEWHERE: Final = {
    "chain_id": _Elsewhere("asset_deployments", ("asset_id",), "chain_id = :chain_id"),
    "venue_id": _Elsewhere("venue_symbols", ("asset_id", "quote_asset_id", "settle_asset_id"), "venue_id = :venue_id"),
    "min_severity": _Elsewhere(
        "asset_quality_flags", ("asset_id",), "cleared_at IS NULL AND severity >= :min_severity"
    ),
}
_FILTERS: Final = ("asset_type", "category", *_ELSEWHERE)

_EXACT: Final = """
    SELECT asset_id FROM asset_deployments WHERE deleted_at IS NULL AND contract_address IN (:exact, :folded)
    UNION ALL
    SELECT asset_id FROM asset_identifiers WHERE deleted_at IS NULL AND external_id IN (:exact, :folded)
    UNION ALL
    SELECT asset_id FROM venue_symbols WHERE deleted_at IS NULL AND symbol_fold = :folded
    UNION ALL
    SELECT asset_id FROM assets WHERE deleted_at IS NULL AND asset_id = CAST(:asset_id AS uuid)
"""
_NAME_STARTS: Final = """
    SELECT asset_id FROM asset_identifiers
    WHERE deleted_at IS NULL AND (external_id BETWEEN :exact AND :exact_end OR external_id BETWEEN :folded AND :folded_end)
    UNION ALL
    SELECT asset_id FROM venue_symbols WHERE deleted_at IS NULL AND symbol_fold BETWEEN :folded AND :folded_end
"""
_ADDRESS_STARTS: Final = """
    SELECT asset_id FROM asset_deployments WHERE deleted_at IS NULL
    AND (contract_address BETWEEN :exact AND :exact_end OR contract_address BETWEEN :folded AND :folded_end)
"""

# --- the stages --------------------------------------------------------------------------------------------------------


_Along = Literal["equal", "start", "all"] | None


class _Stage(NamedTuple):
    """What a stage finds: the assets that pass `condition`, sorted by `key`.

    `along` is the part of the key's index to walk: what equals the text, what begins with it, or all; None: too few to walk.
    """

    condition: str
    key: Literal["symbol_fold", "name_fold"] = "symbol_fold"
    along: _Along = None


def _stages(length: int) -> tuple[_Stage, ...]:
    """Give the stages for a text of this length."""
    starts = [_NAME_STARTS] * (length >= NAME_START) + [_ADDRESS_STARTS] * (length >= ADDRESS_START)
    return (
        _Stage("a.symbol_fold = :folded", along="equal"),
        _Stage("a.name_fold = :folded", key="name_fold", along="equal"),
        _Stage(f"a.asset_id IN ({_EXACT})"),
        _Stage("a.symbol_fold BETWEEN :folded AND :folded_end", along="start"),
        _Stage("a.name_fold BETWEEN :folded AND :folded_end", key="name_fold", along="start"),
        _Stage(f"a.asset_id IN ({' UNION ALL '.join(starts)})" if starts else "FALSE"),
        _Stage("(strpos(a.symbol_fold, :folded) > 0 OR strpos(a.name_fold, :folded) > 0)", along="all"),
    )


# By what a text of some length may be the start of.
_STAGES: Final = {length: _stages(length) for length in (0, NAME_START, ADDRESS_START)}
STAGES: Final = len(_STAGES[0])

_ASSETS: Final = ", ".join([f"a.{name}" for name in ASSET.record.__struct_fields__])
_BEHIND: Final = """
    a.deleted_at IS NULL AND a.{key} <= :to_text AND (a.{key}, a.asset_id) >= (:from_text, CAST(:from_id AS uuid))
    AND a.asset_id IS DISTINCT FROM CAST(:after_id AS uuid)
"""
# `walked` takes nothing but what the index holds. There is always a row, to tell the number of steps.
_WALK: Final = f"""
    WITH walked AS MATERIALIZED (
        SELECT a.asset_id, a.symbol_fold, a.name_fold, a.asset_type, a.category FROM assets AS a
        WHERE {_BEHIND} ORDER BY a.{{key}}, a.asset_id LIMIT :steps
    ), found AS (
        SELECT a.asset_id, a.{{key}} AS sort FROM walked AS a WHERE {{conditions}} ORDER BY sort, asset_id LIMIT :limit
    )
    SELECT {_ASSETS}, found.sort, walk.steps
    FROM (SELECT count(*) AS steps FROM walked) AS walk
    LEFT JOIN (found JOIN assets AS a USING (asset_id)) ON TRUE ORDER BY found.sort, a.asset_id
"""
# OFFSET 0 keeps PostgreSQL from walking in the hope of a full page.
_GATHER: Final = f"""
    SELECT {_ASSETS}, page.sort FROM (
        SELECT * FROM (
            SELECT a.asset_id, a.{{key}} AS sort FROM assets AS a WHERE {_BEHIND} AND {{conditions}} OFFSET 0
        ) AS gathered ORDER BY sort, asset_id LIMIT :limit
    ) AS page JOIN assets AS a USING (asset_id) ORDER BY page.sort, a.asset_id
"""


@functools.cache
def _statement(length: int, number: int, filters: tuple[str, ...], *, walk: bool) -> TextClause:
    """Give the statement of a stage for texts of this length at least and these filters."""
    *earlier, stage = _STAGES[length][: number + 1]
    conditions = [stage.condition, *[f"NOT {before.condition}" for before in earlier]]
    if stage.along == "all" and not walk:
        conditions.append("a.grams @> CAST(:grams AS integer[])")
    for name in filters:
        elsewhere = _ELSEWHERE.get(name)
        if elsewhere is None:
            conditions.append(f"a.{name} = :{name}")
        else:
            conditions.append(elsewhere.probed if walk else elsewhere.gathered)
    return text((_WALK if walk else _GATHER).format(key=stage.key, conditions=" AND ".join(conditions)))


def _parameters(question: Search, stage: int, along: _Along) -> dict[str, object]:
    exact, folded = question.query, fold(question.query)
    first, last = {"equal": (folded, folded), "start": (folded, folded + _LAST)}.get(along or "", ("", _LAST))
    after = question.after if question.after is not None and question.after.stage == stage else None
    return {
        "exact": exact,
        "exact_end": exact + _LAST,
        "folded": folded,
        "folded_end": folded + _LAST,
        "asset_id": question.asset_id,
        "grams": grams_within(folded),
        "from_text": first if after is None else after.text,
        "from_id": _FIRST_ID if after is None else after.asset_id,
        "after_id": None if after is None else after.asset_id,
        "to_text": last,
        "steps": _STEPS + 4 * question.limit,
        "limit": question.limit,
    }


def matches(session: Session, question: Search, number: int) -> list[tuple[Any, ...]]:
    """Give the rows of one stage: an asset, and behind it the text by which it is sorted."""
    length = max(limit for limit in _STAGES if limit <= len(question.query))
    stage = _STAGES[length][number]
    if stage.condition == "FALSE":
        return []
    given = {name: value for name in _FILTERS if (value := getattr(question, name)) is not None}
    filters = tuple(given)
    plain = {name: value.value if isinstance(value, AssetType | Severity) else value for name, value in given.items()}
    parameters = _parameters(question, number, stage.along) | plain
    if stage.along is not None:
        rows = session.execute(_statement(length, number, filters, walk=True), parameters).all()
        steps = rows[0][-1]
        found = [row[:-1] for row in rows if row[-2] is not None]
        if len(found) == question.limit or steps < parameters["steps"]:
            return found
    # Planned anew for these values each time: what is best for one word or chain is a hundred times too slow for another.
    return session.execute(_statement(length, number, filters, walk=False), parameters, prepare=False).all()
