//! Passwords that stand in files of their own, as containers are given them.

use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use super::Settings;
use super::error::ConfigError;
use crate::keys::read_private;

/// Puts the passwords of `postgres.password_file` and `redis.password_file` into the URLs, so that nobody after this has to
/// know of the files.
pub(super) fn read(settings: &mut Settings) -> Result<(), ConfigError> {
    let postgres = &mut settings.postgres;
    complete("postgres", &mut postgres.url, &postgres.password_file)?;
    let redis = &mut settings.redis;
    complete("redis", &mut redis.url, &redis.password_file)
}

fn complete(section: &str, url: &mut SecretString, file: &str) -> Result<(), ConfigError> {
    if file.is_empty() {
        return Ok(());
    }
    let key = format!("{section}.password_file");
    let bad = |problem: String| ConfigError::of(&key, problem);
    let password = read_private(&key, file)?;
    let password = std::str::from_utf8(&password)
        .map_err(|_| bad(format!("{file} is not text")))?
        .trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        return Err(bad(format!(
            "{file} is empty; it holds the password and nothing else"
        )));
    }
    let mut whole = Url::parse(url.expose_secret())
        .map_err(|error| ConfigError::of(&format!("{section}.url"), format!("it cannot be read: {error}")))?;
    if whole.password().is_some() {
        return Err(bad(format!(
            "{section}.url has a password as well; leave one of the two out"
        )));
    }
    // The crate takes a percent sign for one that encodes something already.
    whole
        .set_password(Some(&password.replace('%', "%25")))
        .map_err(|()| bad(format!("{section}.url has no host that a password could be for")))?;
    *url = String::from(whole).into();
    Ok(())
}
