"""What servers seal remembered answers with."""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the column; 244 random bits."""
    op.execute(
        "ALTER TABLE clock ADD COLUMN secret BYTEA NOT NULL"
        " DEFAULT (uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()))"
    )
