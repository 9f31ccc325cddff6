"""What a call with a request id asked for: a repetition must ask for the same."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the digest; a reply from before has none, and is given to whoever repeats its id."""
    op.execute("ALTER TABLE requests ADD COLUMN digest BYTEA")
