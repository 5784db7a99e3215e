//! A Redis, our client, and workers and a scheduler of ours in the test's process.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use integration_tests::harness::{RedisServer, eventually, redis_connection};
use redis::aio::MultiplexedConnection;
use resque::{Config, Failure, Gate, Handler, Job, Push, Queue, WorkerConfig, payload, schedule, work};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The namespace of all tests: pyres knows no other.
pub(crate) const NAMESPACE: &str = "resque";
/// A class that is one for Python too.
pub(crate) const CLASS: &str = "jobs.Record";

pub(crate) struct Stand {
    pub(crate) url: String,
    pub(crate) queue: Queue,
    /// A connection beside the client's.
    pub(crate) redis: MultiplexedConnection,
    _server: RedisServer,
}

impl Stand {
    pub(crate) async fn new() -> Stand {
        let mut server = RedisServer::new().await;
        server.start().await;
        let config = Config {
            url: server.url(),
            namespace: NAMESPACE.to_owned(),
            ..Config::default()
        };
        Stand {
            url: config.url.clone(),
            queue: Queue::connect(&config).await.unwrap(),
            redis: redis_connection(&config.url).await,
            _server: server,
        }
    }

    /// Pushes jobs of [`CLASS`] with these numbers.
    pub(crate) async fn push(&self, queue: &str, numbers: std::ops::Range<usize>) {
        let jobs: Vec<Push> = numbers
            .map(|number| Push {
                queue: queue.to_owned(),
                payload: payload(CLASS, &[number.into()]),
            })
            .collect();
        self.queue.push_many(&jobs).await.unwrap();
    }

    /// Starts a worker of ours, and waits until it is registered.
    pub(crate) async fn work(&self, queues: &[&str], slots: usize, recorder: &Arc<Recorder>) -> Running {
        let before = self.registered().await.len();
        let config = WorkerConfig {
            queues: queues.iter().map(|name| (*name).to_owned()).collect(),
            slots,
            // Short, so that what happens at their ends happens in a test.
            heartbeat: HEARTBEAT,
            lease: LEASE,
            ..WorkerConfig::default()
        };
        let stop = CancellationToken::new();
        let (queue, recorder) = (self.queue.clone(), recorder.clone());
        let work = work(queue, config, recorder, Gate::new(), stop.clone());
        let task = tokio::spawn(async { work.await.unwrap() });
        eventually("our worker to be registered", async || {
            (self.registered().await.len() == before + slots).then_some(())
        })
        .await;
        Running { stop, task }
    }

    /// Starts a scheduler of ours.
    pub(crate) fn schedule(&self) -> Running {
        let stop = CancellationToken::new();
        let task = tokio::spawn(schedule(self.queue.clone(), stop.clone()));
        Running { stop, task }
    }

    /// The ids of all registered workers, whoever's.
    pub(crate) async fn registered(&self) -> HashSet<String> {
        let workers = self.queue.workers().await.unwrap();
        workers.into_iter().map(|worker| worker.id).collect()
    }

    /// The numbers of the jobs that another client's worker has done.
    pub(crate) async fn done_by(&self, peer: crate::peers::Peer) -> Vec<usize> {
        let mut command = redis::cmd("LRANGE");
        command.arg(peer.done_list()).arg(0).arg(-1);
        command.query_async(&mut self.redis.clone()).await.unwrap()
    }

    /// The names of the keys that match a pattern.
    pub(crate) async fn keys(&self, pattern: &str) -> Vec<String> {
        let mut command = redis::cmd("KEYS");
        command.arg(pattern);
        command.query_async(&mut self.redis.clone()).await.unwrap()
    }
}

pub(crate) const HEARTBEAT: Duration = Duration::from_millis(300);
pub(crate) const LEASE: Duration = Duration::from_millis(1500);

/// A worker or a scheduler of ours.
pub(crate) struct Running {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    /// Has it stop in order.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

/// Notes the jobs that it gets.
#[derive(Default)]
pub(crate) struct Recorder {
    /// How long a job takes.
    pub(crate) takes: Duration,
    /// While set, jobs fail.
    pub(crate) failing: AtomicBool,
    /// While set, jobs wait for its end.
    pub(crate) held: Option<CancellationToken>,
    pub(crate) done: Mutex<Vec<Job>>,
}

impl Handler for Recorder {
    async fn run(&self, job: Job) -> Result<(), Failure> {
        tokio::time::sleep(self.takes).await;
        if let Some(held) = &self.held {
            held.cancelled().await;
        }
        if self.failing.load(Ordering::SeqCst) {
            return Err(Failure::new("OutOfPaper", "the printer “Ψ” has no paper: \"A4\""));
        }
        self.done.lock().unwrap().push(job);
        Ok(())
    }
}

impl Recorder {
    pub(crate) fn new() -> Arc<Recorder> {
        Arc::default()
    }

    pub(crate) fn jobs(&self) -> Vec<Job> {
        self.done.lock().unwrap().clone()
    }

    /// The first argument of each job done.
    pub(crate) fn numbers(&self) -> Vec<usize> {
        let number = |job: &Job| job.args[0].as_u64().unwrap() as usize;
        self.done.lock().unwrap().iter().map(number).collect()
    }

    /// Waits for so many jobs to be done, and sees that they are those from 0 on, each once.
    pub(crate) async fn has_done(&self, count: usize) {
        eventually(&format!("{count} jobs to be done"), async || {
            (self.numbers().len() >= count).then_some(())
        })
        .await;
        each_once(self.numbers(), count);
    }
}

/// Sees that the numbers are those from 0 to `count`, each once.
pub(crate) fn each_once(mut numbers: Vec<usize>, count: usize) {
    numbers.sort_unstable();
    assert_eq!(numbers, (0..count).collect::<Vec<_>>());
}
