-- 0001_log.sql: the tables of every ledger. Each key starts with ledger_id, the distribution column where the database is
-- a cluster. Nobody is granted a write: the functions of the next migrations are the only way in, and the triggers
-- below hold for everybody, owners and replication included (ENABLE ALWAYS).

-- One row per ledger: the end of its chain. Its lock is what puts appends in order.
create table ledger.heads (
    ledger_id   uuid        not null,
    name        text        not null,  -- as in entry 1
    clock       text        not null constraint heads_clock_check check (clock in ('system', 'simulated')),
    size        bigint      not null constraint heads_size_check check (size >= 0),  -- number of entries
    hash        bytea       not null constraint heads_hash_check check (octet_length(hash) = 32),  -- of the last entry
    recorded_at timestamptz,           -- of the last entry; null while there is none
    constraint heads_pkey primary key (ledger_id)
) with (fillfactor = 20);  -- updated by every append: room for the new version on the same page

-- The entries. Columns beside `bytes` repeat what is in them, for finding entries; verify compares each.
create table ledger.entries (
    ledger_id   uuid        not null,
    seq         bigint      not null constraint entries_seq_check check (seq >= 1),  -- no gap; given out under the head's lock
    id          uuid        not null,
    key         text        not null,  -- idempotency key
    type        text        not null,
    subject     text        not null,  -- <kind>:<random uuid>
    run         uuid,
    recorded_at timestamptz not null,
    hash        bytea       not null,  -- SHA-256(0x00 || bytes)
    bytes       bytea       not null,  -- the canonical entry exactly as hashed; jsonb would re-order it
    constraint entries_pkey primary key (ledger_id, seq),
    constraint entries_id_key unique (ledger_id, id),
    constraint entries_key_key unique (ledger_id, key)
);
create index entries_subject on ledger.entries (ledger_id, subject, seq);
create index entries_run on ledger.entries (ledger_id, run, seq) where run is not null;

-- What the entries commit to. Apart from them, because a payload can be erased and an entry cannot.
create table ledger.payloads (
    ledger_id uuid   not null,
    seq       bigint not null,
    algorithm text   not null,  -- 'plain', or the AEAD
    key_id    text   not null,  -- row of ledger.keys; empty when plain
    nonce     bytea  not null,  -- empty when plain
    bytes     bytea  not null,  -- salt (32 bytes) || payload, sealed unless plain
    constraint payloads_pkey primary key (ledger_id, seq)
);
alter table ledger.payloads alter column bytes set storage external;  -- ciphertext does not compress

-- One data key per owner, wrapped by a key-encryption key that is never in the database.
create table ledger.keys (
    ledger_id uuid  not null,
    key_id    text  not null,
    owner     text  not null,  -- subject whose data it seals; the ledger itself for the index key
    kek_id    text  not null,  -- which key-encryption key wraps it
    nonce     bytea not null,
    wrapped   bytea not null,  -- AEAD with associated data (ledger, owner, key_id)
    constraint keys_pkey primary key (ledger_id, key_id),
    constraint keys_owner_key unique (ledger_id, owner)
);

-- Ties a natural id (user id, calendar and event id, e-mail) to its random subject.
create table ledger.identity (
    ledger_id uuid  not null,
    subject   text  not null,
    kind      text  not null,
    owner     text  not null,  -- subject whose key seals the natural id
    blind     bytea not null,  -- HMAC-SHA256 of kind and natural id under the ledger's index key
    key_id    text  not null,
    nonce     bytea not null,
    sealed    bytea not null,  -- the natural id
    constraint identity_pkey primary key (ledger_id, subject),
    constraint identity_blind_key unique (ledger_id, kind, blind)
);
create index identity_owner on ledger.identity (ledger_id, owner);

create function ledger.refuse_change() returns trigger language plpgsql
set search_path = pg_catalog, pg_temp as $$
begin
    raise exception 'ledger.% is append-only: % is refused', tg_table_name, lower(tg_op)
        using errcode = 'insufficient_privilege',
              hint = 'record a correction as a new entry';
end
$$;

create function ledger.head_moves_forward() returns trigger language plpgsql
set search_path = pg_catalog, pg_temp as $$
begin
    if new.ledger_id = old.ledger_id and new.name = old.name and new.clock = old.clock
       and new.size > old.size and new.recorded_at >= coalesce(old.recorded_at, new.recorded_at) then
        return new;
    end if;
    raise exception 'the head of ledger % only moves forward', old.ledger_id
        using errcode = 'insufficient_privilege';
end
$$;

create trigger refuse_change before update or delete on ledger.entries
    for each row execute function ledger.refuse_change();
create trigger refuse_truncate before truncate on ledger.entries
    for each statement execute function ledger.refuse_change();
create trigger refuse_change before update or delete on ledger.payloads
    for each row execute function ledger.refuse_change();
create trigger refuse_truncate before truncate on ledger.payloads
    for each statement execute function ledger.refuse_change();
create trigger refuse_change before update or delete on ledger.keys
    for each row execute function ledger.refuse_change();
create trigger refuse_truncate before truncate on ledger.keys
    for each statement execute function ledger.refuse_change();
create trigger refuse_change before update or delete on ledger.identity
    for each row execute function ledger.refuse_change();
create trigger refuse_truncate before truncate on ledger.identity
    for each statement execute function ledger.refuse_change();
create trigger moves_forward before update on ledger.heads
    for each row execute function ledger.head_moves_forward();
create trigger refuse_delete before delete on ledger.heads
    for each row execute function ledger.refuse_change();
create trigger refuse_truncate before truncate on ledger.heads
    for each statement execute function ledger.refuse_change();

alter table ledger.entries enable always trigger refuse_change;
alter table ledger.entries enable always trigger refuse_truncate;
alter table ledger.payloads enable always trigger refuse_change;
alter table ledger.payloads enable always trigger refuse_truncate;
alter table ledger.keys enable always trigger refuse_change;
alter table ledger.keys enable always trigger refuse_truncate;
alter table ledger.identity enable always trigger refuse_change;
alter table ledger.identity enable always trigger refuse_truncate;
alter table ledger.heads enable always trigger moves_forward;
alter table ledger.heads enable always trigger refuse_delete;
alter table ledger.heads enable always trigger refuse_truncate;

grant usage on schema ledger to ledger_writer, ledger_reader;
grant select on ledger.heads, ledger.entries, ledger.payloads, ledger.keys, ledger.identity
    to ledger_writer, ledger_reader;
