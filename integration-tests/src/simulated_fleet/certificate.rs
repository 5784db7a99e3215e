//! TLS certificates of hosts.

use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use sha2::{Digest, Sha256};

/// A certificate with its key, ready to serve.
pub struct Certificate {
    /// The certificate, as text.
    pub pem: String,
    /// SHA-256 of the DER, in hex.
    pub fingerprint: String,
    /// The private key, in DER.
    pub key: Vec<u8>,
    /// How a server shows it.
    pub tls: Arc<ServerConfig>,
}

impl Certificate {
    /// A new P-256 key and a self-signed certificate for it.
    ///
    /// # Errors
    /// The name is none, or there is no randomness.
    pub fn make(name: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
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
