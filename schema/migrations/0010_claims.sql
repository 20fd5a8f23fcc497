-- 0010_claims.sql: what claiming a command looks at, by index. A claim holds the lock on its run, so all workers wait for it.

create index commands_pending on ledger_work.commands (ledger_id, run, position) where not is_done;
create index commands_unsettled on ledger_work.commands (ledger_id, run) where settles and not is_done;
-- What was given back stays as a row, for its fence.
create index leases_held on ledger_work.leases (ledger_id) where expires_at > '-infinity';
