"""The store's statements that are easier to read as SQL than as expressions: writes, clock, change log, request ids."""

from __future__ import annotations

from typing import Any, Final, Literal

from sqlalchemy import TextClause, text

from cqar.model import ASSET, CHAIN, DEPLOYMENT, GROUP, IDENTIFIER, KINDS, VENUE, VENUE_SYMBOL, Kind, Severity
from cqar.server.schema import BOOKKEEPING, UUIDS, references

Step = Literal["insert", "update", "remove"]


def _columns(kind: Kind[Any]) -> list[str]:
    return [*kind.record.__struct_fields__, *BOOKKEEPING[kind.name]]


def _writes(kind: Kind[Any]) -> dict[Step, TextClause]:
    """Give the statements that write rows of a kind. Rows travel as one JSON array: one parameter for any number."""
    table, columns = kind.table, _columns(kind)
    rows = f"json_populate_recordset(NULL::{table}, CAST(:rows AS json)) AS r"
    same = " AND ".join([f"t.{name} = r.{name}" for name in kind.key])
    others = [name for name in columns if name not in kind.key]
    insert = f"INSERT INTO {table} AS t ({', '.join(columns)}) SELECT {', '.join(columns)} FROM {rows}"
    if len(kind.key) > 1 or kind.key[0] not in UUIDS:  # a name may be used again after its record was deleted
        news = ", ".join([f"{name} = excluded.{name}" for name in others])
        revive = f"DO UPDATE SET {news}, deleted_at = NULL WHERE t.deleted_at IS NOT NULL"
        insert += f" ON CONFLICT ({', '.join(kind.key)}) {revive}"
    news = ", ".join([f"{name} = r.{name}" for name in others])
    return {
        "insert": text(insert),
        "update": text(f"UPDATE {table} AS t SET {news} FROM {rows} WHERE {same} AND t.deleted_at IS NULL"),
        "remove": text(f"UPDATE {table} AS t SET deleted_at = :now FROM {rows} WHERE {same} AND t.deleted_at IS NULL"),
    }


WRITES: Final[dict[str, dict[Step, TextClause]]] = {kind.name: _writes(kind) for kind in KINDS.values()}

POSITION: Final = text("SELECT position FROM clock")
HEAD: Final = text("SELECT log_id, position, chain FROM clock")

SECRET: Final = text("SELECT log_id, secret FROM clock")

# Position and chain stay: the history goes on, under a name that no follower knows, and what Redis has is not believed.
NEW_LOG: Final = text("""
    WITH old AS (SELECT log_id FROM clock FOR UPDATE)
    UPDATE clock SET log_id = gen_random_uuid(), secret = DEFAULT FROM old RETURNING old.log_id, clock.log_id, position, chain
""")

# The other sessions of CQAR's programs, by the names that they give themselves.
SESSIONS: Final = text("""
    SELECT application_name, coalesce(host(client_addr), 'this host') FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
      AND (application_name = 'cqar' OR starts_with(application_name, 'cqar '))
    ORDER BY 1, 2
""")

# The clock's row stays locked from here to the end of the transaction: nothing may follow but the commit.
COMMIT: Final = text("""
    WITH tick AS (
        UPDATE clock SET position = position + 1, chain = substr(sha256(chain || :digest), 1, 16)
        RETURNING log_id, position, chain
    ), batch AS (
        INSERT INTO batches (position, chain, committed_at, actor, request_id, change_count)
        SELECT position, chain, :now, :actor, CAST(:request_id AS text), :change_count FROM tick
    ), log AS (
        INSERT INTO changes (position, ordinal, kind, key, op, record, before)
        SELECT tick.position, c.ordinal, c.kind, c.key, c.op, c.record, c.before
        FROM tick, ROWS FROM (
            json_to_recordset(CAST(:changes AS json)) AS (kind text, key text, op text, record json, before json)
        ) WITH ORDINALITY AS c (kind, key, op, record, before, ordinal)
    ), reply AS (
        INSERT INTO requests (request_id, method, digest, reply, position, created_at)
        SELECT CAST(:request_id AS text), :method, CAST(:request_digest AS bytea), :reply, position, :now FROM tick
        WHERE CAST(:request_id AS text) IS NOT NULL
        ON CONFLICT (request_id, method) DO UPDATE
        SET digest = excluded.digest, reply = excluded.reply, position = excluded.position, created_at = excluded.created_at
    )
    SELECT log_id, position, chain FROM tick
""")

# A reply to remember for a call that wrote nothing else.
REPLY: Final = text("""
    INSERT INTO requests (request_id, method, digest, reply, position, created_at)
    SELECT :request_id, :method, CAST(:request_digest AS bytea), :reply, position, :now FROM clock
    ON CONFLICT (request_id, method) DO UPDATE
    SET digest = excluded.digest, reply = excluded.reply, position = excluded.position, created_at = excluded.created_at
""")
FORGET: Final = text("""
    DELETE FROM requests WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM requests WHERE created_at < :expired LIMIT 100 FOR UPDATE SKIP LOCKED
    ))
""")
EARLIER: Final = text("""
    SELECT reply, position, digest FROM requests
    WHERE request_id = :request_id AND method = :method AND created_at >= :expired
""")

LOCK: Final = text("SELECT pg_advisory_xact_lock(hashtextextended('cqar ' || :topic, 0))")
# A record whose last change was trimmed counts as written just before what is left of the log.
WRITTEN_AT: Final = text("""
    SELECT coalesce(max(position), (SELECT min(position) - 1 FROM batches)), (SELECT position FROM clock)
    FROM changes WHERE kind = :kind AND key = :key
""")

# What was removed of a kind and is not there again, by its table and the SQL of its key.
REMOVED: Final = """
    SELECT {key}, coalesce(
        (SELECT max(position) FROM changes WHERE kind = '{kind}' AND key = {key}),
        (SELECT min(position) - 1 FROM batches), 0
    ) FROM {table} WHERE deleted_at IS NOT NULL ORDER BY {key} COLLATE "C"
"""

# --- for the guard on roads (`registry.roads`)

_CRITICAL: Final = f"f.severity >= {Severity.CRITICAL} AND f.cleared_at IS NULL AND f.deleted_at IS NULL"

WARNED: Final = text(f"""
    SELECT DISTINCT f.asset_id FROM asset_quality_flags AS f
    WHERE f.asset_id = ANY (CAST(:ids AS uuid[])) AND {_CRITICAL}
""")

# Raising a flag takes a share of its asset's row: no flag is raised until the transaction ends. In order, against deadlocks.
HOLD_ASSETS: Final = text("""
    SELECT asset_id FROM assets WHERE asset_id = ANY (CAST(:ids AS uuid[])) ORDER BY asset_id FOR UPDATE
""")

# Assets with a flag that have the symbol of one of these, in any case.
WARNED_NAMESAKES: Final = text(f"""
    SELECT own.asset_id, own.symbol, rival.asset_id, rival.symbol
    FROM assets AS own JOIN assets AS rival ON rival.symbol_fold = own.symbol_fold AND rival.asset_id <> own.asset_id
    WHERE own.asset_id = ANY (CAST(:ids AS uuid[])) AND own.deleted_at IS NULL AND rival.deleted_at IS NULL
      AND EXISTS (SELECT FROM asset_quality_flags AS f WHERE f.asset_id = rival.asset_id AND {_CRITICAL})
""")


def _were_warned(kind: Kind[Any], columns: tuple[str, ...], *overlap: str) -> TextClause:
    """Give the statement that finds deleted rows with the names of the given ones, of warned assets that those are not of."""
    fields = [name for name, target in references(kind).items() if target is ASSET]
    names = [f"d.{name} IS NOT DISTINCT FROM r.{name}" for name in columns[1:]]
    where = " AND ".join([f"d.{columns[0]} = r.{columns[0]}", *names, *overlap])
    return text(f"""
        SELECT r.ordinality, f.asset_id
        FROM json_populate_recordset(NULL::{kind.table}, CAST(:rows AS json)) WITH ORDINALITY AS r
        JOIN {kind.table} AS d ON d.deleted_at IS NOT NULL AND {where}
        JOIN asset_quality_flags AS f
          ON ({" OR ".join([f"(f.asset_id = d.{name} AND d.{name} IS DISTINCT FROM r.{name})" for name in fields])})
        WHERE {_CRITICAL}
    """)


# Of the kinds whose records have one name each, which is free for another record once they are deleted.
WERE_WARNED: Final[dict[str, TextClause]] = {
    "deployment": _were_warned(DEPLOYMENT, ("chain_id", "contract_address")),
    "identifier": _were_warned(IDENTIFIER, ("source", "external_id")),
    "venue_symbol": _were_warned(
        VENUE_SYMBOL,
        ("venue_id", "symbol", "market_kind"),
        "tstzrange(d.valid_from, d.valid_to) && tstzrange(r.valid_from, r.valid_to)",
    ),
}


def _warned_at(place: Kind[Any]) -> TextClause:
    """Give the statement that finds a warned asset at each of some chains, venues or groups that has one."""
    (key,) = place.key
    ways = [
        f"SELECT t.{key} AS place, f.asset_id FROM {kind.table} AS t JOIN asset_quality_flags AS f ON f.asset_id = t.{field}"
        f" WHERE t.deleted_at IS NULL AND t.{key} = ANY (CAST(:places AS {'uuid' if key in UUIDS else 'text'}[])) AND {_CRITICAL}"
        for kind in KINDS.values()
        if place in references(kind).values()
        for field, target in references(kind).items()
        if target is ASSET
    ]
    return text(f"SELECT place, min(asset_id::text) FROM ({' UNION ALL '.join(ways)}) AS found GROUP BY place")


WARNED_AT: Final[dict[str, TextClause]] = {kind.name: _warned_at(kind) for kind in (CHAIN, VENUE, GROUP)}

# UNION, not UNION ALL: a diamond is walked once, and a cycle would not go on for ever.
ANCESTRY: Final = text("""
    WITH RECURSIVE above AS (
        SELECT parent_asset_id, child_asset_id FROM asset_relationships
        WHERE deleted_at IS NULL AND child_asset_id = ANY (CAST(:assets AS uuid[]))
          AND relationship_type = ANY (CAST(:types AS text[]))
        UNION
        SELECT r.parent_asset_id, r.child_asset_id FROM asset_relationships AS r
        JOIN above ON r.child_asset_id = above.parent_asset_id
        WHERE r.deleted_at IS NULL AND r.relationship_type = ANY (CAST(:types AS text[]))
    )
    SELECT parent_asset_id, child_asset_id FROM above
""")


def _fields(kind: Kind[Any], alias: str) -> str:
    return ", ".join([f"{alias}.{name}" for name in kind.record.__struct_fields__])


# The edges below an asset with the live assets that they lead to; each edge once, as above.
DESCENT: Final = text(f"""
    WITH RECURSIVE below AS (
        SELECT r.relationship_id, r.child_asset_id FROM asset_relationships AS r
        JOIN assets AS a ON a.asset_id = r.child_asset_id AND a.deleted_at IS NULL
        WHERE r.deleted_at IS NULL AND r.parent_asset_id = CAST(:asset AS uuid)
          AND r.relationship_type = ANY (CAST(:types AS text[]))
        UNION
        SELECT r.relationship_id, r.child_asset_id FROM below
        JOIN asset_relationships AS r ON r.parent_asset_id = below.child_asset_id
        JOIN assets AS a ON a.asset_id = r.child_asset_id AND a.deleted_at IS NULL
        WHERE r.deleted_at IS NULL AND r.relationship_type = ANY (CAST(:types AS text[]))
    )
    SELECT {_fields(KINDS["relationship"], "r")}, {_fields(KINDS["asset"], "a")} FROM below
    JOIN asset_relationships AS r ON r.relationship_id = below.relationship_id
    JOIN assets AS a ON a.asset_id = below.child_asset_id
""")

# The first tickers of each of some venues that have an asset on any side now, with how many there are.
LISTINGS: Final = text(f"""
    SELECT {_fields(KINDS["venue_symbol"], "s")}, s.symbol_count FROM (
        SELECT *, count(*) OVER venue AS symbol_count,
               row_number() OVER (PARTITION BY venue_id ORDER BY symbol, market_kind, venue_symbol_id) AS place
        FROM venue_symbols
        WHERE deleted_at IS NULL AND venue_id = ANY (CAST(:venues AS text[]))
          AND CAST(:asset AS uuid) IN (asset_id, quote_asset_id, settle_asset_id)
          AND (valid_from IS NULL OR valid_from <= now()) AND (valid_to IS NULL OR valid_to > now())
        WINDOW venue AS (PARTITION BY venue_id)
    ) AS s
    WHERE s.place <= :each ORDER BY s.venue_id, s.place
""")

# An exporter compresses what it has read before it reads on.
PATIENCE: Final = text("SET LOCAL idle_in_transaction_session_timeout = '5min'")

CHAIN_AT: Final = text("SELECT chain FROM batches WHERE position = :position")

# Whole batches only; the first one however large it is. The bound of c.position says nothing new, but without it the planner
# reads all of a log that is not long yet.
BATCHES: Final = text("""
    WITH following AS (
        SELECT position, chain, committed_at, change_count, sum(change_count) OVER (ORDER BY position) AS total
        FROM (SELECT * FROM batches WHERE position > :after ORDER BY position LIMIT :limit) AS b
    )
    SELECT f.position, f.chain, f.committed_at, c.op, c.kind, c.key, CAST(c.record AS text)
    FROM following AS f JOIN changes AS c ON c.position = f.position
    WHERE c.position > :after AND (f.total <= :limit OR f.total = f.change_count)
    ORDER BY f.position, c.ordinal
""")

# The same with all that the log has: who wrote it, and what was there before.
HISTORY: Final = text("""
    WITH following AS (
        SELECT position, chain, committed_at, actor, request_id, change_count, sum(change_count) OVER (ORDER BY position) AS total
        FROM (SELECT * FROM batches WHERE position > :after ORDER BY position LIMIT :limit) AS b
    )
    SELECT f.position, f.chain, clock.log_id, (SELECT chain FROM batches WHERE position = :after),
           f.committed_at, f.actor, f.request_id, c.op, c.kind, c.key,
           CAST(c.record AS text), CAST(c.before AS text)
    FROM clock, following AS f JOIN changes AS c ON c.position = f.position
    WHERE c.position > :after AND (f.total <= :limit OR f.total = f.change_count)
    ORDER BY f.position, c.ordinal
""")
OLDEST: Final = text("SELECT coalesce((SELECT min(position) FROM batches), position + 1) FROM clock")

# Where a relay is; nobody goes back behind it, unless the log did.
RELAY_PLACE: Final = text("SELECT position FROM relays WHERE name = :name")
RELAY_NOTE: Final = text("""
    INSERT INTO relays (name, position, noted_at) VALUES (:name, :position, :now)
    ON CONFLICT (name) DO UPDATE SET position = excluded.position, noted_at = excluded.noted_at
    RETURNING position
""")
RELAY_FORGET: Final = text("DELETE FROM relays WHERE name = :name RETURNING position")
RELAY_FLOOR: Final = text("SELECT name, position FROM relays ORDER BY position LIMIT 1")

# Which snapshots were published. What nobody can still be using is forgotten when another one comes.
SNAPSHOT_NOTE: Final = text("""
    WITH forgotten AS (DELETE FROM published_snapshots WHERE noted_at < :forget_before)
    INSERT INTO published_snapshots (sha256, position, noted_at) VALUES (:sha256, :position, :now)
    ON CONFLICT (sha256) DO UPDATE SET noted_at = excluded.noted_at
    RETURNING position
""")
SNAPSHOTS_PUBLISHED: Final = text("SELECT sha256 FROM published_snapshots WHERE sha256 = ANY(:asked)")

# The clocks of servers differ, so a batch may be older than the one before it: what goes ends with the first that stays.
TRIM_UNTIL: Final = text("""
    SELECT coalesce(min(position), :before) FROM batches WHERE position < :before AND committed_at >= :written_before
""")
TRIM: Final = text("""
    WITH oldest AS (
        SELECT position, change_count, sum(change_count) OVER (ORDER BY position) AS total
        FROM (SELECT * FROM batches WHERE position < :until ORDER BY position LIMIT :limit) AS b
    ), old AS MATERIALIZED (SELECT position FROM oldest WHERE total <= :limit OR total = change_count),
    gone AS (DELETE FROM changes WHERE position IN (SELECT position FROM old))
    DELETE FROM batches WHERE position IN (SELECT position FROM old)
""")

# The least of what the server, this user and this database are limited to; -1 is no limit, and superusers have the first only.
CONNECTIONS: Final = text("""
    SELECT CASE WHEN rolsuper THEN CAST(current_setting('max_connections') AS int) ELSE least(
        CAST(current_setting('max_connections') AS int)
            - CAST(current_setting('superuser_reserved_connections') AS int)
            - CAST(coalesce(current_setting('reserved_connections', true), '0') AS int),
        nullif(rolconnlimit, -1), nullif(datconnlimit, -1)
    ) END
    FROM pg_roles, pg_database WHERE rolname = current_user AND datname = current_database()
""")
