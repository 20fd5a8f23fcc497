-- 0006_erasure.sql: the only ways a payload, a data key or an identity goes or changes. Each does what the last entry of the
-- ledger announces, and the triggers hold everybody to that: nothing goes without its entry, owners and replication included.

-- The payload of a ledger's last entry, with the entry's type and subject, where it announces a destruction; else null.
create function ledger.announced(p_ledger uuid) returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp as $$
    select convert_from(substr(p.bytes, 33), 'UTF8')::jsonb || jsonb_build_object('type', e.type, 'subject', e.subject)
    from ledger.heads h
    join ledger.entries e on e.ledger_id = h.ledger_id and e.seq = h.size
    join ledger.payloads p on p.ledger_id = e.ledger_id and p.seq = e.seq
    where h.ledger_id = p_ledger and e.type in ('subject.erased', 'keys.rewrapped') and p.algorithm = 'plain'
$$;

-- The payloads that a data key seals: how many, in which entries, the digest of what is stored (chain/erasure.rs), and which
-- of them are not what their entry says was stored.
create function ledger.erasable(p_ledger uuid, p_key_id text)
returns table (payloads bigint, ranges jsonb, stored bytea, altered jsonb)
language sql stable
set search_path = pg_catalog, pg_temp as $$
    with doomed as materialized (
        select p.seq,
               sha256('ledger-stored-v1\000'::bytea
                      || int4send(octet_length(p.algorithm)) || convert_to(p.algorithm, 'UTF8')
                      || int4send(octet_length(p.key_id)) || convert_to(p.key_id, 'UTF8')
                      || int4send(octet_length(p.nonce)) || p.nonce
                      || int4send(octet_length(p.bytes)) || p.bytes) as stored,
               convert_from(e.bytes, 'UTF8')::json ->> 'stored' as committed
        from ledger.payloads p
        left join ledger.entries e on e.ledger_id = p.ledger_id and e.seq = p.seq
        where p.ledger_id = p_ledger and p.key_id = p_key_id and p.algorithm <> 'plain'),
    numbered as (
        select d.seq, encode(d.stored, 'hex') is distinct from d.committed as altered,
               d.seq - row_number() over (order by d.seq) as island,
               d.seq - row_number() over (partition by encode(d.stored, 'hex') is distinct from d.committed
                                          order by d.seq) as altered_island
        from doomed d)
    select (select count(*) from doomed),
           (select coalesce(jsonb_agg(jsonb_build_array(i.first, i.last) order by i.first), '[]')
            from (select min(n.seq) as first, max(n.seq) as last from numbered n group by n.island) i),
           (select sha256('ledger-erased-v1\000'::bytea
                          || coalesce(string_agg(int8send(d.seq) || d.stored, ''::bytea order by d.seq), ''::bytea))
            from doomed d),
           (select coalesce(jsonb_agg(jsonb_build_array(i.first, i.last) order by i.first), '[]')
            from (select min(n.seq) as first, max(n.seq) as last from numbered n where n.altered
                  group by n.altered_island) i)
$$;

-- What the log itself says against the `subject.erased` of this number; null where it is founded. An approval counts that
-- stands between request and erasure, names the request by id and hash, and had not lapsed when the erasure was recorded.
create function ledger.unfounded(p_ledger uuid, p_seq bigint) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
declare
    v_erasure record;
    v_request record;
    v_count   bigint;
begin
    select e.subject, e.recorded_at, s.said into v_erasure
    from ledger.entries e
    join ledger.payloads p on p.ledger_id = e.ledger_id and p.seq = e.seq
    cross join lateral (select case when p.algorithm = 'plain'
                                    then convert_from(substr(p.bytes, 33), 'UTF8')::jsonb end) s (said)
    where e.ledger_id = p_ledger and e.seq = p_seq and e.type = 'subject.erased';

    select e.seq, e.id, e.subject, encode(e.hash, 'hex') as hash, s.said into v_request
    from ledger.entries e
    join ledger.payloads p on p.ledger_id = e.ledger_id and p.seq = e.seq
    cross join lateral (select case when p.algorithm = 'plain'
                                    then convert_from(substr(p.bytes, 33), 'UTF8')::jsonb end) s (said)
    where e.ledger_id = p_ledger and e.id = (v_erasure.said ->> 'request')::uuid and e.type = 'erasure.requested'
      and e.seq < p_seq;
    if not found or v_request.said ->> 'owner' is distinct from v_erasure.subject then
        return 'nobody requested this erasure';
    end if;

    if exists (select from ledger.entries e
               join ledger.payloads p on p.ledger_id = e.ledger_id and p.seq = e.seq
               where e.ledger_id = p_ledger and e.type = 'subject.erased' and e.seq < p_seq
                 and case when p.algorithm = 'plain'
                          then convert_from(substr(p.bytes, 33), 'UTF8')::jsonb ->> 'request' = v_request.id::text end) then
        return 'its request was executed before';
    end if;
    if v_erasure.said ->> 'overridden' is distinct from v_request.said ->> 'overridden' then
        return 'the request says otherwise why it may be done against a hold';
    end if;

    select count(distinct a.actor) into v_count
    from (select convert_from(e.bytes, 'UTF8')::json ->> 'actor' as actor,
                 case when p.algorithm = 'plain' then convert_from(substr(p.bytes, 33), 'UTF8')::jsonb end as said
          from ledger.entries e join ledger.payloads p on p.ledger_id = e.ledger_id and p.seq = e.seq
          where e.ledger_id = p_ledger and e.subject = v_request.subject and e.type = 'erasure.approved'
            and e.seq > v_request.seq and e.seq < p_seq) a
    where left(a.actor, 7) = 'person:'
      and v_erasure.said -> 'approved_by' ? a.actor
      and a.said ->> 'request' = v_request.id::text
      and a.said ->> 'request_hash' = v_request.hash
      and (a.said ->> 'expires_at')::timestamptz > v_erasure.recorded_at;
    if v_count < 2 then
        return 'an erasure needs the approval of two persons';
    end if;
    return null;
end
$$;

-- Carries out what the last entry, a `subject.erased` of the same transaction, announces: payloads, identities and data key
-- of its subject go, and the ledger gets another index key, so that the old one tells nothing about anybody any more.
create function ledger.erase(
    p_ledger        uuid,
    p_index_nonce   bytea,     -- the new index key, wrapped by the key-encryption key that the entry names
    p_index_wrapped bytea,
    i_subjects      text[],    -- every identity that remains, with its index under the new index key
    i_blinds        bytea[]
) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
    v_said    jsonb;
    v_owner   text;
    v_index   text := 'ledger:' || p_ledger;
    v_fault   text;
    v_found   record;
    v_count   bigint;
begin
    perform from ledger.heads h where h.ledger_id = p_ledger for update;
    -- Who makes keys and identities waits here, and is then refused with the old ones.
    perform from ledger.keys k where k.ledger_id = p_ledger and k.owner = v_index for update;
    v_said := ledger.announced(p_ledger);
    v_owner := v_said ->> 'subject';
    if v_said ->> 'type' is distinct from 'subject.erased' or v_owner = v_index then
        raise exception 'the last entry of ledger % announces no erasure', p_ledger
            using errcode = 'object_not_in_prerequisite_state';
    end if;

    select ledger.unfounded(p_ledger, h.size) into v_fault from ledger.heads h where h.ledger_id = p_ledger;
    if v_fault is not null then
        raise exception '%', v_fault using errcode = 'object_not_in_prerequisite_state';
    end if;
    if v_said ->> 'overridden' is null
       and exists (select from ledger.entries e
                   where e.ledger_id = p_ledger and e.type = 'legal_hold.placed'
                     and (e.subject in (v_owner, v_index)
                          or e.subject in (select i.subject from ledger.identity i
                                           where i.ledger_id = p_ledger and i.owner = v_owner))
                     and not exists (select from ledger.entries l
                                     where l.ledger_id = p_ledger and l.subject = e.subject
                                       and l.type = 'legal_hold.lifted'
                                       and convert_from(l.bytes, 'UTF8')::json ->> 'cause' = e.id::text)) then
        raise exception 'a legal hold forbids this erasure' using errcode = 'object_not_in_prerequisite_state';
    end if;

    select f.* into v_found from ledger.erasable(p_ledger, v_said ->> 'key_id') f;
    if v_said ->> 'kek_before' = v_said ->> 'kek'
       or not exists (select from ledger.keys k
                      where k.ledger_id = p_ledger and k.owner = v_index and k.kek_id = v_said ->> 'kek_before') then
        raise exception 'the entry names another key-encryption key than the one in force'
            using errcode = 'serialization_failure';
    end if;
    if not exists (select from ledger.keys k
                   where k.ledger_id = p_ledger and k.key_id = v_said ->> 'key_id' and k.owner = v_owner)
       or (v_found.payloads::text, v_found.ranges, encode(v_found.stored, 'hex'), v_found.altered)
          is distinct from
          (v_said ->> 'payloads', v_said -> 'ranges', v_said ->> 'stored', v_said -> 'altered') then
        raise exception 'the entry announces something else than what the key seals now'
            using errcode = 'serialization_failure';
    end if;

    delete from ledger.payloads p
    where p.ledger_id = p_ledger and p.key_id = v_said ->> 'key_id' and p.algorithm <> 'plain';
    delete from ledger.identity i where i.ledger_id = p_ledger and i.owner = v_owner;
    get diagnostics v_count = row_count;
    if v_count::text is distinct from v_said ->> 'identities' then
        raise exception 'the entry announces other identities than there are' using errcode = 'serialization_failure';
    end if;
    delete from ledger.keys k
    where k.ledger_id = p_ledger and (k.key_id = v_said ->> 'key_id' or k.owner = v_index);
    insert into ledger.keys (ledger_id, key_id, owner, kek_id, nonce, wrapped)
    values (p_ledger, v_said ->> 'index_key', v_index, v_said ->> 'kek', p_index_nonce, p_index_wrapped);
    update ledger.identity i set blind = u.blind
    from unnest(i_subjects, i_blinds) as u (subject, blind)
    where i.ledger_id = p_ledger and i.subject = u.subject;
    get diagnostics v_count = row_count;
    if v_count <> (select count(*) from ledger.identity i where i.ledger_id = p_ledger) then
        raise exception 'an identity was made meanwhile' using errcode = 'serialization_failure';
    end if;
end
$$;

-- Puts every data key of a ledger under the key-encryption key that the last entry names, all of them or none: after
-- `ledger.erase` with the `subject.erased` of the same transaction, or with a `keys.rewrapped` because of an erasure of
-- a ledger, this or another, which is founded and has put that ledger under the same key.
create function ledger.rewrap(
    p_ledger  uuid,
    p_key_ids text[],
    p_nonces  bytea[],
    p_wrapped bytea[]
) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
    v_index   text := 'ledger:' || p_ledger;
    v_said    jsonb;
    v_kek     text;
    v_because uuid;
    v_held    boolean;
begin
    perform from ledger.heads h where h.ledger_id = p_ledger for update;
    perform from ledger.keys k where k.ledger_id = p_ledger and k.owner = v_index for update;
    v_said := ledger.announced(p_ledger);
    v_kek := v_said ->> 'kek';
    if v_said ->> 'type' = 'subject.erased' then
        -- Only ledger.erase puts another index key in place of one.
        v_held := exists (select from ledger.keys k
                          where k.ledger_id = p_ledger and k.owner = v_index and k.key_id = v_said ->> 'index_key'
                            and k.kek_id = v_kek);
    elsif v_said ->> 'type' = 'keys.rewrapped' then
        v_because := substr(v_said ->> 'because_of', 8)::uuid;
        v_held := exists (select from ledger.keys k
                          where k.ledger_id = v_because and k.owner = 'ledger:' || v_because and k.kek_id = v_kek)
                  and exists (select from ledger.entries e
                              join ledger.payloads p on p.ledger_id = e.ledger_id and p.seq = e.seq
                              where e.ledger_id = v_because and e.type = 'subject.erased'
                                and case when p.algorithm = 'plain'
                                         then convert_from(substr(p.bytes, 33), 'UTF8')::jsonb ->> 'kek_before'
                                              = v_said ->> 'kek_before' end
                                and ledger.unfounded(e.ledger_id, e.seq) is null);
    end if;
    if v_held is not true then
        raise exception 'the last entry of ledger % announces no other key-encryption key that an erasure brought', p_ledger
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    if exists (select from ledger.keys k
               where k.ledger_id = p_ledger and k.kek_id not in (v_kek, v_said ->> 'kek_before')) then
        raise exception 'a data key is under another key-encryption key than the entry names'
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    update ledger.keys k set kek_id = v_kek, nonce = u.nonce, wrapped = u.wrapped
    from unnest(p_key_ids, p_nonces, p_wrapped) as u (key_id, nonce, wrapped)
    where k.ledger_id = p_ledger and k.key_id = u.key_id and k.kek_id <> v_kek;
    if exists (select from ledger.keys k where k.ledger_id = p_ledger and k.kek_id <> v_kek) then
        raise exception 'a data key was made meanwhile' using errcode = 'serialization_failure';
    end if;
end
$$;

-- As in 0004, and: what is new is wrapped and indexed by the keys in force, which the row of the index key shows. A process
-- that read its keys before an erasure is refused, where it would write what nobody can open or find again.
drop function ledger.identify(
    uuid, text[], text[], text[], bytea[], bytea[], text[], text[], text[], bytea[], text[], bytea[], bytea[]);
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
    i_sealed   bytea[],
    i_index    text        -- the index key under which i_blinds were made; null where there are none
) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
    v_owner text := 'ledger:' || p_ledger;
    v_index record;
    v_found boolean;
begin
    -- FOR SHARE: an erasure waits for this commit, and then takes along what was made here. Who waits here for an erasure
    -- finds no row, since it replaced that one; another statement then sees the new one. No snapshot is without one.
    loop
        select k.key_id, k.kek_id into v_index
        from ledger.keys k where k.ledger_id = p_ledger and k.owner = v_owner for share;
        v_found := found;
        exit when v_found or not exists (select from ledger.keys k where k.ledger_id = p_ledger and k.owner = v_owner);
    end loop;
    if v_found and exists (select from unnest(p_kek_ids) k where k <> v_index.kek_id)
       or cardinality(i_subjects) > 0 and v_index.key_id is distinct from i_index
       or exists (select from unnest(i_key_ids) u
                  where not exists (select from ledger.keys k where k.ledger_id = p_ledger and k.key_id = u)) then
        raise exception 'the keys of ledger % were replaced by an erasure', p_ledger
            using errcode = 'object_not_in_prerequisite_state', hint = 'run the command again: it then reads the keys anew';
    end if;

    -- An empty one, say, would seem to seal all that is plain.
    if exists (select from unnest(p_key_ids) k
               where (k ~ '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$') is not true) then
        raise exception 'a data key has an id that is no UUID' using errcode = 'invalid_parameter_value';
    end if;

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

-- Holds every deletion and change of payloads, keys and identities to the last entry of the ledger.
create function ledger.announced_only() returns trigger language plpgsql
set search_path = pg_catalog, pg_temp as $$
declare
    v_ledgers uuid[];
    v_ledger  uuid;
    v_said    jsonb;
    v_held    boolean;
begin
    if tg_op = 'DELETE' then
        select array_agg(distinct g.ledger_id) into v_ledgers from gone g;
    else
        select array_agg(distinct c.ledger_id) into v_ledgers
        from (select w.ledger_id from was w union all select b.ledger_id from became b) c;
    end if;
    foreach v_ledger in array coalesce(v_ledgers, '{}') loop
        v_said := ledger.announced(v_ledger);
        v_held := false;
        if v_said is null then
            null;
        elsif tg_op = 'DELETE' and v_said ->> 'type' = 'subject.erased' then
            if tg_table_name = 'payloads' then
                -- Exactly those, in one statement.
                select bool_and((g.key_id = v_said ->> 'key_id' and g.algorithm <> 'plain') is true)
                       and (select jsonb_agg(jsonb_build_array(i.first, i.last) order by i.first)
                            from (select min(n.seq) as first, max(n.seq) as last
                                  from (select h.seq, h.seq - row_number() over (order by h.seq) as island
                                        from gone h where h.ledger_id = v_ledger) n
                                  group by n.island) i) = v_said -> 'ranges'
                into v_held from gone g where g.ledger_id = v_ledger;
            elsif tg_table_name = 'identity' then
                select bool_and((g.owner = v_said ->> 'subject') is true) into v_held from gone g where g.ledger_id = v_ledger;
            else
                select bool_and((g.key_id = v_said ->> 'key_id' and g.owner = v_said ->> 'subject'
                                 or g.owner = 'ledger:' || v_ledger and g.key_id <> v_said ->> 'index_key') is true)
                into v_held from gone g where g.ledger_id = v_ledger;
            end if;
        elsif tg_op = 'UPDATE' and tg_table_name = 'keys' then
            select bool_and((w.key_id is not null and b.kek_id = v_said ->> 'kek' and w.kek_id <> b.kek_id) is true)
            into v_held
            from was w full join became b using (ledger_id, key_id, owner) where ledger_id = v_ledger;
        elsif tg_op = 'UPDATE' and tg_table_name = 'identity' and v_said ->> 'type' = 'subject.erased' then
            select bool_and(w.blind is not null and b.blind is not null) into v_held
            from was w full join became b using (ledger_id, subject, kind, owner, key_id, nonce, sealed)
            where ledger_id = v_ledger;
        end if;
        if v_held is not true then
            raise exception 'ledger.%: % of what the last entry does not announce is refused', tg_table_name, lower(tg_op)
                using errcode = 'insufficient_privilege',
                      hint = 'what has to go goes with `ledger erase`';
        end if;
    end loop;
    return null;
end
$$;

drop trigger refuse_change on ledger.payloads;
create trigger refuse_update before update on ledger.payloads
    for each row execute function ledger.refuse_change();
create trigger announced_delete after delete on ledger.payloads
    referencing old table as gone for each statement execute function ledger.announced_only();
drop trigger refuse_change on ledger.keys;
create trigger announced_update after update on ledger.keys
    referencing old table as was new table as became for each statement execute function ledger.announced_only();
create trigger announced_delete after delete on ledger.keys
    referencing old table as gone for each statement execute function ledger.announced_only();
drop trigger refuse_change on ledger.identity;
create trigger announced_update after update on ledger.identity
    referencing old table as was new table as became for each statement execute function ledger.announced_only();
create trigger announced_delete after delete on ledger.identity
    referencing old table as gone for each statement execute function ledger.announced_only();

alter table ledger.payloads enable always trigger refuse_update;
alter table ledger.payloads enable always trigger announced_delete;
alter table ledger.keys enable always trigger announced_update;
alter table ledger.keys enable always trigger announced_delete;
alter table ledger.identity enable always trigger announced_update;
alter table ledger.identity enable always trigger announced_delete;

revoke all on function ledger.announced(uuid) from public;
revoke all on function ledger.erasable(uuid, text) from public;
revoke all on function ledger.unfounded(uuid, bigint) from public;
revoke all on function ledger.erase(uuid, bytea, bytea, text[], bytea[]) from public;
revoke all on function ledger.rewrap(uuid, text[], bytea[], bytea[]) from public;
revoke all on function ledger.identify(
    uuid, text[], text[], text[], bytea[], bytea[], text[], text[], text[], bytea[], text[], bytea[], bytea[], text)
    from public;
revoke all on function ledger.announced_only() from public;
grant execute on function ledger.erasable(uuid, text) to ledger_writer;
grant execute on function ledger.erase(uuid, bytea, bytea, text[], bytea[]) to ledger_writer;
grant execute on function ledger.rewrap(uuid, text[], bytea[], bytea[]) to ledger_writer;
grant execute on function ledger.identify(
    uuid, text[], text[], text[], bytea[], bytea[], text[], text[], text[], bytea[], text[], bytea[], bytea[], text)
    to ledger_writer;
