//! Which release is in place, and how another is put there.

use ssh_worker::parse;
use ssh_worker::remote::Command;

use crate::home::Home;

#[test]
fn release_tells_version_commit_and_the_commit_of_the_tag_asked_for() {
    let home = Home::new();
    let read = |home: &Home, release| parse::release(&home.run(Command::Release, release).stdout).unwrap();
    let plain = read(&home, Some("v2.0.0"));
    assert_eq!(
        (plain.version.as_str(), plain.commit.as_str(), plain.tag_commit),
        ("1.0.0", "", None)
    );
    let home = home.with_git();
    let (one, two) = (read(&home, Some("v1.0.0")), read(&home, Some("v2.0.0")));
    assert_eq!(one.tag_commit.as_ref(), Some(&one.commit));
    assert!(two.commit == one.commit && two.tag_commit.is_some_and(|tag| tag != one.commit));
    assert_eq!(read(&home, Some("v3")).tag_commit, None);
}

#[test]
fn checkout_takes_the_tag_over_a_branch_and_over_a_changed_log() {
    let home = Home::new().with_git();
    home.write("logs/log", "first\nchanged by a running gatewayd\n");
    assert_eq!(home.run(Command::Checkout, Some("v2.0.0")).status, 0);
    let found = parse::release(&home.run(Command::Release, Some("v2.0.0")).stdout).unwrap();
    assert_eq!(
        (found.version.as_str(), found.tag_commit.as_ref()),
        ("2.0.0", Some(&found.commit))
    );
    // Again, as a try after a crash would.
    assert_eq!(home.run(Command::Checkout, Some("v2.0.0")).status, 0);
}

#[test]
fn checkout_of_an_unknown_or_hostile_tag_changes_nothing() {
    let home = Home::new().with_git();
    for tag in [
        "v9",
        "master",
        "-f",
        "--help",
        "v2.0.0; touch owned",
        "$(touch owned)",
    ] {
        assert_eq!(home.run(Command::Checkout, Some(tag)).status, 66, "{tag}");
    }
    assert!(!home.gatewayd().join("owned").exists());
    assert_eq!(
        parse::release(&home.run(Command::Release, None).stdout)
            .unwrap()
            .version,
        "1.0.0"
    );
}
