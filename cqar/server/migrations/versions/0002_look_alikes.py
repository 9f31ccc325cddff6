"""Look-alikes (R18): assets are found by the skeletons of their symbols."""

from alembic import op
from sqlalchemy import text

from cqar.looks import skeletons

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_ROWS = 10_000


def upgrade() -> None:
    """Add the column, fill it, and only then require and index it."""
    op.execute('ALTER TABLE assets ADD COLUMN skeletons TEXT[] COLLATE "C"')
    connection = op.get_bind()
    following = text("""
        SELECT asset_id, symbol FROM assets WHERE CAST(:after AS uuid) IS NULL OR asset_id > CAST(:after AS uuid)
        ORDER BY asset_id LIMIT :rows
    """)
    fill = text("UPDATE assets SET skeletons = :skeletons WHERE asset_id = :asset_id")
    after = None
    while rows := connection.execute(following, {"after": after, "rows": _ROWS}).all():
        after = rows[-1].asset_id
        news = [{"asset_id": row.asset_id, "skeletons": sorted(skeletons(row.symbol))} for row in rows]
        connection.execute(fill, news)
    op.execute("ALTER TABLE assets ALTER COLUMN skeletons SET NOT NULL")
    op.execute("CREATE INDEX ix_assets_skeletons ON assets USING gin (skeletons) WITH (fastupdate = off)")
