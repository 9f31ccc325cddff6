"""Search for assets: in stages, from the best matches to the least, until the page is full.

Each stage gives its matches sorted by a text and the asset's id, from any place on, and leaves out what an earlier one
gives. Most walk along an index in that order, so a page costs the same however many assets match and however deep it lies.
Where too few on the way pass the conditions, the walk is given up after some thousand steps, and what passes is gathered:
from what passes the narrowest of the filters, if that is little, or else from what has the pieces of the text (`grams`).

PostgreSQL is left no choice (`OFFSET 0`, `MATERIALIZED`): after a large import it has no statistics, and at any time it
takes the pieces of one word for independent. Guessing wrong costs it seconds.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec
from sqlalchemy import TextClause, text

from cqar.model import ASSET, AssetType, Severity, fold
from cqar.server.grams import grams_within
from cqar.server.session import Session

NAME_START: Final = 3  # letters from which on the start of an identifier or ticker is found
ADDRESS_START: Final = 6  # and that of an address: 0x and four
_STEPS: Final = 2000  # of a walk, and a few more for each asset wanted
_FEW: Final = 1000  # assets that are quickly gathered from
_MANY: Final = 20_000  # assets that pass a filter are too many to look others up among
_LAST: Final = "\U0010ffff"  # sorts behind every letter; no text has it
_NOTHING: Final = "FALSE"
# There is one plan for each statement whatever is asked, and making it anew takes as long as what it does.
_PLANNED_ONCE: Final = "SET LOCAL plan_cache_mode = force_generic_plan"
_FIRST_ID: Final = "00000000-0000-0000-0000-000000000000"


class Place(NamedTuple):
    """Where an asset stands in the list of matches: its stage, and the text and the id by which it is sorted therein.

    It comes back from callers, within a page's token.
    """

    stage: Annotated[int, msgspec.Meta(ge=0)]
    text: Annotated[str, msgspec.Meta(pattern=r"\A[^\x00]*\Z")]
    asset_id: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")]


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


class _Filter(NamedTuple):
    """A filter on the rows of a table that name the asset in one of some columns."""

    table: str
    columns: tuple[str, ...]
    condition: str

    @property
    def members(self) -> str:
        """The statement for all assets that pass; one may come several times."""
        rows = f"FROM {self.table} WHERE deleted_at IS NULL AND {self.condition}"
        return " UNION ALL ".join([f"SELECT {name} AS asset_id {rows} AND {name} IS NOT NULL" for name in self.columns])

    @property
    def hashed(self) -> str:
        """The condition on one of many assets: all that pass are gathered first, and then each is looked up among them."""
        return self.test if self.table == "assets" else f"(a.asset_id IN ({self.members})) IS TRUE"

    @property
    def test(self) -> str:
        """The condition on one asset: whether any of its own rows passes."""
        if self.table == "assets":
            return f"a.{self.condition}"
        rows = f"SELECT * FROM {self.table} WHERE deleted_at IS NULL AND"
        own = [
            f"EXISTS (SELECT FROM ({rows} {name} = a.asset_id OFFSET 0) AS own WHERE {self.condition})"
            for name in self.columns
        ]
        return f"({' OR '.join(own)})"


_OWN: Final = ("asset_id",)
_FILTERS: Final = {
    "chain_id": _Filter("asset_deployments", _OWN, "chain_id = :chain_id"),
    "venue_id": _Filter("venue_symbols", (*_OWN, "quote_asset_id", "settle_asset_id"), "venue_id = :venue_id"),
    "asset_type": _Filter("assets", _OWN, "asset_type = :asset_type"),
    "category": _Filter("assets", _OWN, "category = :category"),
    "min_severity": _Filter("asset_quality_flags", _OWN, "cleared_at IS NULL AND severity >= :min_severity"),
}

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


class _Stage(NamedTuple):
    """What a stage finds: the assets that pass `condition`, sorted by `key`.

    `along` is the part of the key's index to walk: what equals the text, what begins with it, or all. None: they are few, and
    `members` gives them.
    """

    condition: str
    key: Literal["symbol_fold", "name_fold"] = "symbol_fold"
    along: Literal["equal", "start", "all"] | None = None
    members: str = ""


def _among(*members: str) -> _Stage:
    """Give the stage of the assets that are among some few."""
    together = " UNION ALL ".join(members)
    return _Stage(f"a.asset_id IN ({together})" if members else _NOTHING, members=together)


def _stages(length: int) -> tuple[_Stage, ...]:
    """Give the stages for a text of this length."""
    return (
        _Stage("a.symbol_fold = :folded", along="equal"),
        _Stage("a.name_fold = :folded", key="name_fold", along="equal"),
        _among(_EXACT),
        _Stage("a.symbol_fold BETWEEN :folded AND :folded_end", along="start"),
        _Stage("a.name_fold BETWEEN :folded AND :folded_end", key="name_fold", along="start"),
        _among(*[_NAME_STARTS] * (length >= NAME_START), *[_ADDRESS_STARTS] * (length >= ADDRESS_START)),
        _Stage("(strpos(a.symbol_fold, :folded) > 0 OR strpos(a.name_fold, :folded) > 0)", along="all"),
    )


# By what a text of some length may be the start of.
_STAGES: Final = {length: _stages(length) for length in (0, NAME_START, ADDRESS_START)}

_ASSETS: Final = ", ".join([f"a.{name}" for name in ASSET.record.__struct_fields__])
_INDEXED: Final = "asset_id, symbol_fold, name_fold, asset_type, category"  # all that the conditions read of an asset
_FROM_HERE: Final = """
    {key} <= :to_text AND ({key}, asset_id) >= (:from_text, CAST(:from_id AS uuid))
    AND asset_id IS DISTINCT FROM CAST(:after_id AS uuid)
"""
# There is always a row, to tell the number of steps.
_WALK: Final = f"""
    WITH walked AS MATERIALIZED (
        SELECT {_INDEXED} FROM assets WHERE deleted_at IS NULL AND {_FROM_HERE} ORDER BY {{key}}, asset_id LIMIT :steps
    ), page AS (
        SELECT a.asset_id, a.{{key}} AS sort FROM walked AS a WHERE {{conditions}} ORDER BY sort, asset_id LIMIT :limit
    )
    SELECT {_ASSETS}, page.sort, walk.steps
    FROM (SELECT count(*) AS steps FROM walked) AS walk
    LEFT JOIN (page JOIN assets AS a USING (asset_id)) ON TRUE ORDER BY page.sort, a.asset_id
"""
_GATHER: Final = f"""
    WITH candidates AS NOT MATERIALIZED ({{candidates}}), page AS (
        SELECT a.asset_id, a.{{key}} AS sort FROM candidates AS a
        WHERE {_FROM_HERE} AND {{conditions}} ORDER BY sort, asset_id LIMIT :limit
    )
    SELECT {_ASSETS}, page.sort FROM page JOIN assets AS a USING (asset_id) ORDER BY page.sort, a.asset_id
"""
_ALONG: Final = f"SELECT {_INDEXED} FROM assets WHERE deleted_at IS NULL AND {_FROM_HERE} OFFSET 0"
_WITH_PIECES: Final = f"""
    SELECT {_INDEXED} FROM assets WHERE deleted_at IS NULL AND grams @> CAST(:grams AS integer[]) OFFSET 0
"""
_AMONG: Final = f"""
    SELECT one.* FROM (SELECT DISTINCT asset_id FROM ({{members}}) AS named) AS few JOIN LATERAL (
        SELECT {_INDEXED} FROM assets WHERE deleted_at IS NULL AND assets.asset_id = few.asset_id OFFSET 0
    ) AS one ON TRUE OFFSET 0
"""


def _conditions(length: int, number: int, filters: Iterable[str], *, hashed: bool = False) -> str:
    *earlier, stage = _STAGES[length][: number + 1]
    tests = [_FILTERS[name].hashed if hashed else _FILTERS[name].test for name in filters]
    return " AND ".join([stage.condition, *[f"NOT {before.condition}" for before in earlier], *tests])


@functools.cache
def _walk(length: int, number: int, filters: tuple[str, ...]) -> TextClause:
    """Give the statement that walks along the index of a stage."""
    return text(_WALK.format(key=_STAGES[length][number].key, conditions=_conditions(length, number, filters)))


def _candidates(stage: _Stage, narrow: str | None) -> str:
    """Give the statement for what to gather from: what passes the filter `narrow`, or else what the stage itself may find."""
    if stage.along is None:
        return _AMONG.format(members=stage.members)
    if narrow is not None:
        return _AMONG.format(members=_FILTERS[narrow].members)
    return _WITH_PIECES if stage.along == "all" else _ALONG.format(key=stage.key)


class _Way(NamedTuple):
    """How matches are gathered: from what passes the filter `narrow`, or, without one, from what the stage may find."""

    narrow: str | None = None
    hashed: bool = False  # look each up among all that pass the filters


@functools.cache
def _gather(length: int, number: int, filters: tuple[str, ...], way: _Way) -> TextClause:
    """Give the statement that gathers the matches of a stage."""
    stage = _STAGES[length][number]
    others = [name for name in filters if name != way.narrow]
    conditions = _conditions(length, number, others, hashed=way.hashed)
    return text(_GATHER.format(key=stage.key, candidates=_candidates(stage, way.narrow), conditions=conditions))


@functools.cache
def _sizes(*sources: str) -> TextClause:
    """Give the statement that counts, up to a limit, what each source has."""
    counts = [f"(SELECT count(*) FROM (SELECT FROM ({source}) AS one LIMIT :most) AS counted)" for source in sources]
    return text(f"SELECT {', '.join(counts)}")


class Finder:
    """Finds the matches of one question. To be used while the session lasts."""

    def __init__(self, session: Session, question: Search) -> None:
        self._session, self._question = session, question
        session.execute(_PLANNED_ONCE)
        self._length = max(limit for limit in _STAGES if limit <= len(question.query))
        given = {name: value for name in _FILTERS if (value := getattr(question, name)) is not None}
        self._filters = tuple(given)
        exact, folded = question.query, fold(question.query)
        self._parameters: dict[str, Any] = {
            **{name: value.value if isinstance(value, enum.Enum) else value for name, value in given.items()},
            "exact": exact,
            "exact_end": exact + _LAST,
            "folded": folded,
            "folded_end": folded + _LAST,
            "asset_id": question.asset_id,
            "grams": grams_within(folded),
        }

    def matches(self) -> Iterator[tuple[int, tuple[Any, ...]]]:
        """Yield rows with the number of their stage: an asset, and behind it the text by which it is sorted there."""
        wanted = self._question.limit
        for number in range(0 if self._question.after is None else self._question.after.stage, len(_STAGES[0])):
            if wanted == 0:
                return
            found = self._stage(number, wanted)
            wanted -= len(found)
            yield from [(number, row) for row in found]

    def _stage(self, number: int, limit: int) -> list[tuple[Any, ...]]:
        stage = _STAGES[self._length][number]
        if stage.condition == _NOTHING:
            return []
        steps = _STEPS + 2 * limit
        parameters = self._parameters | self._range(number, stage) | {"steps": steps, "limit": limit}
        if stage.along is None:
            return self._session.execute(_gather(self._length, number, self._filters, _Way()), parameters).all()
        rows = self._session.execute(_walk(self._length, number, self._filters), parameters).all()
        found = [row[:-1] for row in rows if row[-2] is not None]
        if len(found) == limit or rows[0][-1] < steps:
            return found
        way = self._way(stage, parameters) if self._filters else _Way()
        return self._session.execute(_gather(self._length, number, self._filters, way), parameters).all()

    def _way(self, stage: _Stage, parameters: dict[str, Any]) -> _Way:
        """Choose where to gather from: the narrowest filter or the stage, whichever has few."""
        size, name = self._narrowest
        if size < _FEW:
            return _Way(narrow=name)
        own = _sizes(_candidates(stage, None))
        few = self._session.execute(own, parameters | {"most": _FEW}).scalar_one() < _FEW
        return _Way(hashed=not few and size < _MANY)

    @functools.cached_property
    def _narrowest(self) -> tuple[int, str]:
        """The filter that the fewest assets pass, behind their number, which is counted up to a limit."""
        members = _sizes(*[_FILTERS[name].members for name in self._filters])
        sizes = self._session.execute(members, self._parameters | {"most": _MANY}).one()
        return min(zip(sizes, self._filters, strict=True))

    def _range(self, number: int, stage: _Stage) -> dict[str, str | None]:
        """Give the part of the key in which the stage finds something; it begins with the last asset of the page before."""
        folded, folded_end = self._parameters["folded"], self._parameters["folded_end"]
        first, last = {"equal": (folded, folded), "start": (folded, folded_end)}.get(stage.along or "", ("", _LAST))
        after = self._question.after
        if after is None or after.stage != number:
            return {"from_text": first, "from_id": _FIRST_ID, "after_id": None, "to_text": last}
        return {"from_text": after.text, "from_id": after.asset_id, "after_id": after.asset_id, "to_text": last}
