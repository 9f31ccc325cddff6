"""The registry: one table per record kind, the change log with its clock, and the first replies of writes."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

EXTENSIONS = ("btree_gist", "pg_trgm")  # trusted: the owner of a database may add them

TABLES = """
CREATE TABLE asset_groups (
    provenance TEXT COLLATE "C",
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
    group_id UUID NOT NULL,
    canonical_symbol TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    description TEXT COLLATE "C",
    canonical_symbol_fold TEXT COLLATE "C" NOT NULL,
    deleted_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_asset_groups PRIMARY KEY (group_id),
    CONSTRAINT ck_asset_groups_canonical_symbol_length CHECK (char_length(canonical_symbol) BETWEEN 1 AND 64),
    CONSTRAINT ck_asset_groups_created_at_range
        CHECK (created_at >= '0001-01-01 00:00:00+00' AND created_at < '10000-01-01 00:00:00+00'),
    CONSTRAINT ck_asset_groups_updated_at_range
        CHECK (updated_at >= '0001-01-01 00:00:00+00' AND updated_at < '10000-01-01 00:00:00+00')
);

CREATE UNIQUE INDEX uq_asset_groups_symbol ON asset_groups (canonical_symbol_fold) WHERE deleted_at IS NULL;

CREATE TABLE assets (
    provenance TEXT COLLATE "C",
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
    asset_id UUID NOT NULL,
    symbol TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    asset_type TEXT COLLATE "C" NOT NULL,
    category TEXT COLLATE "C",
    logo_url TEXT COLLATE "C",
    website TEXT COLLATE "C",
    description TEXT COLLATE "C",
    metadata JSONB NOT NULL,
    symbol_fold TEXT COLLATE "C" NOT NULL,
    name_fold TEXT COLLATE "C" NOT NULL,
    deleted_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_assets PRIMARY KEY (asset_id),
    CONSTRAINT ck_assets_symbol_length CHECK (char_length(symbol) BETWEEN 1 AND 64),
    CONSTRAINT ck_assets_created_at_range
        CHECK (created_at >= '0001-01-01 00:00:00+00' AND created_at < '10000-01-01 00:00:00+00'),
    CONSTRAINT ck_assets_updated_at_range
        CHECK (updated_at >= '0001-01-01 00:00:00+00' AND updated_at < '10000-01-01 00:00:00+00'),
    CONSTRAINT ck_assets_asset_type_known
        CHECK (asset_type IN ('NATIVE', 'TOKEN',
            'STABLECOIN', 'WRAPPED', 'BRIDGED', 'STAKED', 'SYNTHETIC', 'LP_TOKEN', 'FIAT', 'OTHER'))
);

CREATE INDEX ix_assets_name_fold_trgm ON assets USING gin (name_fold gin_trgm_ops) WHERE deleted_at IS NULL;

CREATE INDEX ix_assets_symbol_fold ON assets (symbol_fold) WHERE deleted_at IS NULL;

CREATE INDEX ix_assets_symbol_fold_trgm ON assets USING gin (symbol_fold gin_trgm_ops) WHERE deleted_at IS NULL;

CREATE TABLE batches (
    position BIGINT NOT NULL,
    chain BYTEA NOT NULL,
    committed_at TIMESTAMP WITH TIME ZONE NOT NULL,
    actor TEXT COLLATE "C" NOT NULL,
    request_id TEXT COLLATE "C",
    change_count INTEGER NOT NULL,
    CONSTRAINT pk_batches PRIMARY KEY (position)
);

CREATE TABLE changes (
    position BIGINT NOT NULL,
    ordinal INTEGER NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,
    key TEXT COLLATE "C" NOT NULL,
    op TEXT COLLATE "C" NOT NULL,
    record JSON,
    before JSON,
    CONSTRAINT pk_changes PRIMARY KEY (position, ordinal)
);

CREATE INDEX ix_changes_key ON changes (kind, key, position);

CREATE TABLE clock (
    singleton BOOLEAN DEFAULT true NOT NULL,
    log_id UUID DEFAULT gen_random_uuid() NOT NULL,
    position BIGINT DEFAULT 0 NOT NULL,
    chain BYTEA DEFAULT '\\x00000000000000000000000000000000'::bytea NOT NULL,
    CONSTRAINT pk_clock PRIMARY KEY (singleton),
    CONSTRAINT ck_clock_singleton CHECK (singleton)
) WITH (fillfactor = 10);

CREATE TABLE requests (
    request_id TEXT COLLATE "C" NOT NULL,
    method TEXT COLLATE "C" NOT NULL,
    reply BYTEA NOT NULL,
    position BIGINT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_requests PRIMARY KEY (request_id, method)
);

CREATE INDEX ix_requests_created_at ON requests (created_at);

CREATE TABLE asset_group_members (
    provenance TEXT COLLATE "C",
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
    group_id UUID NOT NULL,
    asset_id UUID NOT NULL,
    is_canonical BOOLEAN NOT NULL,
    weight NUMERIC(38, 18) NOT NULL,
    deleted_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_asset_group_members PRIMARY KEY (group_id, asset_id),
    CONSTRAINT ck_asset_group_members_created_at_range
        CHECK (created_at >= '0001-01-01 00:00:00+00' AND created_at < '10000-01-01 00:00:00+00'),
    CONSTRAINT ck_asset_group_members_updated_at_range
        CHECK (updated_at >= '0001-01-01 00:00:00+00' AND updated_at < '10000-01-01 00:00:00+00'),
    CONSTRAINT ck_asset_group_members_weight_positive CHECK (weight > 0 AND weight <> 'NaN'),
    CONSTRAINT fk_asset_group_members_group_id FOREIGN KEY(group_id) REFERENCES asset_groups (group_id),
    CONSTRAINT fk_asset_group_members_asset_id FOREIGN KEY(asset_id) REFERENCES assets (asset_id)
);

CREATE INDEX ix_asset_group_members_asset_id ON asset_group_members (asset_id) WHERE deleted_at IS NULL;

CREATE UNIQUE INDEX uq_asset_group_members_canonical ON asset_group_members (group_id)
    WHERE deleted_at IS NULL AND is_canonical;

CREATE TABLE asset_identifiers (
    provenance TEXT COLLATE "C",
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
    identifier_id UUID NOT NULL,
    asset_id UUID NOT NULL,
    source TEXT COLLATE "C" NOT NULL,
    external_id TEXT COLLATE "C" NOT NULL,
    is_primary BOOLEAN NOT NULL,
    deleted_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_asset_identifiers PRIMARY KEY (identifier_id),
    CONSTRAINT ck_asset_identifiers_external_id_length CHECK (char_length(external_id) >= 1),
    CONSTRAINT ck_asset_identifiers_created_at_range
        CHECK (created_at >= '0001-01-01 00:00:00+00' AND created_at < '10000-01-01 00:00:00+00'),
    CONSTRAINT ck_asset_identifiers_updated_at_range
        CHECK (updated_at >= '0001-01-01 00:00:00+00' AND updated_at < '10000-01-01 00:00:00+00'),
    CONSTRAINT fk_asset_identifiers_asset_id FOREIGN KEY(asset_id) REFERENCES assets (asset_id)
);

CREATE INDEX ix_asset_identifiers_asset_id ON asset_identifiers (asset_id) WHERE deleted_at IS NULL;

CREATE INDEX ix_asset_identifiers_external_id ON asset_identifiers (external_id) WHERE deleted_at IS NULL;

CREATE UNIQUE INDEX uq_asset_identifiers_external ON asset_identifiers (source, external_id)
    WHERE deleted_at IS NULL;

CREATE UNIQUE INDEX uq_asset_identifiers_primary ON asset_identifiers (asset_id, source)
    WHERE deleted_at IS NULL AND is_primary;

CREATE TABLE asset_quality_flags (
    provenance TEXT COLLATE "C",
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
    flag_id UUID NOT NULL,
    asset_id UUID NOT NULL,
    flag_type TEXT COLLATE "C" NOT NULL,
    severity SMALLINT NOT NULL,
    source TEXT COLLATE "C" NOT NULL,
    reason TEXT COLLATE "C" NOT NULL,
    evidence_url TEXT COLLATE "C",
    raised_by TEXT COLLATE "C",
    raised_at TIMESTAMP WITH TIME ZONE,
    cleared_by TEXT COLLATE "C",
    cleared_at TIMESTAMP WITH TIME ZONE,
    clear_reason TEXT COLLATE "C",
    deleted_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_asset_quality_flags PRIMARY KEY (flag_id),
    CONSTRAINT ck_asset_quality_flags_cleared_by_with_cleared_at
        CHECK ((cleared_at IS NULL) = (cleared_by IS NULL)),
    CONSTRAINT ck_asset_quality_flags_created_at_range
        CHECK (created_at >= '0001-01-01 00:00:00+00' AND created_at < '10000-01-01 00:00:00+00'),
    CONSTRAINT ck_asset_quality_flags_updated_at_range
        CHECK (updated_at >= '0001-01-01 00:00:00+00' AND updated_at < '10000-01-01 00:00:00+00'),
    CONSTRAINT ck_asset_quality_flags_flag_type_known
        CHECK (flag_type IN ('SCAM', 'RUGPULL', 'EXPLOITED', 'DEPRECATED', 'PAUSED', 'UNVERIFIED',
            'LOW_LIQUIDITY', 'HONEYPOT', 'TAX_TOKEN', 'IMPOSTOR', 'SANCTIONED', 'DEPEGGED', 'UPGRADEABLE', 'MINTABLE')),
    CONSTRAINT ck_asset_quality_flags_severity_known CHECK (severity BETWEEN 1 AND 5),
    CONSTRAINT ck_asset_quality_flags_raised_at_range
        CHECK (raised_at >= '0001-01-01 00:00:00+00' AND raised_at < '10000-01-01 00:00:00+00'),
    CONSTRAINT ck_asset_quality_flags_cleared_at_range
        CHECK (cleared_at >= '0001-01-01 00:00:00+00' AND cleared_at < '10000-01-01 00:00:00+00'),
    CONSTRAINT fk_asset_quality_flags_asset_id FOREIGN KEY(asset_id) REFERENCES assets (asset_id)
);

CREATE INDEX ix_asset_quality_flags_asset_id ON asset_quality_flags (asset_id) WHERE deleted_at IS NULL;

CREATE UNIQUE INDEX uq_asset_quality_flags_active ON asset_quality_flags (asset_id, flag_type, source)
    WHERE deleted_at IS NULL AND cleared_at IS NULL;

CREATE TABLE asset_relationships (
    provenance TEXT COLLATE "C",
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
    relationship_id UUID NOT NULL,
    parent_asset_id UUID NOT NULL,
    child_asset_id UUID NOT NULL,
    relationship_type TEXT COLLATE "C" NOT NULL,
    protocol TEXT COLLATE "C",
    conversion_rate NUMERIC(38, 18),
    rate_as_of TIMESTAMP WITH TIME ZONE,
    rate_source TEXT COLLATE "C",
    deleted_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_asset_relationships PRIMARY KEY (relationship_id),
    CONSTRAINT ck_asset_relationships_child_asset_id_differs CHECK (parent_asset_id <> child_asset_id),
    CONSTRAINT ck_asset_relationships_created_at_range
        CHECK (created_at >= '0001-01-01 00:00:00+00' AND created_at < '10000-01-01 00:00:00+00'),
    CONSTRAINT ck_asset_relationships_updated_at_range
        CHECK (updated_at >= '0001-01-01 00:00:00+00' AND updated_at < '10000-01-01 00:00:00+00'),
    CONSTRAINT ck_asset_relationships_relationship_type_known
        CHECK (relationship_type IN ('WRAPS', 'BRIDGES', 'STAKES', 'SYNTHETIC', 'LP_PAIR', 'MIGRATION', 'FORK', 'REBASES')),
    CONSTRAINT ck_asset_relationships_conversion_rate_positive
        CHECK (conversion_rate > 0 AND conversion_rate <> 'NaN'),
    CONSTRAINT ck_asset_relationships_rate_as_of_range
        CHECK (rate_as_of >= '0001-01-01 00:00:00+00' AND rate_as_of < '10000-01-01 00:00:00+00'),
    CONSTRAINT fk_asset_relationships_parent_asset_id FOREIGN KEY(parent_asset_id) REFERENCES assets (asset_id),
    CONSTRAINT fk_asset_relationships_child_asset_id FOREIGN KEY(child_asset_id) REFERENCES assets (asset_id)
);

CREATE INDEX ix_asset_relationships_child_asset_id ON asset_relationships (child_asset_id) WHERE deleted_at IS NULL;

CREATE UNIQUE INDEX uq_asset_relationships_edge ON asset_relationships (parent_asset_id, child_asset_id, relationship_type)
    WHERE deleted_at IS NULL;

CREATE TABLE chains (
    provenance TEXT COLLATE "C",
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
    chain_id TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    namespace TEXT COLLATE "C" NOT NULL,
    caip2 TEXT COLLATE "C",
    network_id BIGINT,
    aliases TEXT[] COLLATE "C" NOT NULL,
    native_symbol TEXT COLLATE "C",
    native_decimals BIGINT,
    native_asset_id UUID,
    explorer_url TEXT COLLATE "C",
    slip44 BIGINT,
    is_testnet BOOLEAN NOT NULL,
    is_active BOOLEAN NOT NULL,
    names TEXT[] COLLATE "C" NOT NULL,
    deleted_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_chains PRIMARY KEY (chain_id),
    CONSTRAINT ck_chains_network_id_positive CHECK (network_id > 0),
    CONSTRAINT ck_chains_native_decimals_range CHECK (native_decimals BETWEEN 0 AND 255),
    CONSTRAINT ck_chains_created_at_range
        CHECK (created_at >= '0001-01-01 00:00:00+00' AND created_at < '10000-01-01 00:00:00+00'),
    CONSTRAINT ck_chains_updated_at_range
        CHECK (updated_at >= '0001-01-01 00:00:00+00' AND updated_at < '10000-01-01 00:00:00+00'),
    CONSTRAINT fk_chains_native_asset_id FOREIGN KEY(native_asset_id) REFERENCES assets (asset_id)
);

CREATE INDEX ix_chains_names ON chains USING gin (names);

CREATE UNIQUE INDEX uq_chains_caip2 ON chains (caip2) WHERE deleted_at IS NULL;

CREATE UNIQUE INDEX uq_chains_network_id ON chains (network_id, namespace) WHERE deleted_at IS NULL;

CREATE TABLE asset_deployments (
    provenance TEXT COLLATE "C",
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
    deployment_id UUID NOT NULL,
    asset_id UUID NOT NULL,
    chain_id TEXT COLLATE "C" NOT NULL,
    contract_address TEXT COLLATE "C",
    decimals BIGINT NOT NULL,
    is_native BOOLEAN NOT NULL,
    is_canonical BOOLEAN NOT NULL,
    deleted_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_asset_deployments PRIMARY KEY (deployment_id),
    CONSTRAINT ck_asset_deployments_decimals_range CHECK (decimals BETWEEN 0 AND 255),
    CONSTRAINT ck_asset_deployments_contract_address_native CHECK (is_native = (contract_address IS NULL)),
    CONSTRAINT ck_asset_deployments_created_at_range
        CHECK (created_at >= '0001-01-01 00:00:00+00' AND created_at < '10000-01-01 00:00:00+00'),
    CONSTRAINT ck_asset_deployments_updated_at_range
        CHECK (updated_at >= '0001-01-01 00:00:00+00' AND updated_at < '10000-01-01 00:00:00+00'),
    CONSTRAINT fk_asset_deployments_asset_id FOREIGN KEY(asset_id) REFERENCES assets (asset_id),
    CONSTRAINT fk_asset_deployments_chain_id FOREIGN KEY(chain_id) REFERENCES chains (chain_id)
);

CREATE INDEX ix_asset_deployments_asset_id ON asset_deployments (asset_id) WHERE deleted_at IS NULL;

CREATE INDEX ix_asset_deployments_contract_address ON asset_deployments (contract_address) WHERE deleted_at IS NULL;

CREATE UNIQUE INDEX uq_asset_deployments_address ON asset_deployments (chain_id, contract_address)
    WHERE deleted_at IS NULL;

CREATE UNIQUE INDEX uq_asset_deployments_native ON asset_deployments (chain_id)
    WHERE deleted_at IS NULL AND is_native;

CREATE TABLE venues (
    provenance TEXT COLLATE "C",
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
    venue_id TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    venue_type TEXT COLLATE "C" NOT NULL,
    aliases TEXT[] COLLATE "C" NOT NULL,
    website TEXT COLLATE "C",
    countries TEXT[] COLLATE "C" NOT NULL,
    chain_id TEXT COLLATE "C",
    is_active BOOLEAN NOT NULL,
    names TEXT[] COLLATE "C" NOT NULL,
    deleted_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_venues PRIMARY KEY (venue_id),
    CONSTRAINT ck_venues_created_at_range
        CHECK (created_at >= '0001-01-01 00:00:00+00' AND created_at < '10000-01-01 00:00:00+00'),
    CONSTRAINT ck_venues_updated_at_range
        CHECK (updated_at >= '0001-01-01 00:00:00+00' AND updated_at < '10000-01-01 00:00:00+00'),
    CONSTRAINT ck_venues_venue_type_known CHECK (venue_type IN ('CEX', 'DEX', 'OTHER')),
    CONSTRAINT fk_venues_chain_id FOREIGN KEY(chain_id) REFERENCES chains (chain_id)
);

CREATE INDEX ix_venues_names ON venues USING gin (names);

CREATE TABLE venue_symbols (
    provenance TEXT COLLATE "C",
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
    venue_symbol_id UUID NOT NULL,
    venue_id TEXT COLLATE "C" NOT NULL,
    symbol TEXT COLLATE "C" NOT NULL,
    market_kind TEXT COLLATE "C" NOT NULL,
    asset_id UUID NOT NULL,
    quote_asset_id UUID,
    settle_asset_id UUID,
    multiplier NUMERIC(38, 18) NOT NULL,
    valid_from TIMESTAMP WITH TIME ZONE,
    valid_to TIMESTAMP WITH TIME ZONE,
    symbol_fold TEXT COLLATE "C" NOT NULL,
    deleted_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_venue_symbols PRIMARY KEY (venue_symbol_id),
    CONSTRAINT ck_venue_symbols_symbol_length CHECK (char_length(symbol) BETWEEN 1 AND 64),
    CONSTRAINT ck_venue_symbols_valid_to_after_start CHECK (valid_from < valid_to),
    CONSTRAINT ex_venue_symbols_interval EXCLUDE USING gist (venue_id WITH =, symbol WITH =, market_kind WITH =,
            tstzrange(valid_from, valid_to) WITH &&)
        WHERE (deleted_at IS NULL),
    CONSTRAINT ck_venue_symbols_created_at_range
        CHECK (created_at >= '0001-01-01 00:00:00+00' AND created_at < '10000-01-01 00:00:00+00'),
    CONSTRAINT ck_venue_symbols_updated_at_range
        CHECK (updated_at >= '0001-01-01 00:00:00+00' AND updated_at < '10000-01-01 00:00:00+00'),
    CONSTRAINT ck_venue_symbols_market_kind_known
        CHECK (market_kind IN ('ASSET', 'SPOT', 'PERPETUAL', 'FUTURE', 'OPTION')),
    CONSTRAINT ck_venue_symbols_multiplier_positive CHECK (multiplier > 0 AND multiplier <> 'NaN'),
    CONSTRAINT ck_venue_symbols_valid_from_range
        CHECK (valid_from >= '0001-01-01 00:00:00+00' AND valid_from < '10000-01-01 00:00:00+00'),
    CONSTRAINT ck_venue_symbols_valid_to_range
        CHECK (valid_to >= '0001-01-01 00:00:00+00' AND valid_to < '10000-01-01 00:00:00+00'),
    CONSTRAINT fk_venue_symbols_venue_id FOREIGN KEY(venue_id) REFERENCES venues (venue_id),
    CONSTRAINT fk_venue_symbols_asset_id FOREIGN KEY(asset_id) REFERENCES assets (asset_id),
    CONSTRAINT fk_venue_symbols_quote_asset_id FOREIGN KEY(quote_asset_id) REFERENCES assets (asset_id),
    CONSTRAINT fk_venue_symbols_settle_asset_id FOREIGN KEY(settle_asset_id) REFERENCES assets (asset_id)
);

CREATE INDEX ix_venue_symbols_asset_id ON venue_symbols (asset_id) WHERE deleted_at IS NULL;

CREATE INDEX ix_venue_symbols_quote_asset_id ON venue_symbols (quote_asset_id) WHERE deleted_at IS NULL;

CREATE INDEX ix_venue_symbols_settle_asset_id ON venue_symbols (settle_asset_id) WHERE deleted_at IS NULL;

CREATE INDEX ix_venue_symbols_symbol_fold ON venue_symbols (symbol_fold) WHERE deleted_at IS NULL;

CREATE INDEX ix_venue_symbols_venue_id_symbol ON venue_symbols (venue_id, symbol) WHERE deleted_at IS NULL;
"""


def upgrade() -> None:
    """Create everything, and start the clock of a new log."""
    for name in EXTENSIONS:
        op.execute(f"CREATE EXTENSION IF NOT EXISTS {name}")
    for statement in TABLES.split(";\n"):
        if statement.strip():
            op.get_bind().exec_driver_sql(statement)
    op.execute("INSERT INTO clock DEFAULT VALUES")
