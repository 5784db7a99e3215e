//! Taking back what was pushed.

use serde::Serialize;
use serde_json::Value;

use crate::{
    Error, Queue,
    connection::Request,
    delayed::scheduled,
    payload,
    scripts::{self, REMOVE, REMOVE_DELAYED},
};

impl Queue {
    /// Removes from a queue every job of exactly these bytes, and says how many there were. One that a
    /// worker has taken is not in the queue any more. Keys: `queue:NAME`, `unique:NAME:SHA1`.
    ///
    /// # Errors
    /// When Redis cannot be asked.
    pub async fn remove(&self, queue: &str, payload: &[u8]) -> Result<usize, Error> {
        self.remove_all(queue, &[payload]).await
    }

    /// Removes from a queue every job of this class with these arguments, and says how many there were:
    /// those that Ruby's client or this crate pushed (`{"class":…,"args":…}`) and those of node-resque
    /// (`{"class":…,"queue":…,"args":…}`). Other clients' bytes are not known. Keys: `queue:NAME`,
    /// `unique:NAME:SHA1`.
    ///
    /// # Errors
    /// When Redis cannot be asked.
    pub async fn remove_jobs(&self, queue: &str, class: &str, args: &[Value]) -> Result<usize, Error> {
        let forms = [payload(class, args), node_payload(queue, class, args)];
        self.remove_all(queue, &[&forms[0], &forms[1]]).await
    }

    async fn remove_all(&self, queue: &str, payloads: &[&[u8]]) -> Result<usize, Error> {
        let mut call = scripts::call(&REMOVE, &self.prefix);
        call.arg(queue).arg(payloads);
        self.redis.call(Request::Script(&call)).await
    }

    /// Removes every delayed job of exactly these bytes, as they were given to
    /// [`push_at`](Self::push_at), whenever it is due, and says how many there were. Keys:
    /// `delayed_queue_schedule`, `delayed:TS`, `timestamps:PAYLOAD`.
    ///
    /// # Errors
    /// [`Error::NotDelayable`] as for [`push_at`](Self::push_at); and when Redis cannot be asked.
    pub async fn remove_delayed(&self, queue: &str, payload: &[u8]) -> Result<usize, Error> {
        self.remove_all_delayed(&[scheduled(queue, payload)?]).await
    }

    /// Removes every delayed job of this class with these arguments, whenever it is due, and says how many
    /// there were: those of Ruby's scheduler and of this crate, and those of node-resque. Keys:
    /// `delayed_queue_schedule`, `delayed:TS`, `timestamps:PAYLOAD`.
    ///
    /// # Errors
    /// When Redis cannot be asked.
    pub async fn remove_delayed_jobs(
        &self,
        queue: &str,
        class: &str,
        args: &[Value],
    ) -> Result<usize, Error> {
        let ours = scheduled(queue, &payload(class, args))?;
        self.remove_all_delayed(&[ours, node_payload(queue, class, args)])
            .await
    }

    async fn remove_all_delayed(&self, payloads: &[Vec<u8>]) -> Result<usize, Error> {
        let mut call = scripts::call(&REMOVE_DELAYED, &self.prefix);
        call.arg(payloads);
        self.redis.call(Request::Script(&call)).await
    }
}

/// The bytes of a job, as node-resque writes them.
fn node_payload(queue: &str, class: &str, args: &[Value]) -> Vec<u8> {
    #[derive(Serialize)]
    struct Payload<'a> {
        class: &'a str,
        queue: &'a str,
        args: &'a [Value],
    }
    // Cannot fail: no map with keys that are not text, and no writer that errs.
    serde_json::to_vec(&Payload { class, queue, args }).unwrap_or_default()
}
