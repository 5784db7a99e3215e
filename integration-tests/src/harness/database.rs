//! A database for one test, with the migrations in it.

use std::path::Path;
use std::time::Duration;

use gatewayzen_core::Repository;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;

use super::dev_env;
use super::process::run_program;

/// A migrated database that is dropped with this.
pub struct Database {
    name: String,
    admin_url: String,
    base: String,
    /// As the role of an external application: what tests write with.
    pub app: PgPool,
    /// As the superuser, for what no role may do.
    pub admin: PgPool,
}

impl Database {
    /// Makes one in the private Postgres of the development environment.
    pub async fn new() -> Database {
        Database::on(&dev_env("DATABASE_URL")).await
    }

    /// Makes one in the Postgres whose superuser has this URL.
    pub async fn on(admin_url: &str) -> Database {
        let database = Database::empty(admin_url).await;
        migrate(&database.superuser_url()).await;
        database
    }

    /// Makes one whose newest migration is still to be run, and says which that is.
    pub async fn one_migration_behind() -> (Database, i64) {
        let database = Database::empty(&dev_env("DATABASE_URL")).await;
        let migrator = migrations(concat!(env!("CARGO_MANIFEST_DIR"), "/../migrations")).await;
        let newest = migrator.iter().map(|one| one.version).max().expect("migrations");
        let done = migrator.run_to(newest - 1, &database.admin).await;
        done.expect("migrations");
        (database, newest)
    }

    /// As [`on`](Self::on), with the schema of another build's `gatewayzen migrate`.
    pub(super) async fn migrated_by(gatewayzen: &Path, admin_url: &str) -> Database {
        let database = Database::empty(admin_url).await;
        let login = [("GATEWAYZEN_POSTGRES__URL".to_owned(), database.superuser_url())];
        let done = run_program(gatewayzen, &["migrate"], &login).await;
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        database
    }

    /// A copy as it is now, under another name: what a restore from a backup makes. Whoever works with this one is thrown out.
    pub async fn copy(&self) -> Database {
        let (name, template) = (format!("gz_{}", uuid::Uuid::new_v4().simple()), &self.name);
        let others =
            format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{template}'");
        run_on(&self.admin_url, others).await;
        run_on(
            &self.admin_url,
            format!("CREATE DATABASE {name} TEMPLATE {template}"),
        )
        .await;
        Database::named(name, &self.admin_url)
    }

    async fn empty(admin_url: &str) -> Database {
        let name = format!("gz_{}", uuid::Uuid::new_v4().simple());
        run_on(admin_url, format!("CREATE DATABASE {name}")).await;
        Database::named(name, admin_url)
    }

    pub(super) fn named(name: String, admin_url: &str) -> Database {
        let server = admin_url.rsplit_once('/').expect("a URL with a database").0;
        let host = server.rsplit_once('@').expect("a URL with a user").1;
        let base = format!("{host}/{name}");
        let superuser = format!("{server}/{name}");
        let app = lazy(&format!("postgres://gatewayzen_app@{base}"));
        let admin = lazy(&superuser);
        Database {
            name,
            admin_url: admin_url.to_owned(),
            base,
            app,
            admin,
        }
    }

    pub(super) fn superuser_url(&self) -> String {
        let server = self.admin_url.rsplit_once('/').expect("a URL with a database").0;
        format!("{server}/{}", self.name)
    }

    /// Runs a statement as the external application.
    pub async fn write(&self, sql: &'static str) {
        let written = sqlx::query(sql).execute(&self.app).await;
        written.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// One text, as the superuser.
    pub async fn text(&self, sql: &'static str) -> String {
        let read = sqlx::query_scalar(sql).fetch_one(&self.admin).await;
        read.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// The URL for a role that may log in.
    pub fn url(&self, role: &str) -> String {
        format!("postgres://{role}@{}", self.base)
    }

    /// The repository as a role sees it.
    pub fn repository(&self, role: &str) -> Repository {
        Repository::new(&self.url(role), 4, Duration::from_secs(10)).expect("a URL")
    }
}

pub(super) async fn run_on(url: &str, sql: String) {
    let pool = PgPoolOptions::new().max_connections(1).connect(url).await;
    let pool = pool.expect("the private Postgres");
    let done = sqlx::query(sqlx::AssertSqlSafe(sql.clone())).execute(&pool).await;
    done.unwrap_or_else(|error| panic!("{sql}: {error}"));
    pool.close().await;
}

/// The migrations of the binary, or of the folder that `LAWS_MIGRATIONS` names: so a mutant of a migration needs no build.
async fn migrate(superuser: &str) {
    let Ok(folder) = std::env::var("LAWS_MIGRATIONS") else {
        let repository = Repository::new(superuser, 1, Duration::from_secs(20)).expect("a URL");
        repository.migrate().await.expect("migrations");
        return repository.close().await;
    };
    let pool = lazy(superuser);
    migrations(&folder).await.run(&pool).await.expect("migrations");
    pool.close().await;
}

async fn migrations(folder: &str) -> sqlx::migrate::Migrator {
    let read = sqlx::migrate::Migrator::new(std::path::PathBuf::from(folder)).await;
    read.expect("a folder of migrations")
}

fn lazy(url: &str) -> PgPool {
    PgPoolOptions::new()
        .max_connections(4)
        .connect_lazy(url)
        .expect("a URL")
}

impl Drop for Database {
    fn drop(&mut self) {
        let (url, name) = (self.admin_url.clone(), self.name.clone());
        // A drop cannot wait inside the test's runtime, and the test may be over: a thread with its own.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(async {
                let pool = PgPoolOptions::new()
                    .max_connections(1)
                    .connect(&url)
                    .await
                    .map_err(std::io::Error::other)?;
                let sql = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
                sqlx::query(sqlx::AssertSqlSafe(sql))
                    .execute(&pool)
                    .await
                    .map_err(std::io::Error::other)
            })
        });
        let _ = dropped.join();
    }
}
