//! Sessions and commands, on a real OpenSSH server.

// A test says what it expects by unwrapping it; integration tests need no public documentation.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    unreachable_pub
)]

mod sshd;

use std::os::unix::fs::MetadataExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use integration_tests::harness::eventually;
use russh::keys::HashAlg;
use ssh_worker::command::{Broken, End};
use ssh_worker::session::{ConnectError, Ssh};
use sshd::{Sshd, key};

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn a_command_gives_both_streams_and_its_end() {
    let host = Sshd::start();
    let output = host.run("pwd; echo bad >&2; exit 3", 10).await.unwrap();
    let directory = host.folder.path().canonicalize().unwrap().join("gatewayd");
    assert_eq!(text(&output.stdout).trim(), directory.display().to_string());
    assert_eq!((text(&output.stderr), output.end), ("bad\n", End::Exit(3)));
    // Not by the shell that `timeout` watches, whose end by a signal it would turn into a status.
    let mut line = host.line(":", 10);
    line.text = "kill -KILL $$".into();
    let session = host.connect().await;
    assert_eq!(session.run(&line).await.unwrap().end, End::Signal("KILL".into()));
    // One connection serves many commands.
    assert_eq!(
        session.run(&host.line("echo again", 10)).await.unwrap().stdout,
        b"again\n"
    );
}

#[tokio::test]
async fn another_host_key_is_refused_with_both_fingerprints() {
    let host = Sshd::start();
    let error = host.connect_as(&key(1), key(9).public_key()).await.err().unwrap();
    let (seen, pinned) = (fingerprint(2), fingerprint(9));
    assert!(
        matches!(&error, ConnectError::WrongHostKey { seen: s, pinned: p } if *s == seen && *p == pinned),
        "{error}"
    );
}

#[tokio::test]
async fn an_unknown_fleet_key_is_refused_by_name_and_fingerprint() {
    let host = Sshd::start();
    let error = host.connect_as(&key(3), key(2).public_key()).await.err().unwrap();
    let user = &host.settings.ssh.user;
    assert!(
        matches!(&error, ConnectError::Refused { user: u, key: k } if u == user && *k == fingerprint(3)),
        "{error}"
    );
}

fn fingerprint(seed: u8) -> String {
    key(seed).public_key().fingerprint(HashAlg::Sha256).to_string()
}

#[tokio::test]
async fn a_closed_port_and_a_server_that_says_nothing_are_unreachable() {
    let mut host = Sshd::start();
    host.settings.ssh.connect_timeout = Duration::from_millis(500);
    let unreachable = async |host: &Sshd| match host.connect_as(&key(1), key(2).public_key()).await {
        Err(ConnectError::Unreachable(why)) => why,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("connected"),
    };
    host.signal("STOP");
    let why = unreachable(&host).await;
    host.signal("CONT");
    assert!(why.contains("no login was done within 500ms"), "{why}");
    host.settings.ssh.port = 1;
    let why = unreachable(&host).await;
    assert!(why.contains("refused"), "{why}");
}

#[tokio::test]
async fn a_session_killed_in_mid_command_says_so() {
    let host = Sshd::start();
    let mut line = host.line(":", 10);
    line.text = "echo partial; kill -KILL $PPID; sleep 5".into();
    let error = host.connect().await.run(&line).await.unwrap_err();
    assert!(
        matches!(&error, Broken::Connection { reason, .. } if reason != "no reason known"),
        "{error}"
    );
}

#[tokio::test]
async fn a_session_that_falls_silent_is_noticed_by_its_keepalive() {
    let mut host = Sshd::start();
    host.settings.ssh.keepalive = Duration::from_millis(100);
    let mut line = host.line(":", 60);
    line.text = format!(
        "echo $PPID >{}/stopped; kill -STOP $PPID; sleep 3",
        host.settings.gatewayd.directory
    );
    let error = host.connect().await.run(&line).await.unwrap_err();
    assert!(
        matches!(&error, Broken::Connection { reason, .. } if reason.contains("eepalive")),
        "{error}"
    );
}

#[tokio::test]
async fn a_silent_command_outlives_many_keepalives() {
    let mut host = Sshd::start();
    host.settings.ssh.keepalive = Duration::from_millis(50);
    assert_eq!(
        host.run("sleep 1; echo done", 10).await.unwrap().stdout,
        b"done\n"
    );
}

#[tokio::test]
async fn a_flood_is_cut_off_and_leaves_the_host_free() {
    let mut host = Sshd::start();
    host.settings.ssh.output_limit = 4096;
    let error = host.run("yes no end in sight", 60).await.unwrap_err();
    assert!(
        matches!(&error, Broken::Flood { stream: "standard output", bytes } if *bytes < 1 << 20),
        "{error}"
    );
    let error = host.run("yes no end in sight >&2", 60).await.unwrap_err();
    assert!(
        matches!(
            &error,
            Broken::Flood {
                stream: "standard error",
                ..
            }
        ),
        "{error}"
    );
    // The lock is free, so what flooded has ended.
    let output = host
        .run("head -c 100000 /dev/zero | tr '\\0' '\\n'; echo info: key", 10)
        .await
        .unwrap();
    assert!(output.stdout.len() <= 4096 && output.stdout.ends_with(b"\ninfo: key\n"));
}

#[tokio::test]
async fn the_lock_on_the_host_is_waited_for_and_then_told() {
    let mut host = Sshd::start();
    assert_eq!(host.run("exit 0", 10).await.unwrap().end, End::Exit(0));
    let lock = std::fs::File::open(host.folder.path().join("state/lock")).unwrap();
    lock.lock().unwrap();
    host.settings.gatewayd.lock_timeout = Duration::from_millis(100);
    assert_eq!(host.run("touch ran", 10).await.unwrap().end, End::Exit(75));
    assert!(!host.folder.path().join("gatewayd/ran").exists());
    host.settings.gatewayd.lock_timeout = Duration::from_secs(30);
    let unlock_when_waited_for = async {
        let inode = format!(":{} ", lock.metadata().unwrap().ino());
        let waits = |line: &str| line.contains("->") && line.contains(&inode);
        eventually("the host to wait for the lock", async || {
            let locks = std::fs::read_to_string("/proc/locks").unwrap();
            locks.lines().any(waits).then_some(())
        })
        .await;
        lock.unlock().unwrap();
    };
    let (ran, ()) = tokio::join!(host.run("touch ran", 10), unlock_when_waited_for);
    assert_eq!(ran.unwrap().end, End::Exit(0));
}

#[tokio::test]
async fn a_command_whose_connection_is_lost_keeps_the_lock_until_it_ends() {
    let mut host = Sshd::start();
    let session = host.connect().await;
    let line = host.line(
        "touch begun; until [ -e go ]; do sleep 0.05; done; touch ended",
        60,
    );
    let [begun, go] = ["begun", "go"].map(|name| host.folder.path().join("gatewayd").join(name));
    let until_begun = eventually("the command to begin", async || begun.exists().then_some(()));
    tokio::select! {
        ran = session.run(&line) => panic!("{ran:?}"),
        () = until_begun => {}
    }
    drop(session);
    host.settings.gatewayd.lock_timeout = Duration::ZERO;
    assert_eq!(host.run("exit 0", 10).await.unwrap().end, End::Exit(75));
    std::fs::write(go, "").unwrap();
    host.settings.gatewayd.lock_timeout = Duration::from_secs(20);
    let after = host.run("ls ended", 10).await.unwrap();
    assert_eq!(after.end, End::Exit(0));
}

#[tokio::test]
async fn the_host_ends_a_command_that_takes_too_long() {
    let host = Sshd::start();
    let begun = Instant::now();
    assert_eq!(host.run("sleep 60", 1).await.unwrap().end, End::Exit(124));
    assert_eq!(
        host.run("trap '' TERM; sleep 60; sleep 60", 1).await.unwrap().end,
        End::Exit(137)
    );
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn what_a_command_leaves_running_holds_neither_its_end_nor_the_lock() {
    let mut host = Sshd::start();
    let begun = Instant::now();
    // It keeps the streams open, as a daemon may.
    let output = host
        .run("sleep 20 & echo $! >stopped; echo started", 30)
        .await
        .unwrap();
    assert_eq!((text(&output.stdout), output.end), ("started\n", End::Exit(0)));
    host.settings.gatewayd.lock_timeout = Duration::ZERO;
    assert_eq!(
        host.run("kill -0 $(cat stopped)", 10).await.unwrap().end,
        End::Exit(0)
    );
    assert!(begun.elapsed() < Duration::from_secs(15));
}

#[tokio::test]
async fn one_host_gets_so_many_sessions_and_no_more() {
    let mut host = Sshd::start();
    host.settings.ssh.sessions_per_host = 1;
    host.settings.ssh.connect_timeout = Duration::from_millis(1500);
    let ssh = Ssh::new(&host.settings.ssh, sshd::pem(&key(1)).as_bytes()).unwrap();
    let (host_key, reach) = (key(2), Duration::from_secs(5));
    let first = ssh
        .connect(&host.address, host_key.public_key(), reach)
        .await
        .unwrap();
    let error = ssh
        .connect(&host.address, host_key.public_key(), reach)
        .await
        .err()
        .unwrap();
    assert!(
        error.to_string().contains("1 sessions to it are open already"),
        "{error}"
    );
    drop(first);
    assert!(
        ssh.connect(&host.address, host_key.public_key(), reach)
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn an_rsa_key_in_pem_logs_in_and_one_with_a_passphrase_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let make = |name: &str, passphrase: &str| {
        let file = folder.path().join(name);
        let made = Command::new("ssh-keygen")
            .args([
                "-q", "-t", "rsa", "-b", "2048", "-m", "PEM", "-N", passphrase, "-f",
            ])
            .arg(&file)
            .status();
        assert!(made.unwrap().success());
        (
            std::fs::read(&file).unwrap(),
            std::fs::read_to_string(file.with_extension("pub")).unwrap(),
        )
    };
    let (private, public) = make("plain", "");
    let host = Sshd::letting_in(&public);
    let ssh = Ssh::new(&host.settings.ssh, &private).unwrap();
    let session = ssh
        .connect(&host.address, key(2).public_key(), Duration::from_secs(5))
        .await
        .unwrap();
    assert_eq!(
        session.run(&host.line("echo in", 10)).await.unwrap().stdout,
        b"in\n"
    );

    let (private, _) = make("closed", "secret");
    let error = Ssh::new(&host.settings.ssh, &private).err().unwrap();
    assert!(error.contains("passphrase"), "{error}");
    let error = Ssh::new(&host.settings.ssh, b"not a key, but 5ecret")
        .err()
        .unwrap();
    assert!(
        error.contains("not a private key") && !error.contains("5ecret"),
        "{error}"
    );
}
