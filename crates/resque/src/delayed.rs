//! Jobs for later: the schedule as resque-scheduler and node-resque keep it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use redis::cmd;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    Error, Queue,
    beat::millis,
    connection::Request,
    scripts::{self, PUSH_AT, SCHEDULE},
};

impl Queue {
    /// Schedules a job. A scheduler ([`schedule`](crate::schedule), Ruby's or node-resque's) pushes it to
    /// its queue when `when` has come by the server's clock: up to a second later, never earlier. One that
    /// is due already is pushed at once. Answers the second, since 1970, for which it is scheduled, or
    /// `None` when it was pushed. Keys: `delayed_queue_schedule`, `delayed:TS`, `timestamps:PAYLOAD`, or
    /// `queues` and `queue:NAME`.
    ///
    /// Ruby's scheduler keeps nothing of a job but its class and arguments; this crate's keeps its bytes.
    ///
    /// # Errors
    /// [`Error::NotDelayable`] when the payload is not a JSON object with a class, or names another queue;
    /// and when Redis cannot be asked (after [`Error::Timeout`], or where a connection broke, the job may
    /// be scheduled all the same, or twice).
    pub async fn push_at(&self, queue: &str, payload: &[u8], when: SystemTime) -> Result<Option<u64>, Error> {
        let since = when.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.push_delayed("at", since, queue, payload).await
    }

    /// Schedules a job for `delay` from now, by the server's clock; otherwise as
    /// [`push_at`](Self::push_at).
    ///
    /// # Errors
    /// As [`push_at`](Self::push_at).
    pub async fn push_in(&self, queue: &str, payload: &[u8], delay: Duration) -> Result<Option<u64>, Error> {
        self.push_delayed("in", delay, queue, payload).await
    }

    async fn push_delayed(
        &self,
        from: &str,
        time: Duration,
        queue: &str,
        payload: &[u8],
    ) -> Result<Option<u64>, Error> {
        let mut call = scripts::call(&PUSH_AT, &self.prefix);
        // Lua counts exactly up to 2^53; this is the year 9999.
        let time = millis(time).min(253_402_300_799_000);
        call.arg(from)
            .arg(time)
            .arg(queue)
            .arg(payload)
            .arg(scheduled(queue, payload)?);
        let second: u64 = self.redis.call(Request::Script(&call)).await?;
        Ok((second > 0).then_some(second))
    }

    /// The number of seconds for which anything is scheduled. Key: `delayed_queue_schedule`.
    ///
    /// # Errors
    /// When Redis cannot be asked.
    pub async fn delayed_count(&self) -> Result<usize, Error> {
        let command = cmd("ZCARD").arg(self.key(SCHEDULE)).to_owned();
        self.redis.call(Request::Command(&command)).await
    }

    /// Up to `count` of the seconds (since 1970) for which jobs are scheduled, from place `start` on (0 is
    /// the next). Key: `delayed_queue_schedule`.
    ///
    /// # Errors
    /// When Redis cannot be asked.
    pub async fn delayed_timestamps(&self, start: usize, count: usize) -> Result<Vec<u64>, Error> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let mut command = cmd("ZRANGE");
        command
            .arg(self.key(SCHEDULE))
            .arg(start)
            .arg(start.saturating_add(count - 1));
        let members: Vec<Vec<u8>> = self.redis.call(Request::Command(&command)).await?;
        let seconds = members
            .iter()
            .filter_map(|member| std::str::from_utf8(member).ok());
        Ok(seconds.filter_map(|second| second.parse().ok()).collect())
    }

    /// Up to `count` jobs that are scheduled for one second, from place `start` on, as they stand there:
    /// with their queue. Key: `delayed:TS`.
    ///
    /// # Errors
    /// When Redis cannot be asked.
    pub async fn delayed_at(&self, second: u64, start: usize, count: usize) -> Result<Vec<Vec<u8>>, Error> {
        self.range(&format!("delayed:{second}"), start, count).await
    }
}

/// A payload as it stands in the schedule: every scheduler needs its queue, and Ruby puts it last.
pub(crate) fn scheduled(queue: &str, payload: &[u8]) -> Result<Vec<u8>, Error> {
    #[derive(Deserialize)]
    struct Wire<'a> {
        #[serde(rename = "class")]
        _class: String,
        #[serde(borrow)]
        queue: Option<&'a RawValue>,
    }
    let not_delayable = |reason: String| Error::NotDelayable { reason };
    let text = std::str::from_utf8(payload).map_err(|cause| not_delayable(cause.to_string()))?;
    let wire: Wire<'_> = serde_json::from_str(text).map_err(|cause| not_delayable(cause.to_string()))?;
    match wire.queue.map(|name| serde_json::from_str::<String>(name.get())) {
        Some(Ok(name)) if name == queue => Ok(payload.to_vec()),
        Some(_) => Err(not_delayable(format!(
            "its field \"queue\" names another queue than {queue:?}"
        ))),
        None => {
            // An object that was read ends with its brace, and is not empty.
            let object = text.trim_end().strip_suffix('}').unwrap_or_default();
            Ok(format!("{object},\"queue\":{}}}", serde_json::Value::from(queue)).into_bytes())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scheduled_job_has_the_bytes_of_ruby() {
        let ours = crate::payload("C", &[1.into()]);
        assert_eq!(
            scheduled("q", &ours).unwrap(),
            br#"{"class":"C","args":[1],"queue":"q"}"#
        );
        let node = br#"{"class":"C","queue":"q","args":[1]}"#;
        assert_eq!(scheduled("q", node).unwrap(), node);
    }

    #[test]
    fn what_no_scheduler_could_promote_is_refused() {
        for payload in [
            "",
            "[]",
            "{}",
            "{\"class\":1}",
            r#"{"class":"C","queue":"other"}"#,
            r#"{"class":"C","queue":5}"#,
        ] {
            let refused = scheduled("q", payload.as_bytes());
            assert!(matches!(refused, Err(Error::NotDelayable { .. })), "{payload}");
        }
    }
}
