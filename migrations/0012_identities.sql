-- How a machine is known to us, and which of the fleet's SSH keys it lets in.

-- The host key of the launch stands in user data, which can be read on the machine for ever. The step `key` replaces it by
-- one that was made there. Accepted are host_key and pending_host_key, and nothing else; where an operator expects
-- a fingerprint, that alone.
ALTER TABLE launch_attempts
  -- Made on the host, and stored here before it is installed there.
  ADD COLUMN pending_host_key text,
  -- An operator's word (reset_identity), until a key with this fingerprint was met, and pinned.
  ADD COLUMN expected_host_key text CONSTRAINT expected_host_key_is_a_fingerprint CHECK (expected_host_key ~ '^SHA256:[A-Za-z0-9+/]{43}$'),
  -- When host_key was no more that of the launch.
  ADD COLUMN host_key_replaced_at timestamptz,
  -- When the private half of the launch's key was erased, on the host and here.
  ADD COLUMN launch_key_erased_at timestamptz,
  ALTER COLUMN sealed_user_data DROP NOT NULL,
  -- A replay sends exactly what was stored. Once the instance is known nothing is replayed.
  ADD CONSTRAINT a_replay_has_its_user_data
    CHECK (sealed_user_data IS NOT NULL OR instance_id IS NOT NULL OR ended_at IS NOT NULL);

-- An ended attempt is never sent again, so nobody needs its secrets any more.
CREATE FUNCTION forget_user_data() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
  NEW.sealed_user_data := NULL;
  NEW.pending_host_key := NULL;
  NEW.expected_host_key := NULL;
  RETURN NEW;
END
$$;
CREATE TRIGGER forget_user_data BEFORE UPDATE OF ended_at ON launch_attempts FOR EACH ROW
  WHEN (NEW.ended_at IS NOT NULL) EXECUTE FUNCTION forget_user_data();

-- SHA-256 of a public key in OpenSSH's format, as OpenSSH prints it. Null: it is not such a key.
CREATE FUNCTION ssh_fingerprint(p_key text) RETURNS text LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp AS $$
  SELECT 'SHA256:' || rtrim(encode(sha256(decode((regexp_match(p_key, '^[a-z0-9@.-]+ ([A-Za-z0-9+/]+=*)( .*)?$'))[1], 'base64')),
                                   'base64'), '=')
$$;

-- Which of the fleet's SSH keys a machine was seen to let in, each by a login of its own.
CREATE TABLE ssh_logins (
  attempt_id uuid NOT NULL REFERENCES launch_attempts (id),
  -- The key's fingerprint.
  key        text NOT NULL CHECK (key ~ '^SHA256:[A-Za-z0-9+/]{43}$'),
  -- False: it was taken out there, and a login with it was refused.
  let_in     boolean NOT NULL,
  seen_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (attempt_id, key)
);

-- Rotations of the fleet's SSH key over all hosts. An operator asks; an ssh-worker does it, one at a time, under a lease.
CREATE TABLE ssh_key_runs (
  id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  -- rotate: every host lets the new key in as well. retire: none lets the old one in any more.
  act         text NOT NULL CHECK (act IN ('rotate', 'retire')),
  asked_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
  asked_by    text NOT NULL DEFAULT session_user,
  -- How often it was begun: more than once where a worker died.
  begun       int NOT NULL DEFAULT 0,
  lease_token uuid,
  lease_owner text,
  lease_until timestamptz,
  began_at    timestamptz,
  -- Fingerprints of the two keys, as the worker that does it has them.
  old_key     text,
  new_key     text,
  ended_at    timestamptz,
  report      jsonb,
  error       text,
  CHECK (ended_at IS NULL OR lease_token IS NULL)
);
CREATE INDEX ssh_key_runs_open ON ssh_key_runs (id) WHERE ended_at IS NULL;
CREATE UNIQUE INDEX one_ssh_key_run_in_hand ON ssh_key_runs ((true)) WHERE lease_token IS NOT NULL;

GRANT SELECT ON ssh_logins, ssh_key_runs TO gatewayzen_ssh_worker, gatewayzen_operator;
GRANT SELECT, INSERT, UPDATE, DELETE ON ssh_logins TO gatewayzen_engine;
GRANT SELECT, INSERT, UPDATE ON ssh_key_runs TO gatewayzen_engine;
GRANT SELECT (pending_host_key, expected_host_key, host_key_replaced_at, launch_key_erased_at)
  ON launch_attempts TO gatewayzen_operator;
GRANT SELECT (id, gatewayd_id, host_key, instance_id, ended_at, pending_host_key, expected_host_key, host_key_replaced_at,
              launch_key_erased_at) ON launch_attempts TO gatewayzen_ssh_worker;

-- The ssh-worker's doors. Each is fenced by the row's lease; 'superseded' also where an operator's reset came between.

CREATE FUNCTION keep_pending_host_key(p_id bigint, p_token uuid, p_generation bigint, p_key text) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET lock_timeout = '1s' AS $$
DECLARE
  verdict text := lock_leased(p_id, p_token, p_generation);
BEGIN
  IF verdict = 'held' THEN
    UPDATE launch_attempts SET pending_host_key = p_key
      WHERE gatewayd_id = p_id AND ended_at IS NULL AND expected_host_key IS NULL AND ssh_fingerprint(p_key) IS NOT NULL;
    verdict := CASE WHEN FOUND THEN verdict ELSE 'superseded' END;
  END IF;
  RETURN verdict;
END
$$;

-- From here on the former key is accepted no more.
CREATE FUNCTION promote_host_key(p_id bigint, p_token uuid, p_generation bigint, p_key text) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET lock_timeout = '1s' AS $$
DECLARE
  verdict text := lock_leased(p_id, p_token, p_generation);
BEGIN
  IF verdict = 'held' THEN
    UPDATE launch_attempts SET host_key = p_key, pending_host_key = NULL, host_key_replaced_at = clock_timestamp()
      WHERE gatewayd_id = p_id AND ended_at IS NULL AND expected_host_key IS NULL AND pending_host_key = p_key;
    IF NOT FOUND THEN
      RETURN 'superseded';
    END IF;
    UPDATE gatewayds SET host_key_fingerprint = ssh_fingerprint(p_key) WHERE id = p_id;
  END IF;
  RETURN verdict;
END
$$;

-- The host has erased the launch's key; so does this database. Only what may have to be replayed stays.
CREATE FUNCTION forget_launch_key(p_id bigint, p_token uuid, p_generation bigint) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET lock_timeout = '1s' AS $$
DECLARE
  verdict text := lock_leased(p_id, p_token, p_generation);
BEGIN
  IF verdict = 'held' THEN
    UPDATE launch_attempts SET launch_key_erased_at = clock_timestamp(),
        sealed_user_data = CASE WHEN instance_id IS NULL THEN sealed_user_data END
      WHERE gatewayd_id = p_id AND ended_at IS NULL AND host_key_replaced_at IS NOT NULL;
    verdict := CASE WHEN FOUND THEN verdict ELSE 'superseded' END;
  END IF;
  RETURN verdict;
END
$$;

-- A key with the fingerprint that an operator expects was met: it is the one from here on.
CREATE FUNCTION pin_host_key(p_id bigint, p_token uuid, p_generation bigint, p_key text) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET lock_timeout = '1s' AS $$
DECLARE
  verdict text := lock_leased(p_id, p_token, p_generation);
BEGIN
  IF verdict = 'held' THEN
    UPDATE launch_attempts SET host_key = p_key, expected_host_key = NULL,
        host_key_replaced_at = CASE WHEN host_key = p_key THEN host_key_replaced_at
                                    ELSE coalesce(host_key_replaced_at, clock_timestamp()) END
      WHERE gatewayd_id = p_id AND ended_at IS NULL AND expected_host_key = ssh_fingerprint(p_key);
    verdict := CASE WHEN FOUND THEN verdict ELSE 'superseded' END;
  END IF;
  RETURN verdict;
END
$$;

CREATE FUNCTION record_ssh_login(p_id bigint, p_token uuid, p_generation bigint, p_key text, p_let_in boolean) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET lock_timeout = '1s' AS $$
DECLARE
  verdict text := lock_leased(p_id, p_token, p_generation);
BEGIN
  IF verdict = 'held' THEN
    INSERT INTO ssh_logins (attempt_id, key, let_in)
      SELECT l.id, p_key, p_let_in FROM launch_attempts l WHERE l.gatewayd_id = p_id AND l.ended_at IS NULL
      ON CONFLICT (attempt_id, key) DO UPDATE SET let_in = excluded.let_in, seen_at = clock_timestamp();
  END IF;
  RETURN verdict;
END
$$;

-- A rotation works on a host under the lease of its row, as a step does: so no step acts there meanwhile, no other worker's
-- command is mixed in, and the host refuses a rotator of the past by the lease's number. The row's state, attempts, fault and
-- deadline stay as they are. Verdicts: taken, busy, held, being_built, no_machine.
CREATE FUNCTION lease_for_ssh_key(p_run bigint, p_token uuid, p_id bigint, p_lease interval)
RETURNS TABLE (verdict text, generation bigint, lease_token uuid, lease_number bigint)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET lock_timeout = '1s' AS $$
#variable_conflict use_column
DECLARE
  s ssh_key_runs := lock_ssh_key_run(p_run, p_token);
  g gatewayds;
  t timestamptz;
BEGIN
  SELECT * INTO g FROM gatewayds WHERE id = p_id FOR UPDATE;
  t := clock_timestamp();
  verdict := CASE
    WHEN g.id IS NULL OR g.instance_id IS NULL OR g.state IN ('new', 'terminate', 'terminated') THEN 'no_machine'
    WHEN g.hold IS NOT NULL THEN 'held'
    WHEN g.state = 'instance' THEN 'being_built'
    WHEN g.lease_until > t THEN 'busy'
    ELSE 'taken' END;
  IF verdict <> 'taken' THEN
    RETURN QUERY SELECT verdict, NULL::bigint, NULL::uuid, NULL::bigint;
    RETURN;
  END IF;
  RETURN QUERY UPDATE gatewayds g SET
      lease_number = g.lease_number + 1, lease_token = gen_random_uuid(),
      lease_owner = format('ssh-key run %s, %s', p_run, s.lease_owner), lease_taken_at = t, lease_until = t + p_lease,
      due_at = CASE WHEN g.due_at IS NOT NULL THEN t + p_lease END
    WHERE g.id = p_id
    RETURNING verdict, g.generation, g.lease_token, g.lease_number;
END
$$;

-- Gives a row back after that: whatever waited for it goes on.
CREATE FUNCTION release_from_ssh_key(p_id bigint, p_token uuid) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET lock_timeout = '1s' AS $$
  UPDATE gatewayds SET lease_token = NULL, lease_owner = NULL, lease_taken_at = NULL, lease_until = NULL,
      due_at = CASE WHEN due_at IS NOT NULL THEN greatest(clock_timestamp(), next_try_at) END
    WHERE id = p_id AND lease_token = p_token
$$;

-- The hosts that must still be seen to let a key in before another may be retired: all that there are, but those that end.
CREATE FUNCTION hosts_without_ssh_key(p_key text) RETURNS TABLE (name text)
LANGUAGE sql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
  SELECT g.name FROM gatewayds g JOIN launch_attempts l ON l.gatewayd_id = g.id AND l.ended_at IS NULL
  WHERE g.state <> 'terminate'
    AND NOT EXISTS (SELECT FROM ssh_logins s WHERE s.attempt_id = l.id AND s.key = p_key AND s.let_in)
  ORDER BY g.name
$$;

-- Why no key may be retired, in a sentence; null where it may.
CREATE FUNCTION may_retire_ssh_key() RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
  brought text := (SELECT r.new_key FROM ssh_key_runs r WHERE r.act = 'rotate' AND r.report IS NOT NULL ORDER BY r.id DESC LIMIT 1);
  missing text[];
BEGIN
  IF brought IS NULL THEN
    RETURN 'no rotation has ended that brought a new key: run `gatewayzen ssh-key rotate --reason ...` first';
  END IF;
  missing := ARRAY(SELECT h.name FROM hosts_without_ssh_key(brought) h);
  IF cardinality(missing) > 0 THEN
    RETURN format('the old SSH key cannot be retired yet: %s not been seen to let the new one (%s) in: %s%s. Mend what keeps them (or '
      'terminate them), then run `gatewayzen ssh-key rotate --reason ...` again',
      CASE cardinality(missing) WHEN 1 THEN 'one host has' ELSE format('%s hosts have', cardinality(missing)) END, brought,
      array_to_string(missing[1:10], ', '),
      CASE WHEN cardinality(missing) > 10 THEN format(' and %s more', cardinality(missing) - 10) ELSE '' END);
  END IF;
  RETURN NULL;
END
$$;

-- Runs, as the sweeps of migration 7: claimed, renewed and finished under a lease.

CREATE FUNCTION lock_ssh_key_run(p_run bigint, p_token uuid) RETURNS ssh_key_runs
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
  s ssh_key_runs;
BEGIN
  SELECT * INTO s FROM ssh_key_runs WHERE id = p_run AND lease_token = p_token AND lease_until > clock_timestamp() FOR UPDATE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'run % of the SSH key is not this worker''s any more', p_run USING ERRCODE = 'object_not_in_prerequisite_state';
  END IF;
  RETURN s;
END
$$;

CREATE FUNCTION claim_ssh_key_run(p_owner text, p_lease interval) RETURNS TABLE (id bigint, token uuid, act text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET lock_timeout = '1s' AS $$
#variable_conflict use_column
DECLARE
  t timestamptz := clock_timestamp();
  taken bigint;
BEGIN
  IF NOT EXISTS (SELECT FROM ssh_key_runs WHERE ended_at IS NULL)
     OR NOT pg_try_advisory_xact_lock(hashtext('gatewayzen ssh key runs')) THEN
    RETURN;
  END IF;
  UPDATE ssh_key_runs SET ended_at = t, error = 'no ssh-worker took it within 5 minutes: none runs, or another run took that long'
    WHERE ended_at IS NULL AND begun = 0 AND asked_at < t - interval '5 minutes';
  -- Guards against the run that kills its worker: it must not take one after the other.
  UPDATE ssh_key_runs SET ended_at = t, lease_token = NULL, lease_until = NULL,
      error = format('it was begun %s times and never ended: its workers may be crashing (last one: %s)', begun, lease_owner)
    WHERE ended_at IS NULL AND begun >= 20 AND lease_until <= t;
  IF EXISTS (SELECT FROM ssh_key_runs WHERE ended_at IS NULL AND lease_until > t) THEN
    RETURN;
  END IF;
  SELECT o.id INTO taken FROM ssh_key_runs o WHERE o.ended_at IS NULL ORDER BY o.lease_token IS NULL, o.id LIMIT 1
    FOR UPDATE SKIP LOCKED;
  -- The rows that a dead worker of this run left leased need not wait for the end of those leases: whoever takes one next has
  -- a higher number, and by that the host refuses the former worker, should it only have been frozen.
  UPDATE gatewayds SET lease_until = t, due_at = CASE WHEN due_at IS NOT NULL THEN greatest(t, next_try_at) END
    WHERE lease_until > t AND lease_owner LIKE format('ssh-key run %s, %%', taken);
  RETURN QUERY
    UPDATE ssh_key_runs s SET begun = s.begun + 1, began_at = coalesce(s.began_at, t),
      lease_token = gen_random_uuid(), lease_owner = p_owner, lease_until = t + p_lease
    WHERE s.id = taken RETURNING s.id, s.lease_token, s.act;
END
$$;

-- Says with which keys a run is done. Returns why it must not be done, or null.
CREATE FUNCTION begin_ssh_key_run(p_run bigint, p_token uuid, p_old text, p_new text) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
  s ssh_key_runs := lock_ssh_key_run(p_run, p_token);
  brought text := (SELECT r.new_key FROM ssh_key_runs r WHERE r.act = 'rotate' AND r.report IS NOT NULL ORDER BY r.id DESC LIMIT 1);
  halted text := (SELECT h.why FROM fleet_halts h WHERE h.resumed_at IS NULL);
BEGIN
  IF halted IS NOT NULL THEN
    RETURN format('the fleet is halted (%s): mend the cause, then `gatewayzen resume --fleet --why ...`', halted);
  END IF;
  IF s.act = 'retire' AND may_retire_ssh_key() IS NOT NULL THEN
    RETURN may_retire_ssh_key();
  END IF;
  IF s.act = 'retire' AND brought IS DISTINCT FROM p_new THEN
    RETURN format('the last rotation brought the key %s, but ssh.next_key_file of this ssh-worker holds %s: give every ssh-worker the '
      'same two files', brought, p_new);
  END IF;
  UPDATE ssh_key_runs SET old_key = p_old, new_key = p_new WHERE id = p_run;
  RETURN NULL;
END
$$;

CREATE FUNCTION renew_ssh_key_run(p_run bigint, p_token uuid, p_lease interval) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET lock_timeout = '1s' AS $$
BEGIN
  PERFORM lock_ssh_key_run(p_run, p_token);
  UPDATE ssh_key_runs SET lease_until = clock_timestamp() + p_lease WHERE id = p_run;
END
$$;

CREATE FUNCTION finish_ssh_key_run(p_run bigint, p_token uuid, p_report jsonb, p_error text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET lock_timeout = '1s' AS $$
BEGIN
  PERFORM lock_ssh_key_run(p_run, p_token);
  UPDATE ssh_key_runs SET ended_at = clock_timestamp(), report = p_report, error = p_error, lease_token = NULL, lease_until = NULL
    WHERE id = p_run;
END
$$;

-- Operators' doors. Each writes to the audit what it does.

CREATE FUNCTION ask_ssh_key_run(p_act text, p_person text, p_reason text) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
  refusal text := CASE p_act WHEN 'retire' THEN may_retire_ssh_key() END;
  asked bigint;
BEGIN
  IF refusal IS NOT NULL THEN
    RAISE EXCEPTION '%', refusal USING ERRCODE = 'check_violation', CONSTRAINT = 'may_retire_ssh_key';
  END IF;
  INSERT INTO ssh_key_runs (act) VALUES (p_act) RETURNING id INTO asked;
  INSERT INTO audit (person, action, reason, details)
    VALUES (p_person, p_act || '-ssh-key', p_reason, jsonb_build_object('run', asked));
  RETURN asked;
END
$$;

-- For who does not wait any longer: a run that nobody has begun is not done by surprise later. False: it was begun.
CREATE FUNCTION withdraw_ssh_key_run(p_run bigint) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
  UPDATE ssh_key_runs SET ended_at = clock_timestamp(), error = format('withdrawn by %s before it began', session_user)
    WHERE id = p_run AND begun = 0 AND ended_at IS NULL;
  RETURN FOUND;
END
$$;

-- What a machine is known by from here on: the fingerprint of an SSH host key or of a TLS certificate, told apart by its form,
-- that an operator read somewhere else. Nothing is trusted that is met first: only what has this fingerprint is accepted.
CREATE FUNCTION reset_identity(p_name text, p_fingerprint text, p_person text, p_reason text)
RETURNS TABLE (kind text, former text, expected text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
  g gatewayds;
  certificate text := lower(replace(p_fingerprint, ':', ''));
  attempt uuid;
BEGIN
  IF p_fingerprint ~ '^SHA256:[A-Za-z0-9+/]{43}$' THEN
    kind := 'ssh';
  ELSIF certificate ~ '^[0-9a-f]{64}$' THEN
    kind := 'tls';
  ELSE
    RAISE EXCEPTION '"%" is no fingerprint: that of an SSH host key looks like SHA256: and 43 letters, that of a certificate is 64 '
      'hexadecimal digits, with or without colons', p_fingerprint
      USING ERRCODE = 'check_violation', CONSTRAINT = 'is_a_fingerprint';
  END IF;
  SELECT * INTO g FROM gatewayds WHERE name = p_name FOR UPDATE;
  SELECT l.id INTO attempt FROM launch_attempts l WHERE l.gatewayd_id = g.id AND l.ended_at IS NULL;
  IF g.id IS NULL THEN
    RAISE EXCEPTION 'there is no gatewayd "%"', p_name USING ERRCODE = 'check_violation', CONSTRAINT = 'has_a_machine';
  ELSIF g.instance_id IS NULL OR attempt IS NULL THEN
    RAISE EXCEPTION 'gatewayd "%" is in state "%" and has no machine whose identity could be reset', p_name, g.state
      USING ERRCODE = 'check_violation', CONSTRAINT = 'has_a_machine';
  ELSIF g.state = 'instance' OR (g.state = 'key' AND kind = 'tls') THEN
    RAISE EXCEPTION 'gatewayd "%" is in state "%": its step there makes that identity, and nothing is known that could be reset',
      p_name, g.state USING ERRCODE = 'check_violation', CONSTRAINT = 'has_an_identity';
  END IF;
  IF kind = 'ssh' THEN
    former := g.host_key_fingerprint;
    expected := p_fingerprint;
    UPDATE launch_attempts SET expected_host_key = p_fingerprint, pending_host_key = NULL WHERE id = attempt;
    UPDATE gatewayds SET host_key_fingerprint = p_fingerprint WHERE id = g.id;
    -- Whatever answers with that key has not been logged in to yet.
    DELETE FROM ssh_logins WHERE attempt_id = attempt;
  ELSE
    former := g.tls_fingerprint;
    expected := certificate;
    UPDATE gatewayds SET tls_fingerprint = certificate WHERE id = g.id;
  END IF;
  INSERT INTO audit (person, action, gatewayd_id, reason, details)
    VALUES (p_person, 'reset-' || kind || '-identity', g.id, p_reason,
            jsonb_build_object('former', former, 'expected', expected, 'instance', g.instance_id));
  RETURN NEXT;
END
$$;

DO $$
DECLARE
  f record;
  operators text[] := ARRAY['ask_ssh_key_run', 'withdraw_ssh_key_run', 'reset_identity'];
  workers text[] := ARRAY['keep_pending_host_key', 'promote_host_key', 'forget_launch_key', 'pin_host_key', 'record_ssh_login',
    'lease_for_ssh_key', 'release_from_ssh_key', 'claim_ssh_key_run', 'begin_ssh_key_run', 'renew_ssh_key_run', 'finish_ssh_key_run'];
BEGIN
  GRANT CREATE ON SCHEMA public TO gatewayzen_engine;
  FOR f IN SELECT p.oid::regprocedure AS signature, p.proname AS name FROM pg_proc p
    WHERE p.pronamespace = 'public'::regnamespace AND p.prosecdef AND p.proname = ANY (operators || workers)
  LOOP
    EXECUTE format('ALTER FUNCTION %s OWNER TO gatewayzen_engine', f.signature);
    EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', f.signature);
    EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %I', f.signature,
      CASE WHEN f.name = ANY (operators) THEN 'gatewayzen_operator' ELSE 'gatewayzen_ssh_worker' END);
  END LOOP;
  REVOKE CREATE ON SCHEMA public FROM gatewayzen_engine;
END
$$;
