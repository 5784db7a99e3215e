use std::{fmt, time::Duration};

use crate::{Error, server::Server};

/// Where Redis is and which keys are ours.
#[derive(Clone)]
pub struct Config {
    /// `redis://[user:password@]host:port/db`, `rediss://…` for TLS, or `redis+unix:///path?db=0`. With
    /// Sentinel, `redis+sentinel://[user:password@]host:port,host:port/service/db`, or `rediss+sentinel://…`:
    /// the hosts are those of the sentinels, the log-in that of the servers.
    pub url: String,
    /// With TLS: the file of the authorities (PEM) that alone are trusted; empty: those of the system.
    pub ca_file: String,
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
            ca_file: String::new(),
            namespace: "resque".to_owned(),
            connect_timeout: Duration::from_secs(3),
            response_timeout: Duration::from_secs(10),
        }
    }
}

impl Config {
    /// The address, where it is another machine's and nothing guards what is said to it on its way: there is no TLS, or
    /// one that verifies nobody (`#insecure`).
    #[must_use]
    pub fn unprotected(&self) -> Option<String> {
        Server::read(&self.url, None)
            .filter(Server::is_unprotected)
            .map(|server| server.to_string())
    }

    fn authorities(&self) -> Result<Option<Vec<u8>>, Error> {
        if self.ca_file.is_empty() {
            return Ok(None);
        }
        let bad =
            |problem: String| Error::Config(format!("the authorities of Redis, {}: {problem}", self.ca_file));
        if !self.url.starts_with("rediss") {
            return Err(bad(
                "they are of use with TLS only; the URL must begin with rediss://".into(),
            ));
        }
        let text =
            std::fs::read(&self.ca_file).map_err(|error| bad(format!("the file cannot be read: {error}")))?;
        let marker = b"-----BEGIN CERTIFICATE-----";
        if !text.windows(marker.len()).any(|part| part == marker) {
            return Err(bad("there is no certificate in PEM in it".into()));
        }
        Ok(Some(text))
    }

    /// Opens the URL, without connecting.
    pub(crate) fn server(&self) -> Result<Server, Error> {
        if self.namespace.is_empty() || self.namespace.contains(char::is_whitespace) {
            return Err(Error::Config(format!(
                "the Resque namespace {:?} is empty or has blanks in it; the usual one is \"resque\"",
                self.namespace
            )));
        }
        let authorities = self.authorities()?;
        Server::read(&self.url, authorities.as_deref()).ok_or_else(|| {
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
        let address =
            Server::read(&self.url, None).map_or("(unreadable)".to_owned(), |server| server.to_string());
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
    fn what_goes_to_another_machine_in_the_clear_is_named() {
        let unprotected = |url: &str| {
            let config = Config {
                url: url.to_owned(),
                ..Config::default()
            };
            config.unprotected()
        };
        for (url, address) in [
            ("redis://joe:hunter2@redis.example:7000/3", "redis.example:7000"),
            ("redis://10.0.0.5", "10.0.0.5:6379"),
            ("rediss://redis.example#insecure", "redis.example:6379"),
            (
                "redis+sentinel://a,b:7000/mymaster",
                "mymaster (Sentinel at a:26379, b:7000)",
            ),
        ] {
            assert_eq!(unprotected(url).as_deref(), Some(address), "{url}");
        }
        for url in [
            "redis://127.0.0.1:6379",
            "redis://localhost",
            "redis://[::1]:6379",
            "redis+unix:///run/redis.sock",
            "rediss://redis.example",
            "rediss+sentinel://a,b:7000/mymaster",
        ] {
            assert_eq!(unprotected(url), None, "{url}");
        }
    }

    #[test]
    fn authorities_that_cannot_be_used_are_told() {
        let refused = |url: &str, file: &str| {
            let config = Config {
                url: url.to_owned(),
                ca_file: file.to_owned(),
                ..Config::default()
            };
            config
                .server()
                .err()
                .map(|error| error.to_string())
                .unwrap_or_default()
        };
        assert!(refused("redis://h", "/etc/hostname").contains("rediss://"));
        assert!(
            refused("rediss://h", "/nowhere/ca.pem").contains("/nowhere/ca.pem: the file cannot be read")
        );
        assert!(refused("rediss://h", "/etc/hostname").contains("no certificate in PEM"));
    }

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
