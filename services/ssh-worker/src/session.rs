//! A connection to a host whose key is known before the first byte.

use std::time::Duration;

use russh::Disconnect;
use russh::client::{self, DisconnectReason, Handle};
use russh::keys::{PublicKey, PublicKeyOrCertificate};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::timeout;

use crate::command::{self, Broken, Output};
use crate::identity::{Accepted, fingerprint};
use crate::observe::Open;
use crate::parse::shown;
use crate::remote::Line;

mod login;

pub use login::{ConnectError, FleetKey, Ssh};

/// One authenticated connection, which ends when it is dropped.
pub struct Session {
    handle: Handle<Guard>,
    host_key: PublicKey,
    logged_in_with: FleetKey,
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

    /// The host key that the host has shown and proved.
    #[must_use]
    pub fn host_key(&self) -> &PublicKey {
        &self.host_key
    }

    /// The key of ours that the host let in.
    #[must_use]
    pub fn logged_in_with(&self) -> FleetKey {
        self.logged_in_with
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

/// What a host showed as its key.
enum Presented {
    Accepted(PublicKey),
    /// The fingerprint of another one.
    Other(String),
}

/// Accepts the known host keys and no other, and keeps the reason of the end.
struct Guard {
    accepted: Accepted,
    presented: watch::Sender<Option<Presented>>,
    ended: watch::Sender<Option<String>>,
}

impl client::Handler for Guard {
    type Error = russh::Error;

    async fn check_server_key(&mut self, key: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        let presented = match key {
            PublicKeyOrCertificate::PublicKey { key, .. } if self.accepted.has(key) => {
                Presented::Accepted(key.clone())
            }
            PublicKeyOrCertificate::PublicKey { key, .. } => Presented::Other(fingerprint(key)),
            // No authority is trusted here.
            PublicKeyOrCertificate::Certificate(_) => Presented::Other("a certificate".to_owned()),
        };
        let accepted = matches!(presented, Presented::Accepted(_));
        self.presented.send_replace(Some(presented));
        Ok(accepted)
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
