-- Secrets are opened on purpose: sealed again under another key, revealed, exported. The command line does it as an operator,
-- who may read no table of secrets; these functions give what is sealed, for an act that is on record.

-- Id of the key that sealed a blob, as crates/core/src/seal.rs lays it out. NULL: it is no sealed blob.
CREATE FUNCTION sealed_under(p_sealed bytea) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE WHEN length(p_sealed) > 2 AND get_byte(p_sealed, 0) = 1
    THEN nullif(encode(substring(p_sealed FROM 3 FOR get_byte(p_sealed, 1)), 'escape'), '') END
$$;

-- What an API key was before it was sealed again. User data is not kept so: it holds a host's private key, which is erased.
CREATE TABLE resealed (
  id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at          timestamptz NOT NULL DEFAULT clock_timestamp(),
  gatewayd_id bigint NOT NULL REFERENCES gatewayds (id),
  sealed      bytea NOT NULL
);
CREATE TRIGGER only_added_to BEFORE UPDATE OR DELETE OR TRUNCATE ON resealed FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
GRANT SELECT, INSERT ON resealed TO gatewayzen_engine;

-- Puts an act on record and returns its number. NULL: there is no such gatewayd, or it has no such secret. The functions
-- below give nothing before the record is committed: whoever rolls it back has seen nothing.
CREATE FUNCTION declare_secret_act(p_action text, p_name text, p_person text, p_reason text, p_details jsonb) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
  v_gatewayd bigint;
  v_act bigint;
BEGIN
  IF p_action IN ('reveal-api-key', 'reveal-wallet') THEN
    SELECT g.id INTO v_gatewayd FROM gatewayds g WHERE g.name = p_name AND CASE p_action
      WHEN 'reveal-wallet' THEN EXISTS (SELECT FROM wallets w WHERE w.gatewayd_id = g.id)
      ELSE EXISTS (SELECT FROM api_keys a WHERE a.gatewayd_id = g.id) END;
    IF NOT FOUND THEN
      RETURN NULL;
    END IF;
  ELSIF p_action NOT IN ('check-secrets', 'rotate-secrets', 'rotate-secrets-ended', 'export-wallets', 'export-wallets-ended') THEN
    RAISE EXCEPTION '"%" is no act with secrets', p_action USING ERRCODE = 'check_violation', CONSTRAINT = 'secret_act';
  END IF;
  -- The record is on disk before anything is given.
  PERFORM set_config('synchronous_commit', 'on', true);
  INSERT INTO audit (person, action, gatewayd_id, reason, details)
    VALUES (p_person, p_action, v_gatewayd, p_reason,
            coalesce(p_details, '{}') || jsonb_build_object('transaction', pg_current_xact_id()::text))
    RETURNING id INTO v_act;
  RETURN v_act;
END
$$;

-- The gatewayd of an act of this login that is committed and not too old; refuses every other.
CREATE FUNCTION secret_act_on_record(p_act bigint, p_actions text[], p_within interval) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
  v_gatewayd bigint;
BEGIN
  SELECT a.gatewayd_id INTO v_gatewayd FROM audit a
    WHERE a.id = p_act AND a.login = session_user AND a.action = ANY (p_actions) AND a.at > clock_timestamp() - p_within
      AND pg_xact_status((a.details ->> 'transaction')::xid8) = 'committed';
  IF NOT FOUND THEN
    RAISE EXCEPTION 'sealed secrets are given for an act that is on record: call declare_secret_act, and commit, first'
      USING ERRCODE = 'check_violation', CONSTRAINT = 'secret_act';
  END IF;
  RETURN v_gatewayd;
END
$$;

-- The sealed secret that an act of revealing is about.
CREATE FUNCTION secret_to_reveal(p_act bigint) RETURNS TABLE (place_row text, address text, sealed bytea)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
  v_gatewayd bigint := secret_act_on_record(p_act, ARRAY['reveal-api-key', 'reveal-wallet'], '5 minutes');
BEGIN
  IF (SELECT a.action FROM audit a WHERE a.id = p_act) = 'reveal-wallet' THEN
    RETURN QUERY SELECT s.gatewayd_id || '/' || s.version, w.address, s.sealed
      FROM wallets w JOIN wallet_seeds s USING (gatewayd_id)
      WHERE w.gatewayd_id = v_gatewayd ORDER BY s.version DESC LIMIT 1;
  ELSE
    RETURN QUERY SELECT k.gatewayd_id::text, NULL::text, k.sealed FROM api_keys k WHERE k.gatewayd_id = v_gatewayd;
  END IF;
END
$$;

-- The next sealed secrets of a kind, after a place in their order: all, or those that are not under one key.
CREATE FUNCTION sealed_batch(p_act bigint, p_kind text, p_not_under text, p_after text, p_limit int)
RETURNS TABLE (place text, place_row text, id bigint, name text, address text, sealed bytea)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
#variable_conflict use_column
BEGIN
  PERFORM secret_act_on_record(p_act, ARRAY['check-secrets', 'rotate-secrets', 'export-wallets'], '7 days');
  CASE p_kind
  WHEN 'wallet_seeds' THEN
    RETURN QUERY SELECT w.gatewayd_id::text, w.gatewayd_id || '/' || s.version, g.id, g.name, w.address, s.sealed
      FROM wallets w JOIN gatewayds g ON g.id = w.gatewayd_id
      JOIN LATERAL (SELECT v.version, v.sealed FROM wallet_seeds v WHERE v.gatewayd_id = w.gatewayd_id
                    ORDER BY v.version DESC LIMIT 1) s ON true
      WHERE w.gatewayd_id > coalesce(p_after, '0')::bigint AND (p_not_under IS NULL OR sealed_under(s.sealed) IS DISTINCT FROM p_not_under)
      ORDER BY w.gatewayd_id LIMIT p_limit;
  WHEN 'api_keys' THEN
    RETURN QUERY SELECT k.gatewayd_id::text, k.gatewayd_id::text, g.id, g.name, NULL::text, k.sealed
      FROM api_keys k JOIN gatewayds g ON g.id = k.gatewayd_id
      WHERE k.gatewayd_id > coalesce(p_after, '0')::bigint AND (p_not_under IS NULL OR sealed_under(k.sealed) IS DISTINCT FROM p_not_under)
      ORDER BY k.gatewayd_id LIMIT p_limit;
  WHEN 'launch_attempts' THEN
    -- Those whose user data is erased have nothing sealed.
    RETURN QUERY SELECT l.id::text, l.id::text, g.id, g.name, NULL::text, l.sealed_user_data
      FROM launch_attempts l JOIN gatewayds g ON g.id = l.gatewayd_id
      WHERE l.id > coalesce(p_after, '00000000-0000-0000-0000-000000000000')::uuid AND length(l.sealed_user_data) > 0
        AND (p_not_under IS NULL OR sealed_under(l.sealed_user_data) IS DISTINCT FROM p_not_under)
      ORDER BY l.id LIMIT p_limit;
  END CASE;
END
$$;

-- Takes secrets back that were sealed again under the key p_key, where nobody wrote them meanwhile: returns the rows that it
-- took. A seed becomes a new version; nothing of a wallet is overwritten.
CREATE FUNCTION reseal(p_act bigint, p_kind text, p_key text, p_rows text[], p_old bytea[], p_new bytea[]) RETURNS text[]
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
  v_taken text[] := '{}';
  v_id bigint;
  v_version int;
BEGIN
  PERFORM secret_act_on_record(p_act, ARRAY['rotate-secrets'], '7 days');
  PERFORM set_config('synchronous_commit', 'on', true);
  FOR i IN 1 .. coalesce(array_length(p_rows, 1), 0) LOOP
    IF sealed_under(p_new[i]) IS DISTINCT FROM p_key OR p_key IS NULL THEN
      RAISE EXCEPTION 'row % of % is not sealed under the key "%"', p_rows[i], p_kind, p_key
        USING ERRCODE = 'check_violation', CONSTRAINT = 'sealed_under_the_key';
    END IF;
    CASE p_kind
    WHEN 'wallet_seeds' THEN
      v_id := split_part(p_rows[i], '/', 1)::bigint;
      v_version := split_part(p_rows[i], '/', 2)::int;
      -- A version that is there already is another's, who was quicker.
      INSERT INTO wallet_seeds (gatewayd_id, version, sealed)
        SELECT s.gatewayd_id, s.version + 1, p_new[i] FROM wallet_seeds s
        WHERE s.gatewayd_id = v_id AND s.version = v_version AND s.sealed = p_old[i]
        ON CONFLICT DO NOTHING;
    WHEN 'api_keys' THEN
      v_id := p_rows[i]::bigint;
      UPDATE api_keys SET sealed = p_new[i] WHERE gatewayd_id = v_id AND sealed = p_old[i];
      IF FOUND THEN
        INSERT INTO resealed (gatewayd_id, sealed) VALUES (v_id, p_old[i]);
      END IF;
    WHEN 'launch_attempts' THEN
      UPDATE launch_attempts SET sealed_user_data = p_new[i] WHERE id = p_rows[i]::uuid AND sealed_user_data = p_old[i];
    END CASE;
    IF FOUND THEN
      v_taken := v_taken || p_rows[i];
    END IF;
  END LOOP;
  RETURN v_taken;
END
$$;

-- How many rows are under which key; no secret. Not in use: what a rotation left behind, which nothing opens any more.
CREATE FUNCTION sealed_counts() RETURNS TABLE (kind text, in_use boolean, key text, rows bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
  SELECT 'wallet_seeds', s.version = n.newest, sealed_under(s.sealed), count(*) FROM wallet_seeds s
    JOIN (SELECT gatewayd_id, max(version) AS newest FROM wallet_seeds GROUP BY gatewayd_id) n USING (gatewayd_id) GROUP BY 2, 3
  UNION ALL SELECT 'api_keys', true, sealed_under(k.sealed), count(*) FROM api_keys k GROUP BY 3
  UNION ALL SELECT 'api_keys', false, sealed_under(r.sealed), count(*) FROM resealed r GROUP BY 3
  UNION ALL SELECT 'launch_attempts', true, sealed_under(l.sealed_user_data), count(*) FROM launch_attempts l
    WHERE length(l.sealed_user_data) > 0 GROUP BY 3
  ORDER BY 1, 2 DESC, 3
$$;

DO $$
DECLARE
  f regprocedure;
BEGIN
  GRANT CREATE ON SCHEMA public TO gatewayzen_engine;
  FOR f IN SELECT p.oid::regprocedure FROM pg_proc p
    WHERE p.pronamespace = 'public'::regnamespace AND p.proname IN (
      'declare_secret_act', 'secret_act_on_record', 'secret_to_reveal', 'sealed_batch', 'reseal', 'sealed_counts')
  LOOP
    EXECUTE format('ALTER FUNCTION %s OWNER TO gatewayzen_engine', f);
    EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', f);
    IF f <> 'secret_act_on_record(bigint, text[], interval)'::regprocedure THEN
      EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO gatewayzen_operator', f);
    END IF;
  END LOOP;
  REVOKE CREATE ON SCHEMA public FROM gatewayzen_engine;
END
$$;
