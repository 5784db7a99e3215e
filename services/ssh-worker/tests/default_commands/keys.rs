//! Host keys and login keys.

use std::fs;

use ssh_worker::remote::Command;

use crate::home::mode;
use crate::machine::{Machine, soon};

#[test]
fn a_host_key_is_made_once_installed_and_the_launchs_is_erased_everywhere() {
    let machine = Machine::new();
    let (before, launch) = (machine.in_place(), machine.read("etc/ssh/ssh_host_ed25519_key"));
    let new = machine.make();
    assert_ne!(new, before);
    assert_eq!(
        machine.make(),
        new,
        "a try after a crash finds the one that was made"
    );
    for _ in 0..2 {
        assert_eq!(machine.install(&new, &before).1, 0);
        assert_eq!(machine.in_place(), new);
    }
    let reloads = machine.home.0.path().join("reloads");
    soon(|| !fs::read_to_string(&reloads).unwrap_or_default().is_empty());
    assert_eq!(mode(&machine.path("etc/ssh/ssh_host_ed25519_key")), 0o600);
    assert!(machine.read("etc/ssh/ssh_host_ed25519_key.pub").starts_with(&new));
    assert!(
        machine
            .read("etc/ssh/sshd_config.d/00-gatewayzen.conf")
            .contains("ssh_host_ed25519_key")
    );
    assert_eq!(
        machine.make(),
        new,
        "until it is erased it can be installed again"
    );

    for _ in 0..2 {
        let (_, status, errors) = machine.run(Command::EraseHostKey, &[("GATEWAYZEN_HOST_KEY", &new)]);
        assert_eq!(status, 0, "{errors}");
        assert_eq!(machine.in_place(), new);
    }
    let secret = launch.lines().nth(3).unwrap();
    assert!(!machine.everything_under(".").contains(secret));
    assert!(!machine.home.0.path().join(".gatewayzen/ssh").exists());
    for gone in [
        "etc/ssh/ssh_host_rsa_key",
        "etc/ssh/ssh_host_ecdsa_key.pub",
        "var/lib/cloud/instance/user-data.txt",
        "var/lib/cloud/instance/obj.pkl",
        "var/log/cloud-init.log",
    ] {
        assert!(!machine.path(gone).exists(), "{gone}");
    }
    assert_eq!(machine.read("var/lib/cloud/instance/sem/config_ssh"), "done");
    assert_eq!(machine.read("var/log/syslog"), "nothing of it");
}

#[test]
fn a_host_key_is_not_installed_where_the_server_uses_another_file_or_the_key_is_not_the_one_that_was_made() {
    let machine = Machine::new();
    let before = machine.in_place();
    let new = machine.make();
    let (_, status, errors) = machine.install(&new, "ssh-ed25519 AAAAsomebodyelses");
    assert_eq!(status, 1);
    assert!(errors.contains("does not use"), "{errors}");
    let (_, status, errors) = machine.install("ssh-ed25519 AAAAnobodys", &before);
    assert_eq!(status, 1);
    assert!(errors.contains("the new key is not there"), "{errors}");
    assert_eq!(machine.in_place(), before);
}

#[test]
fn a_login_key_is_added_once_and_taken_out_only_where_the_other_stays() {
    let machine = Machine::new();
    let file = machine.home.0.path().join(".ssh/authorized_keys");
    let (old, new) = ("ssh-ed25519 AAAAold", "ssh-ed25519 AAAAnew");
    // Without a line break at its end.
    fs::write(&file, format!("# ours\n{old} ubuntu@first")).unwrap();
    let out = |key: &str, kept: &str| {
        let variables = [("GATEWAYZEN_SSH_KEY", key), ("GATEWAYZEN_SSH_KEY_KEPT", kept)];
        machine.run(Command::DeauthorizeKey, &variables)
    };
    let (_, status, errors) = out(old, new);
    assert_eq!(status, 1);
    assert!(errors.contains("nothing is taken out"), "{errors}");
    for _ in 0..2 {
        assert_eq!(
            machine
                .run(Command::AuthorizeKey, &[("GATEWAYZEN_SSH_KEY", new)])
                .1,
            0
        );
    }
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(text, format!("# ours\n{old} ubuntu@first\n{new} gatewayzen\n"));
    for _ in 0..2 {
        assert_eq!(out(old, new).1, 0);
        assert_eq!(
            fs::read_to_string(&file).unwrap(),
            format!("# ours\n{new} gatewayzen\n")
        );
    }
    assert_eq!(mode(&file), 0o600);
    // And where there was no file at all.
    fs::remove_file(&file).unwrap();
    assert_eq!(
        machine
            .run(Command::AuthorizeKey, &[("GATEWAYZEN_SSH_KEY", new)])
            .1,
        0
    );
    assert_eq!(fs::read_to_string(&file).unwrap(), format!("{new} gatewayzen\n"));
}
