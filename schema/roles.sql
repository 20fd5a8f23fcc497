-- roles.sql: once per server, by an administrator, before any migration. Roles are shared by all databases of a server
-- and cannot be made by two sessions at once, so this runs under an advisory lock and not as a migration.
do $$
begin
    perform pg_advisory_xact_lock(7083202603001);
    if not exists (select from pg_roles where rolname = 'ledger_owner') then
        create role ledger_owner nologin;  -- owns every object; nobody logs in as it
    end if;
    if not exists (select from pg_roles where rolname = 'ledger_writer') then
        create role ledger_writer nologin;  -- may call ledger.append and read
    end if;
    if not exists (select from pg_roles where rolname = 'ledger_reader') then
        create role ledger_reader nologin;  -- may read
    end if;
end
$$;
