-- Roles are shared by every database of a cluster, so they may exist already, or come to be at this very moment by the
-- migration of another database, which no lock of this one can hold off.
DO $$
DECLARE
  role_name text;
BEGIN
  -- gatewayzen_app:      external applications; create, move and read gatewayds, never a secret.
  -- gatewayzen_service:  dispatcher and workers; change rows only through the functions of migration 5.
  -- gatewayzen_operator: the command line; what an application may do, and hold and resume.
  -- They may log in, but have no password until somebody gives them one.
  FOREACH role_name IN ARRAY ARRAY['gatewayzen_app', 'gatewayzen_service', 'gatewayzen_operator'] LOOP
    CONTINUE WHEN EXISTS (SELECT FROM pg_roles WHERE rolname = role_name);
    BEGIN
      EXECUTE format('CREATE ROLE %I LOGIN', role_name);
    EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
    END;
  END LOOP;
  -- Nobody logs in as the engine. It owns the functions by which workers advance rows, and by its name the
  -- guard of `gatewayds` tells their writes from everybody else's, the superuser's included.
  BEGIN
    CREATE ROLE gatewayzen_engine NOLOGIN;
  EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
  END;
END
$$;

GRANT USAGE ON SCHEMA public TO gatewayzen_app, gatewayzen_service, gatewayzen_operator, gatewayzen_engine;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;

-- One row: who this fleet is on EC2. Two databases with the same fleet name must never take each other's
-- machines for orphans, so the identity is random and not a name.
CREATE TABLE fleet (
  only_row   boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  id         uuid NOT NULL DEFAULT gen_random_uuid(),
  created_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO fleet DEFAULT VALUES;
GRANT SELECT ON fleet TO gatewayzen_app, gatewayzen_service, gatewayzen_operator, gatewayzen_engine;
