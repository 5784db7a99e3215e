-- The sweep: what EC2 has beside what the rows say. Asked for here by an operator or a dispatcher, done by an
-- instance-worker, which alone has rights on EC2. It ends only what no row can ever claim again, and only in the
-- database in which the fleet is at home.

-- Where the fleet's database is at home. A restore into another database, a copy or a failover changes at least one of the
-- three. A disk that was put back, or a dump that was restored over this very database, does not: those are told by machines
-- of which the database has never heard.
CREATE FUNCTION fleet_home() RETURNS text LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  timeline text := 'unknown';
BEGIN
  BEGIN
    -- Not pg_control_checkpoint(), which lags behind a failover by one checkpoint.
    timeline := ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int;
  EXCEPTION WHEN feature_not_supported OR object_not_in_prerequisite_state THEN
    -- Where the storage is not Postgres's own (Aurora), there is no log of its own to ask.
  END;
  RETURN format('cluster %s, timeline %s, database %s', (SELECT system_identifier FROM pg_control_system()), timeline,
    (SELECT oid FROM pg_database WHERE datname = current_database()));
END
$$;
ALTER TABLE fleet ADD COLUMN home text;
UPDATE fleet SET home = fleet_home();
ALTER TABLE fleet ALTER COLUMN home SET NOT NULL;
GRANT UPDATE (home) ON fleet TO gatewayzen_engine;

-- Somebody's word that this database is the fleet's from here on.
CREATE TABLE restores (
  id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at        timestamptz NOT NULL DEFAULT clock_timestamp(),
  by        text NOT NULL,
  why       text NOT NULL CONSTRAINT restores_why CHECK (length(why) BETWEEN 1 AND 500),
  from_home text NOT NULL,
  to_home   text NOT NULL
);
CREATE FUNCTION refuse_restores_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'what was declared stays: the table "restores" is only added to (% refused)', lower(TG_OP)
    USING ERRCODE = 'check_violation', CONSTRAINT = 'restores_stay';
END
$$;
CREATE TRIGGER restores_stay BEFORE UPDATE OR DELETE OR TRUNCATE ON restores
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_restores_change();

CREATE TABLE sweeps (
  id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  asked_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
  asked_by    text NOT NULL,
  why         text CONSTRAINT sweeps_why CHECK (length(why) <= 500),
  -- False: a dry run, of which nothing remains but its report.
  act         boolean NOT NULL,
  -- How many machines this one may end; null: what the settings say.
  most        int CONSTRAINT sweeps_most CHECK (most >= 0),
  -- How often it was begun: more than once where a sweeper died.
  begun       int NOT NULL DEFAULT 0,
  lease_token uuid,
  lease_owner text,
  lease_until timestamptz,
  began_at    timestamptz,
  ended_at    timestamptz,
  report      jsonb,
  error       text,
  CHECK (ended_at IS NULL OR lease_token IS NULL)
);
CREATE INDEX sweeps_open ON sweeps (id) WHERE ended_at IS NULL;
CREATE INDEX sweeps_acting ON sweeps (asked_at) WHERE act;
-- One sweep at a time.
CREATE UNIQUE INDEX one_sweep_in_hand ON sweeps ((true)) WHERE lease_token IS NOT NULL;

-- Machines that no row claims: marked by one sweep, ended by a later one. A machine that was ended stays here.
CREATE TABLE orphans (
  instance_id   text PRIMARY KEY,
  -- From its tags: what it was launched for.
  gatewayd_id   bigint,
  attempt       text,
  why           text NOT NULL,
  first_seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  last_seen_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
  marked_by     bigint NOT NULL REFERENCES sweeps (id),
  -- Written before EC2 is asked for its end.
  ended_at      timestamptz,
  ended_by      bigint REFERENCES sweeps (id)
);

-- Machines of rows that EC2 does not show, although it should. They count as gone only when a later sweep misses them too.
CREATE TABLE missed_machines (
  instance_id     text PRIMARY KEY,
  gatewayd_id     bigint NOT NULL,
  first_missed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  marked_by       bigint NOT NULL REFERENCES sweeps (id)
);

CREATE INDEX launch_attempts_by_instance ON launch_attempts (instance_id) WHERE instance_id IS NOT NULL;
CREATE INDEX gatewayds_by_instance ON gatewayds (instance_id) WHERE instance_id IS NOT NULL;

GRANT SELECT ON sweeps, orphans, missed_machines, restores TO gatewayzen_operator;
GRANT SELECT, INSERT, UPDATE ON sweeps TO gatewayzen_engine;
GRANT SELECT, INSERT, UPDATE, DELETE ON orphans, missed_machines TO gatewayzen_engine;
GRANT SELECT, INSERT ON restores TO gatewayzen_engine;

-- Why no sweep may act, in a sentence that says what to do; null where one may. Every refusal of the whole fleet stands here.
-- p_unknown: machines with the fleet's tag of whose launch this database knows nothing.
CREATE FUNCTION may_act(p_unknown text[]) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
  home text := (SELECT f.home FROM fleet f);
  halted text := (SELECT h.why FROM fleet_halts h WHERE h.resumed_at IS NULL);
BEGIN
  IF halted IS NOT NULL THEN
    RETURN format('the fleet is halted (%s): mend the cause, then `gatewayzen resume --fleet --why ...`', halted);
  END IF;
  IF home <> fleet_home() THEN
    RETURN format('this database is not where the fleet was at home: that was %s, and this is %s. It was restored, copied or '
      'failed over, and may not know of every machine. See that nothing works with the other one any more, look through '
      '`gatewayzen sweep`, then declare it: `gatewayzen restored --why ...`', home, fleet_home());
  END IF;
  -- An attempt is stored before EC2 hears of it. So where there is none, the database is older than the machine.
  IF cardinality(p_unknown) > 0 THEN
    RETURN format('%s with this fleet''s tag, but this database knows nothing of %s launch: %s%s. Either the database was put '
      'back to an older state: look through `gatewayzen sweep`, then declare it: `gatewayzen restored --why ...`. Or somebody '
      'launched by hand with our tags: end that machine, or take the tag gatewayzen:fleet from it',
      CASE cardinality(p_unknown) WHEN 1 THEN 'there is a machine' ELSE format('there are %s machines', cardinality(p_unknown)) END,
      CASE cardinality(p_unknown) WHEN 1 THEN 'its' ELSE 'their' END,
      array_to_string(p_unknown[1:5], ', '),
      CASE WHEN cardinality(p_unknown) > 5 THEN format(' and %s more', cardinality(p_unknown) - 5) ELSE '' END);
  END IF;
  RETURN NULL;
END
$$;

-- Operators' doors.

CREATE FUNCTION ask_sweep(p_act boolean, p_most int, p_why text) RETURNS bigint
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
  INSERT INTO sweeps (act, most, why, asked_by) VALUES (p_act, p_most, p_why, session_user) RETURNING id
$$;

-- For who does not wait any longer: a sweep that nobody has begun is not done by surprise later. False: it was begun.
CREATE FUNCTION withdraw_sweep(p_sweep bigint) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
  UPDATE sweeps SET ended_at = clock_timestamp(), error = format('withdrawn by %s before it began', session_user)
    WHERE id = p_sweep AND begun = 0 AND ended_at IS NULL;
  RETURN FOUND;
END
$$;

-- The fleet is at home here from now on. Machines launched until now of which this database knows nothing are orphans
-- henceforth; every mark of before is void. Fails after a while where somebody's open transaction has a row; then nothing has
-- changed.
CREATE FUNCTION declare_restored(p_why text) RETURNS TABLE (from_home text, to_home text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
  before text := (SELECT f.home FROM fleet f FOR UPDATE);
BEGIN
  INSERT INTO restores (by, why, from_home, to_home) VALUES (session_user, p_why, before, fleet_home());
  UPDATE fleet SET home = fleet_home();
  DELETE FROM orphans;
  DELETE FROM missed_machines;
  -- Hosts have heard leases of which this database knows nothing, and refuse every lower number. By id, so that this and
  -- another statement over many rows rather wait for each other than deadlock.
  WITH every_row AS (SELECT g.id FROM gatewayds g ORDER BY g.id FOR UPDATE)
  UPDATE gatewayds g SET lease_number = g.lease_number + 1000000000 FROM every_row e WHERE g.id = e.id;
  RETURN QUERY SELECT before, fleet_home();
END
$$;

-- The services' doors.

-- Asks for an acting sweep where none is open and the last one is old enough. Any number of dispatchers may call it.
CREATE FUNCTION ask_sweep_on_period(p_every interval, p_by text) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
  asked bigint;
BEGIN
  -- A statement of its own: what the next one reads must be later than the end of whoever had the lock.
  IF NOT pg_try_advisory_xact_lock(hashtext('gatewayzen sweeps')) THEN
    RETURN NULL;
  END IF;
  IF NOT EXISTS (SELECT FROM sweeps WHERE ended_at IS NULL)
     AND NOT EXISTS (SELECT FROM sweeps WHERE act AND asked_at > clock_timestamp() - p_every) THEN
    INSERT INTO sweeps (act, asked_by) VALUES (true, p_by) RETURNING id INTO asked;
  END IF;
  RETURN asked;
END
$$;

-- An open sweep for this worker, first of all one whose sweeper died. Nothing where none is open or one is in hand.
CREATE FUNCTION claim_sweep(p_owner text, p_lease interval) RETURNS TABLE (id bigint, token uuid, act boolean, most int)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
#variable_conflict use_column
DECLARE
  t timestamptz := clock_timestamp();
BEGIN
  IF NOT EXISTS (SELECT FROM sweeps WHERE ended_at IS NULL)
     OR NOT pg_try_advisory_xact_lock(hashtext('gatewayzen sweeps')) THEN
    RETURN;
  END IF;
  UPDATE sweeps SET ended_at = t, error = 'no instance-worker took it within 5 minutes: none runs, or another sweep took that long'
    WHERE ended_at IS NULL AND begun = 0 AND asked_at < t - interval '5 minutes';
  -- Guards against the sweep that kills its worker: it must not take one after the other.
  UPDATE sweeps SET ended_at = t, lease_token = NULL, lease_until = NULL,
      error = format('it was begun %s times and never ended: its workers may be crashing (last one: %s)', begun, lease_owner)
    WHERE ended_at IS NULL AND begun >= 3 AND lease_until <= t;
  IF EXISTS (SELECT FROM sweeps WHERE ended_at IS NULL AND lease_until > t) THEN
    RETURN;
  END IF;
  RETURN QUERY
    UPDATE sweeps s SET begun = s.begun + 1, began_at = coalesce(s.began_at, t),
      lease_token = gen_random_uuid(), lease_owner = p_owner, lease_until = t + p_lease
    WHERE s.id = (SELECT o.id FROM sweeps o WHERE o.ended_at IS NULL ORDER BY o.lease_token IS NULL, o.id LIMIT 1
                  FOR UPDATE SKIP LOCKED)
    RETURNING s.id, s.lease_token, s.act, s.most;
END
$$;

-- Locks a sweep that is this worker's; an error where it is not any more.
CREATE FUNCTION lock_sweep(p_sweep bigint, p_token uuid) RETURNS sweeps
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
  s sweeps;
BEGIN
  SELECT * INTO s FROM sweeps WHERE id = p_sweep AND lease_token = p_token AND lease_until > clock_timestamp() FOR UPDATE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'sweep % is not this worker''s any more', p_sweep USING ERRCODE = 'object_not_in_prerequisite_state';
  END IF;
  RETURN s;
END
$$;

CREATE FUNCTION renew_sweep(p_sweep bigint, p_token uuid, p_lease interval) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET lock_timeout = '1s' AS $$
BEGIN
  PERFORM lock_sweep(p_sweep, p_token);
  UPDATE sweeps SET lease_until = clock_timestamp() + p_lease WHERE id = p_sweep;
END
$$;

CREATE FUNCTION finish_sweep(p_sweep bigint, p_token uuid, p_report jsonb, p_error text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET lock_timeout = '1s' AS $$
BEGIN
  PERFORM lock_sweep(p_sweep, p_token);
  UPDATE sweeps SET ended_at = clock_timestamp(), report = p_report, error = p_error, lease_token = NULL, lease_until = NULL
    WHERE id = p_sweep;
END
$$;

-- What a machine that carries the fleet's tag is to this database. p_machine: instance_id, launched_at, and from its tags
-- gatewayd_id, attempt, client_token. Verdicts:
--   claimed  a row's own, or a launch's that is not resolved yet
--   unknown  this database knows nothing of its launch, which no declared restore explains
--   held     its row is on hold
--   busy     a worker has its row in hand, in `instance` or `terminate`
--   orphan   nobody's, and nobody's for ever: an ended attempt stays ended, one with an instance never gets another,
--            and one that is not stored never will be
CREATE FUNCTION judge_machine(p_machine jsonb) RETURNS TABLE (verdict text, why text, gatewayd_id bigint, name text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
#variable_conflict use_column
DECLARE
  instance text := p_machine ->> 'instance_id';
  -- Tags are anybody's text.
  attempt uuid := CASE WHEN p_machine ->> 'attempt' ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
                       THEN (p_machine ->> 'attempt')::uuid END;
  tagged bigint := CASE WHEN p_machine ->> 'gatewayd_id' ~ '^[0-9]{1,18}$' THEN (p_machine ->> 'gatewayd_id')::bigint END;
  -- EC2 tells launches in whole seconds.
  declared timestamptz := (SELECT date_trunc('second', max(r.at)) FROM restores r);
  ended_why text;
  owners bigint[];
  known boolean;
  claimed boolean;
  held boolean;
  busy boolean;
  g gatewayds;
BEGIN
  SELECT count(*) > 0,
         coalesce(bool_or(l.ended_at IS NULL AND (l.instance_id IS NULL OR l.instance_id = instance)), false),
         max(l.ended_why), coalesce(tagged, max(l.gatewayd_id)), array_agg(DISTINCT l.gatewayd_id)
    INTO known, claimed, ended_why, tagged, owners
    FROM launch_attempts l
    WHERE l.instance_id = instance OR l.id = attempt OR l.client_token = p_machine ->> 'client_token';
  SELECT claimed OR coalesce(bool_or(r.instance_id = instance AND r.state <> 'terminated'), false),
         coalesce(bool_or(r.hold IS NOT NULL), false),
         coalesce(bool_or(r.state IN ('instance', 'terminate') AND r.lease_until > clock_timestamp()), false)
    INTO claimed, held, busy
    FROM gatewayds r
    WHERE r.instance_id = instance OR r.id = ANY (array_append(owners, tagged));
  SELECT * INTO g FROM gatewayds r WHERE r.id = tagged;
  IF claimed THEN
    RETURN QUERY SELECT 'claimed', NULL::text, g.id, g.name;
  ELSIF NOT known AND (declared IS NULL OR (p_machine ->> 'launched_at')::timestamptz >= declared) IS NOT FALSE THEN
    RETURN QUERY SELECT 'unknown', 'this database knows nothing of its launch', g.id, g.name;
  ELSIF held THEN
    RETURN QUERY SELECT 'held', format('gatewayd "%s" is on hold', coalesce(g.name, tagged::text)), g.id, g.name;
  ELSIF busy THEN
    RETURN QUERY SELECT 'busy', format('a worker has gatewayd "%s" in hand', coalesce(g.name, tagged::text)), g.id, g.name;
  ELSE
    RETURN QUERY SELECT 'orphan', CASE
      WHEN NOT known THEN format('this database knows nothing of its launch, and was declared restored at %s',
                                 to_char(declared AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"'))
      WHEN g.id IS NULL THEN format('there is no gatewayd of the id %s', coalesce(tagged::text, 'in its tag'))
      WHEN g.state = 'terminated' THEN format('gatewayd "%s" is terminated', g.name)
      WHEN g.instance_id IS NOT NULL THEN format('the machine of gatewayd "%s" is %s', g.name, g.instance_id)
      WHEN ended_why IS NOT NULL THEN format('its launch for gatewayd "%s" was given up: %s', g.name, ended_why)
      ELSE format('gatewayd "%s" does not know it', g.name)
    END, g.id, g.name;
  END IF;
END
$$;

-- Compares the machines that EC2 shows with the rows, and, for a sweep that acts and may, keeps the marks. p_seen: every
-- machine that lives, as judge_machine wants it. To be called after EC2 was asked: what is launched later is not in p_seen,
-- and what was launched before is stored. Returns {"refusal": …, "machines": [{instance_id, gatewayd_id, name, verdict, why,
-- marked_at, marked_before}]}; marked_before: by an earlier sweep.
CREATE FUNCTION compare_machines(p_sweep bigint, p_token uuid, p_seen jsonb) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET lock_timeout = '1s' AS $$
DECLARE
  s sweeps := lock_sweep(p_sweep, p_token);
  judged jsonb;
  refusal text;
BEGIN
  SELECT coalesce(jsonb_agg(jsonb_build_object('instance_id', m ->> 'instance_id', 'gatewayd_id', j.gatewayd_id, 'name', j.name,
      'verdict', j.verdict, 'why', j.why, 'attempt', m ->> 'attempt')), '[]')
    INTO judged FROM jsonb_array_elements(p_seen) m, judge_machine(m) j;
  refusal := may_act(ARRAY(SELECT j ->> 'instance_id' FROM jsonb_array_elements(judged) j WHERE j ->> 'verdict' = 'unknown'));
  IF s.act AND refusal IS NULL THEN
    DELETE FROM orphans o USING jsonb_array_elements(judged) j
      WHERE o.instance_id = j ->> 'instance_id' AND j ->> 'verdict' = 'claimed' AND o.ended_at IS NULL;
    INSERT INTO orphans (instance_id, gatewayd_id, attempt, why, marked_by)
      SELECT j ->> 'instance_id', (j ->> 'gatewayd_id')::bigint, j ->> 'attempt', j ->> 'why', p_sweep
      FROM jsonb_array_elements(judged) j WHERE j ->> 'verdict' = 'orphan'
      ON CONFLICT (instance_id) DO UPDATE SET last_seen_at = clock_timestamp(), why = excluded.why;
  END IF;
  RETURN jsonb_build_object('refusal', refusal, 'machines', (
    SELECT coalesce(jsonb_agg(j || jsonb_build_object('marked_at', o.first_seen_at, 'marked_before', coalesce(o.marked_by <> p_sweep, false),
      'marked_for', extract(epoch FROM clock_timestamp() - o.first_seen_at))), '[]')
    FROM jsonb_array_elements(judged) j LEFT JOIN orphans o ON o.instance_id = j ->> 'instance_id'));
END
$$;

-- The last look before a machine is ended: null where EC2 may be asked now, else why not. What it allows is written down
-- first. Guards against whatever changed since compare_machines: a claim, a hold, a restore, another sweeper.
CREATE FUNCTION end_orphan(p_sweep bigint, p_token uuid, p_machine jsonb, p_grace interval, p_most int) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET lock_timeout = '1s' AS $$
DECLARE
  s sweeps := lock_sweep(p_sweep, p_token);
  instance text := p_machine ->> 'instance_id';
  o orphans;
  j record;
  refusal text := may_act('{}');
BEGIN
  IF NOT s.act THEN
    RETURN 'this sweep is a dry run';
  END IF;
  IF refusal IS NOT NULL THEN
    RETURN refusal;
  END IF;
  SELECT * INTO o FROM orphans WHERE instance_id = instance FOR UPDATE;
  IF o.instance_id IS NULL OR o.marked_by = p_sweep OR o.first_seen_at + p_grace > clock_timestamp() THEN
    RETURN 'it was not marked by an earlier sweep, long enough ago';
  END IF;
  -- Nobody launches, ends, holds or moves its row meanwhile.
  PERFORM FROM gatewayds g WHERE g.id = (SELECT gatewayd_id FROM judge_machine(p_machine)) FOR UPDATE;
  SELECT * INTO j FROM judge_machine(p_machine);
  IF j.verdict <> 'orphan' THEN
    RETURN coalesce(j.why, 'a row claims it now');
  END IF;
  IF (SELECT count(*) FROM orphans WHERE ended_by = p_sweep AND instance_id <> instance) >= p_most THEN
    RETURN format('this sweep may end %s machines and has', p_most);
  END IF;
  UPDATE orphans SET ended_at = clock_timestamp(), ended_by = p_sweep WHERE instance_id = instance;
  RETURN NULL;
END
$$;

-- Rows that should have a machine, in nobody's hand, whose machine is none of p_living.
CREATE FUNCTION rows_without_machine(p_sweep bigint, p_token uuid, p_living text[])
RETURNS TABLE (id bigint, name text, state text, generation bigint, instance_id text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET lock_timeout = '1s' AS $$
#variable_conflict use_column
BEGIN
  PERFORM lock_sweep(p_sweep, p_token);
  RETURN QUERY SELECT g.id, g.name, g.state, g.generation, g.instance_id FROM gatewayds g
    WHERE may_be_parked(g) AND NOT g.instance_id = ANY (p_living) ORDER BY g.id;
END
$$;

CREATE FUNCTION may_be_parked(g gatewayds) RETURNS boolean
LANGUAGE sql VOLATILE SET search_path = pg_catalog, public, pg_temp AS $$
  SELECT g.state IN ('key', 'start', 'wallet', 'live', 'stop', 'stopped', 'update') AND g.instance_id IS NOT NULL
     AND g.hold IS NULL AND g.fault IS NULL AND (g.lease_until IS NULL OR g.lease_until <= clock_timestamp())
$$;

-- Machines of rows that EC2 does not show at all. Marks them for a sweep that acts, and forgets those that are shown again.
-- since: when they were first missed; before: by an earlier sweep.
CREATE FUNCTION miss_machines(p_sweep bigint, p_token uuid, p_rows bigint[], p_instances text[])
RETURNS TABLE (instance_id text, since timestamptz, before boolean, missed_for double precision)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET lock_timeout = '1s' AS $$
#variable_conflict use_column
DECLARE
  s sweeps := lock_sweep(p_sweep, p_token);
BEGIN
  IF s.act AND may_act('{}') IS NULL THEN
    DELETE FROM missed_machines m WHERE NOT m.instance_id = ANY (p_instances);
    INSERT INTO missed_machines (instance_id, gatewayd_id, marked_by)
      SELECT i, r, p_sweep FROM unnest(p_instances, p_rows) AS absent (i, r)
      ON CONFLICT DO NOTHING;
  END IF;
  RETURN QUERY SELECT m.instance_id, m.first_missed_at, m.marked_by <> p_sweep,
      extract(epoch FROM clock_timestamp() - m.first_missed_at)::double precision
    FROM missed_machines m WHERE m.instance_id = ANY (p_instances);
END
$$;

-- Parks a row whose machine is gone. p_window: null where EC2 shows it as ended; else it must have been missed by an earlier
-- sweep, at least so long ago. Returns the generation that parking made; null: the row is not as it
-- was, or may not be touched.
CREATE FUNCTION park_gone(p_sweep bigint, p_token uuid, p_id bigint, p_generation bigint, p_instance text, p_fault text,
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
  RETURN g.generation + 1;
END
$$;

DO $$
DECLARE
  f regprocedure;
  operators text[] := ARRAY['ask_sweep', 'withdraw_sweep', 'declare_restored'];
  services text[] := ARRAY['ask_sweep_on_period', 'claim_sweep', 'renew_sweep', 'finish_sweep', 'compare_machines', 'end_orphan',
                           'rows_without_machine', 'miss_machines', 'park_gone'];
BEGIN
  GRANT CREATE ON SCHEMA public TO gatewayzen_engine;
  FOR f IN SELECT p.oid::regprocedure FROM pg_proc p
    WHERE p.pronamespace = 'public'::regnamespace AND p.prosecdef AND p.proname = ANY (operators || services)
  LOOP
    EXECUTE format('ALTER FUNCTION %s OWNER TO gatewayzen_engine', f);
    EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', f);
    EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %I', f,
      CASE WHEN (SELECT p.proname = ANY (operators) FROM pg_proc p WHERE p.oid = f) THEN 'gatewayzen_operator' ELSE 'gatewayzen_service' END);
  END LOOP;
  REVOKE CREATE ON SCHEMA public FROM gatewayzen_engine;
END
$$;
