//! Backing a database up and putting it back, with the commands that docs/recovery.md gives.

use std::path::Path;

use super::database::{Database, run_on};
use super::dev_env;
use super::process::{run, run_program};

impl Database {
    /// Backs it up.
    pub async fn dump(&self, file: &Path) {
        let (file, url) = (file.to_str().expect("a path"), self.superuser_url());
        postgres_tool("pg_dump", &["--format=custom", "--file", file, &url]).await;
    }

    /// Puts a backup into an empty cluster, whose superuser has this URL.
    pub async fn restored(file: &Path, admin_url: &str) -> Database {
        let name = "gatewayzen".to_owned();
        run_on(admin_url, format!("CREATE DATABASE {name}")).await;
        let database = Database::named(name, admin_url);
        let url = database.superuser_url();
        let login = [("GATEWAYZEN_POSTGRES__URL".to_owned(), url.clone())];
        let roles = run("gatewayzen", &["migrate", "--only-roles"], &login).await;
        let told = String::from_utf8_lossy(&roles.stderr);
        assert!(roles.status.success(), "{told}");
        // The first migration, which makes the roles, leaves tables behind that are in the backup too: so they are cleaned away.
        let restore = [
            "--clean",
            "--if-exists",
            "--exit-on-error",
            "--single-transaction",
            "--dbname",
            &url,
            file.to_str().expect("a path"),
        ];
        postgres_tool("pg_restore", &restore).await;
        database
    }
}

/// Runs a program of the Postgres that the tests use to its end.
async fn postgres_tool(program: &str, arguments: &[&str]) {
    let path = Path::new(&dev_env("PG_BIN")).join(program);
    let output = run_program(&path, arguments, &[]).await;
    assert!(
        output.status.success(),
        "{program}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
