//! Rows that have secrets, and the key rings that seal them.

use std::path::PathBuf;

use futures_util::future::join_all;
use gatewayzen_core::State;
use gatewayzen_core::seal::KeyRing;
use integration_tests::harness::{Bed, run};

pub(crate) fn line(id: &str) -> String {
    let line = KeyRing::generate_line(id).unwrap();
    line.expose_str().unwrap().to_owned()
}

pub(crate) fn folder(bed: &Bed) -> PathBuf {
    bed.config.parent().unwrap().to_owned()
}

/// The keys that seal from the next start of a process on. Renamed into place: no process ever reads half of them.
pub(crate) fn set_keys(bed: &Bed, lines: &[&str]) {
    let (file, whole) = (folder(bed).join("sealing_keys"), folder(bed).join("whole"));
    std::fs::write(&whole, lines.join("\n")).unwrap();
    std::fs::rename(whole, file).unwrap();
}

pub(crate) async fn walk(bed: &Bed, id: i64, to: State, ends_in: State) {
    bed.write_state(id, to).await.unwrap();
    bed.reached(id, ends_in).await;
}

pub(crate) async fn live(bed: &Bed, names: &[String]) -> Vec<i64> {
    join_all(names.iter().map(async |name| {
        let id = bed.launch(name).await;
        bed.reached(id, State::Live).await;
        id
    }))
    .await
}

/// What an operator's command says, however it ends: its exit code, standard output, and standard error.
pub(crate) async fn said(bed: &Bed, arguments: &[&str]) -> (Option<i32>, String, String) {
    let login = bed.database.url("gatewayzen_operator");
    let mut environment = bed.environment.clone();
    environment.push(("GATEWAYZEN_POSTGRES__URL".to_owned(), login));
    let config = bed.config.to_str().unwrap();
    let done = run(
        "gatewayzen",
        &[&["--config", config][..], arguments].concat(),
        &environment,
    )
    .await;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (done.status.code(), text(&done.stdout), text(&done.stderr))
}

/// A row on hold whose machine runs, and no more: its user data is still sealed, which the step `key` erases.
pub(crate) async fn half_launched(bed: &Bed) -> i64 {
    let _services = [bed.start("dispatcher"), bed.start("instance-worker")];
    let id = bed.launch("half").await;
    bed.reached(id, State::Key).await;
    bed.gatewayzen(&["hold", "half", "--reason", "a test"])
        .await
        .unwrap();
    id
}

pub(crate) fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{prefix}-{n}")).collect()
}
