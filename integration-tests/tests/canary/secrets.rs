//! The secrets that are looked for, every form in which each could show, and the search.

use std::collections::BTreeSet;

use aho_corasick::AhoCorasick;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use russh::keys::PrivateKey;

/// A run of a secret that is too short could stand somewhere by chance.
const SHORTEST: usize = 12;

/// The secrets of one fleet, by name.
#[derive(Default)]
pub(crate) struct Secrets {
    known: Vec<(String, Vec<u8>)>,
}

impl Secrets {
    /// A secret as the bytes that it is.
    pub(crate) fn add(&mut self, name: &str, secret: impl AsRef<[u8]>) {
        let secret = secret.as_ref();
        assert!(
            secret.len() >= SHORTEST,
            "{name} is too short to be told from chance"
        );
        self.known.push((name.to_owned(), secret.to_vec()));
    }

    /// A secret whose text is hex: the text and the bytes that it stands for.
    pub(crate) fn add_hex(&mut self, name: &str, text: &str) {
        self.add(name, text);
        self.add(&format!("{name}, decoded"), hex::decode(text).expect("hex"));
    }

    /// An ed25519 private key: its 32 secret bytes, each half of them, since a text may be cut, and the line of its file that
    /// has them, since all of the file may be encoded once more.
    pub(crate) fn add_private_key(&mut self, name: &str, openssh: &str) {
        let key = PrivateKey::from_openssh(openssh).expect("a private key");
        let pair = key.key_data().ed25519().expect("ed25519");
        let bytes = pair.private.to_bytes();
        self.add(name, bytes);
        self.add(&format!("{name}, first half"), &bytes[..16]);
        self.add(&format!("{name}, second half"), &bytes[16..]);
        // Their place in OpenSSH's format is bytes 161 to 193, and a line is 52.5 of them.
        let line = openssh.lines().nth(4).expect("four lines after the first");
        self.add(&format!("{name}, line of its file"), line.trim());
    }

    pub(crate) fn names(&self) -> Vec<&str> {
        self.known.iter().map(|(name, _)| name.as_str()).collect()
    }

    pub(crate) fn get(&self, name: &str) -> &[u8] {
        let found = self.known.iter().find(|(known, _)| known == name);
        &found.unwrap_or_else(|| panic!("no secret {name}")).1
    }

    pub(crate) fn search(&self) -> Search {
        let mut of = Vec::new();
        let mut patterns = Vec::new();
        for (name, secret) in &self.known {
            for (form, pattern) in forms(secret) {
                of.push(format!("{name} {form}"));
                patterns.push(pattern);
            }
        }
        Search {
            matcher: AhoCorasick::new(&patterns).expect("patterns"),
            of,
        }
    }
}

/// Every form of a secret: plain, hex in both cases, base64 in its three alignments and both alphabets, and the list of
/// numbers that Rust's `Debug` makes of bytes.
pub(crate) fn forms(secret: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let plain: Vec<u8> = secret
        .iter()
        .copied()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    let numbers: Vec<String> = secret.iter().map(u8::to_string).collect();
    let mut forms = vec![
        ("plain", plain),
        ("in hex", hex::encode(secret).into_bytes()),
        ("in upper-case hex", hex::encode_upper(secret).into_bytes()),
        ("as numbers", numbers.join(",").into_bytes()),
    ];
    for before in 0..3 {
        forms.push(("in base64", aligned(&STANDARD, before, secret)));
        forms.push(("in base64 for URLs", aligned(&URL_SAFE, before, secret)));
    }
    forms.retain(|(_, form)| form.len() >= SHORTEST);
    forms
}

/// What a secret looks like inside of a longer text in base64, `before` bytes after the beginning of a group of three:
/// without the ends, in which its neighbours have a part.
fn aligned(alphabet: &impl base64::Engine, before: usize, secret: &[u8]) -> Vec<u8> {
    let padded = [vec![0; before], secret.to_vec()].concat();
    let encoded = alphabet.encode(&padded[..padded.len() / 3 * 3]);
    encoded.into_bytes()[(before * 8).div_ceil(6)..].to_vec()
}

/// Looks for all of them at once.
pub(crate) struct Search {
    matcher: AhoCorasick,
    of: Vec<String>,
}

impl Search {
    /// The names of the secrets that stand in some bytes, and in which form. A secret may be broken over lines, so all is
    /// looked at once more without blanks and without the `\n` and `\r` of quoted texts.
    pub(crate) fn find(&self, bytes: &[u8]) -> BTreeSet<&str> {
        let mut found = self.look(bytes);
        let mut joined = Vec::with_capacity(bytes.len());
        let mut rest = bytes;
        while let Some((&byte, after)) = rest.split_first() {
            let quoted = byte == b'\\' && matches!(after.first(), Some(b'n' | b'r' | b't'));
            rest = if quoted { &after[1..] } else { after };
            if !quoted && !byte.is_ascii_whitespace() {
                joined.push(byte);
            }
        }
        found.extend(self.look(&joined));
        found
    }

    fn look(&self, bytes: &[u8]) -> BTreeSet<&str> {
        let found = self.matcher.find_overlapping_iter(bytes);
        found
            .map(|one| self.of[one.pattern().as_usize()].as_str())
            .collect()
    }
}
