-- Each login may do what its work needs. gatewayzen_service is what the dispatcher logs in as and what every worker is a member
-- of: it reads what is not secret, and takes and ends steps. A secret's table, and each function that touches one, is the
-- worker's alone that needs it:
--   sealed user data of a launch (the host key's private half)  instance-worker, which replays a launch
--   gatewayd's API key                                          ssh-worker keeps it and cannot read it; wallet-worker reads it
--   seed of the cold wallet                                     wallet-worker
-- Nobody else reads one, operators and applications included.

DO $$
BEGIN
  -- Migrations are run as this role, which owns what they make. Made here where a login that may make roles applies them with
  -- another tool than `gatewayzen migrate`.
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'gatewayzen_migrator')
     AND (SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user) THEN
    CREATE ROLE gatewayzen_migrator LOGIN;
  END IF;
-- Roles are shared by every database of a cluster: the migration of another one may be making it at this very moment.
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
END
$$;

REVOKE ALL ON launch_attempts, api_keys, wallets, wallet_seeds FROM gatewayzen_service;
GRANT SELECT (id, gatewayd_id, client_token, request, host_key, created_at, send_until, instance_id,
              instance_known_at, running_at, ended_at, ended_why, gone_generation) ON launch_attempts TO gatewayzen_service;
GRANT SELECT ON wallets TO gatewayzen_service;
GRANT SELECT ON launch_attempts TO gatewayzen_instance_worker;
GRANT SELECT ON api_keys, wallet_seeds TO gatewayzen_wallet_worker;

DO $$
DECLARE
  f record;
  instance_worker text[] := ARRAY['open_launch_attempt', 'resolve_launch_attempt', 'end_launch_attempt', 'claim_sweep', 'renew_sweep',
                                  'finish_sweep', 'compare_machines', 'end_orphan', 'rows_without_machine', 'miss_machines', 'park_gone'];
BEGIN
  -- What one worker needs is not every service's.
  FOR f IN SELECT p.oid::regprocedure AS function, CASE
        WHEN p.proname = ANY (instance_worker) THEN 'gatewayzen_instance_worker'
        WHEN p.proname = 'keep_api_key' THEN 'gatewayzen_ssh_worker'
        WHEN p.proname = 'keep_wallet' THEN 'gatewayzen_wallet_worker'
      END AS worker
    FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace LOOP
    CONTINUE WHEN f.worker IS NULL;
    EXECUTE format('REVOKE ALL ON FUNCTION %s FROM gatewayzen_service', f.function);
    EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %I', f.function, f.worker);
  END LOOP;
  -- Postgres lets everybody call a new function. Here nobody may, but for the engine, whose functions call the others, and for
  -- whom it is granted to.
  FOR f IN SELECT p.oid::regprocedure AS function FROM pg_proc p
    WHERE p.pronamespace = 'public'::regnamespace AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e') LOOP
    EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', f.function);
    EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO gatewayzen_engine', f.function);
  END LOOP;
END
$$;
-- So it is with the functions of later migrations.
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT EXECUTE ON FUNCTIONS TO gatewayzen_engine;

-- What the guard of `gatewayds` calls in the writer's own name; they read and write nothing but the row in hand.
GRANT EXECUTE ON FUNCTION gatewayds_begin_again, new_traceparent TO gatewayzen_app, gatewayzen_operator;
-- What the dispatcher and `gatewayzen` ask beside the rows.
GRANT EXECUTE ON FUNCTION fleet_is_halted, works_while_halted TO gatewayzen_service, gatewayzen_operator;
