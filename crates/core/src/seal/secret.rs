//! Bytes that nothing shows.

use std::fmt;

use zeroize::Zeroizing;

/// Bytes that must not be shown. They are overwritten when dropped, and no `Debug` or `Display` prints them.
#[derive(Clone)]
pub struct SecretBytes(pub(super) Zeroizing<Vec<u8>>);

impl SecretBytes {
    /// The bytes themselves. Every call of this is a place where a secret could leak: keep them few.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The bytes as text.
    ///
    /// # Errors
    /// They are not UTF-8. The error holds positions only, none of the bytes.
    pub fn expose_str(&self) -> Result<&str, std::str::Utf8Error> {
        std::str::from_utf8(&self.0)
    }
}

impl From<Vec<u8>> for SecretBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

impl From<String> for SecretBytes {
    fn from(text: String) -> Self {
        text.into_bytes().into()
    }
}

impl From<&str> for SecretBytes {
    fn from(text: &str) -> Self {
        text.as_bytes().to_vec().into()
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBytes(hidden)")
    }
}
