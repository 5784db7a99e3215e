//! The Redis of a test: its queues, a connection to it, and its loss.

use super::{PATIENCE, Stand, eventually};

impl Stand {
    /// The queues of this bed.
    pub async fn queue(&self) -> resque::Queue {
        // More patient than the client itself, which waits 3 s: little on a busy machine.
        let config = self.resque_config();
        eventually("Redis to answer", async || {
            resque::Queue::connect(&config).await.ok()
        })
        .await
    }

    /// How to reach the queues of this bed.
    pub fn resque_config(&self) -> resque::Config {
        resque::Config {
            url: self.redis_url.clone(),
            namespace: self.namespace.clone(),
            ..resque::Config::default()
        }
    }

    /// FLUSHALL, for a Redis of this bed's own.
    pub async fn burn_redis_whole(&self) {
        let mut connection = redis_connection(&self.redis_url).await;
        let _: String = redis::cmd("FLUSHALL")
            .query_async(&mut connection)
            .await
            .expect("flushed");
    }

    /// Deletes every key of this bed: what FLUSHALL does to a Redis that is its own.
    pub async fn burn_redis(&self) {
        let mut connection = redis_connection(&self.redis_url).await;
        let keys: Vec<String> = redis::cmd("KEYS")
            .arg(format!("{}:*", self.namespace))
            .query_async(&mut connection)
            .await
            .expect("keys");
        if !keys.is_empty() {
            let _: i64 = redis::cmd("DEL")
                .arg(keys)
                .query_async(&mut connection)
                .await
                .expect("deleted");
        }
    }
}

/// A connection that waits longer than the library's second for Redis, and half a second for an answer, which is little on a
/// busy machine.
pub async fn redis_connection(url: &str) -> redis::aio::MultiplexedConnection {
    let client = redis::Client::open(url).expect("a URL");
    let patient = redis::AsyncConnectionConfig::new()
        .set_connection_timeout(Some(PATIENCE))
        .set_response_timeout(Some(PATIENCE));
    let connection = client.get_multiplexed_async_connection_with_config(&patient);
    connection.await.expect("Redis")
}
