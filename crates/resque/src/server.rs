//! Which server to connect to: always the same, or the one that Sentinel names.

use std::fmt;

use redis::{
    Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo, RedisResult,
    TlsCertificates, TlsMode,
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
        /// PEM; without it those of the system are trusted.
        authorities: Option<Vec<u8>>,
    },
}

impl Server {
    /// Reads a URL; `None` when it cannot be read. The cause stays out: it could quote the URL, which may hold a
    /// password.
    pub(crate) fn read(url: &str, authorities: Option<&[u8]>) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let tls = match scheme {
            "redis+sentinel" => false,
            "rediss+sentinel" => true,
            _ => return client(url, authorities).ok().map(Self::Fixed),
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
            let client = client(format!("{scheme}://{host}{port}"), authorities.filter(|_| tls)).ok()?;
            Some(client.get_connection_info().clone())
        });
        Some(Self::Sentinel {
            sentinels: sentinels.collect::<Option<_>>()?,
            service: service.to_owned(),
            login: login.redis_settings().clone(),
            tls,
            authorities: authorities.filter(|_| tls).map(<[u8]>::to_vec),
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
                authorities,
            } => {
                let mut node = SentinelNodeConnectionInfo::default().set_redis_connection_info(login.clone());
                if *tls {
                    node = node.set_tls_mode(TlsMode::Secure);
                }
                let mut sentinel = Sentinel::build(sentinels.clone())?;
                let found = sentinel.async_master_for(service, Some(&node)).await?;
                match authorities {
                    None => Ok(found),
                    Some(authorities) => client(found.get_connection_info().clone(), Some(authorities)),
                }
            }
        }
    }

    /// Whether others than this machine are on the way, and could read or change what is said.
    pub(crate) fn is_unprotected(&self) -> bool {
        match self {
            Self::Fixed(client) => is_unprotected(client.get_connection_info().addr()),
            Self::Sentinel { sentinels, tls, .. } => {
                !tls || sentinels.iter().any(|sentinel| is_unprotected(sentinel.addr()))
            }
        }
    }
}

fn client(info: impl IntoConnectionInfo, authorities: Option<&[u8]>) -> RedisResult<Client> {
    match authorities {
        None => Client::open(info),
        Some(authorities) => Client::build_with_tls(
            info,
            TlsCertificates {
                client_tls: None,
                root_cert: Some(authorities.to_vec()),
            },
        ),
    }
}

fn is_unprotected(address: &ConnectionAddr) -> bool {
    match address {
        ConnectionAddr::Tcp(host, _) => !is_here(host),
        ConnectionAddr::TcpTls { host, insecure, .. } => *insecure && !is_here(host),
        _ => false,
    }
}

fn is_here(host: &str) -> bool {
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
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
        Server::read(url, None).map(|server| server.to_string())
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
        let Some(Server::Sentinel { login, tls, .. }) =
            Server::read("rediss+sentinel://joe:p%40ss@a/m/3", None)
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
