-- One row is one gatewayd. An external application writes the first block of columns and reads the rest.
CREATE TABLE gatewayds (
  id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  -- A DNS label: safe as a tag, in a shell, in a path and in a log line.
  name          text NOT NULL UNIQUE
                CONSTRAINT name_is_a_dns_label CHECK (name ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
  state         text NOT NULL DEFAULT 'new' REFERENCES states (name),
  release       text CONSTRAINT release_is_a_git_tag CHECK (release ~ '^[A-Za-z0-9][A-Za-z0-9._+-]{0,99}$'),
  ami           text CONSTRAINT ami_is_an_image_id CHECK (ami ~ '^ami-[0-9a-f]{8,17}$'),
  instance_type text CONSTRAINT instance_type_is_one_of_ec2s
                CHECK (instance_type ~ '^[a-z0-9-]{1,30}[.][a-z0-9-]{1,30}$'),
  owner_id      text CONSTRAINT owner_id_is_plain CHECK (owner_id ~ '^[A-Za-z0-9][A-Za-z0-9._:@-]{0,199}$'),
  -- Why the writer moves the row; kept in the history.
  changed_why   text CHECK (length(changed_why) <= 500),
  -- W3C trace context of the walk: made at each external move unless the writer gives its own.
  traceparent   text CONSTRAINT traceparent_is_w3c
                CHECK (traceparent ~ '^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$'),
  -- A reason for which nothing new may be done to this row; operators write it.
  hold          text CHECK (length(hold) BETWEEN 1 AND 500),

  -- Written by GatewayZen only.
  generation    bigint NOT NULL DEFAULT 1,
  since         timestamptz NOT NULL DEFAULT now(),
  public_address       text,
  private_address      text,
  instance_id          text,
  ripple_address       text,
  release_in_place     text,
  commit_in_place      text,
  host_key_fingerprint text,
  tls_fingerprint      text,
  attempts      int NOT NULL DEFAULT 0,
  next_try_at   timestamptz,
  waiting_for   text,
  last_error    text,
  last_error_at timestamptz,
  fault         text,
  unblock       text,
  changed_by    text,
  held_since    timestamptz,
  -- The state's deadline counts from here: from `since`, or from the last retry, less the time on hold.
  clock_started_at timestamptz NOT NULL DEFAULT now(),
  -- Counts the leases ever taken: a host that has heard a higher number refuses whoever comes with a lower one.
  lease_number  bigint NOT NULL DEFAULT 0,
  lease_token   uuid,
  lease_owner   text,
  lease_taken_at timestamptz,
  lease_until   timestamptz,
  -- When the dispatcher looks at the row again; null where there is no step to take.
  due_at        timestamptz,
  created_at    timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX gatewayds_due ON gatewayds (due_at) WHERE due_at IS NOT NULL AND fault IS NULL AND hold IS NULL;
CREATE INDEX gatewayds_by_state ON gatewayds (state);
CREATE INDEX gatewayds_by_owner ON gatewayds (owner_id) WHERE owner_id IS NOT NULL;

CREATE TABLE gatewayd_history (
  id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  gatewayd_id bigint NOT NULL REFERENCES gatewayds (id) ON DELETE CASCADE,
  at          timestamptz NOT NULL DEFAULT clock_timestamp(),
  event       text NOT NULL CHECK (event IN ('created', 'moved', 'faulted', 'retried', 'held', 'resumed')),
  from_state  text REFERENCES states (name),
  to_state    text NOT NULL REFERENCES states (name),
  generation  bigint NOT NULL,
  by          text NOT NULL,
  why         text
);
CREATE INDEX gatewayd_history_of ON gatewayd_history (gatewayd_id, id);

-- What a plain write may do. Every plain write is judged as external, whoever makes it; only the functions
-- of migration 5 run as gatewayzen_engine.
-- Times are the clock's and not the transaction's start: a deadline must not run while somebody's transaction is open.
CREATE FUNCTION gatewayds_guard_insert() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
  NEW.state := coalesce(NEW.state, 'new');
  IF NEW.state NOT IN ('new', 'instance') THEN
    RAISE EXCEPTION 'gatewayd "%" cannot be created in state "%": create it in "new" (the default) or in "instance"',
      NEW.name, NEW.state USING ERRCODE = 'check_violation', CONSTRAINT = 'legal_move';
  END IF;
  NEW.changed_by := session_user;
  NEW.generation := 1;
  NEW.since := clock_timestamp();
  NEW.clock_started_at := clock_timestamp();
  NEW.created_at := clock_timestamp();
  NEW.held_since := CASE WHEN NEW.hold IS NOT NULL THEN clock_timestamp() END;
  NEW.public_address := NULL;   NEW.private_address := NULL;  NEW.instance_id := NULL;
  NEW.ripple_address := NULL;   NEW.release_in_place := NULL; NEW.commit_in_place := NULL;
  NEW.host_key_fingerprint := NULL; NEW.tls_fingerprint := NULL;
  NEW.attempts := 0;            NEW.next_try_at := NULL;      NEW.waiting_for := NULL;
  NEW.last_error := NULL;       NEW.last_error_at := NULL;    NEW.fault := NULL; NEW.unblock := NULL;
  NEW.lease_number := 0;
  NEW.lease_token := NULL;      NEW.lease_owner := NULL;      NEW.lease_taken_at := NULL; NEW.lease_until := NULL;
  IF NEW.state = 'instance' THEN
    NEW.traceparent := coalesce(NEW.traceparent, new_traceparent());
    NEW.due_at := clock_timestamp();
  ELSE
    NEW.due_at := NULL;
  END IF;
  RETURN NEW;
END
$$;

CREATE FUNCTION new_traceparent() RETURNS text LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
  SELECT '00-' || replace(gen_random_uuid()::text, '-', '') || '-'
      || left(replace(gen_random_uuid()::text, '-', ''), 16) || '-01'
$$;

CREATE FUNCTION gatewayds_guard_update() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
  by_engine boolean := current_user = 'gatewayzen_engine';
  legal text;
BEGIN
  IF NEW.id <> OLD.id OR NEW.name <> OLD.name THEN
    RAISE EXCEPTION 'the id and the name of gatewayd "%" never change', OLD.name
      USING ERRCODE = 'check_violation', CONSTRAINT = 'identity_never_changes',
            HINT = 'Create another gatewayd under the new name and terminate this one.';
  END IF;

  IF NEW.state IS DISTINCT FROM OLD.state AND NOT EXISTS (
    SELECT FROM transitions t
    WHERE t.from_state = OLD.state AND t.to_state = NEW.state
      AND t.made_by = CASE WHEN by_engine THEN 'worker' ELSE 'external' END
  ) THEN
    SELECT string_agg('"' || t.to_state || '"', ', ' ORDER BY s.place) INTO legal
      FROM transitions t JOIN states s ON s.name = t.to_state
      WHERE t.from_state = OLD.state AND t.made_by = 'external';
    RAISE EXCEPTION 'gatewayd "%" is in state "%" and cannot be moved to "%"; from "%" it may be moved to %',
      OLD.name, OLD.state, coalesce(NEW.state, 'null'), OLD.state,
      coalesce(legal, 'no other state before its step has ended')
      USING ERRCODE = 'check_violation', CONSTRAINT = 'legal_move';
  END IF;

  IF by_engine THEN
    RETURN NEW;
  END IF;

  IF (NEW.generation, NEW.since, NEW.public_address, NEW.private_address, NEW.instance_id, NEW.ripple_address,
      NEW.release_in_place, NEW.commit_in_place, NEW.host_key_fingerprint, NEW.tls_fingerprint, NEW.attempts,
      NEW.next_try_at, NEW.waiting_for, NEW.last_error, NEW.last_error_at, NEW.fault, NEW.unblock, NEW.changed_by,
      NEW.held_since, NEW.clock_started_at, NEW.lease_number, NEW.lease_token, NEW.lease_owner, NEW.lease_taken_at, NEW.lease_until,
      NEW.due_at, NEW.created_at)
     IS DISTINCT FROM
     (OLD.generation, OLD.since, OLD.public_address, OLD.private_address, OLD.instance_id, OLD.ripple_address,
      OLD.release_in_place, OLD.commit_in_place, OLD.host_key_fingerprint, OLD.tls_fingerprint, OLD.attempts,
      OLD.next_try_at, OLD.waiting_for, OLD.last_error, OLD.last_error_at, OLD.fault, OLD.unblock, OLD.changed_by,
      OLD.held_since, OLD.clock_started_at, OLD.lease_number, OLD.lease_token, OLD.lease_owner, OLD.lease_taken_at, OLD.lease_until,
      OLD.due_at, OLD.created_at) THEN
    RAISE EXCEPTION 'gatewayd "%": this write changes a column that only GatewayZen writes', OLD.name
      USING ERRCODE = 'check_violation', CONSTRAINT = 'columns_of_gatewayzen',
            HINT = 'Write state, release, ami, instance_type, owner_id, changed_why, traceparent or hold.';
  END IF;

  IF NEW.hold IS DISTINCT FROM OLD.hold THEN
    NEW.changed_by := session_user;
    IF OLD.hold IS NULL THEN
      NEW.held_since := clock_timestamp();
    ELSIF NEW.hold IS NULL THEN
      NEW.clock_started_at := least(OLD.clock_started_at + (clock_timestamp() - OLD.held_since), clock_timestamp());
      NEW.held_since := NULL;
      -- The dispatcher may have looked away for long: have it look now.
      IF NEW.due_at IS NOT NULL AND (NEW.lease_until IS NULL OR NEW.lease_until < clock_timestamp()) THEN
        NEW.due_at := coalesce(NEW.next_try_at, clock_timestamp());
      END IF;
    END IF;
  END IF;

  IF NEW.state <> OLD.state THEN
    NEW := gatewayds_begin_again(NEW);
    NEW.since := clock_timestamp();
    IF NEW.changed_why IS NOT DISTINCT FROM OLD.changed_why THEN
      NEW.changed_why := NULL;
    END IF;
    IF NEW.traceparent IS NOT DISTINCT FROM OLD.traceparent THEN
      NEW.traceparent := new_traceparent();
    END IF;
  END IF;
  RETURN NEW;
END
$$;

-- What a legal move and a retry have in common: a new generation, so that no job, lease or failure of before
-- counts, and a clean slate. The lease of a step in flight stays: the next step waits for its end.
CREATE FUNCTION gatewayds_begin_again(g gatewayds) RETURNS gatewayds LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
  g.generation := g.generation + 1;
  g.clock_started_at := clock_timestamp();
  g.attempts := 0;
  g.next_try_at := NULL;
  g.waiting_for := NULL;
  g.last_error := NULL;
  g.last_error_at := NULL;
  g.fault := NULL;
  g.unblock := NULL;
  g.changed_by := session_user;
  g.due_at := CASE WHEN (SELECT s.kind FROM states s WHERE s.name = g.state) = 'working'
                   THEN greatest(clock_timestamp(), g.lease_until) END;
  RETURN g;
END
$$;

-- A write of the state that the row has already is a retry, and only where there is something to retry: ORMs
-- write every column. It is a trigger of its own because only UPDATE OF sees that `state` was written at all.
CREATE FUNCTION gatewayds_retry() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
  IF NEW.state = OLD.state AND current_user <> 'gatewayzen_engine'
     AND (OLD.fault IS NOT NULL OR (OLD.last_error IS NOT NULL AND OLD.next_try_at > clock_timestamp())) THEN
    NEW := gatewayds_begin_again(NEW);
    IF NEW.changed_why IS NOT DISTINCT FROM OLD.changed_why THEN
      NEW.changed_why := NULL;
    END IF;
  END IF;
  RETURN NEW;
END
$$;

CREATE FUNCTION gatewayds_guard_delete() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
  -- No move leads back to "new", so a row in "new" never had a machine or a wallet.
  IF OLD.state <> 'new' THEN
    RAISE EXCEPTION 'gatewayd "%" is in state "%" and cannot be deleted: its wallet and history stay', OLD.name, OLD.state
      USING ERRCODE = 'check_violation', CONSTRAINT = 'rows_stay',
            HINT = 'To end its machine, write state = ''terminate''.';
  END IF;
  RETURN OLD;
END
$$;

CREATE FUNCTION refuse_truncate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'the table "%" cannot be truncated: it holds what machines and wallets depend on', TG_TABLE_NAME
    USING ERRCODE = 'check_violation', CONSTRAINT = 'rows_stay';
END
$$;

-- Runs as the owner, so that nobody else needs the right to write history.
CREATE FUNCTION gatewayds_record() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    INSERT INTO gatewayd_history (gatewayd_id, event, from_state, to_state, generation, by, why)
      VALUES (NEW.id, 'created', NULL, NEW.state, NEW.generation, NEW.changed_by, NEW.changed_why);
    RETURN NULL;
  END IF;
  IF NEW.state <> OLD.state THEN
    INSERT INTO gatewayd_history (gatewayd_id, event, from_state, to_state, generation, by, why)
      VALUES (NEW.id, 'moved', OLD.state, NEW.state, NEW.generation, NEW.changed_by, NEW.changed_why);
  ELSIF NEW.fault IS NOT NULL AND OLD.fault IS NULL THEN
    INSERT INTO gatewayd_history (gatewayd_id, event, from_state, to_state, generation, by, why)
      VALUES (NEW.id, 'faulted', OLD.state, NEW.state, NEW.generation, NEW.changed_by, NEW.fault);
  ELSIF NEW.generation <> OLD.generation OR (NEW.fault IS NULL AND OLD.fault IS NOT NULL) THEN
    INSERT INTO gatewayd_history (gatewayd_id, event, from_state, to_state, generation, by, why)
      VALUES (NEW.id, 'retried', OLD.state, NEW.state, NEW.generation, NEW.changed_by, NEW.changed_why);
  END IF;
  IF NEW.hold IS DISTINCT FROM OLD.hold THEN
    INSERT INTO gatewayd_history (gatewayd_id, event, from_state, to_state, generation, by, why)
      VALUES (NEW.id, CASE WHEN NEW.hold IS NULL THEN 'resumed' ELSE 'held' END, NEW.state, NEW.state,
              NEW.generation, session_user, coalesce(NEW.hold, OLD.hold));
  END IF;
  RETURN NULL;
END
$$;

-- Wakes the dispatchers, once for a statement: a NOTIFY for each row would queue up behind its global lock.
CREATE FUNCTION gatewayds_wake() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
  IF EXISTS (SELECT FROM written WHERE due_at IS NOT NULL AND fault IS NULL AND hold IS NULL) THEN
    PERFORM pg_notify('gatewayzen_due', '');
  END IF;
  RETURN NULL;
END
$$;

-- Triggers of one kind fire in the order of their names.
CREATE TRIGGER a_guard_insert BEFORE INSERT ON gatewayds FOR EACH ROW EXECUTE FUNCTION gatewayds_guard_insert();
CREATE TRIGGER a_guard_update BEFORE UPDATE ON gatewayds FOR EACH ROW EXECUTE FUNCTION gatewayds_guard_update();
CREATE TRIGGER b_retry BEFORE UPDATE OF state ON gatewayds FOR EACH ROW EXECUTE FUNCTION gatewayds_retry();
CREATE TRIGGER guard_delete BEFORE DELETE ON gatewayds FOR EACH ROW EXECUTE FUNCTION gatewayds_guard_delete();
CREATE TRIGGER guard_truncate BEFORE TRUNCATE ON gatewayds FOR EACH STATEMENT EXECUTE FUNCTION refuse_truncate();
CREATE TRIGGER record_insert AFTER INSERT ON gatewayds FOR EACH ROW EXECUTE FUNCTION gatewayds_record();
CREATE TRIGGER record_update AFTER UPDATE ON gatewayds FOR EACH ROW
  WHEN (OLD.generation <> NEW.generation OR OLD.fault IS DISTINCT FROM NEW.fault OR OLD.hold IS DISTINCT FROM NEW.hold)
  EXECUTE FUNCTION gatewayds_record();
CREATE TRIGGER wake_insert AFTER INSERT ON gatewayds REFERENCING NEW TABLE AS written
  FOR EACH STATEMENT EXECUTE FUNCTION gatewayds_wake();
CREATE TRIGGER wake_update AFTER UPDATE ON gatewayds REFERENCING NEW TABLE AS written
  FOR EACH STATEMENT WHEN (current_user <> 'gatewayzen_engine') EXECUTE FUNCTION gatewayds_wake();
CREATE TRIGGER guard_truncate BEFORE TRUNCATE ON gatewayd_history FOR EACH STATEMENT EXECUTE FUNCTION refuse_truncate();

GRANT SELECT ON gatewayds, gatewayd_history TO gatewayzen_app, gatewayzen_service, gatewayzen_operator, gatewayzen_engine;
GRANT INSERT (name, state, release, ami, instance_type, owner_id, changed_why, traceparent),
      UPDATE (state, release, ami, instance_type, owner_id, changed_why, traceparent),
      DELETE ON gatewayds TO gatewayzen_app, gatewayzen_operator;
GRANT UPDATE (hold) ON gatewayds TO gatewayzen_operator;
GRANT UPDATE ON gatewayds TO gatewayzen_engine;
