-- expected.sql: what the migrations make, listed from the catalogues by tests/it/schema.rs. Not to be run.
schema ledger owner ledger_owner
schema ledger_work owner ledger_owner
table ledger._sqlx_migrations owner ledger_owner
    version bigint not null
    description text not null
    installed_on timestamp with time zone not null default now()
    success boolean not null
    checksum bytea not null
    execution_time bigint not null
    constraint _sqlx_migrations_pkey PRIMARY KEY (version)
    grant select to ledger_reader
    grant select to ledger_writer
table ledger.checkpoints owner ledger_owner
    ledger_id uuid not null
    size bigint not null
    before_size bigint not null
    root bytea not null
    note text not null
    constraint checkpoints_before_check CHECK (((before_size >= 0) AND (before_size < size)))
    constraint checkpoints_root_check CHECK ((octet_length(root) = 32))
    constraint checkpoints_size_check CHECK ((size >= 1))
    CREATE UNIQUE INDEX checkpoints_note ON ledger.checkpoints USING btree (ledger_id, size, md5(note))
    CREATE TRIGGER refuse_change BEFORE DELETE OR UPDATE ON ledger.checkpoints FOR EACH ROW EXECUTE FUNCTION refuse_change() (always)
    CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON ledger.checkpoints FOR EACH STATEMENT EXECUTE FUNCTION refuse_change() (always)
    grant select to ledger_reader
    grant select to ledger_writer
table ledger.cosignatures owner ledger_owner
    ledger_id uuid not null
    size bigint not null
    vkey text not null
    line text not null
    constraint cosignatures_pkey PRIMARY KEY (ledger_id, size, vkey, line)
    CREATE TRIGGER refuse_change BEFORE DELETE OR UPDATE ON ledger.cosignatures FOR EACH ROW EXECUTE FUNCTION refuse_change() (always)
    CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON ledger.cosignatures FOR EACH STATEMENT EXECUTE FUNCTION refuse_change() (always)
    grant select to ledger_reader
    grant select to ledger_writer
table ledger.entries owner ledger_owner
    ledger_id uuid not null
    seq bigint not null
    id uuid not null
    key text not null
    type text not null
    subject text not null
    run uuid
    recorded_at timestamp with time zone not null
    hash bytea not null
    bytes bytea not null
    constraint entries_id_key UNIQUE (ledger_id, id)
    constraint entries_key_key UNIQUE (ledger_id, key)
    constraint entries_pkey PRIMARY KEY (ledger_id, seq)
    constraint entries_seq_check CHECK ((seq >= 1))
    CREATE INDEX entries_run ON ledger.entries USING btree (ledger_id, run, seq) WHERE (run IS NOT NULL)
    CREATE INDEX entries_subject ON ledger.entries USING btree (ledger_id, subject, seq)
    CREATE TRIGGER refuse_change BEFORE DELETE OR UPDATE ON ledger.entries FOR EACH ROW EXECUTE FUNCTION refuse_change() (always)
    CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON ledger.entries FOR EACH STATEMENT EXECUTE FUNCTION refuse_change() (always)
    grant select to ledger_reader
    grant select to ledger_writer
table ledger.heads owner ledger_owner with (fillfactor=20)
    ledger_id uuid not null
    name text not null
    clock text not null
    size bigint not null
    hash bytea not null
    recorded_at timestamp with time zone
    constraint heads_clock_check CHECK ((clock = ANY (ARRAY['system'::text, 'simulated'::text])))
    constraint heads_hash_check CHECK ((octet_length(hash) = 32))
    constraint heads_pkey PRIMARY KEY (ledger_id)
    constraint heads_size_check CHECK ((size >= 0))
    CREATE TRIGGER moves_forward BEFORE UPDATE ON ledger.heads FOR EACH ROW EXECUTE FUNCTION head_moves_forward() (always)
    CREATE TRIGGER refuse_delete BEFORE DELETE ON ledger.heads FOR EACH ROW EXECUTE FUNCTION refuse_change() (always)
    CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON ledger.heads FOR EACH STATEMENT EXECUTE FUNCTION refuse_change() (always)
    grant select to ledger_reader
    grant select to ledger_writer
table ledger.identity owner ledger_owner
    ledger_id uuid not null
    subject text not null
    kind text not null
    owner text not null
    blind bytea not null
    key_id text not null
    nonce bytea not null
    sealed bytea not null
    constraint identity_blind_key UNIQUE (ledger_id, kind, blind)
    constraint identity_pkey PRIMARY KEY (ledger_id, subject)
    CREATE INDEX identity_owner ON ledger.identity USING btree (ledger_id, owner)
    CREATE TRIGGER announced_delete AFTER DELETE ON ledger.identity REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION announced_only() (always)
    CREATE TRIGGER announced_update AFTER UPDATE ON ledger.identity REFERENCING OLD TABLE AS was NEW TABLE AS became FOR EACH STATEMENT EXECUTE FUNCTION announced_only() (always)
    CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON ledger.identity FOR EACH STATEMENT EXECUTE FUNCTION refuse_change() (always)
    grant select to ledger_reader
    grant select to ledger_writer
table ledger.keys owner ledger_owner
    ledger_id uuid not null
    key_id text not null
    owner text not null
    kek_id text not null
    nonce bytea not null
    wrapped bytea not null
    constraint keys_owner_key UNIQUE (ledger_id, owner)
    constraint keys_pkey PRIMARY KEY (ledger_id, key_id)
    CREATE TRIGGER announced_delete AFTER DELETE ON ledger.keys REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION announced_only() (always)
    CREATE TRIGGER announced_update AFTER UPDATE ON ledger.keys REFERENCING OLD TABLE AS was NEW TABLE AS became FOR EACH STATEMENT EXECUTE FUNCTION announced_only() (always)
    CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON ledger.keys FOR EACH STATEMENT EXECUTE FUNCTION refuse_change() (always)
    grant select to ledger_reader
    grant select to ledger_writer
table ledger.payloads owner ledger_owner
    ledger_id uuid not null
    seq bigint not null
    algorithm text not null
    key_id text not null
    nonce bytea not null
    bytes bytea not null
    constraint payloads_pkey PRIMARY KEY (ledger_id, seq)
    CREATE TRIGGER announced_delete AFTER DELETE ON ledger.payloads REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION announced_only() (always)
    CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON ledger.payloads FOR EACH STATEMENT EXECUTE FUNCTION refuse_change() (always)
    CREATE TRIGGER refuse_update BEFORE UPDATE ON ledger.payloads FOR EACH ROW EXECUTE FUNCTION refuse_change() (always)
    grant select to ledger_reader
    grant select to ledger_writer
table ledger.tree owner ledger_owner
    ledger_id uuid not null
    level smallint not null
    index bigint not null
    hash bytea not null
    constraint tree_hash_check CHECK ((octet_length(hash) = 32))
    constraint tree_index_check CHECK ((index >= 0))
    constraint tree_level_check CHECK (((level >= 1) AND (level <= 7)))
    constraint tree_pkey PRIMARY KEY (ledger_id, level, index)
    CREATE TRIGGER refuse_change BEFORE DELETE OR UPDATE ON ledger.tree FOR EACH ROW EXECUTE FUNCTION refuse_change() (always)
    CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON ledger.tree FOR EACH STATEMENT EXECUTE FUNCTION refuse_change() (always)
    grant select to ledger_reader
    grant select to ledger_writer
table ledger_work.commands owner ledger_owner
    ledger_id uuid not null
    run uuid not null
    subject text not null
    position bigint not null
    settles boolean not null default false
    taken bigint not null default 0
    is_done boolean not null default false
    left_over bigint not null default 0
    result text
    constraint commands_pkey PRIMARY KEY (ledger_id, run, subject)
    CREATE INDEX commands_pending ON ledger_work.commands USING btree (ledger_id, run, "position") WHERE (NOT is_done)
    CREATE INDEX commands_unsettled ON ledger_work.commands USING btree (ledger_id, run) WHERE (settles AND (NOT is_done))
    grant delete, insert, select, update to ledger_writer
    grant select to ledger_reader
table ledger_work.leases owner ledger_owner
    ledger_id uuid not null
    name text not null
    fence bigint not null
    holder text not null
    expires_at timestamp with time zone not null
    constraint leases_pkey PRIMARY KEY (ledger_id, name)
    CREATE INDEX leases_held ON ledger_work.leases USING btree (ledger_id) WHERE (expires_at > '-infinity'::timestamp with time zone)
    grant delete, insert, select, update to ledger_writer
    grant select to ledger_reader
table ledger_work.runs owner ledger_owner
    ledger_id uuid not null
    run uuid not null
    plan bytea not null
    told text not null
    interval_ms bigint not null
    next_start_at timestamp with time zone not null default clock_timestamp()
    first_only bigint
    stopped text
    ended bigint not null default 0
    bad bigint not null default 0
    is_open boolean not null default true
    constraint runs_pkey PRIMARY KEY (ledger_id, run)
    grant delete, insert, select, update to ledger_writer
    grant select to ledger_reader
function ledger.announced(p_ledger uuid) returns jsonb owner ledger_owner set search_path=pg_catalog, pg_temp md5 d98ed06d4c1d3c897f7f6c18117a5125
function ledger.announced_only() returns trigger owner ledger_owner set search_path=pg_catalog, pg_temp md5 1a1db44a06fd87bfc5d0cbdcf5900d20
function ledger.append(p_ledger uuid, p_ids uuid[], p_keys text[], p_types text[], p_schemas integer[], p_subjects text[], p_actors text[], p_runs uuid[], p_causes uuid[], p_occurred_at timestamp with time zone[], p_commitments bytea[], p_algorithms text[], p_key_ids text[], p_nonces bytea[], p_payloads bytea[], p_leases text[], p_fences bigint[], p_recorded_at timestamp with time zone[]) returns TABLE(ord bigint, status text, seq bigint, hash bytea, bytes bytea) owner ledger_owner security definer set search_path=pg_catalog, pg_temp, enable_seqscan=off, plan_cache_mode=force_generic_plan md5 1d4e479d44091949daaaf98347c5e58c execute ledger_writer
function ledger.checkpoint(p_ledger uuid, p_size bigint, p_root bytea, p_note text, p_before_size bigint, p_rows bigint) returns boolean owner ledger_owner security definer set search_path=pg_catalog, pg_temp md5 a70b25a54ff3d4fff5991074ef975632 execute ledger_writer
function ledger.cosign(p_ledger uuid, p_size bigint, p_vkey text, p_line text) returns void owner ledger_owner security definer set search_path=pg_catalog, pg_temp md5 87c7f6e5b68da572ac4998b7c0c9a3ac execute ledger_writer
function ledger."create"(p_ledger uuid, p_name text, p_clock text) returns void owner ledger_owner security definer set search_path=pg_catalog, pg_temp md5 857b1cccf3b39326e4b2ef73b37c52ab execute ledger_writer
function ledger.erasable(p_ledger uuid, p_key_id text) returns TABLE(payloads bigint, ranges jsonb, stored bytea, altered jsonb) owner ledger_owner set search_path=pg_catalog, pg_temp md5 0325fcccd546d8a9643c855a3f0e2b19 execute ledger_writer
function ledger.erase(p_ledger uuid, p_index_nonce bytea, p_index_wrapped bytea, i_subjects text[], i_blinds bytea[]) returns void owner ledger_owner security definer set search_path=pg_catalog, pg_temp md5 b8449f912b36d0d3dfd0890b179b810d execute ledger_writer
function ledger.grow(p_ledger uuid) returns bigint owner ledger_owner security definer set search_path=pg_catalog, pg_temp md5 ec6a536a800a94736d09d019f169b06f execute ledger_writer
function ledger.head_moves_forward() returns trigger owner ledger_owner set search_path=pg_catalog, pg_temp md5 685f6993eb0999f04aa79b492065981e
function ledger.identify(p_ledger uuid, p_key_ids text[], p_owners text[], p_kek_ids text[], p_nonces bytea[], p_wrapped bytea[], i_subjects text[], i_kinds text[], i_owners text[], i_blinds bytea[], i_key_ids text[], i_nonces bytea[], i_sealed bytea[], i_index text) returns void owner ledger_owner security definer set search_path=pg_catalog, pg_temp md5 ccb69c8e41bd99bda0ff9e06eef20854 execute ledger_writer
function ledger.refuse_change() returns trigger owner ledger_owner set search_path=pg_catalog, pg_temp md5 6bcdf0071eb4632a988551e6e65b53ac
function ledger.rewrap(p_ledger uuid, p_key_ids text[], p_nonces bytea[], p_wrapped bytea[]) returns void owner ledger_owner security definer set search_path=pg_catalog, pg_temp md5 802cf6127c88c8c81b1df8f992badffe execute ledger_writer
function ledger.unfounded(p_ledger uuid, p_seq bigint) returns text owner ledger_owner set search_path=pg_catalog, pg_temp md5 56b0372477ea76c27a42e9b1f065d644
