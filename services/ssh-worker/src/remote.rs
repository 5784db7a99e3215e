//! Command lines for a host's shell.
//!
//! `GATEWAYZEN_COMMAND=… flock … timeout … sh -c '…'`: one command at a time on a host, none for longer than its time,
//! whatever becomes of the connection, and none of a worker whose lease is of the past: under the lock the host compares
//! the lease's number with the highest one that it has heard. Guards against the worker that was frozen between its
//! last look at the lease and its command, and would stop what another has started since. What comes from outside (a release) is an assignment in front, quoted; it is
//! never spliced into a command's text.

use std::time::Duration;

use gatewayzen_bootstrap::settings::Gatewayd;

/// Exit status of `flock` when another holds the lock: `EX_TEMPFAIL` of `sysexits.h`.
pub const LOCK_BUSY: u32 = 75;
/// Exit status of a command that the host refused because it has heard a later lease of the row: `EX_PROTOCOL` of
/// `sysexits.h`.
pub const OVERTAKEN: u32 = 76;
/// Exit status of `timeout` when it ended the command.
pub const TIMED_OUT: u32 = 124;
/// Exit status of `timeout` when it had to kill the command; also that of a command killed by the kernel.
pub const KILLED: u32 = 137;

/// From the end of a command's time to its killing.
const KILL_AFTER: Duration = Duration::from_secs(2);
/// How much longer we wait for a command than its host lets it run.
const MARGIN: Duration = Duration::from_secs(5);

/// A command that is configured in `gatewayd.commands`, or `gatewayd.backup_command`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Prints gatewayd's API key and makes one where there is none.
    GetKey,
    /// Prints the certificate of the host's TLS pair and makes the pair where there is none.
    Tls,
    /// Prints version and commit.
    Release,
    /// Prints the cold wallet that gatewayd's configuration holds.
    SavedWallet,
    /// Prints the ids of gatewayd's processes.
    Processes,
    /// Starts gatewayd.
    Start,
    /// Ends all processes of gatewayd.
    Stop,
    /// Fetches the releases.
    Fetch,
    /// Puts the release asked for in place.
    Checkout,
    /// Installs what the release depends on.
    Install,
    /// Brings gatewayd's database to the release.
    Migrate,
    /// Backs up what ends with the host; prints where the backup is. May be left out.
    Backup,
}

impl Command {
    /// Every command that a host must have.
    pub const ALL: [Command; 11] = [
        Command::GetKey,
        Command::Tls,
        Command::Release,
        Command::SavedWallet,
        Command::Processes,
        Command::Start,
        Command::Stop,
        Command::Fetch,
        Command::Checkout,
        Command::Install,
        Command::Migrate,
    ];

    /// Its name, which is the value of `GATEWAYZEN_COMMAND`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Command::GetKey => "get_key",
            Command::Tls => "tls",
            Command::Release => "release",
            Command::SavedWallet => "saved_wallet",
            Command::Processes => "processes",
            Command::Start => "start",
            Command::Stop => "stop",
            Command::Fetch => "fetch",
            Command::Checkout => "checkout",
            Command::Install => "install",
            Command::Migrate => "migrate",
            Command::Backup => "backup",
        }
    }

    /// The setting that holds its text.
    #[must_use]
    pub fn setting(self) -> String {
        match self {
            Command::Backup => "gatewayd.backup_command".to_owned(),
            other => format!("gatewayd.commands.{}", other.name()),
        }
    }

    /// Its text in the configuration.
    #[must_use]
    pub fn text(self, settings: &Gatewayd) -> &str {
        let commands = &settings.commands;
        match self {
            Command::GetKey => &commands.get_key,
            Command::Tls => &commands.tls,
            Command::Release => &commands.release,
            Command::SavedWallet => &commands.saved_wallet,
            Command::Processes => &commands.processes,
            Command::Start => &commands.start,
            Command::Stop => &commands.stop,
            Command::Fetch => &commands.fetch,
            Command::Checkout => &commands.checkout,
            Command::Install => &commands.install,
            Command::Migrate => &commands.migrate,
            Command::Backup => &settings.backup_command,
        }
    }
}

/// A command line, and how long to wait for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// For the host's login shell.
    pub text: String,
    /// How long the host lets the command run, in whole seconds.
    pub runs_for: Duration,
    /// When we give up: later than the host, which waits for its lock, ends the command, and kills it.
    pub gives_up_after: Duration,
}

/// The line that runs a command for at most `time`. `lease` is the number of the worker's lease of the row `gatewayd`;
/// `release` is what the row asks for, where it does.
#[must_use]
pub fn line(
    settings: &Gatewayd,
    command: Command,
    gatewayd: i64,
    lease: i64,
    release: Option<&str>,
    time: Duration,
) -> Line {
    // `timeout 0` would mean no limit.
    let seconds = time.as_secs_f64().ceil().max(1.0) as u64;
    let state = path(&settings.state_directory);
    let script = format!(
        "heard={state}/lease-{gatewayd}; last=$(cat \"$heard\" 2>/dev/null)\n\
         if [ \"${{last:-0}}\" -gt {lease} ]; then\n\
         echo \"lease {lease} is of the past: this host has heard lease $last\" >&2; exit {OVERTAKEN}; fi\n\
         [ \"$last\" = {lease} ] || {{ echo {lease} >\"$heard.new\" && mv \"$heard.new\" \"$heard\"; }} || exit\n\
         cd {} && {{\n{}\n}}",
        path(&settings.directory),
        command.text(settings).trim()
    );
    let release = release
        .map(|release| format!("GATEWAYZEN_RELEASE={} ", quote(release)))
        .unwrap_or_default();
    // -o: what the command leaves running must not inherit the lock, or gatewayd would hold it for ever.
    // mkdir -m: the folder holds the private key of the host's certificate.
    let text = format!(
        "mkdir -p -m 700 {state} && GATEWAYZEN_COMMAND={} GATEWAYZEN_ID={gatewayd} GATEWAYZEN_LEASE={lease} {release}GATEWAYZEN_TLS_KEY={state}/tls/key.pem \
         GATEWAYZEN_TLS_CERTIFICATE={state}/tls/certificate.pem GATEWAYZEN_HTTPS_PORT={} \
         flock -o -E {LOCK_BUSY} -w {} {state}/lock timeout -k {} {seconds} sh -c {} </dev/null",
        command.name(),
        settings.https_port,
        settings.lock_timeout.as_secs_f64(),
        KILL_AFTER.as_secs(),
        quote(&script),
    );
    let runs_for = Duration::from_secs(seconds);
    Line {
        text,
        runs_for,
        gives_up_after: settings.lock_timeout + runs_for + KILL_AFTER + MARGIN,
    }
}

/// One word for a POSIX shell, whatever is in it.
#[must_use]
pub fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A path on the host as one absolute word. A relative one starts at the login's home, where the shell begins.
fn path(text: &str) -> String {
    if text.starts_with('/') {
        quote(text)
    } else {
        format!("\"$PWD\"/{}", quote(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Gatewayd {
        gatewayzen_bootstrap::settings::load(None).unwrap().gatewayd
    }

    /// What `sh` makes of a text.
    fn sh(text: &str) -> (String, i32) {
        let output = std::process::Command::new("sh")
            .arg("-c")
            .arg(text)
            .output()
            .unwrap();
        (
            String::from_utf8_lossy(&output.stdout).into_owned(),
            output.status.code().unwrap(),
        )
    }

    #[test]
    fn a_quoted_text_is_one_word_whatever_is_in_it() {
        for hostile in [
            "v1'; touch /tmp/x #",
            "$(id)",
            "`id`",
            "a\nb",
            "\\",
            "-n",
            "",
            "'",
            "''\"$HOME\"",
            "é☃",
        ] {
            assert_eq!(
                sh(&format!("printf '%s|' {} end", quote(hostile))).0,
                format!("{hostile}|end|")
            );
        }
    }

    #[test]
    fn a_hostile_release_is_an_assignment_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().to_str().unwrap();
        std::fs::create_dir(folder.path().join("gatewayd")).unwrap();
        let mut settings = settings();
        settings.commands.checkout = r#"printf '%s' "$GATEWAYZEN_RELEASE""#.into();
        let release = "v1'; touch owned; echo '$(touch owned)";
        let line = line(
            &settings,
            Command::Checkout,
            42,
            1,
            Some(release),
            Duration::from_secs(5),
        );
        assert_eq!(
            sh(&format!("cd {home} && {}", line.text)),
            (release.to_owned(), 0)
        );
        assert!(!folder.path().join("owned").exists() && !folder.path().join("gatewayd/owned").exists());
    }

    #[test]
    fn a_command_runs_in_gatewayds_directory_with_absolute_paths_and_closed_input() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().canonicalize().unwrap();
        std::fs::create_dir(home.join("gate wayd")).unwrap();
        let mut settings = settings();
        settings.directory = "gate wayd".into();
        settings.commands.release = r#"pwd; cat; echo "$GATEWAYZEN_COMMAND $GATEWAYZEN_TLS_KEY""#.into();
        let home = home.display();
        let line = line(&settings, Command::Release, 42, 1, None, Duration::from_millis(1));
        assert_eq!(line.runs_for, Duration::from_secs(1));
        let expected = format!("{home}/gate wayd\nrelease {home}/.gatewayzen/tls/key.pem\n");
        assert_eq!(sh(&format!("cd {home} && {}", line.text)), (expected, 0));
    }

    #[test]
    fn a_host_refuses_the_worker_whose_lease_is_of_the_past() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().to_str().unwrap();
        std::fs::create_dir(folder.path().join("gatewayd")).unwrap();
        let mut settings = settings();
        settings.commands.stop = "echo stopped".into();
        let stop = |lease| {
            let line = line(&settings, Command::Stop, 42, lease, None, Duration::from_secs(5));
            sh(&format!("cd {home} && {{ {}; }} 2>&1", line.text))
        };
        assert_eq!(stop(9), ("stopped\n".into(), 0));
        assert_eq!(stop(9), ("stopped\n".into(), 0), "the same worker goes on");
        let refused = "lease 8 is of the past: this host has heard lease 9\n";
        assert_eq!(stop(8), (refused.into(), 76));
        assert_eq!(stop(10), ("stopped\n".into(), 0));
        assert_eq!(stop(9).1, 76);
    }

    #[test]
    fn we_wait_longer_than_the_host() {
        let settings = settings();
        let line = line(&settings, Command::Start, 42, 1, None, Duration::from_secs(60));
        assert!(line.gives_up_after > settings.lock_timeout + line.runs_for + KILL_AFTER);
        assert!(
            line.text.contains("GATEWAYZEN_COMMAND=start ") && line.text.contains("timeout -k 2 60 sh -c")
        );
    }

    #[test]
    fn every_command_has_a_default_and_a_name_of_its_own() {
        let settings = settings();
        let names: std::collections::BTreeSet<_> = Command::ALL.iter().map(|c| c.name()).collect();
        assert_eq!(names.len(), Command::ALL.len());
        for command in Command::ALL {
            assert!(!command.text(&settings).trim().is_empty(), "{}", command.name());
        }
    }
}
