-- 0005_proof.sql: the Merkle tree over the entry hashes (RFC 6962), the signed checkpoints, and what witnesses said of them.
-- Rows are only ever added, by the functions below; verify computes each of them again.

-- Full nodes of the tree in tiles of 256, as C2SP tlog-tiles counts them: row (l, i) is the root over the entries
-- i * 256^l + 1 to (i + 1) * 256^l. Level 0 is ledger.entries.hash. Nodes that are not full are never stored.
create table ledger.tree (
    ledger_id uuid     not null,
    level     smallint not null constraint tree_level_check check (level between 1 and 7),
    index     bigint   not null constraint tree_index_check check (index >= 0),
    hash      bytea    not null constraint tree_hash_check check (octet_length(hash) = 32),
    constraint tree_pkey primary key (ledger_id, level, index)
);

-- What was signed: C2SP tlog-checkpoint notes. Each names the size of the one before, so that a missing one is missed.
create table ledger.checkpoints (
    ledger_id   uuid   not null,
    size        bigint not null constraint checkpoints_size_check check (size >= 1),  -- number of entries that it speaks for
    before_size bigint not null,  -- size of the checkpoint before, 0 for the first
    root        bytea  not null constraint checkpoints_root_check check (octet_length(root) = 32),  -- over these entries
    note        text   not null,  -- origin, size and root as they were signed, with the signatures of the ledger's own keys
    constraint checkpoints_pkey primary key (ledger_id, size),
    constraint checkpoints_before_key unique (ledger_id, before_size),
    constraint checkpoints_before_check check (before_size >= 0 and before_size < size)
);

-- Signatures of others on a checkpoint: C2SP tlog-cosignature.
create table ledger.cosignatures (
    ledger_id uuid   not null,
    size      bigint not null,  -- of the checkpoint
    vkey      text   not null,  -- the witness's verifier key: its name, key id and public key
    line      text   not null,  -- the signature line as it stands in a note, without its line end
    constraint cosignatures_pkey primary key (ledger_id, size, vkey)
);

-- Adds every full node that the entries allow and that is not there, and gives their number. Entries never change, so
-- that two calls at a time compute the same rows.
create function ledger.grow(p_ledger uuid) returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
    v_level smallint := 0;
    v_below bigint;         -- number of nodes at v_level
    v_next  bigint;         -- first index above it that is not there
    v_nodes bytea;          -- hashes of 32 bytes in a row
    v_added bigint := 0;
begin
    select h.size into v_below from ledger.heads h where h.ledger_id = p_ledger;
    if not found then
        raise exception 'no ledger %', p_ledger using errcode = 'no_data_found';
    end if;
    while v_below >= 256 loop
        select coalesce(max(t.index) + 1, 0) into v_next
        from ledger.tree t where t.ledger_id = p_ledger and t.level = v_level + 1;
        for v_index in v_next .. v_below / 256 - 1 loop
            if v_level = 0 then
                select string_agg(e.hash, ''::bytea order by e.seq) into v_nodes
                from ledger.entries e
                where e.ledger_id = p_ledger and e.seq between v_index * 256 + 1 and (v_index + 1) * 256;
            else
                select string_agg(t.hash, ''::bytea order by t.index) into v_nodes
                from ledger.tree t
                where t.ledger_id = p_ledger and t.level = v_level
                  and t.index between v_index * 256 and v_index * 256 + 255;
            end if;
            if octet_length(v_nodes) is distinct from 256 * 32 then
                raise exception 'the tree of ledger % cannot grow: a node below level % index % is missing',
                    p_ledger, v_level + 1, v_index using errcode = 'data_corrupted';
            end if;
            -- Two neighbours lie side by side: each round halves their number.
            while octet_length(v_nodes) > 32 loop
                select string_agg(sha256('\x01'::bytea || substr(v_nodes, 64 * n + 1, 64)), ''::bytea order by n)
                into v_nodes
                from generate_series(0, octet_length(v_nodes) / 64 - 1) n;
            end loop;
            insert into ledger.tree (ledger_id, level, index, hash)
            values (p_ledger, v_level + 1, v_index, v_nodes)
            on conflict do nothing;
            v_added := v_added + 1;
        end loop;
        v_level := v_level + 1;
        v_below := v_below / 256;
    end loop;
    return v_added;
end
$$;

-- Stores a signed checkpoint behind the one of p_before_size (0: behind none). False where another was stored meanwhile, so
-- that two signers can never disagree. All full nodes that it rests on are in the tree from then on.
create function ledger.checkpoint(
    p_ledger      uuid,
    p_size        bigint,
    p_root        bytea,
    p_note        text,
    p_before_size bigint
) returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
    v_size bigint;
    v_last bigint;
begin
    select h.size into v_size from ledger.heads h where h.ledger_id = p_ledger for update;
    if not found then
        raise exception 'no ledger %', p_ledger using errcode = 'no_data_found';
    end if;
    -- The same again, after an answer that was lost.
    if exists (select from ledger.checkpoints c
               where c.ledger_id = p_ledger and c.size = p_size and c.before_size = p_before_size
                 and c.root = p_root and c.note = p_note) then
        return true;
    end if;
    select coalesce(max(c.size), 0) into v_last from ledger.checkpoints c where c.ledger_id = p_ledger;
    if v_last <> p_before_size then
        return false;
    end if;
    if p_size is null or p_size <= p_before_size or p_size > v_size then
        raise exception 'a checkpoint of size % behind one of size % does not fit a ledger of % entries',
            p_size, p_before_size, v_size using errcode = 'invalid_parameter_value';
    end if;
    perform ledger.grow(p_ledger);
    insert into ledger.checkpoints (ledger_id, size, before_size, root, note)
    values (p_ledger, p_size, p_before_size, p_root, p_note);
    return true;
end
$$;

-- Adds a witness's signature to a stored checkpoint; the first of each key stays.
create function ledger.cosign(p_ledger uuid, p_size bigint, p_vkey text, p_line text) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
begin
    if not exists (select from ledger.checkpoints c where c.ledger_id = p_ledger and c.size = p_size) then
        raise exception 'ledger % has no checkpoint of size %', p_ledger, p_size using errcode = 'no_data_found';
    end if;
    insert into ledger.cosignatures (ledger_id, size, vkey, line)
    values (p_ledger, p_size, p_vkey, p_line)
    on conflict do nothing;
end
$$;

create trigger refuse_change before update or delete on ledger.tree
    for each row execute function ledger.refuse_change();
create trigger refuse_truncate before truncate on ledger.tree
    for each statement execute function ledger.refuse_change();
create trigger refuse_change before update or delete on ledger.checkpoints
    for each row execute function ledger.refuse_change();
create trigger refuse_truncate before truncate on ledger.checkpoints
    for each statement execute function ledger.refuse_change();
create trigger refuse_change before update or delete on ledger.cosignatures
    for each row execute function ledger.refuse_change();
create trigger refuse_truncate before truncate on ledger.cosignatures
    for each statement execute function ledger.refuse_change();

alter table ledger.tree enable always trigger refuse_change;
alter table ledger.tree enable always trigger refuse_truncate;
alter table ledger.checkpoints enable always trigger refuse_change;
alter table ledger.checkpoints enable always trigger refuse_truncate;
alter table ledger.cosignatures enable always trigger refuse_change;
alter table ledger.cosignatures enable always trigger refuse_truncate;

grant select on ledger.tree, ledger.checkpoints, ledger.cosignatures to ledger_writer, ledger_reader;
revoke all on function ledger.grow(uuid) from public;
revoke all on function ledger.checkpoint(uuid, bigint, bytea, text, bigint) from public;
revoke all on function ledger.cosign(uuid, bigint, text, text) from public;
grant execute on function ledger.grow(uuid) to ledger_writer;
grant execute on function ledger.checkpoint(uuid, bigint, bytea, text, bigint) to ledger_writer;
grant execute on function ledger.cosign(uuid, bigint, text, text) to ledger_writer;
