//! Who is registered, and what they are doing.

use std::time::Duration;

use redis::{cmd, pipe};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{Error, Queue, clock, connection::Request};

/// A registered worker of any client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerInfo {
    /// The whole id.
    pub id: String,
    /// The host part of the id.
    pub host: String,
    /// The process part of the id: a pid, for us `pid+slot`.
    pub pid: String,
    /// The queues it listens on, in order; `*` is all.
    pub queues: Vec<String>,
    /// When it started, in its client's own form.
    pub started: Option<String>,
    /// How long since its last heartbeat. `None` for clients that have none; this crate's beats every
    /// [`heartbeat`](crate::WorkerConfig::heartbeat), Ruby's every minute.
    pub silent_for: Option<Duration>,
    /// What it is doing; `None` when it is idle.
    pub working: Option<Working>,
}

/// What a worker is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Working {
    /// The queue that the job came from.
    pub queue: String,
    /// When it began, in its client's own form.
    pub run_at: String,
    /// The job, as JSON.
    pub payload: Vec<u8>,
}

impl WorkerInfo {
    /// Whether it listens on this queue. Other clients' patterns besides `*` are not looked into.
    #[must_use]
    pub fn listens_on(&self, queue: &str) -> bool {
        self.queues.iter().any(|name| name == "*" || name == queue)
    }

    pub(crate) fn read(id: String) -> Self {
        let mut parts = id.splitn(3, ':');
        let mut part = || parts.next().unwrap_or_default().to_owned();
        let (host, pid, queues) = (part(), part(), part());
        Self {
            queues: queues
                .split(',')
                .filter(|q| !q.is_empty())
                .map(str::to_owned)
                .collect(),
            id,
            host,
            pid,
            started: None,
            silent_for: None,
            working: None,
        }
    }
}

impl Working {
    pub(crate) fn read(text: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Wire<'a> {
            #[serde(default)]
            queue: String,
            #[serde(default)]
            run_at: serde_json::Value,
            #[serde(borrow)]
            payload: Option<&'a RawValue>,
        }
        let wire: Wire<'_> = serde_json::from_slice(text).ok()?;
        Some(Self {
            queue: wire.queue,
            run_at: match wire.run_at {
                serde_json::Value::String(text) => text,
                other => other.to_string(),
            },
            payload: wire
                .payload
                .map(|p| p.get().as_bytes().to_vec())
                .unwrap_or_default(),
        })
    }
}

impl Queue {
    /// All registered workers, sorted by id, whatever client they run on. Keys: `workers`, `worker:ID`,
    /// `worker:ID:started`, `workers:heartbeat`.
    ///
    /// A worker that was killed stays registered for a while; [`WorkerInfo::silent_for`] tells.
    ///
    /// # Errors
    /// When Redis cannot be asked.
    pub async fn workers(&self) -> Result<Vec<WorkerInfo>, Error> {
        let command = cmd("SMEMBERS").arg(self.key("workers")).to_owned();
        let members: Vec<Vec<u8>> = self.redis.call(Request::Command(&command)).await?;
        let mut ids: Vec<String> = members
            .into_iter()
            .map(|id| String::from_utf8_lossy(&id).into_owned())
            .collect();
        ids.sort();
        let now = self.server_time().await?;
        let mut workers = Vec::with_capacity(ids.len());
        for ids in ids.chunks(500) {
            let (mut doing, mut started, mut beats) = (cmd("MGET"), cmd("MGET"), cmd("HMGET"));
            beats.arg(self.key("workers:heartbeat"));
            for id in ids {
                doing.arg(self.key(&format!("worker:{id}")));
                started.arg(self.key(&format!("worker:{id}:started")));
                beats.arg(id);
            }
            let mut pipeline = pipe();
            pipeline
                .add_command(doing)
                .add_command(started)
                .add_command(beats);
            type Texts = Vec<Option<Vec<u8>>>;
            let (doing, started, beats): (Texts, Texts, Texts) =
                self.redis.call(Request::Pipeline(&pipeline)).await?;
            let facts = doing.into_iter().zip(started).zip(beats);
            for (id, ((doing, started), beat)) in ids.iter().zip(facts) {
                let mut worker = WorkerInfo::read(id.clone());
                worker.working = doing.as_deref().and_then(Working::read);
                worker.started = started.map(|s| String::from_utf8_lossy(&s).into_owned());
                worker.silent_for = beat
                    .and_then(|beat| clock::parse_heartbeat(&String::from_utf8_lossy(&beat)))
                    .and_then(|beat| u64::try_from(beat).ok())
                    .map(|beat| Duration::from_secs(now.as_secs().saturating_sub(beat)));
                workers.push(worker);
            }
        }
        Ok(workers)
    }
}
