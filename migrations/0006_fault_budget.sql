-- The fault budget: when too much of the fleet turns faulty at once, the cause is hardly in the rows, and trying on with the
-- others would only break them too. Then the whole fleet is halted until an operator says that it may go on.

-- One row for each halt; nothing here is ever deleted. At most one is in force.
CREATE TABLE fleet_halts (
  id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  halted_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
  halted_by   text NOT NULL,
  why         text NOT NULL CONSTRAINT halt_has_a_reason CHECK (length(why) BETWEEN 1 AND 500),
  -- All three null while it is in force.
  resumed_at  timestamptz,
  resumed_by  text,
  resumed_why text CONSTRAINT resume_has_a_reason CHECK (length(resumed_why) BETWEEN 1 AND 500),
  CHECK ((resumed_at IS NULL) = (resumed_by IS NULL) AND (resumed_at IS NULL) = (resumed_why IS NULL))
);
CREATE UNIQUE INDEX one_halt_at_a_time ON fleet_halts ((true)) WHERE resumed_at IS NULL;
CREATE TRIGGER guard_truncate BEFORE TRUNCATE ON fleet_halts FOR EACH STATEMENT EXECUTE FUNCTION refuse_truncate();
GRANT SELECT ON fleet_halts TO gatewayzen_app, gatewayzen_service, gatewayzen_operator, gatewayzen_engine;
GRANT INSERT, UPDATE ON fleet_halts TO gatewayzen_engine;

-- What the budget counts, found without reading the rest of the history.
CREATE INDEX gatewayd_history_faults ON gatewayd_history (at) WHERE event = 'faulted';

-- Whether automatic actions must stop: new steps, parking by deadline, sweeps.
CREATE FUNCTION fleet_is_halted() RETURNS boolean LANGUAGE sql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
  SELECT EXISTS (SELECT FROM fleet_halts WHERE resumed_at IS NULL)
$$;

-- The states whose steps are taken all the same: they only end things, and an operator who stops a fleet wants them.
CREATE FUNCTION works_while_halted(p_state text) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
  SELECT p_state IN ('stop', 'terminate')
$$;

-- Halts the fleet where more than p_share of its rows, and at least p_least of them, were parked within p_window and since
-- the last resume. Each row counts once, however often it was parked. Returns the halt that is in force, if one is.
-- The dispatchers call it once a period: mostly it reads the few newest faults and no row of the fleet.
CREATE FUNCTION check_fault_budget(p_share double precision, p_least bigint, p_window interval, p_by text)
RETURNS SETOF fleet_halts
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET lock_timeout = '1s' AS $$
DECLARE
  counted_from timestamptz;
  parked bigint;
  fleet_rows bigint;
  states text;
BEGIN
  IF p_share < 1 AND NOT fleet_is_halted() THEN
    SELECT greatest(clock_timestamp() - p_window, max(resumed_at)) INTO counted_from FROM fleet_halts;
    -- A row that was ended since is of no concern any more, and does not count in the fleet either.
    SELECT count(DISTINCT g.id) INTO parked
      FROM gatewayd_history h JOIN gatewayds g ON g.id = h.gatewayd_id
      WHERE h.event = 'faulted' AND h.at > counted_from AND g.state NOT IN ('new', 'terminated');
    IF parked >= p_least THEN
      SELECT count(*) INTO fleet_rows FROM gatewayds g WHERE g.state NOT IN ('new', 'terminated');
      IF parked > p_share * fleet_rows THEN
        SELECT string_agg(format('%s in "%s"', s.number, s.state), ', ' ORDER BY s.number DESC, s.state) INTO states FROM (
          SELECT h.to_state AS state, count(DISTINCT h.gatewayd_id) AS number
            FROM gatewayd_history h JOIN gatewayds g ON g.id = h.gatewayd_id
            WHERE h.event = 'faulted' AND h.at > counted_from AND g.state NOT IN ('new', 'terminated') GROUP BY h.to_state) s;
        INSERT INTO fleet_halts (halted_by, why) VALUES (p_by, format(
            '%s of %s gatewayds got a fault within %s s (%s): more than the share of %s that fault_budget.share allows',
            parked, fleet_rows, round(extract(epoch FROM p_window)), states, p_share))
          ON CONFLICT DO NOTHING;
      END IF;
    END IF;
  END IF;
  RETURN QUERY SELECT * FROM fleet_halts WHERE resumed_at IS NULL;
END
$$;

-- An operator's own halt. False: the fleet was halted already, and that halt stays as it is.
CREATE FUNCTION halt_fleet(p_why text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
  INSERT INTO fleet_halts (halted_by, why) VALUES (session_user, p_why) ON CONFLICT DO NOTHING;
  RETURN FOUND;
END
$$;

-- Ends the halt: the rows that waited are due, and the time of the halt does not count in their deadlines. False: the fleet
-- was not halted. Fails after a while where somebody's open transaction has one of these rows; then nothing has changed.
CREATE FUNCTION resume_fleet(p_why text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
  halt fleet_halts;
  t timestamptz := clock_timestamp();
BEGIN
  UPDATE fleet_halts SET resumed_at = t, resumed_by = session_user, resumed_why = p_why WHERE resumed_at IS NULL
    RETURNING * INTO halt;
  IF halt.id IS NULL THEN
    RETURN false;
  END IF;
  -- By id, so that this and another statement over many rows rather wait for each other than deadlock.
  WITH waited AS (
    SELECT g.id FROM gatewayds g WHERE g.due_at IS NOT NULL AND NOT works_while_halted(g.state) ORDER BY g.id FOR UPDATE
  )
  UPDATE gatewayds g SET
    -- The time on hold is added by the end of the hold. Where a hold ended during the halt some of it counts twice, which
    -- lengthens a deadline once and never shortens one.
    clock_started_at = least(t, g.clock_started_at + greatest(interval '0',
      coalesce(g.held_since, t) - greatest(halt.halted_at, g.clock_started_at))),
    due_at = CASE WHEN g.lease_until > t THEN g.due_at ELSE coalesce(g.next_try_at, t) END
  FROM waited WHERE g.id = waited.id;
  PERFORM pg_notify('gatewayzen_due', '');
  RETURN true;
END
$$;

DO $$
BEGIN
  GRANT CREATE ON SCHEMA public TO gatewayzen_engine;
  ALTER FUNCTION check_fault_budget OWNER TO gatewayzen_engine;
  ALTER FUNCTION halt_fleet OWNER TO gatewayzen_engine;
  ALTER FUNCTION resume_fleet OWNER TO gatewayzen_engine;
  REVOKE CREATE ON SCHEMA public FROM gatewayzen_engine;
END
$$;
REVOKE ALL ON FUNCTION check_fault_budget, halt_fleet, resume_fleet FROM PUBLIC;
GRANT EXECUTE ON FUNCTION check_fault_budget TO gatewayzen_service;
GRANT EXECUTE ON FUNCTION halt_fleet, resume_fleet TO gatewayzen_operator;
