//! Migrations without a superuser: one is needed once, for the roles.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "tests"
)]

use std::path::PathBuf;
use std::time::Duration;

use gatewayzen_core::repository::Verdict;
use gatewayzen_core::{Repository, State};
use integration_tests::harness::PostgresServer;
use sqlx::{AssertSqlSafe, PgPool};

/// A cluster of this test's own: roles are shared by all of its databases.
struct Cluster {
    server: PostgresServer,
    superuser: PgPool,
}

impl Cluster {
    async fn new() -> Cluster {
        let mut server = PostgresServer::new().await;
        server.start().await;
        let superuser = PgPool::connect_lazy(&server.url()).unwrap();
        Cluster { server, superuser }
    }

    async fn sql(&self, sql: impl Into<String>) {
        let sql: String = sql.into();
        let done = sqlx::query(AssertSqlSafe(sql.clone()))
            .execute(&self.superuser)
            .await;
        done.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    fn url(&self, login: &str, database: &str) -> String {
        let url = self.server.url().replace("postgres@", &format!("{login}@"));
        format!("{}/{database}", url.rsplit_once('/').unwrap().0)
    }

    fn repository(&self, login: &str, database: &str) -> Repository {
        Repository::new(&self.url(login, database), 2, Duration::from_secs(10)).unwrap()
    }

    /// Everything of ours in a database that is neither the migrator's nor the engine's.
    async fn of_others(&self, database: &str) -> Vec<String> {
        let pool = PgPool::connect(&self.url("postgres", database)).await.unwrap();
        sqlx::query_scalar(
            "SELECT relname || ' is ' || pg_get_userbyid(relowner) || '''s' FROM pg_class
               WHERE relnamespace = 'public'::regnamespace AND pg_get_userbyid(relowner) <> 'gatewayzen_migrator'
             UNION ALL
             SELECT proname || ' is ' || pg_get_userbyid(proowner) || '''s' FROM pg_proc
               WHERE pronamespace = 'public'::regnamespace AND pg_get_userbyid(proowner) NOT IN ('gatewayzen_migrator', 'gatewayzen_engine')",
        )
        .fetch_all(&pool)
        .await
        .unwrap()
    }

    /// That the schema does its work: an application creates a row, and a worker takes it.
    async fn works(&self, database: &str) {
        let app = PgPool::connect(&self.url("gatewayzen_app", database))
            .await
            .unwrap();
        let made = "INSERT INTO gatewayds (name, state) VALUES ('acme', 'instance') RETURNING id";
        let id: i64 = sqlx::query_scalar(made).fetch_one(&app).await.unwrap();
        let worker = self.repository("gatewayzen_instance_worker", database);
        worker.check_role("instance-worker").await.unwrap();
        let lease = Duration::from_secs(60);
        let taken = worker
            .take_lease(id, State::Instance, None, "test", lease, 3)
            .await;
        assert!(matches!(taken.unwrap(), Verdict::Taken(_)));
        assert_eq!(
            self.repository("gatewayzen_operator", database)
                .role_faults()
                .await
                .unwrap(),
            [""; 0]
        );
        assert_eq!(self.of_others(database).await, [""; 0]);
    }
}

/// The migrations up to this one, as another tool applies them.
async fn apply_up_to(version: i64, url: &str) {
    let folder = tempfile::tempdir().unwrap();
    let all = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../migrations");
    for entry in std::fs::read_dir(all).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if name
            .split('_')
            .next()
            .and_then(|number| number.parse::<i64>().ok())
            .is_some_and(|number| number <= version)
        {
            std::fs::copy(&path, folder.path().join(name)).unwrap();
        }
    }
    let pool = PgPool::connect(url).await.unwrap();
    let migrator = sqlx::migrate::Migrator::new(folder.path()).await.unwrap();
    migrator.run(&pool).await.unwrap();
    pool.close().await;
}

#[tokio::test]
async fn a_superuser_makes_the_roles_once_and_the_migrator_does_the_rest() {
    let cluster = Cluster::new().await;
    cluster.sql("CREATE ROLE somebody LOGIN").await;
    cluster.sql("CREATE DATABASE first OWNER somebody").await;
    // Nobody has made the roles: whoever cannot make them is told who can.
    let told = cluster
        .repository("somebody", "first")
        .migrate()
        .await
        .unwrap_err()
        .to_string();
    assert_eq!(
        told,
        "the database has no role gatewayzen_app, gatewayzen_operator, gatewayzen_service, gatewayzen_instance_worker, \
         gatewayzen_ssh_worker, gatewayzen_wallet_worker, gatewayzen_migrator, gatewayzen_engine, and this login may make none: \
         run `gatewayzen migrate --only-roles` once as a superuser, which makes the roles and hands the schema to gatewayzen_migrator; \
         then run `gatewayzen migrate` as gatewayzen_migrator"
    );
    // The superuser makes the roles and runs no migration; the migrator, who is none, runs them all.
    cluster
        .repository("postgres", "first")
        .prepare_roles()
        .await
        .unwrap();
    let told = cluster
        .repository("somebody", "first")
        .migrate()
        .await
        .unwrap_err()
        .to_string();
    assert!(
        told.starts_with("migrations are run as gatewayzen_migrator, and this login (somebody) is neither"),
        "{told}"
    );
    let migrator = cluster.repository("gatewayzen_migrator", "first");
    let all = migrator.migrate().await.unwrap();
    assert!(all >= 10);
    assert_eq!(
        migrator.migrate().await.unwrap(),
        all,
        "again, and nothing is to be done"
    );
    cluster.works("first").await;
    // Whoever goes back to an older version runs its `migrate` too, and has the newer schema stay.
    let first = PgPool::connect(&cluster.url("postgres", "first")).await.unwrap();
    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
                 VALUES (9999, 'of a newer version', true, '', 0)";
    sqlx::query(newer).execute(&first).await.unwrap();
    assert_eq!(migrator.migrate().await.unwrap(), all + 1);

    // A second database of the cluster, whose roles are there already, is nobody's to migrate yet.
    cluster.sql("CREATE DATABASE second").await;
    let migrator = cluster.repository("gatewayzen_migrator", "second");
    let told = migrator.migrate().await.unwrap_err().to_string();
    assert!(
        told.starts_with("the schema public of this database does not belong to gatewayzen_migrator: run"),
        "{told}"
    );
    // A superuser's own `migrate` leaves the same behind.
    cluster.repository("postgres", "second").migrate().await.unwrap();
    cluster.works("second").await;
    migrator.migrate().await.unwrap();

    // One that a superuser migrated with an earlier version: it is handed over.
    cluster.sql("CREATE DATABASE third").await;
    apply_up_to(8, &cluster.url("postgres", "third")).await;
    assert!(
        cluster
            .of_others("third")
            .await
            .contains(&"wallets is postgres's".to_owned())
    );
    let hands = "ALTER SCHEMA public OWNER TO gatewayzen_migrator";
    let third = PgPool::connect(&cluster.url("postgres", "third")).await.unwrap();
    sqlx::query(hands).execute(&third).await.unwrap();
    let migrator = cluster.repository("gatewayzen_migrator", "third");
    let told = migrator.migrate().await.unwrap_err().to_string();
    assert!(
        told.starts_with("what earlier migrations made in this database belongs to postgres"),
        "{told}"
    );
    cluster
        .repository("postgres", "third")
        .prepare_roles()
        .await
        .unwrap();
    migrator.migrate().await.unwrap();
    cluster.works("third").await;
}

/// As on a managed Postgres, which has no superuser to lend.
#[tokio::test]
async fn a_login_that_may_make_roles_and_owns_the_database_does_as_well_as_a_superuser() {
    let cluster = Cluster::new().await;
    cluster.sql("CREATE ROLE manager LOGIN CREATEROLE CREATEDB").await;
    cluster.sql("CREATE DATABASE managed OWNER manager").await;
    cluster.repository("manager", "managed").migrate().await.unwrap();
    cluster.works("managed").await;
    cluster
        .repository("gatewayzen_migrator", "managed")
        .migrate()
        .await
        .unwrap();

    // What is wrong with the roles is found, and told.
    let operator = cluster.repository("gatewayzen_operator", "managed");
    let managed = PgPool::connect(&cluster.url("postgres", "managed"))
        .await
        .unwrap();
    for (wrong, right, says) in [
        (
            "ALTER ROLE gatewayzen_app BYPASSRLS CREATEDB",
            "ALTER ROLE gatewayzen_app NOBYPASSRLS NOCREATEDB",
            "the role gatewayzen_app may do more than its work needs: it is marked CREATEDB, BYPASSRLS",
        ),
        (
            "ALTER ROLE gatewayzen_engine LOGIN",
            "ALTER ROLE gatewayzen_engine NOLOGIN",
            "somebody can log in as gatewayzen_engine, which may change every row",
        ),
        (
            "GRANT gatewayzen_engine TO gatewayzen_app",
            "REVOKE gatewayzen_engine FROM gatewayzen_app",
            "the login gatewayzen_app may act as gatewayzen_engine, which may change every row",
        ),
        (
            "GRANT SELECT (sealed) ON wallet_seeds TO gatewayzen_operator",
            "REVOKE SELECT (sealed) ON wallet_seeds FROM gatewayzen_operator",
            "the login gatewayzen_operator may read wallet_seeds.sealed, which is sealed and not its business",
        ),
        (
            "GRANT EXECUTE ON FUNCTION keep_api_key TO PUBLIC",
            "REVOKE EXECUTE ON FUNCTION keep_api_key FROM PUBLIC",
            "every login may call the function keep_api_key(bigint,uuid,bigint,bytea)",
        ),
        (
            "ALTER TABLE wallets OWNER TO postgres",
            "ALTER TABLE wallets OWNER TO gatewayzen_migrator",
            "the tables belong to postgres and not to gatewayzen_migrator",
        ),
    ] {
        sqlx::query(wrong).execute(&managed).await.unwrap();
        let found = operator.role_faults().await.unwrap();
        assert!(found.iter().any(|fault| fault == says), "{wrong}: {found:?}");
        sqlx::query(right).execute(&managed).await.unwrap();
    }
    assert_eq!(operator.role_faults().await.unwrap(), [""; 0]);
}

#[tokio::test]
async fn a_service_with_the_login_of_another_says_which_it_needs() {
    let cluster = Cluster::new().await;
    cluster.sql("CREATE DATABASE fleet").await;
    cluster.repository("postgres", "fleet").migrate().await.unwrap();
    let told = cluster
        .repository("gatewayzen_service", "fleet")
        .check_role("wallet-worker")
        .await
        .unwrap_err();
    assert_eq!(
        told.to_string(),
        "this service logs in to Postgres as gatewayzen_service, and wallet-worker needs the rights of gatewayzen_wallet_worker: \
         give it that login in its environment (GATEWAYZEN_POSTGRES__URL, which wins over postgres.url of a file that all services \
         share)"
    );
    for service in ["dispatcher", "wallet-worker"] {
        cluster
            .repository("gatewayzen_wallet_worker", "fleet")
            .check_role(service)
            .await
            .unwrap();
    }
}
