//! Logging in: our user, one of our keys, and a host that must show the key that is known.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gatewayzen_bootstrap::settings;
use russh::client::{self, Handle};
use russh::keys::{PrivateKey, PrivateKeyWithHashAlg, PublicKey};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;

use super::{Guard, Presented, Session};
use crate::identity::{Accepted, fingerprint};
use crate::observe::{self, Open};
use crate::parse::shown;

/// Keepalives without an answer before a connection counts as dead.
const KEEPALIVES: usize = 3;

/// One of the fleet's private keys. There are two of them while the fleet goes from one to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FleetKey {
    /// The setting `ssh.key_file`.
    Current,
    /// The setting `ssh.next_key_file`.
    Next,
}

/// Logs in to hosts: our user, our keys, and how long to wait.
pub struct Ssh {
    settings: settings::Ssh,
    current: Arc<PrivateKey>,
    next: Option<Arc<PrivateKey>>,
    /// OpenSSH resets connections when too many come at once.
    hosts: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody answers there, or it goes away before the login. A host that boots does this.
    #[error("{0}")]
    Unreachable(String),
    /// Another host answers.
    #[error("its SSH host key is {seen}, but {pinned} is expected")]
    WrongHostKey {
        /// The fingerprint of the key that the host has.
        seen: String,
        /// The fingerprint of the key that it must have; of both, while one replaces the other.
        pinned: String,
    },
    /// The host knows neither our user nor our key, or not both together.
    #[error("it refused the login of user {user:?} with the key {key}")]
    Refused {
        /// The user.
        user: String,
        /// The fingerprint of our key.
        key: String,
    },
}

impl Ssh {
    /// Reads the fleet's private key: OpenSSH's format or PEM.
    ///
    /// # Errors
    /// Why it is not one. No byte of it is shown.
    pub fn new(settings: &settings::Ssh, key: &[u8]) -> Result<Self, String> {
        Ok(Self {
            settings: settings.clone(),
            current: Arc::new(private_key(key)?),
            next: None,
            hosts: Mutex::default(),
        })
    }

    /// Reads the private key to which the fleet goes over.
    ///
    /// # Errors
    /// Why it is not one, or that it is the present one.
    pub fn with_next(mut self, key: &[u8]) -> Result<Self, String> {
        let next = private_key(key)?;
        if next.public_key().key_data() == self.current.public_key().key_data() {
            return Err(
                "it holds the same key as ssh.key_file; make another one for the fleet to go over to".into(),
            );
        }
        self.next = Some(Arc::new(next));
        Ok(self)
    }

    fn private(&self, which: FleetKey) -> &Arc<PrivateKey> {
        match which {
            FleetKey::Current => &self.current,
            FleetKey::Next => self.next.as_ref().unwrap_or(&self.current),
        }
    }

    /// The public half of one of our keys. `None`: there is no next one.
    #[must_use]
    pub fn public(&self, which: FleetKey) -> Option<&PublicKey> {
        match which {
            FleetKey::Current => Some(self.current.public_key()),
            FleetKey::Next => self.next.as_ref().map(|key| key.public_key()),
        }
    }

    /// SHA-256 of our public key, as OpenSSH prints it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        fingerprint(self.current.public_key())
    }

    /// Which of our keys to try on a host, in this order: the next one first where the host was seen to let it in.
    #[must_use]
    pub fn order(&self, lets_in: &[String]) -> Vec<FleetKey> {
        match self.public(FleetKey::Next) {
            None => vec![FleetKey::Current],
            Some(next) if lets_in.contains(&fingerprint(next)) => vec![FleetKey::Next, FleetKey::Current],
            Some(_) => vec![FleetKey::Current, FleetKey::Next],
        }
    }

    /// Connects and logs in with the fleet's current key. `reach` bounds the TCP connection alone, the setting
    /// `connect_timeout` everything after it.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn connect(
        &self,
        address: &str,
        accepted: impl Into<Accepted>,
        reach: Duration,
    ) -> Result<Session, ConnectError> {
        self.connect_with(FleetKey::Current, address, &accepted.into(), reach)
            .await
    }

    /// As [`connect`](Self::connect), with one of the fleet's keys and no other.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn connect_with(
        &self,
        which: FleetKey,
        address: &str,
        accepted: &Accepted,
        reach: Duration,
    ) -> Result<Session, ConnectError> {
        let connecting = self.reach(which, address, accepted, reach);
        observe::connecting(address, self.settings.port, connecting).await
    }

    async fn reach(
        &self,
        which: FleetKey,
        address: &str,
        accepted: &Accepted,
        reach: Duration,
    ) -> Result<Session, ConnectError> {
        let limit = self.settings.connect_timeout;
        let unreachable = |text: String| ConnectError::Unreachable(text);
        let place = match timeout(limit, self.host(address).acquire_owned()).await {
            Ok(Ok(place)) => place,
            Ok(Err(_)) | Err(_) => {
                let sessions = self.settings.sessions_per_host;
                return Err(unreachable(format!(
                    "{sessions} sessions to it are open already, and none ended in {limit:?}"
                )));
            }
        };
        let tcp = match timeout(reach, TcpStream::connect((address, self.settings.port))).await {
            Ok(Ok(tcp)) => tcp,
            Ok(Err(error)) => return Err(unreachable(error.to_string())),
            Err(_) => return Err(unreachable(format!("no connection within {reach:?}"))),
        };
        // The protocol is a dialogue of small packets.
        tcp.set_nodelay(true)
            .map_err(|error| unreachable(error.to_string()))?;
        match timeout(limit, self.login(which, tcp, address, accepted, place)).await {
            Ok(session) => session,
            Err(_) => Err(unreachable(format!(
                "it accepts connections, and no login was done within {limit:?}"
            ))),
        }
    }

    async fn login(
        &self,
        which: FleetKey,
        tcp: TcpStream,
        address: &str,
        accepted: &Accepted,
        place: OwnedSemaphorePermit,
    ) -> Result<Session, ConnectError> {
        let config = client::Config {
            keepalive_interval: Some(self.settings.keepalive),
            keepalive_max: KEEPALIVES,
            ..client::Config::default()
        };
        let (ended, reason) = watch::channel(None);
        let (presented, seen) = watch::channel(None);
        let guard = Guard {
            accepted: accepted.clone(),
            presented,
            ended,
        };
        let connected = client::connect_stream(Arc::new(config), tcp, guard).await;
        let mut handle = connected.map_err(|error| match (&error, &*seen.borrow()) {
            (russh::Error::UnknownKey, Some(Presented::Other(seen))) => ConnectError::WrongHostKey {
                seen: String::clone(seen),
                pinned: accepted.shown(),
            },
            _ => ConnectError::Unreachable(format!("SSH: {}", shown(error.to_string().as_bytes()))),
        })?;
        let host_key = match &*seen.borrow() {
            Some(Presented::Accepted(key)) => key.clone(),
            _ => return Err(ConnectError::Unreachable("SSH: it showed no host key".to_owned())),
        };
        let let_in = self.authenticate(which, &mut handle).await;
        let session = Session {
            handle,
            host_key,
            logged_in_with: which,
            address: address.to_owned(),
            reason,
            output_limit: self.settings.output_limit,
            _open: Open::new(),
            _place: place,
        };
        match let_in {
            Ok(true) => Ok(session),
            Ok(false) => Err(ConnectError::Refused {
                user: self.settings.user.clone(),
                key: fingerprint(self.private(which).public_key()),
            }),
            // A host in mid-boot turns logins away like this (pam_nologin); so does one that is being shut down.
            Err(error) => {
                let why = session.why_ended().await;
                Err(ConnectError::Unreachable(format!(
                    "it ended the connection at the login ({error}; {why})"
                )))
            }
        }
    }

    async fn authenticate(&self, which: FleetKey, handle: &mut Handle<Guard>) -> Result<bool, russh::Error> {
        let key = self.private(which);
        // RSA's first signatures were SHA-1, which no server takes any more: asked for what this one takes.
        let hash = if key.algorithm().is_rsa() {
            handle.best_supported_rsa_hash().await?.flatten()
        } else {
            None
        };
        let key = PrivateKeyWithHashAlg::new(Arc::clone(key), hash);
        Ok(handle
            .authenticate_publickey(&self.settings.user, key)
            .await?
            .success())
    }

    fn host(&self, address: &str) -> Arc<Semaphore> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        // Hosts come and go; who has no session needs no place.
        hosts.retain(|_, places| Arc::strong_count(places) > 1);
        let places = || Arc::new(Semaphore::new(self.settings.sessions_per_host));
        Arc::clone(hosts.entry(address.to_owned()).or_insert_with(places))
    }
}

fn private_key(key: &[u8]) -> Result<PrivateKey, String> {
    let text = std::str::from_utf8(key).map_err(|_| "it is not text".to_owned())?;
    russh::keys::decode_secret_key(text, None).map_err(|error| match error {
        russh::keys::Error::KeyIsEncrypted => {
            "it has a passphrase; give one without, readable by this user only".into()
        }
        // The library's own text could quote what it read.
        _ => "it is not a private key in OpenSSH's or PEM format (ed25519, ECDSA or RSA)".to_owned(),
    })
}
