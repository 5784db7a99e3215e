//! Independent programs from npm: peers and judges that nobody here wrote.

use std::path::PathBuf;

use tokio::process::Command;
use tokio::sync::Mutex;

use super::dev_folder;

static INSTALLING: Mutex<()> = Mutex::const_new(());

/// The folder of a peer, outside the tracked tree, with its packages installed as its lock file says.
pub async fn npm_folder(name: &str) -> PathBuf {
    let _one_at_a_time = INSTALLING.lock().await;
    let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name);
    let folder = dev_folder().join(name);
    std::fs::create_dir_all(&folder).expect("a folder");
    for entry in std::fs::read_dir(&source).unwrap_or_else(|e| panic!("{}: {e}", source.display())) {
        let entry = entry.expect("an entry");
        let copy = folder.join(entry.file_name());
        // Another test may just be starting what is there: a file that is as it should be is not written again.
        let content = std::fs::read(entry.path()).expect("a file");
        if std::fs::read(&copy).ok().as_ref() != Some(&content) {
            std::fs::write(copy, content).expect("a copy");
        }
    }
    let lock = std::fs::read(source.join("package-lock.json")).expect("a lock file");
    // Written after npm has ended, so an installation that was interrupted is made again.
    let stamp = folder.join("installed.json");
    if std::fs::read(&stamp).is_ok_and(|installed| installed == lock) {
        return folder;
    }
    let npm = Command::new("npm")
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
        .current_dir(&folder)
        .output()
        .await
        .expect("npm is installed by `make setup`");
    assert!(
        npm.status.success(),
        "npm ci in {}: {}",
        folder.display(),
        String::from_utf8_lossy(&npm.stderr)
    );
    std::fs::write(&stamp, lock).expect("a stamp");
    folder
}

/// Runs a peer's `peer.mjs` to its end; its standard output.
pub async fn npm_peer(name: &str, arguments: &[&str]) -> String {
    let folder = npm_folder(name).await;
    let node = Command::new("node")
        .arg("peer.mjs")
        .args(arguments)
        .current_dir(&folder)
        .output();
    let node = tokio::time::timeout(super::PATIENCE, node)
        .await
        .expect("node to end")
        .expect("node");
    assert!(
        node.status.success(),
        "{name} {arguments:?}: {}",
        String::from_utf8_lossy(&node.stderr)
    );
    String::from_utf8_lossy(&node.stdout).into_owned()
}
