//! The list `failed`: what it holds, and what an operator does with it.

use std::fmt;

use redis::{Pipeline, cmd};
use serde::{
    Deserialize, Serialize,
    de::{MapAccess, Visitor},
    ser::SerializeMap,
};
use serde_json::value::RawValue;

use crate::{
    Error, Failure, Push, Queue, clock,
    connection::Request,
    job::displayable,
    scripts::{self, REQUEUE_FAILED},
    worker_config::FAILED_LIMIT,
};

/// An entry of `failed`, from whatever client wrote it. Parts that it lacks are empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FailedEntry {
    /// Its place in the list, from 0, the oldest.
    pub index: usize,
    /// When it failed, in the writer's own form.
    pub failed_at: String,
    /// The job, as JSON.
    pub payload: Vec<u8>,
    /// The kind of error.
    pub exception: String,
    /// What happened.
    pub error: String,
    /// Where it happened.
    pub backtrace: Vec<String>,
    /// The worker's id.
    pub worker: String,
    /// The queue that the job came from.
    pub queue: String,
    /// When it was last queued again.
    pub retried_at: Option<String>,
    /// The entry itself, byte for byte.
    pub raw: Vec<u8>,
}

/// The bytes of a new entry, its fields in Ruby's order.
pub(crate) fn record(failure: &Failure, raw: &[u8], worker: &str, queue: &str) -> Vec<u8> {
    #[derive(Serialize)]
    struct Record<'a> {
        failed_at: String,
        payload: &'a RawValue,
        exception: &'a str,
        error: &'a str,
        backtrace: &'a [String],
        worker: &'a str,
        queue: &'a str,
    }
    let payload = displayable(failure.payload.as_deref().unwrap_or(raw));
    let record = Record {
        failed_at: clock::failed_at(),
        payload: &payload,
        exception: &failure.exception,
        error: &failure.error,
        backtrace: &failure.backtrace,
        worker,
        queue,
    };
    // Cannot fail: every key is text, and the writer is memory.
    serde_json::to_vec(&record).unwrap_or_default()
}

impl Queue {
    /// Adds jobs to `failed` that no worker had in hand: what found them to be beyond hope is `worker`. The oldest entries
    /// above the default limit of a worker go. Keys: `failed`, `stat:failed`.
    ///
    /// # Errors
    /// When Redis cannot be asked. They may have been added then.
    pub async fn push_failed(&self, jobs: &[(Push, Failure)], worker: &str) -> Result<(), Error> {
        if jobs.is_empty() {
            return Ok(());
        }
        let mut pipeline = Pipeline::new();
        for (job, failure) in jobs {
            let entry = record(failure, &job.payload, worker, &job.queue);
            pipeline.rpush(self.key("failed"), entry).ignore();
        }
        let keep = -isize::try_from(FAILED_LIMIT).unwrap_or(isize::MAX);
        pipeline.ltrim(self.key("failed"), keep, -1).ignore();
        pipeline.incr(self.key("stat:failed"), jobs.len()).ignore();
        self.redis.call(Request::Pipeline(&pipeline)).await
    }

    /// The number of entries in `failed`.
    ///
    /// # Errors
    /// When Redis cannot be asked.
    pub async fn failed_count(&self) -> Result<usize, Error> {
        let command = cmd("LLEN").arg(self.key("failed")).to_owned();
        self.redis.call(Request::Command(&command)).await
    }

    /// Up to `count` entries of `failed` from index `start` on, the oldest first.
    ///
    /// # Errors
    /// When Redis cannot be asked.
    pub async fn failed(&self, start: usize, count: usize) -> Result<Vec<FailedEntry>, Error> {
        let elements = self.range("failed", start, count).await?;
        Ok(elements
            .into_iter()
            .enumerate()
            .map(|(offset, raw)| FailedEntry::read(start + offset, raw))
            .collect())
    }

    /// Queues the job of an entry again and notes `retried_at` in the entry, which stays.
    ///
    /// # Errors
    /// [`Error::NoSuchEntry`] when the list changed in between, [`Error::NotAJob`] when the entry names
    /// no queue or has no payload; and when Redis cannot be asked.
    pub async fn requeue_failed(&self, index: usize) -> Result<(), Error> {
        let entry = self.entry(index).await?;
        let not_a_job = |reason: &str| Error::NotAJob {
            index,
            reason: reason.to_owned(),
        };
        if entry.queue.is_empty() {
            return Err(not_a_job("it names no queue"));
        }
        if !entry.payload.starts_with(b"{") {
            return Err(not_a_job("its payload is not a job"));
        }
        let noted = retried(&entry.raw).ok_or_else(|| not_a_job("it is not JSON"))?;
        let mut call = scripts::call(&REQUEUE_FAILED, &self.prefix);
        call.arg(index)
            .arg(entry.raw)
            .arg(noted)
            .arg(entry.queue)
            .arg(entry.payload);
        match self.redis.call(Request::Script(&call)).await? {
            1 => Ok(()),
            _ => Err(Error::NoSuchEntry { index }),
        }
    }

    /// Removes an entry.
    ///
    /// # Errors
    /// [`Error::NoSuchEntry`] when there is none at that index, and when Redis cannot be asked.
    pub async fn remove_failed(&self, index: usize) -> Result<(), Error> {
        let entry = self.entry(index).await?;
        let command = cmd("LREM")
            .arg(self.key("failed"))
            .arg(1)
            .arg(entry.raw)
            .to_owned();
        match self.redis.call(Request::Command(&command)).await? {
            1 => Ok(()),
            _ => Err(Error::NoSuchEntry { index }),
        }
    }

    async fn entry(&self, index: usize) -> Result<FailedEntry, Error> {
        let found = self.failed(index, 1).await?;
        found.into_iter().next().ok_or(Error::NoSuchEntry { index })
    }
}

impl FailedEntry {
    pub(crate) fn read(index: usize, raw: Vec<u8>) -> Self {
        let mut entry = Self {
            index,
            ..Self::default()
        };
        if let Ok(fields) = serde_json::from_slice::<Fields>(&raw) {
            for (name, value) in &fields.0 {
                let text = || match serde_json::from_str::<serde_json::Value>(value.get()) {
                    Ok(serde_json::Value::String(text)) => text,
                    Ok(serde_json::Value::Null) | Err(_) => String::new(),
                    Ok(other) => other.to_string(),
                };
                match name.as_str() {
                    "failed_at" => entry.failed_at = text(),
                    "payload" => entry.payload = value.get().as_bytes().to_vec(),
                    "exception" => entry.exception = text(),
                    "error" => entry.error = text(),
                    "backtrace" => {
                        entry.backtrace = serde_json::from_str(value.get()).unwrap_or_default();
                    }
                    "worker" => entry.worker = text(),
                    "queue" => entry.queue = text(),
                    "retried_at" => entry.retried_at = Some(text()),
                    _ => {}
                }
            }
        } else {
            entry.error = "this entry of the failed list is not JSON".to_owned();
        }
        entry.raw = raw;
        entry
    }
}

/// The entry with `retried_at` set to now, all else as it was.
pub(crate) fn retried(raw: &[u8]) -> Option<Vec<u8>> {
    let mut fields: Fields = serde_json::from_slice(raw).ok()?;
    fields.0.retain(|(name, _)| name != "retried_at");
    let now = RawValue::from_string(format!("\"{}\"", clock::failed_at())).ok()?;
    fields.0.push(("retried_at".to_owned(), now));
    serde_json::to_vec(&fields).ok()
}

/// A JSON object whose order and numbers survive.
struct Fields(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Fields;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Read)
    }
}

impl Serialize for Fields {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_has_the_fields_of_ruby_in_its_order() {
        let failure = Failure::new("E", "it \"broke\"");
        let text = String::from_utf8(record(&failure, br#"{"class":"C","args":[1]}"#, "w", "q")).unwrap();
        let (head, rest) = text.split_at(r#"{"failed_at":""#.len());
        assert_eq!(head, r#"{"failed_at":""#);
        assert_eq!(
            &rest["2026/11/24 05:57:01 UTC".len()..],
            r#"","payload":{"class":"C","args":[1]},"exception":"E","error":"it \"broke\"","backtrace":[],"worker":"w","queue":"q"}"#
        );
    }

    #[test]
    fn a_replacing_payload_is_the_one_shown() {
        let failure = Failure {
            payload: Some(br#"{"class":"C","args":[1,{"generation":7}]}"#.to_vec()),
            ..Failure::new("E", "x")
        };
        let entry = FailedEntry::read(0, record(&failure, br#"{"class":"C","args":[1]}"#, "w", "q"));
        assert_eq!(entry.payload, br#"{"class":"C","args":[1,{"generation":7}]}"#);
    }

    #[test]
    fn foreign_entries_are_read_and_noted() {
        let raw = br#"{"worker":"h:1","queue":"q","payload":{"class":"C","args":[12345678901234567890123]},"backtrace":null,"retried_at":"old","failed_at":7}"#;
        let entry = FailedEntry::read(3, raw.to_vec());
        assert_eq!((entry.index, entry.failed_at.as_str()), (3, "7"));
        let noted = String::from_utf8(retried(raw).unwrap()).unwrap();
        assert!(noted.contains("12345678901234567890123"), "{noted}");
        assert_eq!(noted.matches("retried_at").count(), 1, "{noted}");
        assert!(
            FailedEntry::read(0, b"nonsense".to_vec())
                .error
                .contains("not JSON")
        );
    }
}
