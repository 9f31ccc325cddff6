"""API tokens, and indexes over the batches for the audit."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE api_tokens (
        token_id TEXT COLLATE "C" NOT NULL,
        name TEXT COLLATE "C" NOT NULL,
        roles TEXT[] COLLATE "C" NOT NULL,
        hash BYTEA NOT NULL,
        created_at TIMESTAMP WITH TIME ZONE NOT NULL,
        created_by TEXT COLLATE "C" NOT NULL,
        expires_at TIMESTAMP WITH TIME ZONE,
        revoked_at TIMESTAMP WITH TIME ZONE,
        revoked_by TEXT COLLATE "C",
        last_used_at TIMESTAMP WITH TIME ZONE,
        CONSTRAINT pk_api_tokens PRIMARY KEY (token_id),
        CONSTRAINT ck_api_tokens_roles_known CHECK (
            cardinality(roles) > 0 AND roles <@ ARRAY['reader', 'writer', 'flagger', 'approver', 'admin']
        ),
        CONSTRAINT ck_api_tokens_hash_length CHECK (octet_length(hash) = 32)
    )
    """,
    "CREATE INDEX ix_batches_actor ON batches (actor, position)",
    "CREATE INDEX ix_batches_request_id ON batches (request_id) WHERE request_id IS NOT NULL",
    "CREATE INDEX ix_batches_committed_at ON batches USING brin (committed_at)",
)


def upgrade() -> None:
    """Create them."""
    for statement in STATEMENTS:
        op.execute(statement)
