//! TLS certificates of hosts.

use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use sha2::{Digest, Sha256};

/// A certificate with its key, ready to serve.
pub(super) struct Certificate {
    pub(super) pem: String,
    /// SHA-256 of the DER, in hex.
    pub(super) fingerprint: String,
    /// The private key, in DER.
    pub(super) key: Vec<u8>,
    pub(super) tls: Arc<ServerConfig>,
}

impl Certificate {
    /// A new P-256 key and a self-signed certificate for it.
    pub(super) fn make(name: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new([name.to_owned()])?.self_signed(&key)?;
        let private = PrivatePkcs8KeyDer::from(key.serialize_der());
        let tls = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], private.into())?;
        Ok(Self {
            pem: certificate.pem(),
            fingerprint: hex::encode(Sha256::digest(certificate.der())),
            key: key.serialize_der(),
            tls: Arc::new(tls),
        })
    }
}
