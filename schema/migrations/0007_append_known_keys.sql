-- 0007_append_known_keys.sql: ledger.append as before, but that it refuses payloads whose key was destroyed, and that after an
-- erasure the idempotency key alone tells a replay.

-- One array element per entry in each argument. Returns one row per entry, in the order given:
--   appended     written now
--   replayed     the key was used before with the same content: seq, hash and bytes of the first
--   key_reused   the key was used before with other content: seq of the first
--   fence_lost   another holder has taken the lease: nothing written
-- For sealed payloads SQL cannot compare: `replayed` is then for the program to check.
create or replace function ledger.append(
    p_ledger      uuid,
    p_ids         uuid[],
    p_keys        text[],
    p_types       text[],
    p_schemas     integer[],
    p_subjects    text[],
    p_actors      text[],
    p_runs        uuid[],
    p_causes      uuid[],
    p_occurred_at timestamptz[],
    p_commitments bytea[],
    p_algorithms  text[],
    p_key_ids     text[],
    p_nonces      bytea[],
    p_payloads    bytea[],         -- salt || payload, sealed unless plain
    p_leases      text[],          -- null: no lease needed
    p_fences      bigint[],
    p_recorded_at timestamptz[]    -- null but in a ledger with a simulated clock
) returns table (ord bigint, status text, seq bigint, hash bytea, bytes bytea)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off  -- a plan cached while the table was small must not scan it when it has grown
set plan_cache_mode = force_generic_plan as $$  -- planning anew for each call takes longer than appending an entry
#variable_conflict use_column
declare
    -- Not a function: with settings of its own, as each here must have, its calls would cost more than all else of an entry.
    c_time      constant text := 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"';
    v_head      record;
    v_row       record;
    v_known     record;
    v_is_known  boolean;
    v_seq       bigint;
    v_prev      bytea;
    v_now       timestamptz := clock_timestamp();
    v_now_text  text;
    v_bytes     bytea;
    v_repeated  text[];         -- keys that stand in this call more than once
    v_lease     text;
    v_fence     bigint;
    v_fence_ok  boolean;
    -- One element per entry, as in the arguments.
    o_status    text[] := '{}';
    o_seq       bigint[] := '{}';
    o_at        timestamptz[] := '{}';
    o_hash      bytea[] := '{}';
    o_bytes     bytea[] := '{}';
begin
    -- The lock comes before any key is looked up: two writers with one key then see each other's entry.
    select h.size, h.hash, h.recorded_at, h.clock into v_head
    from ledger.heads h where h.ledger_id = p_ledger for update;
    if not found then
        raise exception 'no ledger %', p_ledger using errcode = 'no_data_found';
    end if;
    v_seq := v_head.size;
    v_prev := v_head.hash;
    v_now := greatest(v_now, v_head.recorded_at);
    v_now_text := to_char(v_now at time zone 'UTC', c_time);

    if cardinality(p_ids) > 1 then
        select array_agg(r.key) into v_repeated
        from (select k as key from unnest(p_keys) k group by k having count(*) > 1) r;
    end if;
    if p_causes[1] = p_ids[1]
       or cardinality(p_ids) > 1
       and exists (select c from unnest(p_causes) c where c is not null intersect select i from unnest(p_ids) i) then
        raise exception 'a cause may not name an entry of the same call' using errcode = 'invalid_parameter_value';
    end if;

    -- All that does not depend on the entries in front is computed here, for the whole call; the loop below only links.
    -- The key is looked up in a subquery, which is an index probe for each row under any plan.
    for v_row in
        select u.ord, u.key, u.lease, u.fence, u.recorded_at, u.type = 'ledger.created' as creates,
               (select e.seq from ledger.entries e where e.ledger_id = p_ledger and e.key = u.key) as known_seq,
               -- Likewise a probe for each row, and for plain ones none.
               u.key_id = '' or (select k.owner from ledger.keys k
                                 where k.ledger_id = p_ledger and k.key_id = u.key_id) is not null as has_key,
               (u.id is not null and octet_length(u.key) <= 128 and u.key ~ '^[a-z0-9._:/-]+$'
                and octet_length(u.type) <= 128 and u.type ~ '^[a-z0-9_-]+(?:\.[a-z0-9_-]+)+$'
                and u.schema between 1 and 65535
                and octet_length(u.subject) <= 128
                -- <kind>:<uuid>; as one expression with counts it takes longer than the rest of the checks together
                and u.subject ~ '^[a-z][a-z0-9-]*:[0-9a-f-]+$'
                and split_part(u.subject, ':', 2) like '________-____-____-____-____________'
                and octet_length(replace(split_part(u.subject, ':', 2), '-', '')) = 32
                and octet_length(u.actor) <= 128 and (u.actor = 'system' or left(u.actor, 7) in ('person:', 'worker:')
                                                    and substr(u.actor, 8) ~ '^[a-z0-9._:/-]+$')
                and u.occurred_at between '0001-01-01 00:00:00+00' and '9999-12-31 23:59:59.999999+00'
                and octet_length(u.commitment) = 32
                and (u.algorithm = 'plain') = (u.key_id = '') and (u.algorithm = 'plain') = (u.nonce = '')
                and octet_length(u.payload) between 32 and 8 * 1024 * 1024 + 64) is true as allowed,
               '{"actor":"' || u.actor
               || '","cause":' || coalesce('"' || u.cause::text || '"', 'null')
               || ',"commitment":"' || encode(u.commitment, 'hex')
               || '","id":"' || u.id::text
               || '","key":"' || u.key
               || '","ledger":"' || p_ledger::text
               || '","occurred_at":"' || to_char(u.occurred_at at time zone 'UTC', c_time)
               || '","prev":"' as before_prev,
               '","run":' || coalesce('"' || u.run::text || '"', 'null')
               || ',"schema":' || u.schema::text
               || ',"seq":' as before_seq,
               ',"stored":"' || encode(sha256(
                   'ledger-stored-v1\000'::bytea
                   || int4send(octet_length(u.algorithm)) || convert_to(u.algorithm, 'UTF8')
                   || int4send(octet_length(u.key_id)) || convert_to(u.key_id, 'UTF8')
                   || int4send(octet_length(u.nonce)) || u.nonce
                   || int4send(octet_length(u.payload)) || u.payload), 'hex')
               || '","subject":"' || u.subject
               || '","type":"' || u.type
               || '","v":1}' as after_seq
        from unnest(p_ids, p_keys, p_types, p_schemas, p_subjects, p_actors, p_runs, p_causes, p_occurred_at,
                    p_commitments, p_algorithms, p_key_ids, p_nonces, p_payloads, p_leases, p_fences,
                    p_recorded_at) with ordinality
            as u (id, key, type, schema, subject, actor, run, cause, occurred_at,
                  commitment, algorithm, key_id, nonce, payload, lease, fence,
                  recorded_at, ord)
    loop
        if not v_row.allowed then
            raise exception 'an entry has a name, time or length that is not allowed' using errcode = 'invalid_parameter_value';
        end if;
        if v_row.ord <> cardinality(o_status) + 1 then
            raise exception 'the entries of a call came out of order' using errcode = 'internal_error';
        end if;

        -- A key that was used before: the entry lies in the table, or earlier in this call.
        v_is_known := false;
        if v_row.known_seq is not null then
            v_is_known := true;
            select e.seq, e.hash, e.bytes, convert_from(e.bytes, 'UTF8')::json as entry,
                   p.algorithm, p.bytes as payload
            into v_known
            from ledger.entries e
            left join ledger.payloads p on p.ledger_id = e.ledger_id and p.seq = e.seq
            where e.ledger_id = p_ledger and e.seq = v_row.known_seq;
        elsif v_row.key = any (v_repeated) then
            select n.seq, n.hash, n.bytes, convert_from(n.bytes, 'UTF8')::json as entry,
                   n.algorithm, n.payload
            into v_known
            from unnest(p_keys, o_status, o_seq, o_hash, o_bytes, p_algorithms, p_payloads)
                as n (key, status, seq, hash, bytes, algorithm, payload)
            where n.key = v_row.key and n.status = 'appended';
            v_is_known := found;
        end if;

        if v_is_known then
            if v_known.payload is null  -- erased: the key alone decides, since the same person has another subject now
               or (v_known.entry ->> 'type', v_known.entry ->> 'schema', v_known.entry ->> 'subject',
                   v_known.entry ->> 'actor', v_known.entry ->> 'run', v_known.entry ->> 'cause')
                  is not distinct from
                  (p_types[v_row.ord], p_schemas[v_row.ord]::text, p_subjects[v_row.ord],
                   p_actors[v_row.ord], p_runs[v_row.ord]::text, p_causes[v_row.ord]::text)
                  and (v_known.algorithm = 'plain') = (p_algorithms[v_row.ord] = 'plain')
                  and (v_known.algorithm <> 'plain'
                       or substr(v_known.payload, 33) = substr(p_payloads[v_row.ord], 33))
            then
                o_status := array_append(o_status, 'replayed');
                o_hash := array_append(o_hash, v_known.hash);
                o_bytes := array_append(o_bytes, v_known.bytes);
            else
                o_status := array_append(o_status, 'key_reused');
                o_hash := array_append(o_hash, null);
                o_bytes := array_append(o_bytes, null);
            end if;
            o_seq := array_append(o_seq, v_known.seq);
            o_at := array_append(o_at, null);
            continue;
        end if;

        if v_row.lease is not null then
            if (v_row.lease, v_row.fence) is distinct from (v_lease, v_fence) then
                v_lease := v_row.lease;
                v_fence := v_row.fence;
                -- FOR SHARE: who takes the lease over waits for this commit, so that nothing of the old holder comes later.
                perform from ledger_work.leases l
                where l.ledger_id = p_ledger and l.name = v_lease and l.fence = v_fence for share;
                v_fence_ok := found;
            end if;
            if not v_fence_ok then
                o_status := array_append(o_status, 'fence_lost');
                o_seq := array_append(o_seq, null);
                o_at := array_append(o_at, null);
                o_hash := array_append(o_hash, null);
                o_bytes := array_append(o_bytes, null);
                continue;
            end if;
        end if;

        if (v_head.clock = 'simulated') <> (v_row.recorded_at is not null) then
            raise exception 'recorded_at is given by the caller in a ledger with a simulated clock, and in no other'
                using errcode = 'invalid_parameter_value';
        end if;
        if v_row.recorded_at is not null then
            if v_row.recorded_at < v_head.recorded_at
               or not v_row.recorded_at between '0001-01-01 00:00:00+00' and '9999-12-31 23:59:59.999999+00' then
                raise exception 'the simulated clock may not go back' using errcode = 'invalid_parameter_value';
            end if;
            v_now := v_row.recorded_at;
            v_now_text := to_char(v_now at time zone 'UTC', c_time);
            v_head.recorded_at := v_now;
        end if;
        if not v_row.has_key then
            -- A writer may still hold a key that was destroyed since it read it.
            raise exception 'a payload is sealed under a key that was destroyed meanwhile'
                using errcode = 'object_not_in_prerequisite_state', hint = 'run the command again: it then draws another key';
        end if;
        if (v_seq = 0) <> v_row.creates then
            raise exception 'ledger.created and it alone is entry 1' using errcode = 'invalid_parameter_value';
        end if;

        v_seq := v_seq + 1;
        v_bytes := convert_to(v_row.before_prev || encode(v_prev, 'hex') || '","recorded_at":"' || v_now_text
                              || v_row.before_seq || v_seq || v_row.after_seq, 'UTF8');
        v_prev := sha256('\x00'::bytea || v_bytes);
        o_status := array_append(o_status, 'appended');
        o_seq := array_append(o_seq, v_seq);
        o_at := array_append(o_at, v_now);
        o_hash := array_append(o_hash, v_prev);
        o_bytes := array_append(o_bytes, v_bytes);
    end loop;

    if v_seq > v_head.size then
        insert into ledger.entries (ledger_id, seq, id, key, type, subject, run, recorded_at, hash, bytes)
        select p_ledger, u.seq, u.id, u.key, u.type, u.subject, u.run, u.at, u.hash, u.bytes
        from unnest(o_status, o_seq, o_at, o_hash, o_bytes, p_ids, p_keys, p_types, p_subjects, p_runs)
            as u (status, seq, at, hash, bytes, id, key, type, subject, run)
        where u.status = 'appended';

        insert into ledger.payloads (ledger_id, seq, algorithm, key_id, nonce, bytes)
        select p_ledger, u.seq, u.algorithm, u.key_id, u.nonce, u.payload
        from unnest(o_status, o_seq, p_algorithms, p_key_ids, p_nonces, p_payloads)
            as u (status, seq, algorithm, key_id, nonce, payload)
        where u.status = 'appended';

        update ledger.heads h set size = v_seq, hash = v_prev, recorded_at = v_now where h.ledger_id = p_ledger;
    end if;

    return query select u.ord, u.status, u.seq, u.hash, u.bytes
    from unnest(o_status, o_seq, o_hash, o_bytes) with ordinality as u (status, seq, hash, bytes, ord);
end
$$;
