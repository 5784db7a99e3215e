use std::{fmt, time::Duration};

use crate::{Error, server::Server};

/// Where Redis is and which keys are ours.
#[derive(Clone)]
pub struct Config {
    /// `redis://[user:password@]host:port/db`, `rediss://…` for TLS, or `redis+unix:///path?db=0`. With
    /// Sentinel, `redis+sentinel://[user:password@]host:port,host:port/service/db`, or `rediss+sentinel://…`:
    /// the hosts are those of the sentinels, the log-in that of the servers.
    pub url: String,
    /// First part of every key, without the colon. `{resque}` puts all keys on one node of a cluster.
    pub namespace: String,
    /// How long one attempt to connect may take, log-in included.
    pub connect_timeout: Duration,
    /// How long an answer may take before the connection is given up.
    pub response_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            url: "redis://127.0.0.1:6379/0".to_owned(),
            namespace: "resque".to_owned(),
            connect_timeout: Duration::from_secs(3),
            response_timeout: Duration::from_secs(10),
        }
    }
}

impl Config {
    /// Opens the URL, without connecting.
    pub(crate) fn server(&self) -> Result<Server, Error> {
        if self.namespace.is_empty() || self.namespace.contains(char::is_whitespace) {
            return Err(Error::Config(format!(
                "the Resque namespace {:?} is empty or has blanks in it; the usual one is \"resque\"",
                self.namespace
            )));
        }
        Server::read(&self.url).ok_or_else(|| {
            Error::Config(
                "the Redis URL cannot be read; it must look like redis://[user:password@]host:port/db \
                 (rediss:// for TLS), or redis+sentinel://[user:password@]host:port,host:port/service, with special characters in the password percent-encoded"
                    .to_owned(),
            )
        })
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = Server::read(&self.url).map_or("(unreadable)".to_owned(), |server| server.to_string());
        f.debug_struct("Config")
            .field("address", &address)
            .field("namespace", &self.namespace)
            .field("connect_timeout", &self.connect_timeout)
            .field("response_timeout", &self.response_timeout)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_printed() {
        let mut config = Config {
            url: "redis://joe:hunter2@redis.example:7000/3".to_owned(),
            ..Config::default()
        };
        let shown = format!("{config:?}");
        assert!(shown.contains("redis.example:7000"), "{shown}");
        assert!(!shown.contains("hunter2"), "{shown}");
        config.url = "http://joe:hunter2@redis.example".to_owned();
        let shown = format!("{config:?} {:?}", config.server().err());
        assert!(shown.contains("must look like"), "{shown}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
