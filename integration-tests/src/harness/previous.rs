//! The previous release: its binaries, as `deploy/dev/previous` built them from history.

use std::io::Write as _;
use std::path::PathBuf;

use super::stand::{SERVICES, Stand};
use super::{Database, ServiceProcess, dev_folder};

/// The commit that stands for it, among comments.
const COMMIT: &str = include_str!("../../previous-release");

/// The previous release.
pub struct Previous {
    folder: PathBuf,
}

impl Previous {
    /// `None`, which is said aloud, where there is no history to build it from.
    ///
    /// # Panics
    /// Where nobody has tried to build it: a test that needs it is not skipped for that.
    pub fn find() -> Option<Previous> {
        let commit = COMMIT
            .lines()
            .find(|line| !line.starts_with('#'))
            .expect("a commit");
        let folder = dev_folder().join("previous").join(commit);
        if folder.is_dir() {
            return Some(Previous { folder });
        }
        let why = std::fs::read_to_string(folder.with_extension("skipped")).unwrap_or_else(|_| {
            panic!("the previous release {commit} is not built: run deploy/dev/previous, or `make test`")
        });
        let thread = std::thread::current();
        let test = thread.name().unwrap_or("a test of two versions");
        // Not by a macro, whose words are not shown of a test that passes.
        let told = writeln!(std::io::stderr(), "SKIPPED: {test}: {}", why.trim());
        told.expect("standard error");
        None
    }

    fn binary(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A new database with its schema, in the Postgres whose superuser has this URL.
    pub async fn database(&self, admin_url: &str) -> Database {
        Database::migrated_by(&self.binary("gatewayzen"), admin_url).await
    }

    /// Starts one of its services.
    pub fn start(&self, stand: &Stand, name: &str) -> ServiceProcess {
        stand.start_program(&self.binary(name), name, &[])
    }

    /// Starts all four.
    pub fn start_all(&self, stand: &Stand) -> Vec<ServiceProcess> {
        SERVICES.iter().map(|name| self.start(stand, name)).collect()
    }
}
