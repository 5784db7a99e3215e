//! Which server to connect to: always the same, or the one that Sentinel names.

use std::fmt;

use redis::{
    Client, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo, RedisResult, TlsMode,
    sentinel::{Sentinel, SentinelNodeConnectionInfo},
};

/// Where Redis is, from its URL.
pub(crate) enum Server {
    Fixed(Client),
    Sentinel {
        sentinels: Vec<ConnectionInfo>,
        service: String,
        login: RedisConnectionInfo,
        tls: bool,
    },
}

impl Server {
    /// Reads a URL; `None` when it cannot be read. The cause stays out: it could quote the URL, which may hold a
    /// password.
    pub(crate) fn read(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let tls = match scheme {
            "redis+sentinel" => false,
            "rediss+sentinel" => true,
            _ => return Client::open(url).ok().map(Self::Fixed),
        };
        let (login, rest) = rest.rsplit_once('@').unwrap_or(("", rest));
        let (hosts, path) = rest.split_once('/')?;
        let (service, db) = path.split_once('/').unwrap_or((path, "0"));
        if service.is_empty() {
            return None;
        }
        let scheme = if tls { "rediss" } else { "redis" };
        // The crate's own reading of log-in and database, with any host.
        let login = format!("redis://{login}@localhost/{db}")
            .into_connection_info()
            .ok()?;
        let sentinels = hosts.split(',').map(|host| {
            let port = if host.contains(':') { "" } else { ":26379" };
            format!("{scheme}://{host}{port}").into_connection_info().ok()
        });
        Some(Self::Sentinel {
            sentinels: sentinels.collect::<Option<_>>()?,
            service: service.to_owned(),
            login: login.redis_settings().clone(),
            tls,
        })
    }

    /// The server to connect to now. Sentinel is asked each time: a connection is made anew after a failover.
    pub(crate) async fn client(&self) -> RedisResult<Client> {
        match self {
            Self::Fixed(client) => Ok(client.clone()),
            Self::Sentinel {
                sentinels,
                service,
                login,
                tls,
            } => {
                let mut node = SentinelNodeConnectionInfo::default().set_redis_connection_info(login.clone());
                if *tls {
                    node = node.set_tls_mode(TlsMode::Secure);
                }
                let mut sentinel = Sentinel::build(sentinels.clone())?;
                sentinel.async_master_for(service, Some(&node)).await
            }
        }
    }
}

/// The address, without the log-in.
impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(client) => client.get_connection_info().addr().fmt(f),
            Self::Sentinel {
                sentinels, service, ..
            } => {
                write!(f, "{service} (Sentinel at")?;
                for (number, sentinel) in sentinels.iter().enumerate() {
                    let comma = if number == 0 { "" } else { "," };
                    write!(f, "{comma} {}", sentinel.addr())?;
                }
                write!(f, ")")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(url: &str) -> Option<String> {
        Server::read(url).map(|server| server.to_string())
    }

    #[test]
    fn urls_of_sentinels_are_read() {
        let shown_as = "mymaster (Sentinel at a:26379, b:7000)";
        assert_eq!(
            shown("redis+sentinel://:p%40ss@a,b:7000/mymaster/3").as_deref(),
            Some(shown_as)
        );
        assert_eq!(
            shown("rediss+sentinel://a,b:7000/mymaster").as_deref(),
            Some(shown_as)
        );
        let Some(Server::Sentinel { login, tls, .. }) = Server::read("rediss+sentinel://joe:p%40ss@a/m/3")
        else {
            panic!("not read");
        };
        assert_eq!(
            (login.username(), login.password(), login.db()),
            (Some("joe"), Some("p@ss"), 3)
        );
        assert!(tls);
        for bad in [
            "redis+sentinel://a",
            "redis+sentinel://a/",
            "redis+sentinel://a/m/x",
            "http://a",
            "a:6379",
        ] {
            assert_eq!(shown(bad), None, "{bad}");
        }
    }
}
