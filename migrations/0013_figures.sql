-- What a dispatcher tells of the whole fleet as metrics, in one look. Counts and ages only: no name, no address, no secret.
-- It reads every row of `gatewayds` once, so it is asked once a period and not once a scrape.
CREATE FUNCTION fleet_figures() RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
  t timestamptz := clock_timestamp();
  halted boolean := fleet_is_halted();
  rotated timestamptz;
BEGIN
  -- Rotations of the fleet's SSH key are of another migration, which may come later.
  IF to_regclass('public.ssh_key_runs') IS NOT NULL THEN
    EXECUTE 'SELECT max(ended_at) FROM ssh_key_runs WHERE act = ''rotate'' AND report IS NOT NULL' INTO rotated;
  END IF;
  RETURN jsonb_build_object(
    'halted', halted,
    'states', (
      SELECT jsonb_object_agg(s.name, jsonb_build_object(
          'rows', coalesce(c.number, 0), 'parked', coalesce(c.parked, 0), 'held', coalesce(c.held, 0),
          'oldest', c.oldest, 'waiting', c.waiting))
      FROM states s LEFT JOIN (
        SELECT g.state, count(*) AS number,
          count(*) FILTER (WHERE g.fault IS NOT NULL) AS parked,
          count(*) FILTER (WHERE g.hold IS NOT NULL) AS held,
          -- Of those that go on by themselves: how long the longest has been in its state.
          extract(epoch FROM t - min(g.since) FILTER (WHERE g.fault IS NULL AND g.hold IS NULL)) AS oldest,
          -- Of those that a worker could take now: how long the longest has been waiting for one.
          extract(epoch FROM t - min(greatest(g.clock_started_at, g.next_try_at)) FILTER (
            WHERE g.due_at IS NOT NULL AND g.fault IS NULL AND g.hold IS NULL AND (g.lease_until IS NULL OR g.lease_until <= t)
              AND (g.next_try_at IS NULL OR g.next_try_at <= t) AND (NOT halted OR works_while_halted(g.state)))) AS waiting
        FROM gatewayds g GROUP BY g.state) c ON c.state = s.name),
    'orphans', (SELECT count(*) FROM orphans WHERE ended_at IS NULL),
    'orphans_ended', (SELECT count(*) FROM orphans WHERE ended_at IS NOT NULL),
    'missed', (SELECT count(*) FROM missed_machines),
    -- The last one that ended and acted; null where there is none.
    'sweep', (
      SELECT jsonb_build_object(
          'ended', extract(epoch FROM w.ended_at), 'failed', w.error IS NOT NULL, 'refused', w.report ->> 'refusal' IS NOT NULL,
          'machines', coalesce((w.report ->> 'machines')::bigint, 0),
          'unknown', coalesce(jsonb_array_length(w.report -> 'unknown'), 0),
          'gone', coalesce(jsonb_array_length(w.report -> 'gone'), 0))
      FROM sweeps w WHERE w.ended_at IS NOT NULL AND w.act ORDER BY w.id DESC LIMIT 1),
    -- The host key of a machine is made at its launch, and its certificate by the step after that.
    'oldest_identity', (
      SELECT extract(epoch FROM t - min(l.running_at)) FROM launch_attempts l WHERE l.ended_at IS NULL),
    -- As old as the fleet, unless it was rotated.
    'ssh_key', (SELECT extract(epoch FROM t - coalesce(rotated, f.created_at)) FROM fleet f));
END
$$;

DO $$
BEGIN
  GRANT CREATE ON SCHEMA public TO gatewayzen_engine;
  ALTER FUNCTION fleet_figures OWNER TO gatewayzen_engine;
  REVOKE CREATE ON SCHEMA public FROM gatewayzen_engine;
END
$$;
REVOKE ALL ON FUNCTION fleet_figures FROM PUBLIC;
GRANT EXECUTE ON FUNCTION fleet_figures TO gatewayzen_service;
