-- 0004_identify.sql: data keys and identities are made here and nowhere else. Both calls are repeatable: who comes second
-- gets what the first made, and must re-read it.

create function ledger.identify(
    p_ledger   uuid,
    -- new data keys; an owner that has one keeps it
    p_key_ids  text[],
    p_owners   text[],
    p_kek_ids  text[],
    p_nonces   bytea[],
    p_wrapped  bytea[],
    -- new identities; a natural id that has a subject keeps it
    i_subjects text[],
    i_kinds    text[],
    i_owners   text[],
    i_blinds   bytea[],
    i_key_ids  text[],
    i_nonces   bytea[],
    i_sealed   bytea[]
) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
begin
    insert into ledger.keys (ledger_id, key_id, owner, kek_id, nonce, wrapped)
    select p_ledger, u.* from unnest(p_key_ids, p_owners, p_kek_ids, p_nonces, p_wrapped)
        as u (key_id, owner, kek_id, nonce, wrapped)
    order by u.owner
    on conflict do nothing;

    insert into ledger.identity (ledger_id, subject, kind, owner, blind, key_id, nonce, sealed)
    select p_ledger, u.* from unnest(i_subjects, i_kinds, i_owners, i_blinds, i_key_ids, i_nonces, i_sealed)
        as u (subject, kind, owner, blind, key_id, nonce, sealed)
    order by u.kind, u.blind
    on conflict do nothing;
end
$$;

revoke all on function ledger.identify(
    uuid, text[], text[], text[], bytea[], bytea[], text[], text[], text[], bytea[], text[], bytea[], bytea[]) from public;
grant execute on function ledger.identify(
    uuid, text[], text[], text[], bytea[], bytea[], text[], text[], text[], bytea[], text[], bytea[], bytea[])
    to ledger_writer;
revoke all on function ledger.refuse_change() from public;
revoke all on function ledger.head_moves_forward() from public;
