-- 0008_made_up_rows.sql: a checkpoint or cosignature that a writer made up keeps no genuine one out. PostgreSQL cannot check
-- signatures: rows of one size, and lines under one key, may be several, and the program tells which of them was signed.

alter table ledger.checkpoints drop constraint checkpoints_pkey;
alter table ledger.checkpoints drop constraint checkpoints_before_key;
-- One note once. md5 keeps the key short and the index free of functions that depend on settings; a note whose digest is that
-- of one to come cannot be made without knowing its signature.
create unique index checkpoints_note on ledger.checkpoints (ledger_id, size, md5(note));

alter table ledger.cosignatures drop constraint cosignatures_pkey;
alter table ledger.cosignatures add constraint cosignatures_pkey primary key (ledger_id, size, vkey, line);

-- Stores a signed checkpoint behind the one of p_before_size (0: behind none), where there are just the p_rows rows that its
-- signer looked at. False where another was stored meanwhile, so that two signers can never disagree: rows only come, and the
-- head's lock lets one in at a time. All full nodes that it rests on are in the tree from then on.
drop function ledger.checkpoint(uuid, bigint, bytea, text, bigint);
create function ledger.checkpoint(
    p_ledger      uuid,
    p_size        bigint,
    p_root        bytea,
    p_note        text,
    p_before_size bigint,
    p_rows        bigint
) returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
    v_size bigint;
    v_rows bigint;
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
    select count(*) into v_rows from ledger.checkpoints c where c.ledger_id = p_ledger;
    if v_rows is distinct from p_rows then
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

revoke all on function ledger.checkpoint(uuid, bigint, bytea, text, bigint, bigint) from public;
grant execute on function ledger.checkpoint(uuid, bigint, bytea, text, bigint, bigint) to ledger_writer;
