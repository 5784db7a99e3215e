-- The only ways by which a worker changes a row. Each checks the lease (who) and the generation (of what), so
-- that a worker that was given up for dead, or overtaken by a write, changes nothing. They run as
-- gatewayzen_engine; the clock is Postgres's, so the workers' clocks do not matter. None waits long for a row: an
-- application that leaves a transaction open must not use up the workers' connections.

-- Rows whose time has come, and at once a time to look again, in case this job is lost on its way.
CREATE FUNCTION claim_due(batch int, look_again interval)
RETURNS TABLE (id bigint, state text, generation bigint, traceparent text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
#variable_conflict use_column
DECLARE
  halted boolean := fleet_is_halted();
BEGIN
  RETURN QUERY
  WITH due AS (
    SELECT g.id FROM gatewayds g
    WHERE g.due_at <= clock_timestamp() AND g.fault IS NULL AND g.hold IS NULL
      AND (NOT halted OR works_while_halted(g.state))
    ORDER BY g.due_at LIMIT batch
    FOR UPDATE SKIP LOCKED
  )
  UPDATE gatewayds g SET due_at = clock_timestamp() + look_again
  FROM due WHERE g.id = due.id
  RETURNING g.id, g.state, g.generation, g.traceparent;
END
$$;

CREATE FUNCTION take_lease(p_id bigint, p_state text, p_generation bigint, p_owner text, p_lease interval, p_max_attempts int)
RETURNS TABLE (verdict text, generation bigint, wait_seconds double precision, lease_token uuid, lease_number bigint)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET lock_timeout = '1s' AS $$
#variable_conflict use_column
DECLARE
  g gatewayds;
  t timestamptz;
BEGIN
  SELECT * INTO g FROM gatewayds WHERE gatewayds.id = p_id FOR UPDATE;
  t := clock_timestamp();
  IF g.id IS NULL THEN
    RETURN QUERY SELECT 'no_such_row', g.generation, NULL::double precision, NULL::uuid, NULL::bigint; RETURN;
  END IF;
  IF g.state <> p_state OR p_generation <> g.generation THEN
    RETURN QUERY SELECT 'stale', g.generation, NULL::double precision, NULL::uuid, NULL::bigint; RETURN;
  END IF;
  IF g.fault IS NOT NULL THEN
    -- Only the entry in `failed` carries the generation that parking made: whoever pushes that one means it.
    -- A job without a generation may be a late duplicate.
    IF p_generation IS NULL THEN
      RETURN QUERY SELECT 'parked', g.generation, NULL::double precision, NULL::uuid, NULL::bigint; RETURN;
    END IF;
    -- A retry like every other one. It is written before anything else is looked at: the tool that pushed this job may have
    -- removed the entry, so on a row that must wait (on hold, or halted) the retry must be kept and wait too.
    g := gatewayds_begin_again(g);
    UPDATE gatewayds SET
      generation = g.generation, clock_started_at = g.clock_started_at, attempts = g.attempts,
      next_try_at = g.next_try_at, waiting_for = g.waiting_for, last_error = g.last_error,
      last_error_at = g.last_error_at, fault = g.fault, unblock = g.unblock, due_at = g.due_at,
      changed_by = p_owner, changed_why = 'the failed job was queued again'
      WHERE gatewayds.id = p_id;
  END IF;
  IF g.hold IS NOT NULL THEN
    RETURN QUERY SELECT 'held', g.generation, NULL::double precision, NULL::uuid, NULL::bigint; RETURN;
  END IF;
  IF NOT works_while_halted(g.state) AND fleet_is_halted() THEN
    RETURN QUERY SELECT 'halted', g.generation, NULL::double precision, NULL::uuid, NULL::bigint; RETURN;
  END IF;
  IF g.lease_until > t THEN
    RETURN QUERY SELECT 'busy', g.generation, extract(epoch FROM g.lease_until - t)::double precision, NULL::uuid, NULL::bigint; RETURN;
  END IF;
  IF g.next_try_at > t THEN
    RETURN QUERY SELECT 'not_yet', g.generation, extract(epoch FROM g.next_try_at - t)::double precision, NULL::uuid, NULL::bigint; RETURN;
  ELSIF g.attempts >= p_max_attempts THEN
    -- Each attempt is counted before it begins, so a step that kills its worker ends here and not in a loop.
    UPDATE gatewayds SET
      fault = format('the step of state "%s" was begun %s times and never ended: its workers may be crashing (last one: %s)',
                     g.state, g.attempts, coalesce(g.lease_owner, 'unknown')),
      unblock = 'Look into the worker''s log, mend the cause, then retry.',
      generation = g.generation + 1, due_at = NULL, changed_by = p_owner, changed_why = NULL,
      lease_token = NULL, lease_until = NULL, lease_owner = NULL, lease_taken_at = NULL
      WHERE gatewayds.id = p_id;
    RETURN QUERY SELECT 'exhausted', g.generation + 1, NULL::double precision, NULL::uuid, NULL::bigint; RETURN;
  END IF;

  UPDATE gatewayds SET
    lease_number = g.lease_number + 1,
    lease_token = gen_random_uuid(), lease_owner = p_owner, lease_taken_at = t, lease_until = t + p_lease,
    due_at = t + p_lease,
    attempts = g.attempts + 1, unblock = NULL
    WHERE gatewayds.id = p_id
    RETURNING gatewayds.lease_token, gatewayds.lease_number INTO g.lease_token, g.lease_number;
  RETURN QUERY SELECT 'taken', g.generation, NULL::double precision, g.lease_token, g.lease_number;
END
$$;

-- Whether this worker still has the row: 'held', 'superseded' (a write gave the row another generation) or 'lost'.
CREATE FUNCTION check_lease(g gatewayds, p_token uuid, p_generation bigint) RETURNS text
LANGUAGE sql VOLATILE SET search_path = pg_catalog, public, pg_temp AS $$
  SELECT CASE
    WHEN g.lease_token IS DISTINCT FROM p_token OR g.lease_until <= clock_timestamp() THEN 'lost'
    WHEN g.generation <> p_generation THEN 'superseded'
    ELSE 'held'
  END
$$;

-- Locks the row and says whether this worker still has it.
CREATE FUNCTION lock_leased(p_id bigint, p_token uuid, p_generation bigint) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
  g gatewayds;
BEGIN
  SELECT * INTO g FROM gatewayds WHERE gatewayds.id = p_id FOR UPDATE;
  RETURN coalesce(check_lease(g, p_token, p_generation), 'lost');
END
$$;

CREATE FUNCTION renew_lease(p_id bigint, p_token uuid, p_generation bigint, p_lease interval) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET lock_timeout = '1s' AS $$
DECLARE
  verdict text := lock_leased(p_id, p_token, p_generation);
BEGIN
  IF verdict = 'held' THEN
    UPDATE gatewayds SET lease_until = clock_timestamp() + p_lease, due_at = clock_timestamp() + p_lease
      WHERE gatewayds.id = p_id;
  END IF;
  RETURN verdict;
END
$$;

-- What a step has found out about its gatewayd. A key that is absent leaves its column alone.
CREATE FUNCTION with_facts(g gatewayds, facts jsonb) RETURNS gatewayds
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
  strange text;
BEGIN
  SELECT string_agg(key, ', ') INTO strange FROM jsonb_object_keys(facts) AS key
    WHERE key NOT IN ('public_address', 'private_address', 'instance_id', 'ripple_address', 'release_in_place',
                      'commit_in_place', 'host_key_fingerprint', 'tls_fingerprint');
  IF strange IS NOT NULL THEN
    RAISE EXCEPTION 'no such fact: %', strange USING ERRCODE = 'invalid_parameter_value';
  END IF;
  RETURN jsonb_populate_record(g, facts);
END
$$;

CREATE FUNCTION record_facts(p_id bigint, p_token uuid, p_generation bigint, p_facts jsonb) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET lock_timeout = '1s' AS $$
DECLARE
  g gatewayds;
  verdict text;
BEGIN
  SELECT * INTO g FROM gatewayds WHERE gatewayds.id = p_id FOR UPDATE;
  verdict := coalesce(check_lease(g, p_token, p_generation), 'lost');
  IF verdict = 'held' THEN
    g := with_facts(g, p_facts);
    UPDATE gatewayds SET
      public_address = g.public_address, private_address = g.private_address, instance_id = g.instance_id,
      ripple_address = g.ripple_address, release_in_place = g.release_in_place, commit_in_place = g.commit_in_place,
      host_key_fingerprint = g.host_key_fingerprint, tls_fingerprint = g.tls_fingerprint
      WHERE gatewayds.id = p_id;
  END IF;
  RETURN verdict;
END
$$;

-- The end of a step. Outcomes:
--   advance  the step is done: on to p_next_state
--   wait     nothing wrong, not yet: again after p_wait; the attempt is given back
--   turn     a limit of the whole fleet is reached: as `wait`, and the state's deadline counts anew, since the row has not
--            had its turn. Whoever has one is bound by his own deadline, so no row waits for ever
--   backoff  it failed and may succeed later: again after p_wait
--   pause    not this row's failure (credentials, Postgres, account): again after p_wait; the attempt is given back
--   park     a person must look: the row keeps p_message as its fault
--   release  the step was cut short (shutdown): again at once; the attempt is given back
-- Returns the row's state and generation as they are now, for the next job. 'superseded' releases the lease.
CREATE FUNCTION finish_step(p_id bigint, p_token uuid, p_generation bigint, p_outcome text, p_next_state text,
                            p_facts jsonb, p_message text, p_unblock text, p_wait interval, p_look_again interval)
RETURNS TABLE (verdict text, state text, generation bigint, traceparent text, held boolean)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET lock_timeout = '1s' AS $$
#variable_conflict use_column
DECLARE
  g gatewayds;
  v text;
  t timestamptz;
  owner text;
BEGIN
  SELECT * INTO g FROM gatewayds WHERE gatewayds.id = p_id FOR UPDATE;
  t := clock_timestamp();
  v := coalesce(check_lease(g, p_token, p_generation), 'lost');
  IF v = 'lost' THEN
    RETURN QUERY SELECT v, g.state, g.generation, g.traceparent, g.hold IS NOT NULL; RETURN;
  END IF;
  owner := g.lease_owner;
  g.lease_token := NULL; g.lease_owner := NULL; g.lease_taken_at := NULL; g.lease_until := NULL;
  IF v = 'superseded' THEN
    -- Somebody wrote the state meanwhile; that write waits for this lease and nothing else.
    g.due_at := CASE WHEN g.due_at IS NOT NULL THEN t + p_look_again END;
  ELSE
    v := 'done';
    g := with_facts(g, coalesce(p_facts, '{}'));
    IF p_outcome IN ('wait', 'turn', 'pause', 'release') THEN
      g.attempts := greatest(g.attempts - 1, 0);
    END IF;
    CASE p_outcome
      WHEN 'advance' THEN
        IF g.state = 'instance' THEN
          UPDATE launch_attempts SET running_at = t WHERE gatewayd_id = p_id AND ended_at IS NULL;
        END IF;
        g.state := p_next_state;
        g.generation := g.generation + 1;
        g.since := t; g.clock_started_at := t;
        g.attempts := 0; g.next_try_at := NULL; g.waiting_for := NULL; g.last_error := NULL; g.last_error_at := NULL;
        g.changed_by := owner; g.changed_why := p_message;
        g.due_at := CASE WHEN (SELECT s.kind FROM states s WHERE s.name = p_next_state) = 'working' THEN t + p_look_again END;
      WHEN 'wait', 'turn' THEN
        IF p_outcome = 'turn' THEN
          g.clock_started_at := t;
        END IF;
        g.waiting_for := p_message; g.last_error := NULL; g.last_error_at := NULL;
        g.next_try_at := t + p_wait; g.due_at := t + p_wait + p_look_again;
      WHEN 'backoff', 'pause' THEN
        g.waiting_for := NULL; g.last_error := p_message; g.last_error_at := t; g.unblock := p_unblock;
        g.next_try_at := t + p_wait; g.due_at := t + p_wait + p_look_again;
      WHEN 'park' THEN
        g.generation := g.generation + 1;
        g.waiting_for := NULL; g.last_error := p_message; g.last_error_at := t;
        g.fault := p_message; g.unblock := p_unblock; g.next_try_at := NULL; g.due_at := NULL;
        g.changed_by := owner; g.changed_why := NULL;
      WHEN 'release' THEN
        g.due_at := t;
      ELSE
        RAISE EXCEPTION 'no such outcome: %', p_outcome USING ERRCODE = 'invalid_parameter_value';
    END CASE;
  END IF;
  UPDATE gatewayds SET
    state = g.state, generation = g.generation, since = g.since, clock_started_at = g.clock_started_at,
    public_address = g.public_address, private_address = g.private_address, instance_id = g.instance_id,
    ripple_address = g.ripple_address, release_in_place = g.release_in_place, commit_in_place = g.commit_in_place,
    host_key_fingerprint = g.host_key_fingerprint, tls_fingerprint = g.tls_fingerprint,
    attempts = g.attempts, next_try_at = g.next_try_at, waiting_for = g.waiting_for,
    last_error = g.last_error, last_error_at = g.last_error_at, fault = g.fault, unblock = g.unblock,
    changed_by = g.changed_by, changed_why = g.changed_why, due_at = g.due_at,
    lease_token = NULL, lease_owner = NULL, lease_taken_at = NULL, lease_until = NULL
    WHERE gatewayds.id = p_id;
  RETURN QUERY SELECT v, g.state, g.generation, g.traceparent, g.hold IS NOT NULL;
END
$$;

-- Nothing waits for ever: rows past their state's deadline that no worker has in hand. p_deadlines maps a
-- state to seconds. Returns the generation that parking made: it belongs into the entry in `failed`.
CREATE FUNCTION park_overdue(p_deadlines jsonb, p_by text)
RETURNS TABLE (id bigint, state text, generation bigint, fault text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
#variable_conflict use_column
DECLARE
  halted boolean := fleet_is_halted();
BEGIN
  RETURN QUERY
  WITH overdue AS (
    SELECT g.id, (p_deadlines ->> g.state)::double precision AS deadline FROM gatewayds g
    WHERE g.due_at IS NOT NULL AND g.fault IS NULL AND g.hold IS NULL
      AND (NOT halted OR works_while_halted(g.state))
      AND (g.lease_until IS NULL OR g.lease_until <= clock_timestamp())
      AND g.clock_started_at + make_interval(secs => (p_deadlines ->> g.state)::double precision) < clock_timestamp()
    FOR UPDATE SKIP LOCKED LIMIT 500
  )
  UPDATE gatewayds g SET
    fault = format('state "%s" was not left within its deadline of %s s: %s', g.state, overdue.deadline,
      coalesce('it waited for ' || g.waiting_for, 'the last error was: ' || g.last_error,
               CASE WHEN g.attempts > 0 THEN format('its step was begun %s times and never ended', g.attempts) END,
               format('no worker took its step; see that a dispatcher, Redis and a worker for the queue %s (%s) run', s.step, s.worker))),
    unblock = format('Mend the cause, see that the service %s runs, then retry.', s.worker),
    generation = g.generation + 1, due_at = NULL, next_try_at = NULL, changed_by = p_by, changed_why = NULL,
    lease_token = NULL, lease_owner = NULL, lease_taken_at = NULL, lease_until = NULL
  FROM overdue, states s WHERE g.id = overdue.id AND s.name = g.state
  RETURNING g.id, g.state, g.generation, g.fault;
END
$$;

-- Launch attempts, wallets and keys, each fenced by the row's lease like everything else.
-- 'full': p_at_once launches of the fleet are under way, and none was stored. Only rows that somebody may act on count: so
-- each of them has its deadline, parked ones hold nobody up, and a turn comes in time. A row that has an attempt never asks.
CREATE FUNCTION open_launch_attempt(p_id bigint, p_token uuid, p_generation bigint, p_attempt uuid, p_client_token text,
                                    p_request jsonb, p_sealed_user_data bytea, p_host_key text, p_send_for interval,
                                    p_at_once bigint)
RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET lock_timeout = '1s' AS $$
DECLARE
  verdict text := lock_leased(p_id, p_token, p_generation);
BEGIN
  IF verdict <> 'held' THEN
    RETURN verdict;
  END IF;
  -- Once without the lock: while the fleet launches all that it may, those who ask in vain do not queue up here.
  IF launches_under_way() < p_at_once THEN
    -- Guards against two that count at once and both take the last place. Held to the end of this short transaction.
    BEGIN
      PERFORM pg_advisory_xact_lock(hashtext('gatewayzen: launches under way'));
    EXCEPTION WHEN lock_not_available THEN
      -- Many ask at once: the row's turn comes, and it is no failure of the row.
      RETURN 'full';
    END;
    IF launches_under_way() < p_at_once THEN
      INSERT INTO launch_attempts (id, gatewayd_id, client_token, request, sealed_user_data, host_key, send_until)
        VALUES (p_attempt, p_id, p_client_token, p_request, p_sealed_user_data, p_host_key, clock_timestamp() + p_send_for);
      RETURN verdict;
    END IF;
  END IF;
  RETURN 'full';
END
$$;

CREATE FUNCTION launches_under_way() RETURNS bigint
LANGUAGE sql VOLATILE SET search_path = pg_catalog, public, pg_temp AS $$
  SELECT count(*) FROM launch_attempts a JOIN gatewayds g ON g.id = a.gatewayd_id
  WHERE a.ended_at IS NULL AND a.running_at IS NULL
    AND g.state = 'instance' AND g.fault IS NULL AND g.hold IS NULL
$$;

CREATE FUNCTION resolve_launch_attempt(p_id bigint, p_token uuid, p_generation bigint, p_attempt uuid, p_instance_id text)
RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET lock_timeout = '1s' AS $$
DECLARE
  verdict text := lock_leased(p_id, p_token, p_generation);
BEGIN
  IF verdict = 'held' THEN
    UPDATE launch_attempts SET instance_id = p_instance_id, instance_known_at = clock_timestamp()
      WHERE launch_attempts.id = p_attempt AND gatewayd_id = p_id AND ended_at IS NULL
        AND (instance_id IS NULL OR instance_id = p_instance_id);
    IF NOT FOUND THEN
      RAISE EXCEPTION 'launch attempt % is ended, or has another instance than %', p_attempt, p_instance_id;
    END IF;
    UPDATE gatewayds SET instance_id = p_instance_id WHERE gatewayds.id = p_id;
  END IF;
  RETURN verdict;
END
$$;

CREATE FUNCTION end_launch_attempt(p_id bigint, p_token uuid, p_generation bigint, p_attempt uuid, p_why text)
RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET lock_timeout = '1s' AS $$
DECLARE
  verdict text := lock_leased(p_id, p_token, p_generation);
BEGIN
  IF verdict = 'held' THEN
    UPDATE launch_attempts SET ended_at = clock_timestamp(), ended_why = p_why
      WHERE launch_attempts.id = p_attempt AND gatewayd_id = p_id AND ended_at IS NULL;
    UPDATE gatewayds SET instance_id = NULL, public_address = NULL, private_address = NULL,
      host_key_fingerprint = NULL, tls_fingerprint = NULL, release_in_place = NULL, commit_in_place = NULL
      WHERE gatewayds.id = p_id;
  END IF;
  RETURN verdict;
END
$$;

CREATE FUNCTION keep_api_key(p_id bigint, p_token uuid, p_generation bigint, p_sealed bytea) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET lock_timeout = '1s' AS $$
DECLARE
  verdict text := lock_leased(p_id, p_token, p_generation);
BEGIN
  IF verdict = 'held' THEN
    INSERT INTO api_keys (gatewayd_id, sealed) VALUES (p_id, p_sealed)
      ON CONFLICT (gatewayd_id) DO UPDATE SET sealed = excluded.sealed, read_at = clock_timestamp();
  END IF;
  RETURN verdict;
END
$$;

-- One wallet for one gatewayd, for ever: the first one kept is the one; a second is not kept.
CREATE FUNCTION keep_wallet(p_id bigint, p_token uuid, p_generation bigint, p_address text, p_key_type text, p_sealed bytea)
RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET lock_timeout = '1s' AS $$
DECLARE
  verdict text := lock_leased(p_id, p_token, p_generation);
BEGIN
  IF verdict = 'held' AND NOT EXISTS (SELECT FROM wallets WHERE gatewayd_id = p_id) THEN
    -- Guards against the power cut after the answer: whatever this session was set to, the wallet is on disk
    -- before anybody hears its address. Holds to the end of the transaction, its commit included.
    PERFORM set_config('synchronous_commit', 'on', true);
    INSERT INTO wallets (gatewayd_id, address, key_type) VALUES (p_id, p_address, p_key_type);
    INSERT INTO wallet_seeds (gatewayd_id, version, sealed) VALUES (p_id, 1, p_sealed);
    UPDATE gatewayds SET ripple_address = p_address WHERE gatewayds.id = p_id;
  END IF;
  RETURN verdict;
END
$$;

-- Every role may see which migrations there are, so that every service can tell whether it fits. The table is
-- there before the first migration where sqlx applies them.
DO $$
BEGIN
  IF to_regclass('public._sqlx_migrations') IS NOT NULL THEN
    GRANT SELECT ON _sqlx_migrations TO gatewayzen_app, gatewayzen_service, gatewayzen_operator;
  END IF;
END
$$;

DO $$
DECLARE
  f regprocedure;
BEGIN
  -- A migrator who is no superuser must be a member of the role to which it gives the functions.
  IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
    EXECUTE format('GRANT gatewayzen_engine TO %I', current_user);
  END IF;
  GRANT CREATE ON SCHEMA public TO gatewayzen_engine;
  FOR f IN SELECT p.oid::regprocedure FROM pg_proc p
    WHERE p.pronamespace = 'public'::regnamespace AND p.prosecdef AND p.proname IN (
      'claim_due', 'take_lease', 'renew_lease', 'record_facts', 'finish_step', 'park_overdue', 'open_launch_attempt',
      'resolve_launch_attempt', 'end_launch_attempt', 'keep_api_key', 'keep_wallet')
  LOOP
    EXECUTE format('ALTER FUNCTION %s OWNER TO gatewayzen_engine', f);
    EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', f);
    EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO gatewayzen_service', f);
  END LOOP;
  REVOKE CREATE ON SCHEMA public FROM gatewayzen_engine;
END
$$;
