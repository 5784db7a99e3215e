use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn settings(postgres: &str, redis: &str) -> Settings {
    let mut settings = crate::settings::load(None).unwrap();
    settings.postgres.url = postgres.to_owned().into();
    settings.redis.url = redis.to_owned().into();
    settings
}

const LOCAL: &str = "redis://127.0.0.1";

#[test]
fn a_remote_postgres_without_verified_tls_is_a_warning_that_shows_no_password() {
    for (url, says) in [
        ("postgres://u:hunter2@db.example/d", "need not be encrypted"),
        (
            "postgres://u:hunter2@db.example/d?sslmode=prefer",
            "need not be encrypted",
        ),
        (
            "postgres://u:hunter2@10.0.0.9/d?sslmode=disable",
            "need not be encrypted",
        ),
        (
            "postgres://u:hunter2@db.example/d?sslmode=require",
            "is not verified",
        ),
        (
            "postgres://u:hunter2@db.example/d?sslmode=verify-ca",
            "is not verified",
        ),
    ] {
        let warnings = network(&settings(url, LOCAL));
        assert_eq!(warnings.len(), 1, "{url}: {warnings:?}");
        assert!(
            warnings[0].contains(says) && warnings[0].contains("verify-full"),
            "{warnings:?}"
        );
        assert!(!warnings[0].contains("hunter2"), "{warnings:?}");
    }
    for url in [
        "postgres://u@127.0.0.1/d",
        "postgres://u@localhost/d",
        "postgres://u@[::1]/d",
        "postgres://u@%2Frun%2Fpostgresql/d",
        "postgres://u@db.example/d?sslmode=verify-full",
    ] {
        assert_eq!(network(&settings(url, LOCAL)), Vec::<String>::new(), "{url}");
    }
}

#[test]
fn a_remote_redis_in_the_clear_is_a_warning() {
    let warnings = network(&settings(
        "postgres://u@127.0.0.1/d",
        "redis://:hunter2@redis.example",
    ));
    assert_eq!(warnings.len(), 1);
    assert!(
        warnings[0].contains("redis.example:6379") && warnings[0].contains("rediss://"),
        "{warnings:?}"
    );
    assert!(!warnings[0].contains("hunter2"));
}

#[test]
fn a_settings_file_with_a_password_that_others_may_read_is_a_warning() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mode = |mode| std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
    let with = settings("postgres://u:hunter2@127.0.0.1/d", LOCAL);
    mode(0o644);
    let warnings = |settings: &Settings| told(settings, Some(file.path()), |_| None);
    let is_told = |settings: &Settings| {
        let told = warnings(settings);
        told.iter()
            .any(|text| text.contains("the settings file holds a secret") && text.contains("chmod 600"))
    };
    assert!(is_told(&with));
    let without = settings("postgres://u@127.0.0.1/d", LOCAL);
    assert_eq!(warnings(&without), Vec::<String>::new());
    // Each ring, and not the common one alone.
    let mut keys = [without.clone(), without.clone(), without.clone()];
    keys[0].secrets.keys = "k1:AAAA".to_owned().into();
    keys[1].secrets.wallet_keys = "w1:AAAA".to_owned().into();
    keys[2].secrets.backup_keys = "b1:AAAA".to_owned().into();
    assert_eq!(keys.each_ref().map(is_told), [true; 3]);
    mode(0o600);
    assert_eq!(warnings(&with), Vec::<String>::new());
    assert!(keys.iter().all(|keys| warnings(keys).is_empty()));
}

#[test]
fn every_secret_setting_is_looked_at() {
    let settings = settings("postgres://u@127.0.0.1/d", LOCAL);
    assert_eq!(secret_settings(&settings).map(|(key, _)| key), SECRET);
}

#[test]
fn a_password_from_a_file_of_its_own_is_not_in_the_settings_file() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let password = write("password", "hunter2\n");
    let text = format!(
        "[postgres]\nurl = \"postgres://u@127.0.0.1/d\"\npassword_file = {password:?}\n\
         [redis]\nurl = \"redis://127.0.0.1\"\npassword_file = {password:?}\n"
    );
    let file = &write("gatewayzen.toml", &text);
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let mut settings = crate::settings::load(Some(file)).unwrap();
    assert!(settings.postgres.url.expose_secret().contains("hunter2"));
    assert!(settings.redis.url.expose_secret().contains("hunter2"));
    assert_eq!(told(&settings, Some(file), |_| None), Vec::<String>::new());
    settings.postgres.url = "postgres://u:hunter2@127.0.0.1/d?password=hunter3"
        .to_owned()
        .into();
    assert_eq!(told(&settings, Some(file), |_| None).len(), 1);
}

#[test]
fn a_secret_in_the_environment_is_a_warning_that_does_not_show_it() {
    let settings = settings("postgres://u@127.0.0.1/d", LOCAL);
    let with = |set: &'static str| {
        told(&settings, None, |name| {
            (name == set).then(|| "w1:hunter2".to_owned())
        })
    };
    for name in [
        "GATEWAYZEN_SECRETS__WALLET_KEYS",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
    ] {
        let told = with(name);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with(&format!("{name} holds a secret")), "{told:?}");
        assert!(!told[0].contains("hunter2"), "{told:?}");
    }
    assert_eq!(with("AWS_ACCESS_KEY_ID"), Vec::<String>::new());
}

#[test]
fn a_url_holds_a_secret_where_it_has_a_password() {
    for (url, secret) in [
        ("postgres://u@h/d", false),
        ("postgres://u:@h/d", false),
        ("postgres://u:p@h/d", true),
        ("postgres://h/d?user=u&password=p", true),
        ("redis://:p@h", true),
        ("redis://h:6379/0", false),
    ] {
        assert_eq!(holds_secret("postgres.url", url), secret, "{url}");
    }
    assert!(holds_secret("GATEWAYZEN_SECRETS__KEYS", "k1:AAAA") && !holds_secret("secrets.keys", ""));
}
