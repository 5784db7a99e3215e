use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::*;

fn secrets(key_file: &str, keys: &str) -> Secrets {
    Secrets {
        key_file: key_file.to_owned(),
        keys: keys.to_owned().into(),
        wallet_key_file: String::new(),
        wallet_keys: String::new().into(),
        unwrap_command: Vec::new(),
        unwrap_timeout: Duration::from_secs(10),
        backup_key_file: String::new(),
        backup_keys: String::new().into(),
        wallet_copies: String::new(),
        wallet_copy_command: Vec::new(),
        wallet_copy_timeout: Duration::from_secs(30),
        core_dumps: false,
    }
}

#[test]
fn a_backup_key_is_no_sealing_key_whatever_its_id() {
    let both = |backups: String| {
        let mut secrets = secrets("", &line("a"));
        secrets.backup_keys = backups.into();
        secrets
    };
    let good = both(line("b"));
    assert_eq!(Rings::all(&good).unwrap().backups.unwrap().sealing_id(), "b");
    let none = both(String::new());
    let missing = Rings::all(&none)
        .unwrap()
        .need_backups(&none)
        .unwrap_err()
        .to_string();
    assert!(
        missing.starts_with("secrets.backup_key_file: backups of wallets"),
        "{missing}"
    );
    let key = good.keys.expose_secret().split_once(':').unwrap().1.to_owned();
    let mut same = good;
    same.backup_keys = format!("{},b:{key}", line("c")).into();
    let refused = Rings::all(&same).unwrap_err().to_string();
    assert!(
        refused.contains("the backup key \"b\" is the sealing key \"a\""),
        "{refused}"
    );
    assert!(!refused.contains(&key));
}

fn line(id: &str) -> String {
    KeyRing::generate_line(id)
        .unwrap()
        .expose_str()
        .unwrap()
        .to_owned()
}

#[test]
fn keys_come_from_the_file_or_the_setting() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("# ours\n{}\n", line("a"))).unwrap();
    assert_eq!(
        key_ring(&secrets(file.path().to_str().unwrap(), ""))
            .unwrap()
            .sealing_id(),
        "a"
    );
    assert_eq!(key_ring(&secrets("", &line("b"))).unwrap().sealing_id(), "b");
}

#[test]
fn no_key_a_missing_file_and_a_bad_ring_are_told_apart_and_show_no_key() {
    let good = line("a");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &good[..20]).unwrap();
    for (secrets, expected) in [
        (secrets("", ""), "secrets.key_file: this service needs the keys"),
        (
            secrets("/nowhere/keys", ""),
            "secrets.key_file: /nowhere/keys cannot be read: No such file",
        ),
        (secrets(file.path().to_str().unwrap(), ""), "secrets.key_file: "),
        (secrets("", &good[..20]), "secrets.keys: "),
    ] {
        let text = key_ring(&secrets).unwrap_err().to_string();
        assert!(text.starts_with(expected), "{text}");
        assert!(!text.contains(&good[4..12]), "{text}");
    }
}

#[test]
fn wallets_may_have_keys_of_their_own_and_old_seeds_still_open() {
    let place = gatewayzen_core::seal::Place::wallet_seed("1/1");
    let mut secrets = secrets("", &line("a"));
    let before = Rings::all(&secrets).unwrap();
    let old = before.wallets.unwrap().seal(place, b"seed").unwrap();
    secrets.wallet_keys = line("w").into();
    let wallets = Rings::all(&secrets).unwrap().wallets.unwrap();
    assert_eq!(
        (wallets.sealing_id(), wallets.open(place, &old).unwrap().expose()),
        ("w", &b"seed"[..])
    );
    // Nobody else opens a new one.
    let new = wallets.seal(place, b"seed").unwrap();
    let common = Rings::common(&secrets).unwrap();
    assert!(common.wallets.is_none());
    assert!(common.common.unwrap().open(place, &new).is_err());
    secrets.wallet_keys = line("a").into();
    let refused = Rings::all(&secrets).unwrap_err().to_string();
    assert!(refused.contains("\"a\" is in the key ring twice"), "{refused}");
}

#[test]
fn a_wrapped_key_is_unwrapped_by_the_command() {
    let plain = line("k");
    let key = plain.split_once(':').unwrap().1;
    // As a key service would: what is wrapped is not the key, and the command makes the key of it.
    let wrapped = BASE64.encode(key.bytes().rev().collect::<Vec<u8>>());
    let mut secrets = secrets("", &format!("k:wrapped:{wrapped},{}", line("old")));
    let refused = key_ring(&secrets).unwrap_err().to_string();
    assert!(
        refused.contains("key \"k\" of the key ring is wrapped: set secrets.unwrap_command"),
        "{refused}"
    );
    let command = |program: &[&str]| program.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    secrets.unwrap_command = command(&["rev"]);
    let ring = key_ring(&secrets).unwrap();
    assert_eq!(ring.in_common(&KeyRing::parse(&plain).unwrap()), Some(("k", "k")));
    for (program, expected) in [
        (&["false"][..], "ended with exit status: 1"),
        (&["/nowhere/unwrap"], "cannot be run: No such file"),
        (
            &["sh", "-c", "echo key service is down >&2; exit 3"],
            "key service is down",
        ),
        (&["echo", "no key"], "is not 32 bytes"),
        (&["sleep", "60"], "did not end within 300ms"),
        (&["yes"], "printed more than a key"),
    ] {
        secrets.unwrap_command = command(program);
        secrets.unwrap_timeout = Duration::from_millis(if program[0] == "sleep" { 300 } else { 10_000 });
        let refused = key_ring(&secrets).unwrap_err().to_string();
        assert!(refused.contains(expected), "{refused}");
    }
}

#[test]
fn a_file_that_others_may_read_is_told_with_the_cure() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mode = |mode| std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
    mode(0o640);
    let warning = readable_by_others(file.path()).unwrap();
    assert!(
        warning.contains("mode 640") && warning.contains("chmod 600"),
        "{warning}"
    );
    mode(0o600);
    assert_eq!(readable_by_others(file.path()), None);
}
