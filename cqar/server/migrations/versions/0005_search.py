"""Search in stages: walks along symbols and names, and the index of the pieces of both in place of those of trigrams."""

from alembic import op
from sqlalchemy import text

from cqar.server.grams import grams

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_ROWS = 10_000

INDEXES = """
DROP INDEX ix_assets_symbol_fold, ix_assets_symbol_fold_trgm, ix_assets_name_fold_trgm;

CREATE INDEX ix_assets_symbol_fold_asset_id ON assets (symbol_fold, asset_id)
    INCLUDE (name_fold, asset_type, category) WHERE deleted_at IS NULL;

CREATE INDEX ix_assets_name_fold_asset_id ON assets (name_fold, asset_id)
    INCLUDE (symbol_fold, asset_type, category) WHERE deleted_at IS NULL;

CREATE INDEX ix_assets_asset_type_asset_id ON assets (asset_type, asset_id) WHERE deleted_at IS NULL;

CREATE INDEX ix_assets_category_asset_id ON assets (category, asset_id) WHERE deleted_at IS NULL;

CREATE INDEX ix_asset_deployments_chain_id_asset_id ON asset_deployments (chain_id, asset_id) WHERE deleted_at IS NULL;

CREATE INDEX ix_asset_quality_flags_severity_asset_id ON asset_quality_flags (severity, asset_id)
    WHERE deleted_at IS NULL AND cleared_at IS NULL;

CREATE INDEX ix_assets_grams ON assets USING gin (grams) WITH (gin_pending_list_limit = 256);
"""


def upgrade() -> None:
    """Add the column, fill it, and only then require and index it."""
    op.execute("ALTER TABLE assets ADD COLUMN grams INTEGER[]")
    connection = op.get_bind()
    following = text("""
        SELECT asset_id, symbol_fold, name_fold FROM assets
        WHERE CAST(:after AS uuid) IS NULL OR asset_id > CAST(:after AS uuid) ORDER BY asset_id LIMIT :rows
    """)
    fill = text("UPDATE assets SET grams = :grams WHERE asset_id = :asset_id")
    after = None
    while rows := connection.execute(following, {"after": after, "rows": _ROWS}).all():
        after = rows[-1].asset_id
        news = [{"asset_id": row.asset_id, "grams": grams(row.symbol_fold, row.name_fold)} for row in rows]
        connection.execute(fill, news)
    op.execute("ALTER TABLE assets ALTER COLUMN grams SET NOT NULL")
    op.execute(INDEXES)
