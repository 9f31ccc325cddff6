"""What deleted deployments, identifiers and venue symbols were found by, for the guard on names of warned assets."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the indexes, over few rows."""
    op.execute("""
        CREATE INDEX ix_asset_deployments_deleted ON asset_deployments (chain_id, contract_address)
            WHERE deleted_at IS NOT NULL;
        CREATE INDEX ix_asset_identifiers_deleted ON asset_identifiers (source, external_id) WHERE deleted_at IS NOT NULL;
        CREATE INDEX ix_venue_symbols_deleted ON venue_symbols (venue_id, symbol) WHERE deleted_at IS NOT NULL;
    """)
