-- 0009_commands.sql: the commands of a live run, which any number of workers share. Ordinary tables of the writer: nothing here is evidence.

-- A run that is under way. What it came to is in the log; here is what its workers have to agree upon.
create table ledger_work.runs (
    ledger_id     uuid        not null,
    run           uuid        not null,
    plan          bytea       not null,  -- hash of the plan that it executes
    told          text        not null,  -- JSON: what the run was told, for workers that join it
    interval_ms   bigint      not null,  -- commands start at least this far apart, whoever takes them
    next_start_at timestamptz not null default clock_timestamp(),
    first_only    bigint,                -- only so many commands, the first by position, until a person says more
    stopped       text,                  -- why nothing new may be begun; then only what was begun is settled
    ended         bigint      not null default 0,  -- items that were brought to an end by this run
    bad           bigint      not null default 0,  -- of these: held or not done
    is_open       boolean     not null default true,
    constraint runs_pkey primary key (ledger_id, run)
);

-- One place's items. The place is named by its owner's subject, never by its natural id, which may be an address.
create table ledger_work.commands (
    ledger_id uuid    not null,
    run       uuid    not null,
    subject   text    not null,
    position  bigint  not null,                -- order in which they are taken
    settles   boolean not null default false,  -- an earlier run left something open there: taken also where nothing new may be begun
    taken     bigint  not null default 0,      -- how often; more than once: somebody was there before
    is_done   boolean not null default false,
    left_over bigint  not null default 0,      -- items that were not brought to an end
    result    text,                            -- JSON, for the run's report; no addresses
    constraint commands_pkey primary key (ledger_id, run, subject)
);

grant select, insert, update, delete on ledger_work.runs, ledger_work.commands to ledger_writer;
grant select on ledger_work.runs, ledger_work.commands to ledger_reader;
