-- What the migrations need and may not do themselves: the roles, and a schema that belongs to gatewayzen_migrator. Run by
-- `gatewayzen migrate` where its login may make roles, after the first migration, which makes some of them too. Once for each
-- database; a second time it changes nothing. Roles are
-- shared by every database of a cluster, so another database's run may be making them at this very moment.
DO $$
DECLARE
  role_name text;
  membership record;
  statement text;
  former oid := (SELECT c.relowner FROM pg_class c WHERE c.oid = to_regclass('public._sqlx_migrations'));
BEGIN
  FOREACH role_name IN ARRAY ARRAY['gatewayzen_app', 'gatewayzen_operator', 'gatewayzen_service', 'gatewayzen_instance_worker',
                                   'gatewayzen_ssh_worker', 'gatewayzen_wallet_worker', 'gatewayzen_migrator', 'gatewayzen_engine'] LOOP
    CONTINUE WHEN EXISTS (SELECT FROM pg_roles WHERE rolname = role_name);
    BEGIN
      EXECUTE format('CREATE ROLE %I %s', role_name, CASE role_name WHEN 'gatewayzen_engine' THEN 'NOLOGIN' ELSE 'LOGIN' END);
    EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
    END;
  END LOOP;
  -- Each worker is a service. The migrator gives functions to the engine, and makes workers members of the services.
  FOR membership IN SELECT * FROM (VALUES
      ('gatewayzen_service', 'gatewayzen_instance_worker', false), ('gatewayzen_service', 'gatewayzen_ssh_worker', false),
      ('gatewayzen_service', 'gatewayzen_wallet_worker', false), ('gatewayzen_service', 'gatewayzen_migrator', true),
      ('gatewayzen_engine', 'gatewayzen_migrator', true)) AS wanted (granted, member, admin) LOOP
    CONTINUE WHEN EXISTS (SELECT FROM pg_auth_members m
      WHERE m.roleid = membership.granted::regrole AND m.member = membership.member::regrole AND m.admin_option >= membership.admin);
    BEGIN
      EXECUTE format('GRANT %I TO %I %s', membership.granted, membership.member,
                     CASE WHEN membership.admin THEN 'WITH ADMIN OPTION' ELSE '' END);
    -- Another run was quicker (internal_error: both changed the same row).
    EXCEPTION WHEN unique_violation OR internal_error THEN NULL;
    END;
  END LOOP;
  -- A login that makes roles and is no superuser must be a member of the role to which it hands the schema; from Postgres 16 on,
  -- having made the role is not enough.
  IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
    EXECUTE format('GRANT gatewayzen_migrator TO %I', current_user);
  END IF;
  IF (SELECT n.nspowner FROM pg_namespace n WHERE n.nspname = 'public') <> 'gatewayzen_migrator'::regrole THEN
    ALTER SCHEMA public OWNER TO gatewayzen_migrator;
  END IF;
  -- A database that another login migrated before: what that login owns here is the migrator's from now on.
  IF former <> 'gatewayzen_migrator'::regrole THEN
    FOR statement IN
      SELECT format('ALTER TABLE %s OWNER TO gatewayzen_migrator', c.oid::regclass) FROM pg_class c
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND c.relowner = former
      UNION ALL
      SELECT format('ALTER FUNCTION %s OWNER TO gatewayzen_migrator', p.oid::regprocedure) FROM pg_proc p
        WHERE p.pronamespace = 'public'::regnamespace AND p.proowner = former
          AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')
    LOOP
      EXECUTE statement;
    END LOOP;
  END IF;
END
$$;
