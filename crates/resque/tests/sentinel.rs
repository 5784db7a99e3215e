//! A worker follows a failover that Sentinel decides.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)] // tests

mod common;

use std::{
    net::TcpListener,
    process::{Command, Stdio},
    time::Duration,
};

use common::{Process, Running, job, next, quick, until};
use resque::{Config, Queue};

fn start(dir: &tempfile::TempDir, args: &[&str]) -> Process {
    let child = Command::new("redis-server")
        .args(args)
        .current_dir(dir.path())
        .stdout(Stdio::null())
        .spawn();
    Process(child.unwrap())
}

/// Ports that are free; all are held until all are known.
fn ports<const N: usize>() -> [String; N] {
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port().to_string())
}

async fn ask(port: &str, command: &[&str]) -> Option<String> {
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}")).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.ok()?;
    let mut asked = redis::cmd(command[0]);
    asked.arg(&command[1..]).query_async(&mut connection).await.ok()
}

#[tokio::test]
async fn a_worker_follows_a_failover() {
    let dir = tempfile::tempdir().unwrap();
    let [first, second, sentinel] = ports();
    let common = ["--bind", "127.0.0.1", "--save", ""];
    let server = [&common[..], &["--port", &first]].concat();
    let master = start(&dir, &server);
    until("the first server answers", async || {
        ask(&first, &["PING"]).await.is_some()
    })
    .await;
    let of = format!("127.0.0.1 {first}");
    let args = [
        &common[..],
        &[
            "--port",
            &second,
            "--replicaof",
            &of,
            "--repl-diskless-sync-delay",
            "0",
        ],
    ]
    .concat();
    let _replica = start(&dir, &args);
    until("the second follows it", async || {
        let info = ask(&second, &["INFO", "replication"]).await;
        info.is_some_and(|info| info.contains("master_link_status:up"))
    })
    .await;
    let settings = format!(
        "port {sentinel}\nbind 127.0.0.1\nsentinel monitor main 127.0.0.1 {first} 1\n\
         sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 2000\n"
    );
    std::fs::write(dir.path().join("sentinel.conf"), settings).unwrap();
    let _sentinel = start(&dir, &["sentinel.conf", "--sentinel"]);
    until("Sentinel knows both", async || {
        let info = ask(&sentinel, &["INFO", "sentinel"]).await;
        info.is_some_and(|info| info.contains("status=ok") && info.contains("slaves=1"))
    })
    .await;

    let config = Config {
        url: format!("redis+sentinel://127.0.0.1:{sentinel}/main"),
        connect_timeout: Duration::from_millis(500),
        ..Config::default()
    };
    let queue = Queue::connect(&config).await.unwrap();
    let mut worker = Running::start(&queue, quick(&["q"]));
    queue.push("q", &job("C", 1)).await.unwrap();
    assert_eq!(next(&mut worker.jobs).await.raw, job("C", 1));
    until("the replica has it all", async || {
        ask(&second, &["GET", "resque:stat:processed"]).await.is_some()
    })
    .await;
    drop(master);
    until("a push succeeds again", async || {
        queue.push("q", &job("C", 2)).await.is_ok()
    })
    .await;
    // A job that was in hand when the first server died may come again.
    while next(&mut worker.jobs).await.raw != job("C", 2) {}
    assert_eq!(ask(&second, &["GET", "resque:stat:failed"]).await, None);
    worker.stop().await;
}
