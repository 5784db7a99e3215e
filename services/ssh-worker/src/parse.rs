//! From what a host printed to values. A host may print anything: nothing here trusts a byte of it.

use gatewayzen_core::seal::SecretBytes;
use gatewayzen_worker::https::Fingerprint;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

/// The longest API key that is believed to be one.
const KEY_MAX: usize = 512;
/// How many characters of an output an operator sees.
const SHOWN: usize = 300;
/// From this many letters and digits in a row on, a word may be a key.
const SECRET_WORD: usize = 24;

/// gatewayd's API key: the last line `info: KEY`. Other lines may come before and after it.
#[must_use]
pub fn api_key(stdout: &[u8]) -> Option<SecretBytes> {
    lines(stdout).rev().find_map(|line| {
        let key = line.strip_prefix(b"info: ")?;
        let is_key = (1..=KEY_MAX).contains(&key.len()) && key.iter().all(u8::is_ascii_graphic);
        is_key.then(|| key.to_vec().into())
    })
}

/// The fingerprint of the first certificate in PEM.
#[must_use]
pub fn certificate(stdout: &[u8]) -> Option<Fingerprint> {
    let certificate = CertificateDer::from_pem_slice(stdout).ok()?;
    // An empty or cut block decodes as well; a certificate is a DER SEQUENCE that is as long as it says.
    let der: &[u8] = &certificate;
    let length = match *der {
        [0x30, 0x81, a, ..] => 3 + usize::from(a),
        [0x30, 0x82, a, b, ..] => 4 + usize::from(u16::from_be_bytes([a, b])),
        _ => return None,
    };
    (length == der.len()).then(|| Fingerprint::of(der))
}

/// What a host says of the release that it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// gatewayd's version: `3.34.2`.
    pub version: String,
    /// The commit in place; empty where the host has no git checkout.
    pub commit: String,
    /// The commit of the tag asked for, where the host can tell.
    pub tag_commit: Option<String>,
}

/// Lines `version=…`, `commit=…` and perhaps `tag_commit=…`, among others. The last of each counts.
#[must_use]
pub fn release(stdout: &[u8]) -> Option<Release> {
    let value = |name: &str| {
        let found = lines(stdout)
            .rev()
            .find_map(|line| line.strip_prefix(name.as_bytes())?.strip_prefix(b"="))?;
        std::str::from_utf8(found).ok()
    };
    let hex = |text: &&str| matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_hexdigit());
    let is_version = |text: &&str| {
        (1..=100).contains(&text.len())
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._+-".contains(&b))
    };
    let commit = value("commit")?;
    Some(Release {
        version: value("version").filter(is_version)?.to_owned(),
        commit: Some(commit)
            .filter(|text| text.is_empty() || hex(text))?
            .to_owned(),
        tag_commit: value("tag_commit").filter(hex).map(str::to_owned),
    })
}

/// The saved cold wallet: the last line that is not empty. `Ok(None)` where there is none.
///
/// # Errors
/// That line is no address.
pub fn wallet(stdout: &[u8]) -> Result<Option<String>, NotSuch> {
    let Some(line) = lines(stdout)
        .rev()
        .map(<[u8]>::trim_ascii)
        .find(|line| !line.is_empty())
    else {
        return Ok(None);
    };
    let is_address = (20..=64).contains(&line.len()) && line.iter().all(u8::is_ascii_alphanumeric);
    if is_address {
        Ok(Some(String::from_utf8_lossy(line).into_owned()))
    } else {
        Err(NotSuch(shown(line)))
    }
}

/// Process ids, one a line.
///
/// # Errors
/// A line is none.
pub fn pids(stdout: &[u8]) -> Result<Vec<u32>, NotSuch> {
    let ids = lines(stdout)
        .map(<[u8]>::trim_ascii)
        .filter(|line| !line.is_empty());
    ids.map(|line| {
        let id = std::str::from_utf8(line)
            .ok()
            .and_then(|text| text.parse().ok())
            .filter(|id| *id > 0);
        id.ok_or_else(|| NotSuch(shown(line)))
    })
    .collect()
}

/// What was printed in place of what was expected, fit to be shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\"")]
pub struct NotSuch(pub String);

/// The end of an output as part of a sentence: one line of bounded length, without control characters, and without
/// anything that may be a secret (long words, passwords in URLs, and what follows `info:` or a word like `password`).
#[must_use]
pub fn shown(output: &[u8]) -> String {
    // Only the end is shown, and a hostile output may be long.
    let text = String::from_utf8_lossy(&output[output.len().saturating_sub(16 * SHOWN)..]).into_owned();
    let mut words: Vec<String> = Vec::new();
    for word in without_control(&text).split_whitespace() {
        let hide = words.last().is_some_and(|before| names_a_secret(before)) || may_be_secret(word);
        words.push(if hide {
            "[hidden]".to_owned()
        } else {
            word.to_owned()
        });
    }
    let text = words.join(" ");
    let skip = text.chars().count().saturating_sub(SHOWN);
    if skip == 0 {
        text
    } else {
        format!("…{}", text.chars().skip(skip).collect::<String>())
    }
}

/// How long the name of a backup's place may be, in characters.
const PLACE: usize = 400;

/// Where a backup is: the last line that says anything, without control characters and without the login of a URL.
#[must_use]
pub fn place(output: &[u8]) -> Option<String> {
    let line = lines(output)
        .rev()
        .map(|line| without_control(&String::from_utf8_lossy(line)).trim().to_owned())
        .find(|line| !line.is_empty())?;
    let words = line.split_whitespace().map(|word| match word.split_once("://") {
        Some((scheme, rest)) => match rest.split_once('/').unwrap_or((rest, "")) {
            (host, path) if host.contains('@') => {
                let host = host.rsplit('@').next().unwrap_or_default();
                format!("{scheme}://[hidden]@{host}/{path}")
            }
            _ => word.to_owned(),
        },
        None => word.to_owned(),
    });
    let line = words.collect::<Vec<_>>().join(" ");
    Some(line.chars().take(PLACE).collect())
}

/// Control characters become blanks; an escape sequence, such as a colour, goes whole.
fn without_control(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        if c == '\u{1b}' && characters.peek() == Some(&'[') {
            characters.by_ref().find(|c| c.is_ascii_alphabetic());
        }
        // Those of Unicode that reorder or hide text lie to the reader as well.
        let harmless = !c.is_control()
            && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        clean.push(if harmless { c } else { ' ' });
    }
    clean
}

fn names_a_secret(word: &str) -> bool {
    let word = word.to_ascii_lowercase();
    let bare = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    matches!(word.as_str(), "info:" | "key:")
        || matches!(bare, "password" | "passwd" | "secret" | "passphrase")
}

fn may_be_secret(word: &str) -> bool {
    let long = word
        .split(|c: char| !c.is_ascii_alphanumeric())
        .any(|run| run.len() >= SECRET_WORD);
    let login = word
        .split_once("://")
        .is_some_and(|(_, rest)| rest.split('/').next().is_some_and(|host| host.contains('@')));
    let lower = word.to_ascii_lowercase();
    let assigned = ["password=", "passwd=", "secret=", "key="]
        .iter()
        .any(|name| lower.contains(name));
    long || login || assigned
}

fn lines(output: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    output
        .split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0636ffcdcfcc3f33999737baabef86964b35271041adadf6269ed83fd222718f";

    #[test]
    fn the_place_of_a_backup_is_the_last_line_without_a_login() {
        let found = |text: &str| place(text.as_bytes());
        assert_eq!(
            found("dumping\ns3://backups/acme.gz\r\n\n"),
            Some("s3://backups/acme.gz".into())
        );
        assert_eq!(
            found("sftp://me:5ecret@store.example/acme\u{1b}[2J.gz"),
            Some("sftp://[hidden]@store.example/acme .gz".into())
        );
        assert_eq!(found("\n \n"), None);
        assert_eq!(found(&"é".repeat(1000)).unwrap().chars().count(), 400);
    }

    #[test]
    fn the_key_is_the_last_line_that_says_it() {
        let found = |text: &str| api_key(text.as_bytes()).map(|key| key.expose_str().unwrap().to_owned());
        assert_eq!(
            found(&format!("info: old\nmade a folder\r\ninfo: {KEY}\r\nbye\n")),
            Some(KEY.to_owned())
        );
        assert_eq!(found("info: any-text!"), Some("any-text!".to_owned()));
        for none in [
            "",
            "info: ",
            "info: two words\n",
            " info: x",
            "Info: x",
            "error: no",
            "info:x",
            "info: \u{7f}",
        ] {
            assert_eq!(found(none), None, "{none:?}");
        }
        assert_eq!(found(&format!("info: {}", "x".repeat(KEY_MAX + 1))), None);
        assert!(api_key(b"info: \xff\xfe\ninfo: good\n\xff").is_some());
    }

    #[test]
    fn a_certificate_is_known_by_its_der_and_a_cut_one_is_none() {
        let key = rcgen::KeyPair::generate().unwrap();
        let made = rcgen::CertificateParams::new(["x".to_owned()])
            .unwrap()
            .self_signed(&key)
            .unwrap();
        let pem = format!("noise\n{}", made.pem());
        assert_eq!(certificate(pem.as_bytes()), Some(Fingerprint::of(made.der())));
        for bad in [
            &pem[..pem.len() / 2],
            "",
            "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
        ] {
            assert_eq!(certificate(bad.as_bytes()), None);
        }
        let other = "-----BEGIN CERTIFICATE-----\nMIIBszCC\n-----END CERTIFICATE-----\n";
        assert_eq!(certificate(other.as_bytes()), None);
        assert_eq!(certificate(key.serialize_pem().as_bytes()), None);
    }

    #[test]
    fn a_release_needs_its_version_and_may_have_no_commit() {
        let commit = "3e6656adaaec561636120b4b3ef285e38c60c6fa";
        let read = |text: String| release(text.as_bytes());
        let plain = read(format!("hello\nversion=3.29.0\r\ncommit={commit}\n")).unwrap();
        assert_eq!(
            (plain.version.as_str(), plain.commit.as_str(), plain.tag_commit),
            ("3.29.0", commit, None)
        );
        assert_eq!(read("version=1\ncommit=\n".into()).unwrap().commit, "");
        assert_eq!(
            read(format!("version=1\ncommit=\ntag_commit={commit}"))
                .unwrap()
                .tag_commit
                .unwrap(),
            commit
        );
        for bad in [
            "version=1",
            "commit=",
            "version=\ncommit=",
            "version=a b\ncommit=",
            "version=1\ncommit=HEAD",
        ] {
            assert_eq!(read(bad.into()), None, "{bad:?}");
        }
        assert_eq!(read(format!("version={}\ncommit=", "1".repeat(101))), None);
    }

    #[test]
    fn a_wallet_is_an_address_or_nothing() {
        let address = "rHb9CJAWyB4rj91VRWn96DkukG4bwdtyTh";
        assert_eq!(
            wallet(format!("x: y\n{address}\n\n").as_bytes()),
            Ok(Some(address.to_owned()))
        );
        assert_eq!(wallet(b"\n"), Ok(None));
        assert!(wallet(b"[object Object]\n").is_err() && wallet(b"false\n").is_err());
    }

    #[test]
    fn process_ids_are_numbers_and_nothing_else() {
        assert_eq!(pids(b"\n12\n 345 \r\n"), Ok(vec![12, 345]));
        assert_eq!(pids(b""), Ok(vec![]));
        for bad in ["1\nps: error\n", "-1", "0", "99999999999", "1 2"] {
            assert!(pids(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_is_shown_is_short_plain_and_without_secrets() {
        let hostile = format!(
            "\u{1b}[31mred\u{1b}[0m \0\u{202e}evil\r\ninfo: short-key {KEY} postgres://u:pw@h/d password: 'pw' x=1;KEY=abc"
        );
        let text = shown(hostile.as_bytes());
        assert_eq!(
            text,
            "red evil info: [hidden] [hidden] [hidden] password: [hidden] [hidden]"
        );
        let long = shown("word ".repeat(1000).as_bytes());
        assert!(
            long.starts_with('…') && long.chars().count() == SHOWN + 1,
            "{long}"
        );
        assert_eq!(shown(b"\xff\xfe ok"), "\u{fffd}\u{fffd} ok");
    }
}
