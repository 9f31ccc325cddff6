"""How far what is committed has been published to brokers."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    op.execute("""
        CREATE TABLE relays (
            name TEXT COLLATE "C" NOT NULL,
            position BIGINT NOT NULL,
            noted_at TIMESTAMP WITH TIME ZONE NOT NULL,
            CONSTRAINT pk_relays PRIMARY KEY (name)
        )
    """)
