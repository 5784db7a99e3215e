use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use redis::{cmd, pipe};

use crate::{
    Config, Error,
    connection::{Redis, Request},
};

/// A handle on the queues of one namespace. Clones share one connection.
///
/// A connection that breaks is made again by the next call, for as long as it takes; the beginning and
/// the end of an outage are logged once. A call that meets a broken connection is repeated once, so a
/// [`Queue::push`] may in that case push twice.
#[derive(Clone)]
pub struct Queue {
    pub(crate) redis: Redis,
    pub(crate) prefix: Arc<str>,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue")
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

impl Queue {
    /// Connects, and sees that Redis answers.
    ///
    /// # Errors
    /// [`Error::Config`] when the configuration cannot work; any other when Redis is not there, refuses
    /// the log-in or does not answer, within `connect_timeout`.
    pub async fn connect(config: &Config) -> Result<Self, Error> {
        let queue = Self::connect_lazy(config)?;
        queue.redis.connect().await?;
        queue.ping().await?;
        Ok(queue)
    }

    /// A handle that connects when it is first used, so that a service may start before its Redis.
    ///
    /// # Errors
    /// [`Error::Config`] when the configuration cannot work.
    pub fn connect_lazy(config: &Config) -> Result<Self, Error> {
        Ok(Self {
            redis: Redis::new(config)?,
            prefix: format!("{}:", config.namespace).into(),
        })
    }

    /// Asks for a sign of life, and says how long the answer took.
    ///
    /// # Errors
    /// When Redis cannot be asked.
    pub async fn ping(&self) -> Result<Duration, Error> {
        let asked = Instant::now();
        let () = self.redis.call(Request::Command(&cmd("PING"))).await?;
        Ok(asked.elapsed())
    }

    /// The server's clock, as time since 1970. Leases run by it.
    ///
    /// # Errors
    /// When Redis cannot be asked.
    pub async fn server_time(&self) -> Result<Duration, Error> {
        let (seconds, micros): (u64, u64) = self.redis.call(Request::Command(&cmd("TIME"))).await?;
        Ok(Duration::from_secs(seconds) + Duration::from_micros(micros))
    }

    /// Appends a job to a queue. Keys: `queues`, `queue:NAME`.
    ///
    /// # Errors
    /// When Redis cannot be asked; after [`Error::Timeout`] the job may have been pushed all the same.
    pub async fn push(&self, queue: &str, payload: &[u8]) -> Result<(), Error> {
        let mut pipeline = pipe();
        pipeline.atomic();
        pipeline.sadd(self.key("queues"), queue).ignore();
        pipeline
            .rpush(self.key(&format!("queue:{queue}")), payload)
            .ignore();
        self.redis.call(Request::Pipeline(&pipeline)).await
    }

    /// The number of jobs waiting in a queue.
    ///
    /// # Errors
    /// When Redis cannot be asked.
    pub async fn len(&self, queue: &str) -> Result<usize, Error> {
        let command = cmd("LLEN").arg(self.key(&format!("queue:{queue}"))).to_owned();
        self.redis.call(Request::Command(&command)).await
    }

    /// Up to `count` waiting jobs from place `start` on (0 is the next to run), without taking them.
    ///
    /// # Errors
    /// When Redis cannot be asked.
    pub async fn peek(&self, queue: &str, start: usize, count: usize) -> Result<Vec<Vec<u8>>, Error> {
        self.range(&format!("queue:{queue}"), start, count).await
    }

    /// The names of all queues that were ever pushed to, sorted.
    ///
    /// # Errors
    /// When Redis cannot be asked.
    pub async fn queues(&self) -> Result<Vec<String>, Error> {
        let command = cmd("SMEMBERS").arg(self.key("queues")).to_owned();
        let names: Vec<Vec<u8>> = self.redis.call(Request::Command(&command)).await?;
        let mut names: Vec<String> = names
            .into_iter()
            .map(|name| String::from_utf8_lossy(&name).into_owned())
            .collect();
        names.sort();
        Ok(names)
    }

    /// Whether somebody has paused all workers (`pause-all-workers`).
    ///
    /// # Errors
    /// When Redis cannot be asked.
    pub async fn is_paused(&self) -> Result<bool, Error> {
        let command = cmd("GET").arg(self.key("pause-all-workers")).to_owned();
        let value: Option<Vec<u8>> = self.redis.call(Request::Command(&command)).await?;
        Ok(value.is_some_and(|value| value.trim_ascii().eq_ignore_ascii_case(b"true")))
    }

    /// Whether the server writes every command to a file before long (`appendonly`); `None` when it does
    /// not tell.
    ///
    /// # Errors
    /// When Redis cannot be asked.
    pub async fn appends_to_file(&self) -> Result<Option<bool>, Error> {
        let command = cmd("INFO").arg("persistence").to_owned();
        let told: Vec<u8> = self.redis.call(Request::Command(&command)).await?;
        let told = String::from_utf8_lossy(&told);
        Ok(told
            .lines()
            .find_map(|line| line.trim().strip_prefix("aof_enabled:"))
            .map(|value| value == "1"))
    }

    /// The numbers of attempts that ended and that failed (`stat:processed`, `stat:failed`), of all
    /// clients together.
    ///
    /// # Errors
    /// When Redis cannot be asked.
    pub async fn stats(&self) -> Result<(u64, u64), Error> {
        let mut command = cmd("MGET");
        command
            .arg(self.key("stat:processed"))
            .arg(self.key("stat:failed"));
        let (processed, failed): (Option<u64>, Option<u64>) =
            self.redis.call(Request::Command(&command)).await?;
        Ok((processed.unwrap_or(0), failed.unwrap_or(0)))
    }

    pub(crate) fn key(&self, rest: &str) -> String {
        format!("{}{rest}", self.prefix)
    }

    pub(crate) async fn range(&self, key: &str, start: usize, count: usize) -> Result<Vec<Vec<u8>>, Error> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let mut command = cmd("LRANGE");
        command
            .arg(self.key(key))
            .arg(start)
            .arg(start.saturating_add(count - 1));
        self.redis.call(Request::Command(&command)).await
    }
}
