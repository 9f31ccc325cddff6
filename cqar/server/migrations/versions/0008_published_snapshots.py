"""Which snapshots the registry has published: followers ask before they load one that lies where others may write."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table. What was published before is in nobody's list: the next export publishes it again."""
    op.execute("""
        CREATE TABLE published_snapshots (
            sha256 TEXT COLLATE "C" NOT NULL,
            position BIGINT NOT NULL,
            noted_at TIMESTAMP WITH TIME ZONE NOT NULL,
            CONSTRAINT pk_published_snapshots PRIMARY KEY (sha256)
        )
    """)
