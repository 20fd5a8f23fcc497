-- 0002_work.sql: who may act now. Ordinary tables of the writer: nothing here is evidence.

-- A lease on a piece of work, a plan say. Each new holder gets a higher fence; an append under an older one is refused.
create table ledger_work.leases (
    ledger_id  uuid        not null,
    name       text        not null,
    fence      bigint      not null,
    holder     text        not null,  -- worker name, for people
    expires_at timestamptz not null,
    constraint leases_pkey primary key (ledger_id, name)
);

grant usage on schema ledger_work to ledger_writer, ledger_reader;
grant select, insert, update, delete on ledger_work.leases to ledger_writer;
grant select on ledger_work.leases to ledger_reader;
