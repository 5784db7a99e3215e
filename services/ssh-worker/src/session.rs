//! A connection to a host whose key is known before the first byte.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gatewayzen_bootstrap::settings;
use russh::Disconnect;
use russh::client::{self, DisconnectReason, Handle};
use russh::keys::{HashAlg, PrivateKey, PrivateKeyWithHashAlg, PublicKey, PublicKeyOrCertificate};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;

use crate::command::{self, Broken, Output};
use crate::observe::{self, Open};
use crate::parse::shown;
use crate::remote::Line;

/// Keepalives without an answer before a connection counts as dead.
const KEEPALIVES: usize = 3;

/// Logs in to hosts: our user, our key, and how long to wait.
pub struct Ssh {
    settings: settings::Ssh,
    key: Arc<PrivateKey>,
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
    #[error("its SSH host key is {seen}, but the launch gave it {pinned}")]
    WrongHostKey {
        /// The fingerprint of the key that the host has.
        seen: String,
        /// The fingerprint of the key that it must have.
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
        let text = std::str::from_utf8(key).map_err(|_| "it is not text".to_owned())?;
        let key = russh::keys::decode_secret_key(text, None).map_err(|error| match error {
            russh::keys::Error::KeyIsEncrypted => {
                "it has a passphrase; give one without, readable by this user only".into()
            }
            // The library's own text could quote what it read.
            _ => "it is not a private key in OpenSSH's or PEM format (ed25519, ECDSA or RSA)".to_owned(),
        })?;
        Ok(Self {
            settings: settings.clone(),
            key: Arc::new(key),
            hosts: Mutex::default(),
        })
    }

    /// SHA-256 of our public key, as OpenSSH prints it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        self.key.public_key().fingerprint(HashAlg::Sha256).to_string()
    }

    /// Connects and logs in. `reach` bounds the TCP connection alone, the setting `connect_timeout` everything after it.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn connect(
        &self,
        address: &str,
        pinned: &PublicKey,
        reach: Duration,
    ) -> Result<Session, ConnectError> {
        let connecting = self.reach(address, pinned, reach);
        observe::connecting(address, self.settings.port, connecting).await
    }

    async fn reach(
        &self,
        address: &str,
        pinned: &PublicKey,
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
        match timeout(limit, self.login(tcp, address, pinned, place)).await {
            Ok(session) => session,
            Err(_) => Err(unreachable(format!(
                "it accepts connections, and no login was done within {limit:?}"
            ))),
        }
    }

    async fn login(
        &self,
        tcp: TcpStream,
        address: &str,
        pinned: &PublicKey,
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
            pinned: pinned.clone(),
            presented,
            ended,
        };
        let connected = client::connect_stream(Arc::new(config), tcp, guard).await;
        let mut handle = connected.map_err(|error| match (&error, &*seen.borrow()) {
            (russh::Error::UnknownKey, Some(seen)) => ConnectError::WrongHostKey {
                seen: String::clone(seen),
                pinned: pinned.fingerprint(HashAlg::Sha256).to_string(),
            },
            _ => ConnectError::Unreachable(format!("SSH: {}", shown(error.to_string().as_bytes()))),
        })?;
        let accepted = self.authenticate(&mut handle).await;
        let session = Session {
            handle,
            address: address.to_owned(),
            reason,
            output_limit: self.settings.output_limit,
            _open: Open::new(),
            _place: place,
        };
        match accepted {
            Ok(true) => Ok(session),
            Ok(false) => Err(ConnectError::Refused {
                user: self.settings.user.clone(),
                key: self.fingerprint(),
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

    async fn authenticate(&self, handle: &mut Handle<Guard>) -> Result<bool, russh::Error> {
        // RSA's first signatures were SHA-1, which no server takes any more: asked for what this one takes.
        let hash = if self.key.algorithm().is_rsa() {
            handle.best_supported_rsa_hash().await?.flatten()
        } else {
            None
        };
        let key = PrivateKeyWithHashAlg::new(Arc::clone(&self.key), hash);
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

/// One authenticated connection, which ends when it is dropped.
pub struct Session {
    handle: Handle<Guard>,
    address: String,
    reason: watch::Receiver<Option<String>>,
    output_limit: usize,
    _open: Open,
    _place: OwnedSemaphorePermit,
}

impl Session {
    /// The address of the host.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Runs one command.
    ///
    /// # Errors
    /// It is not known how it ended.
    pub async fn run(&self, line: &Line) -> Result<Output, Broken> {
        let ran = async {
            let channel = self.handle.channel_open_session().await;
            let channel = channel.map_err(|error| Broken::Refused(error.to_string()))?;
            command::run(channel, &line.text, self.output_limit).await
        };
        match timeout(line.gives_up_after, ran).await {
            Ok(Err(Broken::Connection { printed, .. })) => Err(Broken::Connection {
                printed,
                reason: self.why_ended().await,
            }),
            // Asked of a connection that has ended already.
            Ok(Err(Broken::Refused(_))) if self.handle.is_closed() => Err(Broken::Connection {
                printed: 0,
                reason: self.why_ended().await,
            }),
            Ok(ran) => ran,
            Err(_) => Err(Broken::NoAnswer(line.gives_up_after)),
        }
    }

    /// Says goodbye, so that the host's log has no complaint.
    pub async fn close(self) {
        let _ = self.handle.disconnect(Disconnect::ByApplication, "", "").await;
    }

    /// Only the handler learns why a connection ended, a moment after its channels do.
    async fn why_ended(&self) -> String {
        let mut reason = self.reason.clone();
        let known = timeout(Duration::from_secs(1), reason.wait_for(Option::is_some)).await;
        match known {
            Ok(Ok(reason)) => reason.clone().unwrap_or_default(),
            _ => "no reason known".to_owned(),
        }
    }
}

/// Accepts the pinned host key and no other, and keeps the reason of the end.
struct Guard {
    pinned: PublicKey,
    presented: watch::Sender<Option<String>>,
    ended: watch::Sender<Option<String>>,
}

impl client::Handler for Guard {
    type Error = russh::Error;

    async fn check_server_key(&mut self, key: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        let seen = match key {
            PublicKeyOrCertificate::PublicKey { key, .. } if key.key_data() == self.pinned.key_data() => {
                return Ok(true);
            }
            PublicKeyOrCertificate::PublicKey { key, .. } => key.fingerprint(HashAlg::Sha256).to_string(),
            // No authority is trusted here.
            PublicKeyOrCertificate::Certificate(_) => "a certificate".to_owned(),
        };
        self.presented.send_replace(Some(seen));
        Ok(false)
    }

    async fn disconnected(&mut self, reason: DisconnectReason<russh::Error>) -> Result<(), russh::Error> {
        let text = match &reason {
            DisconnectReason::ReceivedDisconnect(info) => {
                format!("the host said {:?}: {}", info.reason_code, info.message)
            }
            DisconnectReason::Error(error) => error.to_string(),
        };
        self.ended.send_replace(Some(shown(text.as_bytes())));
        match reason {
            DisconnectReason::ReceivedDisconnect(_) => Ok(()),
            DisconnectReason::Error(error) => Err(error),
        }
    }
}
