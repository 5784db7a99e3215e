-- What is done with secrets and identities stays on record; and which wallets are kept outside this database too.

-- Each worker logs in as itself: only the worker that needs a secret may read its table (migration 11).
DO $$
DECLARE
  role_name text;
BEGIN
  FOREACH role_name IN ARRAY ARRAY['gatewayzen_instance_worker', 'gatewayzen_ssh_worker', 'gatewayzen_wallet_worker'] LOOP
    BEGIN
      IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role_name) THEN
        EXECUTE format('CREATE ROLE %I LOGIN', role_name);
      END IF;
      -- What every service may do.
      EXECUTE format('GRANT gatewayzen_service TO %I', role_name);
    -- Roles are shared by every database of a cluster: the migration of another one may be making them at this very moment.
    EXCEPTION WHEN duplicate_object OR unique_violation THEN
      EXECUTE format('GRANT gatewayzen_service TO %I', role_name);
    END;
  END LOOP;
END
$$;

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'table "%" is only ever added to (% refused)', TG_TABLE_NAME, lower(TG_OP)
    USING ERRCODE = 'check_violation', CONSTRAINT = 'only_added_to';
END
$$;

-- Who did what with a secret or an identity, when and why. Written by the functions that do it, and never changed.
CREATE TABLE audit (
  id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at          timestamptz NOT NULL DEFAULT clock_timestamp(),
  -- The login of the database, which cannot be made up, and the person that the client says it acts for, which can.
  login       text NOT NULL DEFAULT session_user,
  person      text CONSTRAINT person_is_short CHECK (length(person) BETWEEN 1 AND 200),
  action      text NOT NULL CHECK (action ~ '^[a-z-]{1,40}$'),
  -- Null where it concerns the whole fleet.
  gatewayd_id bigint REFERENCES gatewayds (id),
  reason      text NOT NULL CONSTRAINT audit_has_a_reason CHECK (length(btrim(reason)) BETWEEN 1 AND 500),
  -- Never a secret: fingerprints, addresses, key ids, counts.
  details     jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX audit_of ON audit (gatewayd_id, id);
CREATE TRIGGER only_added_to BEFORE UPDATE OR DELETE OR TRUNCATE ON audit FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
GRANT SELECT ON audit TO gatewayzen_operator, gatewayzen_engine;
GRANT INSERT ON audit TO gatewayzen_engine;

-- A copy of a wallet outside this database that was read back, opened, and gave the wallet's address.
CREATE TABLE wallet_backups (
  id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  gatewayd_id bigint NOT NULL REFERENCES wallets (gatewayd_id),
  address     text NOT NULL,
  -- Where it is kept: a file's name, an URL.
  place       text NOT NULL CHECK (length(place) BETWEEN 1 AND 500),
  -- SHA-256 of the whole file, in hex.
  digest      text NOT NULL CHECK (digest ~ '^[0-9a-f]{64}$'),
  verified_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  verified_by text NOT NULL DEFAULT session_user
);
CREATE INDEX wallet_backups_of ON wallet_backups (gatewayd_id, id);
CREATE TRIGGER only_added_to BEFORE UPDATE OR DELETE OR TRUNCATE ON wallet_backups
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
GRANT SELECT ON wallet_backups TO gatewayzen_service, gatewayzen_operator, gatewayzen_engine;
GRANT INSERT ON wallet_backups TO gatewayzen_engine;

-- Keeps that such a copy was verified. False: this is not the wallet of that gatewayd, and nothing is kept.
CREATE FUNCTION record_wallet_backup(p_gatewayd_id bigint, p_address text, p_place text, p_digest text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
  INSERT INTO wallet_backups (gatewayd_id, address, place, digest)
    SELECT w.gatewayd_id, w.address, p_place, p_digest FROM wallets w
    WHERE w.gatewayd_id = p_gatewayd_id AND w.address = p_address;
  RETURN FOUND;
END
$$;

DO $$
BEGIN
  GRANT CREATE ON SCHEMA public TO gatewayzen_engine;
  ALTER FUNCTION record_wallet_backup OWNER TO gatewayzen_engine;
  REVOKE CREATE ON SCHEMA public FROM gatewayzen_engine;
END
$$;
REVOKE ALL ON FUNCTION record_wallet_backup FROM PUBLIC;
GRANT EXECUTE ON FUNCTION record_wallet_backup TO gatewayzen_operator, gatewayzen_wallet_worker;
