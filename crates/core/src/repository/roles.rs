//! The roles of the database: made before the migrations, and looked at afterwards.

use sqlx::Connection as _;
use sqlx::migrate::MigrateError;
use sqlx::postgres::PgConnection;

use super::{MIGRATIONS, Repository, RepositoryError, Result};

/// What only a login that may make roles can do.
const ROLES: &str = include_str!("roles.sql");

/// What a login lacks that is to run migrations; no row: nothing.
const LACKS: &str = "
SELECT CASE
  WHEN missing.names IS NOT NULL THEN 'the database has no role ' || missing.names || ', and this login may make none'
  WHEN NOT pg_has_role(current_user, 'gatewayzen_migrator', 'MEMBER') THEN
    'migrations are run as gatewayzen_migrator, and this login (' || current_user || ') is neither that role nor a member of it'
  WHEN former.name IS NULL OR NOT has_schema_privilege('gatewayzen_migrator', 'public', 'CREATE') THEN
    'the schema public of this database does not belong to gatewayzen_migrator'
  WHEN former.name <> 'gatewayzen_migrator' THEN
    'what earlier migrations made in this database belongs to ' || former.name || ' and not to gatewayzen_migrator'
END
FROM (SELECT string_agg(wanted, ', ') AS names FROM unnest($1::text[]) AS wanted
      WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted)) missing,
     (SELECT (SELECT pg_get_userbyid(c.relowner)::text FROM pg_class c WHERE c.oid = to_regclass('public._sqlx_migrations')) AS name) former";

/// Each role that the schema needs.
pub const ALL_ROLES: [&str; 8] = [
    "gatewayzen_app",
    "gatewayzen_operator",
    "gatewayzen_service",
    "gatewayzen_instance_worker",
    "gatewayzen_ssh_worker",
    "gatewayzen_wallet_worker",
    "gatewayzen_migrator",
    "gatewayzen_engine",
];

/// The role as which a service logs in; `None` for a program that is none of ours.
#[must_use]
pub fn service_role(service: &str) -> Option<&'static str> {
    match service {
        "dispatcher" => Some("gatewayzen_service"),
        "instance-worker" => Some("gatewayzen_instance_worker"),
        "ssh-worker" => Some("gatewayzen_ssh_worker"),
        "wallet-worker" => Some("gatewayzen_wallet_worker"),
        _ => None,
    }
}

/// Roles that are not as the migrations mean them to be, one sentence each.
const FAULTS: &str = "
WITH
  logins AS (SELECT r.oid, r.rolname::text AS name FROM pg_roles r WHERE r.rolcanlogin AND NOT r.rolsuper),
  faults (place, sentence) AS (
    SELECT 1, 'the role ' || wanted || ' does not exist' FROM unnest($1::text[]) AS wanted
      WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted)
    UNION ALL
    SELECT 2, format('the role %s may do more than its work needs: it is marked %s', rolname, concat_ws(', ',
        CASE WHEN rolsuper THEN 'SUPERUSER' END, CASE WHEN rolcreaterole THEN 'CREATEROLE' END,
        CASE WHEN rolcreatedb THEN 'CREATEDB' END, CASE WHEN rolbypassrls THEN 'BYPASSRLS' END,
        CASE WHEN rolreplication THEN 'REPLICATION' END))
      FROM pg_roles
      WHERE rolname = ANY ($1) AND (rolsuper OR rolcreaterole OR rolcreatedb OR rolbypassrls OR rolreplication)
    UNION ALL
    SELECT 3, 'somebody can log in as gatewayzen_engine, which may change every row' FROM pg_roles
      WHERE rolname = 'gatewayzen_engine' AND rolcanlogin
    UNION ALL
    SELECT 4, format('the login %s may act as gatewayzen_engine, which may change every row', name) FROM logins
      WHERE name <> 'gatewayzen_migrator' AND NOT pg_has_role(oid, 'gatewayzen_migrator', 'MEMBER')
        AND pg_has_role(oid, to_regrole('gatewayzen_engine'), 'MEMBER')
    UNION ALL
    SELECT 5, format('the login %s may read %s, which is sealed and not its business', name, secret.column_name)
      FROM logins, (VALUES ('wallet_seeds', 'sealed', 'gatewayzen_wallet_worker'), ('api_keys', 'sealed', 'gatewayzen_wallet_worker'),
                           ('launch_attempts', 'sealed_user_data', 'gatewayzen_instance_worker')) AS s (t, c, reader),
           LATERAL (SELECT s.t || '.' || s.c AS column_name) secret
      WHERE has_column_privilege(oid, s.t, s.c, 'SELECT') AND NOT pg_has_role(oid, to_regrole(s.reader), 'MEMBER')
        AND NOT pg_has_role(oid, (SELECT relowner FROM pg_class WHERE oid = s.t::regclass), 'MEMBER')
    UNION ALL
    SELECT 6, format('every login may call the function %s', p.oid::regprocedure) FROM pg_proc p
      WHERE p.pronamespace = 'public'::regnamespace AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')
        AND EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a WHERE a.grantee = 0)
    UNION ALL
    SELECT 7, format('the tables belong to %s and not to gatewayzen_migrator', pg_get_userbyid(relowner)) FROM pg_class
      WHERE oid = to_regclass('public.wallets') AND pg_get_userbyid(relowner) <> 'gatewayzen_migrator'
  )
SELECT sentence FROM faults ORDER BY place, sentence";

impl Repository {
    /// Applies the migrations that are missing, as gatewayzen_migrator, and says how many there are in all. Where the login
    /// may make roles, it makes those that are missing first. The schema of a newer version, from which somebody went back to
    /// this one, stays as it is.
    pub async fn migrate(&self) -> Result<usize> {
        // Not given back to the pool: it has another role from here on.
        let mut connection = self.pool.acquire().await?.detach();
        prepare(&mut connection).await?;
        sqlx::query("SET ROLE gatewayzen_migrator")
            .execute(&mut connection)
            .await?;
        let newest = MIGRATIONS.iter().map(|m| m.version).max();
        let newer = "SELECT EXISTS (SELECT FROM public._sqlx_migrations WHERE version > $1 AND success)";
        if !sqlx::query_scalar(newer)
            .bind(newest)
            .fetch_one(&mut connection)
            .await?
        {
            MIGRATIONS.run(&mut connection).await?;
        }
        let applied: i64 = sqlx::query_scalar("SELECT count(*) FROM public._sqlx_migrations WHERE success")
            .fetch_one(&mut connection)
            .await?;
        connection.close().await?;
        Ok(usize::try_from(applied).unwrap_or_default())
    }

    /// Makes the roles (the first migration is nothing else) and hands the schema to gatewayzen_migrator, and runs no other
    /// migration.
    pub async fn prepare_roles(&self) -> Result<()> {
        let mut connection = self.pool.acquire().await?.detach();
        prepare(&mut connection).await?;
        Ok(connection.close().await?)
    }

    /// Sees that this login has the rights of the role as which a service logs in.
    pub async fn check_role(&self, service: &str) -> Result<()> {
        let Some(role) = service_role(service) else {
            return Ok(());
        };
        let (login, has): (String, bool) = sqlx::query_as(
            "SELECT current_user::text,
                    EXISTS (SELECT FROM pg_roles WHERE rolname = $1 AND pg_has_role(current_user, oid, 'USAGE'))",
        )
        .bind(role)
        .fetch_one(&self.pool)
        .await?;
        if has {
            return Ok(());
        }
        Err(RepositoryError::Schema(format!(
            "this service logs in to Postgres as {login}, and {service} needs the rights of {role}: give it that login in its \
             environment (GATEWAYZEN_POSTGRES__URL, which wins over postgres.url of a file that all services share)"
        )))
    }

    /// What is not right with the roles of this database, a sentence each.
    pub async fn role_faults(&self) -> Result<Vec<String>> {
        Ok(sqlx::query_scalar(FAULTS)
            .bind(ALL_ROLES.as_slice())
            .fetch_all(&self.pool)
            .await?)
    }
}

/// Sees to it that migrations can be run as gatewayzen_migrator.
async fn prepare(connection: &mut PgConnection) -> Result<()> {
    let makes_roles: bool = sqlx::query_scalar(
        "SELECT rolname <> 'gatewayzen_migrator' AND (rolsuper OR rolcreaterole) FROM pg_roles WHERE rolname = current_user",
    )
    .fetch_one(&mut *connection)
    .await?;
    if makes_roles {
        if !first_is_applied(connection).await? {
            MIGRATIONS
                .run_to(1, &mut *connection)
                .await
                .map_err(|error| match error {
                    MigrateError::ExecuteMigration(error, _) | MigrateError::Execute(error) => {
                        not_allowed(error)
                    }
                    other => other.into(),
                })?;
        }
        sqlx::raw_sql(ROLES)
            .execute(&mut *connection)
            .await
            .map_err(not_allowed)?;
    }
    let lacks: Option<String> = sqlx::query_scalar(LACKS)
        .bind(ALL_ROLES.as_slice())
        .fetch_one(&mut *connection)
        .await?;
    lacks.map_or(Ok(()), |what| Err(once_as_superuser(&what)))
}

/// The first migration makes roles, and asks for that right where they are there already: so it is not gatewayzen_migrator's.
async fn first_is_applied(connection: &mut PgConnection) -> Result<bool> {
    let begun = "SELECT to_regclass('public._sqlx_migrations') IS NOT NULL";
    let applied = "SELECT EXISTS (SELECT FROM public._sqlx_migrations WHERE version = 1 AND success)";
    Ok(sqlx::query_scalar(begun).fetch_one(&mut *connection).await?
        && sqlx::query_scalar(applied).fetch_one(&mut *connection).await?)
}

fn once_as_superuser(what: &str) -> RepositoryError {
    RepositoryError::Schema(format!(
        "{what}: run `gatewayzen migrate --only-roles` once as a superuser, which makes the roles and hands the schema to \
         gatewayzen_migrator; then run `gatewayzen migrate` as gatewayzen_migrator"
    ))
}

fn not_allowed(error: sqlx::Error) -> RepositoryError {
    match &error {
        // insufficient_privilege
        sqlx::Error::Database(db) if db.code().as_deref() == Some("42501") => {
            once_as_superuser(&format!("this login may not make the roles ({})", db.message()))
        }
        _ => error.into(),
    }
}
