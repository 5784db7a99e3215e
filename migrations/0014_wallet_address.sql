-- What a row tells the world as its wallet's address is the address of the wallet that is kept for it. Applications read it there, and
-- not in `wallets`; and every service may write what its step found out: it must not be able to write an address of its own.
-- Only a change is judged, so a restore, which brings the rows before it makes triggers, is not; and an insert leaves it null
-- (migration 3).
CREATE FUNCTION gatewayds_guard_wallet_address() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
  kept text := (SELECT w.address FROM wallets w WHERE w.gatewayd_id = NEW.id);
BEGIN
  IF NEW.ripple_address IS DISTINCT FROM kept THEN
    RAISE EXCEPTION 'gatewayd "%" cannot be given the ripple_address %: %', NEW.name,
      coalesce('"' || left(NEW.ripple_address, 60) || '"', 'null'),
      coalesce('its cold wallet is ' || kept || ', for ever', 'no cold wallet is kept for it')
      USING ERRCODE = 'check_violation', CONSTRAINT = 'address_of_its_wallet',
            HINT = 'Only keep_wallet gives a row its address. See in the service''s log which process wrote this, and why.';
  END IF;
  RETURN NEW;
END
$$;
-- After the guards of every write. The functions write all that a step found out, changed or not: mostly this is not called.
CREATE TRIGGER d_guard_wallet_address BEFORE UPDATE ON gatewayds FOR EACH ROW
  WHEN (NEW.ripple_address IS DISTINCT FROM OLD.ripple_address) EXECUTE FUNCTION gatewayds_guard_wallet_address();
REVOKE ALL ON FUNCTION gatewayds_guard_wallet_address FROM PUBLIC;
