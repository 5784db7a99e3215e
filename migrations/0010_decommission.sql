-- With a host end its hot wallet and gatewayd's own database, and a cold wallet that is in no backup is one lost database away
-- from its end. So the move to `terminate` is refused here, for every writer, until what must stay is kept elsewhere; an
-- operator may say otherwise, once and on record.

-- What must be kept elsewhere before a host is ended. Operators change it, by set_decommission_policy.
CREATE TABLE decommission_policy (
  only_row              boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  require_wallet_backup boolean NOT NULL DEFAULT true,
  require_host_backup   boolean NOT NULL DEFAULT false,
  changed_at            timestamptz NOT NULL DEFAULT clock_timestamp(),
  changed_by            text NOT NULL DEFAULT session_user
);
INSERT INTO decommission_policy DEFAULT VALUES;
GRANT SELECT ON decommission_policy TO gatewayzen_app, gatewayzen_service, gatewayzen_operator, gatewayzen_engine;
GRANT UPDATE ON decommission_policy TO gatewayzen_engine;

-- Backups of a host, made by gatewayd.backup_command in the step of `stop`, while gatewayd was down.
CREATE TABLE host_backups (
  id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  gatewayd_id bigint NOT NULL REFERENCES gatewayds (id),
  -- Of which machine.
  attempt_id  uuid NOT NULL REFERENCES launch_attempts (id),
  -- Where it is, as the command told; null where it told nothing.
  place       text CHECK (length(place) BETWEEN 1 AND 500),
  made_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
  made_by     text NOT NULL
);
CREATE INDEX host_backups_of ON host_backups (attempt_id, made_at);
CREATE TRIGGER only_added_to BEFORE UPDATE OR DELETE OR TRUNCATE ON host_backups
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
GRANT SELECT ON host_backups TO gatewayzen_service, gatewayzen_operator, gatewayzen_engine;
GRANT INSERT ON host_backups TO gatewayzen_engine;

-- The generation that a sweep made when it parked the row because this machine is gone: while the row has it, there is nothing
-- left to keep. A retry or a move gives the row another.
ALTER TABLE launch_attempts ADD COLUMN gone_generation bigint;
GRANT SELECT (gone_generation) ON launch_attempts TO gatewayzen_operator;

-- The ssh-worker's door: a backup was made of the row's host, in the step that it has in hand.
CREATE FUNCTION record_host_backup(p_id bigint, p_token uuid, p_generation bigint, p_place text) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET lock_timeout = '1s' AS $$
DECLARE
  verdict text := lock_leased(p_id, p_token, p_generation);
BEGIN
  IF verdict = 'held' THEN
    INSERT INTO host_backups (gatewayd_id, attempt_id, place, made_by)
      SELECT g.id, a.id, p_place, g.lease_owner
      FROM gatewayds g JOIN launch_attempts a ON a.gatewayd_id = g.id AND a.ended_at IS NULL WHERE g.id = p_id;
    IF NOT FOUND THEN
      RAISE EXCEPTION 'gatewayd % has no launch in force, so there is no host of which this could be a backup', p_id;
    END IF;
  END IF;
  RETURN verdict;
END
$$;

-- What must be kept elsewhere before this row's host may be ended, in sentences that say what to do; null where all of it is.
CREATE FUNCTION why_not_terminate(g gatewayds) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
  -- Should the row of the policy be lost: as it is made.
  wallet_wanted boolean := coalesce((SELECT p.require_wallet_backup FROM decommission_policy p), true);
  host_wanted boolean := coalesce((SELECT p.require_host_backup FROM decommission_policy p), false);
  wallet text;
  machine launch_attempts;
  started timestamptz;
  lacks text[];
  todo text[];
BEGIN
  IF wallet_wanted THEN
    SELECT w.address INTO wallet FROM wallets w WHERE w.gatewayd_id = g.id
      AND NOT EXISTS (SELECT FROM wallet_backups b WHERE b.gatewayd_id = w.gatewayd_id AND b.address = w.address);
    IF wallet IS NOT NULL THEN
      lacks := array_append(lacks, format('the key of its cold wallet %s is in no verified backup', wallet));
      todo := array_append(todo, '`gatewayzen secrets export FILE --reason TEXT`, then `gatewayzen secrets verify-backup FILE` (with '
        'secrets.wallet_copies configured, each new wallet is backed up as it is made)');
    END IF;
  END IF;
  IF host_wanted THEN
    SELECT * INTO machine FROM launch_attempts a WHERE a.gatewayd_id = g.id AND a.ended_at IS NULL
      AND a.gone_generation IS DISTINCT FROM g.generation;
    -- Null: there is no machine (never one, or no more), or gatewayd was never started on it, so that nothing is there yet.
    SELECT max(h.at) INTO started FROM gatewayd_history h
      WHERE h.gatewayd_id = g.id AND h.event = 'moved' AND h.to_state = 'start' AND h.at > machine.created_at;
    IF started IS NOT NULL AND NOT EXISTS (SELECT FROM host_backups b WHERE b.attempt_id = machine.id AND b.made_at > started) THEN
      lacks := array_append(lacks, format('no backup of its host was made since gatewayd was started there at %s',
        to_char(started AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"')));
      todo := array_append(todo, CASE g.state
        WHEN 'live' THEN 'write `stop` first: its step makes the backup, with gatewayd.backup_command, and it is done when the row is `stopped`'
        WHEN 'stop' THEN 'let its `stop` end first (retry it if it is parked), whose step makes the backup with gatewayd.backup_command'
        WHEN 'stopped' THEN 'write `start`, and `stop` once it is live: the step of `stop` makes the backup, with gatewayd.backup_command'
        ELSE 'let its walk end first (retry it if it is parked), then write `stop`, whose step makes the backup with gatewayd.backup_command'
      END);
    END IF;
  END IF;
  IF lacks IS NULL THEN
    RETURN NULL;
  END IF;
  RETURN format('gatewayd "%s" cannot be terminated: %s, and with its host end its hot wallet and gatewayd''s own database. '
    'What to do: %s; then terminate it', g.name, array_to_string(lacks, ' and '), array_to_string(todo, '; and '));
END
$$;

-- Judges the move to `terminate`, after the guard of every move. Runs as the engine, since the writer reads no wallets.
CREATE FUNCTION gatewayds_guard_terminate() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
  why text := why_not_terminate(OLD);
BEGIN
  -- An operator's word counts in the transaction in which it was given, for this move of the row and no other.
  IF why IS NOT NULL AND NOT EXISTS (
    SELECT FROM audit a WHERE a.gatewayd_id = OLD.id AND a.action = 'terminate-without-backup'
      AND a.details ->> 'transaction' = pg_current_xact_id()::text AND a.at >= transaction_timestamp()
      AND a.details ->> 'generation' = OLD.generation::text) THEN
    RAISE EXCEPTION '%', why USING ERRCODE = 'check_violation', CONSTRAINT = 'kept_elsewhere_first',
      HINT = format('An operator may end it all the same, on record: `gatewayzen terminate %s --without-backup --reason ...`.', OLD.name);
  END IF;
  RETURN NEW;
END
$$;
CREATE TRIGGER c_guard_terminate BEFORE UPDATE ON gatewayds FOR EACH ROW
  WHEN (OLD.state <> 'terminate' AND NEW.state = 'terminate') EXECUTE FUNCTION gatewayds_guard_terminate();

-- An operator's word that this row may be ended without its backups, in this transaction. False: there is no such row.
CREATE FUNCTION allow_termination(p_name text, p_reason text, p_person text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
  g gatewayds;
BEGIN
  SELECT * INTO g FROM gatewayds WHERE name = p_name FOR UPDATE;
  IF g.id IS NULL THEN
    RETURN false;
  END IF;
  IF g.state IN ('terminate', 'terminated') THEN
    RAISE EXCEPTION 'gatewayd "%" is in state "%" already: there is nothing to allow', g.name, g.state
      USING ERRCODE = 'check_violation', CONSTRAINT = 'legal_move';
  END IF;
  INSERT INTO audit (person, action, gatewayd_id, reason, details) VALUES (p_person, 'terminate-without-backup', g.id, p_reason,
    jsonb_build_object('state', g.state, 'generation', g.generation, 'transaction', pg_current_xact_id()::text,
      'wallet', (SELECT w.address FROM wallets w WHERE w.gatewayd_id = g.id), 'instance', g.instance_id,
      'lacking', why_not_terminate(g)));
  RETURN true;
END
$$;

-- Operators' door: ends a gatewayd whatever was not kept elsewhere, with a reason that stays. False: there is no such row. The
-- move itself is the operator's own write, like every external one.
CREATE FUNCTION terminate_without_backup(p_name text, p_reason text, p_person text DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
  IF NOT allow_termination(p_name, p_reason, p_person) THEN
    RETURN false;
  END IF;
  UPDATE gatewayds SET state = 'terminate', changed_why = 'without backup: ' || left(p_reason, 480) WHERE name = p_name;
  RETURN true;
END
$$;

-- Operators' door: what must be kept elsewhere before a host is ended. Null leaves a rule as it is.
CREATE FUNCTION set_decommission_policy(p_require_wallet_backup boolean, p_require_host_backup boolean, p_reason text,
                                        p_person text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
  before decommission_policy;
  after decommission_policy;
BEGIN
  SELECT * INTO before FROM decommission_policy FOR UPDATE;
  UPDATE decommission_policy SET require_wallet_backup = coalesce(p_require_wallet_backup, require_wallet_backup),
      require_host_backup = coalesce(p_require_host_backup, require_host_backup),
      changed_at = clock_timestamp(), changed_by = session_user
    RETURNING * INTO after;
  INSERT INTO audit (person, action, reason, details) VALUES (p_person, 'decommission-policy', p_reason, jsonb_build_object(
    'require_wallet_backup', jsonb_build_array(before.require_wallet_backup, after.require_wallet_backup),
    'require_host_backup', jsonb_build_array(before.require_host_backup, after.require_host_backup)));
END
$$;

-- A wallet and each version of its seed are on disk before anybody hears of them, whatever the session, the login or the
-- transaction was set to: this runs at the commit itself. Guards against the power cut after the answer.
CREATE FUNCTION on_disk_at_commit() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF current_setting('fsync') <> 'on' THEN
    RAISE EXCEPTION 'no wallet is kept while Postgres runs with fsync off: a power cut could take it after a server heard its address'
      USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Turn fsync on in postgresql.conf.';
  END IF;
  PERFORM set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') NOT IN ('on', 'remote_apply');
  RETURN NULL;
END
$$;
CREATE CONSTRAINT TRIGGER on_disk_at_commit AFTER INSERT ON wallets DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW EXECUTE FUNCTION on_disk_at_commit();
CREATE CONSTRAINT TRIGGER on_disk_at_commit AFTER INSERT ON wallet_seeds DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW EXECUTE FUNCTION on_disk_at_commit();

-- As in migration 7, and keeps that the machine is gone.
CREATE OR REPLACE FUNCTION park_gone(p_sweep bigint, p_token uuid, p_id bigint, p_generation bigint, p_instance text, p_fault text,
                          p_unblock text, p_window interval) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET lock_timeout = '1s' AS $$
DECLARE
  s sweeps := lock_sweep(p_sweep, p_token);
  g gatewayds;
BEGIN
  SELECT * INTO g FROM gatewayds WHERE id = p_id FOR UPDATE;
  IF g.id IS NULL OR NOT s.act OR may_act('{}') IS NOT NULL OR g.generation <> p_generation
     OR g.instance_id IS DISTINCT FROM p_instance OR NOT may_be_parked(g) THEN
    RETURN NULL;
  END IF;
  IF p_window IS NOT NULL AND NOT EXISTS (
    SELECT FROM missed_machines m WHERE m.instance_id = p_instance AND m.marked_by <> p_sweep
      AND m.first_missed_at + p_window <= clock_timestamp()) THEN
    RETURN NULL;
  END IF;
  UPDATE gatewayds SET fault = p_fault, unblock = p_unblock, generation = g.generation + 1, due_at = NULL, next_try_at = NULL,
    waiting_for = NULL, changed_by = s.lease_owner, changed_why = NULL,
    lease_token = NULL, lease_owner = NULL, lease_taken_at = NULL, lease_until = NULL
    WHERE id = p_id;
  UPDATE launch_attempts SET gone_generation = g.generation + 1
    WHERE gatewayd_id = p_id AND ended_at IS NULL AND instance_id = p_instance;
  RETURN g.generation + 1;
END
$$;

DO $$
DECLARE
  f record;
BEGIN
  GRANT CREATE ON SCHEMA public TO gatewayzen_engine;
  FOR f IN SELECT p.oid::regprocedure AS function, CASE p.proname
        WHEN 'record_host_backup' THEN 'gatewayzen_ssh_worker' WHEN 'gatewayds_guard_terminate' THEN 'gatewayzen_engine'
        ELSE 'gatewayzen_operator' END AS caller
    FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace AND p.proname IN (
      'record_host_backup', 'gatewayds_guard_terminate', 'allow_termination', 'set_decommission_policy') LOOP
    EXECUTE format('ALTER FUNCTION %s OWNER TO gatewayzen_engine', f.function);
    EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', f.function);
    EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %I', f.function, f.caller);
  END LOOP;
  REVOKE CREATE ON SCHEMA public FROM gatewayzen_engine;
END
$$;
REVOKE ALL ON FUNCTION terminate_without_backup FROM PUBLIC;
GRANT EXECUTE ON FUNCTION terminate_without_backup TO gatewayzen_operator;
