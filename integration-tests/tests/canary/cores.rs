//! A service that dies of a signal leaves no core, whatever the limits say.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use integration_tests::harness::{Bed, Options, binary, eventually, free_port};

use crate::secrets::Secrets;
use crate::sources::{files, http_get};

/// Starts a worker in a folder of its own, lets it have a core dump of any size, and ends it by SIGABRT.
async fn abort(bed: &Bed, cwd: &Path, more: &[(&str, &str)]) {
    let port = free_port().await;
    let log = std::fs::File::create(cwd.join("log")).unwrap();
    let mut child = tokio::process::Command::new(binary("wallet-worker"))
        .args(["--config", bed.config.to_str().unwrap()])
        .envs(more.iter().copied())
        .env(
            "GATEWAYZEN_POSTGRES__URL",
            bed.database.url("gatewayzen_wallet_worker"),
        )
        .env("GATEWAYZEN_HEALTH__LISTEN", format!("127.0.0.1:{port}"))
        .current_dir(cwd)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    eventually("the worker to be ready", async || {
        tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        let answer = http_get(port, "/readyz").await.remove(0).1;
        answer.starts_with(b"HTTP/1.1 200").then_some(())
    })
    .await;
    let pid = child.id().unwrap().to_string();
    let run = |program: &str, arguments: Vec<String>| {
        assert!(
            std::process::Command::new(program)
                .args(arguments)
                .status()
                .unwrap()
                .success()
        );
    };
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap_or_default();
    let allowed = more.iter().any(|(name, _)| name.ends_with("CORE_DUMPS"));
    let soft = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .unwrap_or_default();
    assert!(allowed || soft.split_whitespace().nth(4) == Some("0"), "{soft}");
    // What an administrator could have set: the limit alone would not hold.
    if std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0) {
        run(
            "prlimit",
            vec!["--core=unlimited".into(), "--pid".into(), pid.clone()],
        );
    }
    run("kill", vec!["-ABRT".into(), pid]);
    let ended = tokio::time::timeout(Duration::from_secs(30), child.wait())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(ended.code(), None, "it died of the signal");
}

#[tokio::test]
async fn a_service_that_aborts_leaves_no_core_dump() {
    let bed = Bed::new(Options::default()).await;
    let mut secrets = Secrets::default();
    let ring = bed.sealing_keys();
    let key = ring.split_once(':').unwrap().1.trim();
    secrets.add(
        "sealing key",
        base64::engine::general_purpose::STANDARD.decode(key).unwrap(),
    );

    let cwd = tempfile::tempdir().unwrap();
    abort(&bed, cwd.path(), &[]).await;
    let left: Vec<String> = files(cwd.path(), |name| name == "log")
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(left, Vec::<String>::new());

    // The counter-test: where it is allowed, the dump is there, and the search finds the key in it.
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    let here = !pattern.starts_with('|') && !pattern.starts_with('/');
    if here && std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
    {
        let cwd = tempfile::tempdir().unwrap();
        abort(&bed, cwd.path(), &[("GATEWAYZEN_SECRETS__CORE_DUMPS", "true")]).await;
        let cores = files(cwd.path(), |name| name == "log");
        assert_eq!(cores.len(), 1, "no core dump although one is allowed");
        assert!(
            !secrets.search().find(&cores[0].1).is_empty(),
            "the search does not find the key"
        );
    }
}
