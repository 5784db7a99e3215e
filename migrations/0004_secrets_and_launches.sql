-- Secrets stand in tables of their own, sealed before they come here. The services write them through the
-- functions of migration 5 only; nobody updates or deletes a wallet.
CREATE TABLE launch_attempts (
  id            uuid PRIMARY KEY,
  gatewayd_id   bigint NOT NULL REFERENCES gatewayds (id),
  client_token  text NOT NULL UNIQUE CHECK (length(client_token) BETWEEN 1 AND 64),
  -- The whole request but for its private part, which is sealed beside it.
  request       jsonb NOT NULL,
  sealed_user_data bytea NOT NULL,
  -- The public half of the SSH host key that the user data carries, in OpenSSH's format.
  host_key      text NOT NULL,
  created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
  -- No request of this attempt is sent after this moment.
  send_until    timestamptz NOT NULL,
  -- Null until EC2 has told it.
  instance_id   text,
  instance_known_at timestamptz,
  -- When the row left `instance`: its machine runs and has its address. Until then the launch is under way.
  running_at    timestamptz,
  ended_at      timestamptz,
  ended_why     text
);
-- One machine for one gatewayd: there is no second attempt while one is not ended.
CREATE UNIQUE INDEX one_launch_attempt_at_a_time ON launch_attempts (gatewayd_id) WHERE ended_at IS NULL;
CREATE INDEX launches_under_way ON launch_attempts (gatewayd_id) WHERE ended_at IS NULL AND running_at IS NULL;
CREATE INDEX launch_attempts_of ON launch_attempts (gatewayd_id, created_at);

CREATE TABLE api_keys (
  gatewayd_id bigint PRIMARY KEY REFERENCES gatewayds (id),
  sealed      bytea NOT NULL,
  read_at     timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE wallets (
  gatewayd_id bigint PRIMARY KEY REFERENCES gatewayds (id),
  address     text NOT NULL UNIQUE CHECK (address ~ '^r[1-9A-HJ-NP-Za-km-z]{24,34}$'),
  key_type    text NOT NULL CHECK (key_type IN ('secp256k1', 'ed25519')),
  created_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Sealing a seed again under another key adds a version; the newest one counts.
CREATE TABLE wallet_seeds (
  gatewayd_id bigint NOT NULL REFERENCES wallets (gatewayd_id),
  version     int NOT NULL CHECK (version > 0),
  sealed      bytea NOT NULL,
  created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (gatewayd_id, version)
);

CREATE FUNCTION refuse_wallet_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'a wallet is never changed and never deleted (table "%", % refused)', TG_TABLE_NAME, lower(TG_OP)
    USING ERRCODE = 'check_violation', CONSTRAINT = 'wallets_stay';
END
$$;
CREATE TRIGGER wallets_stay BEFORE UPDATE OR DELETE OR TRUNCATE ON wallets
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_wallet_change();
CREATE TRIGGER wallets_stay BEFORE UPDATE OR DELETE OR TRUNCATE ON wallet_seeds
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_wallet_change();

GRANT SELECT ON launch_attempts, api_keys, wallets, wallet_seeds TO gatewayzen_service;
GRANT SELECT, INSERT, UPDATE ON launch_attempts, api_keys TO gatewayzen_engine;
GRANT SELECT, INSERT ON wallets, wallet_seeds TO gatewayzen_engine;
-- What an operator reads of a launch: everything but the sealed part.
GRANT SELECT (id, gatewayd_id, client_token, request, host_key, created_at, send_until, instance_id,
              instance_known_at, running_at, ended_at, ended_why) ON launch_attempts TO gatewayzen_operator;
GRANT SELECT ON wallets TO gatewayzen_operator;
