//! A Redis of each test's own, and handlers that say what they see.
#![allow(dead_code, unreachable_pub)] // Each test file uses its own part.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use redis::aio::MultiplexedConnection;
use resque::{Config, Error, Failure, Gate, Handler, Job, Queue, WorkerConfig};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;

/// A private redis-server on a socket in a folder of its own; it ends with the test.
pub struct Server {
    child: Process,
    dir: tempfile::TempDir,
}

impl Server {
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = Self {
            child: spawn(&dir),
            dir,
        };
        server.answers().await;
        server
    }

    async fn answers(&self) {
        until("redis-server answers", async || {
            Queue::connect(&self.config()).await.is_ok()
        })
        .await;
    }

    /// Ends the server as a crash would. What was written stays on its disk.
    pub fn kill(&mut self) {
        self.child.0.kill().unwrap();
        self.child.0.wait().unwrap();
    }

    pub async fn start_again(&mut self) {
        self.child = spawn(&self.dir);
        self.answers().await;
    }

    pub fn config(&self) -> Config {
        let socket: PathBuf = self.dir.path().join("redis.sock");
        Config {
            url: format!("redis+unix://{}", socket.display()),
            namespace: "{resque}".to_owned(),
            ..Config::default()
        }
    }

    pub async fn queue(&self) -> Queue {
        Queue::connect(&self.config()).await.unwrap()
    }

    /// Another client: sends any command, and answers with the result.
    pub async fn raw<T: redis::FromRedisValue>(&self, command: &str, args: &[&[u8]]) -> T {
        redis::cmd(command)
            .arg(args)
            .query_async(&mut connect(&self.config().url).await)
            .await
            .unwrap()
    }

    pub async fn keys(&self, pattern: &str) -> Vec<String> {
        self.raw("KEYS", &[pattern.as_bytes()]).await
    }
}

fn spawn(dir: &tempfile::TempDir) -> Process {
    let child = Command::new("redis-server")
        .args([
            "--port",
            "0",
            "--unixsocket",
            "redis.sock",
            "--save",
            "",
            "--appendonly",
            "yes",
        ])
        .args(["--appendfsync", "always", "--dir"])
        .arg(dir.path())
        .stdout(Stdio::null())
        .spawn();
    Process(child.expect("redis-server must be installed (apt-get install redis-server)"))
}

/// A process that ends with its test.
pub struct Process(pub Child);

impl Process {
    /// This same program again, as the worker process that its test `child_worker` is.
    pub fn worker(server: &Server) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--ignored", "child_worker"])
            .env("RESQUE_TEST_URL", server.config().url)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }
}

impl Drop for Process {
    /// Ends it with SIGKILL.
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A connection beside our client's, with more patience than the crate's half a second, which is little on a busy machine.
pub async fn connect(url: &str) -> MultiplexedConnection {
    let client = redis::Client::open(url).unwrap();
    let patient = redis::AsyncConnectionConfig::new()
        .set_connection_timeout(Some(Duration::from_secs(30)))
        .set_response_timeout(Some(Duration::from_secs(30)));
    let connection = client.get_multiplexed_async_connection_with_config(&patient);
    connection.await.unwrap()
}

/// Waits for something to become true, up to half a minute.
pub async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let limit = Instant::now() + Duration::from_secs(30);
    while !condition().await {
        assert!(Instant::now() < limit, "never came true: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits for the next job, up to half a minute.
pub async fn next(jobs: &mut mpsc::UnboundedReceiver<Job>) -> Job {
    let job = tokio::time::timeout(Duration::from_secs(30), jobs.recv()).await;
    job.expect("no job came").expect("the worker is gone")
}

/// A worker's settings that make a test quick.
pub fn quick(queues: &[&str]) -> WorkerConfig {
    WorkerConfig {
        queues: queues.iter().map(|q| (*q).to_owned()).collect(),
        slots: 4,
        lease: Duration::from_millis(600),
        heartbeat: Duration::from_millis(100),
        drain: Duration::from_secs(10),
        poll: Duration::from_millis(100),
        ..WorkerConfig::default()
    }
}

/// Reports each job it begins, and does what the class says.
pub struct ByClass {
    began: mpsc::UnboundedSender<Job>,
    pub ended: Arc<AtomicUsize>,
    release: CancellationToken,
}

impl Handler for ByClass {
    async fn run(&self, job: Job) -> Result<(), Failure> {
        let class = job.class.clone();
        self.began.send(job).ok();
        let outcome = match class.as_str() {
            "fail" => Err(Failure::new("Broken", "it broke")),
            "fail_as" => Err(Failure {
                payload: Some(br#"{"class":"fail_as","args":["other"]}"#.to_vec()),
                ..Failure::new("Broken", "it broke")
            }),
            "panic" => panic!("it fell over"),
            "hang" => std::future::pending().await,
            "held" => {
                self.release.cancelled().await;
                Ok(())
            }
            // Longer than three leases of a `quick` worker.
            "slow" => {
                tokio::time::sleep(Duration::from_secs(2)).await;
                Ok(())
            }
            _ => Ok(()),
        };
        self.ended.fetch_add(1, Ordering::SeqCst);
        outcome
    }
}

/// A worker that runs in a task.
pub struct Running {
    pub jobs: mpsc::UnboundedReceiver<Job>,
    pub ended: Arc<AtomicUsize>,
    pub gate: Gate,
    pub shutdown: CancellationToken,
    /// Jobs of the class `held` end when it is cancelled.
    pub release: CancellationToken,
    task: JoinHandle<Result<(), Error>>,
}

impl Running {
    pub fn start(queue: &Queue, config: WorkerConfig) -> Self {
        let (began, jobs) = mpsc::unbounded_channel();
        let ended = Arc::new(AtomicUsize::new(0));
        let release = CancellationToken::new();
        let handler = ByClass {
            began,
            ended: ended.clone(),
            release: release.clone(),
        };
        let (gate, shutdown) = (Gate::new(), CancellationToken::new());
        let work = resque::work(queue.clone(), config, handler, gate.clone(), shutdown.clone());
        Self {
            jobs,
            ended,
            gate,
            shutdown,
            release,
            task: tokio::spawn(work),
        }
    }

    pub async fn stop(self) {
        self.shutdown.cancel();
        let stopped = tokio::time::timeout(Duration::from_secs(30), self.task).await;
        stopped.expect("the worker does not stop").unwrap().unwrap();
    }
}

pub fn job(class: &str, arg: u64) -> Vec<u8> {
    resque::payload(class, &[arg.into()])
}

/// Waits until every job that `queue` knows of has ended.
pub async fn all_done(server: &Server, queue: &Queue, names: &[&str]) {
    until("all jobs have ended", async || {
        for name in names {
            if queue.len(name).await.unwrap() > 0 {
                return false;
            }
        }
        server.keys("*inflight:*").await.is_empty()
    })
    .await;
}
