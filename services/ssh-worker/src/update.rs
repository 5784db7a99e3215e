//! `updateGatewayd`: another release in place, verified, and nothing running.
//!
//! Every part is done again by every try, since the one before may have been cut short between any two of them.

use gatewayzen_core::{Facts, Next, StepError};
use gatewayzen_worker::StepContext;
use tokio::time::Instant;

use crate::command::{End, Output};
use crate::host::{Halt, Host, Step};
use crate::parse::{self, Release};
use crate::remote::Command;
use crate::steps::SshSteps;
use crate::stop;

/// Exit status of `checkout` where there is no such tag: `EX_NOINPUT` of `sysexits.h`.
const NO_SUCH_TAG: u32 = 66;
/// What git itself says then.
const GIT_NO_SUCH_TAG: &[u8] = b"did not match any";

pub(crate) async fn update(steps: &SshSteps, context: &StepContext) -> Step {
    let Some(asked) = context.gatewayd.release.as_deref() else {
        return Err(StepError::permanent(
            "an update was asked for, but not to which release: the column release is empty",
            "Write the release (a git tag of gatewayd) to the column release; then retry.",
        )
        .into());
    };
    let host = Host::reach(steps, context, false).await?;
    stop::down(&host).await?;

    // The parts share one time, so that all of them together fit into the step's.
    let deadline = Instant::now() + steps.gatewayd.update_timeout;
    for command in [
        Command::Fetch,
        Command::Checkout,
        Command::Install,
        Command::Migrate,
    ] {
        let time = deadline.saturating_duration_since(Instant::now());
        let output = host.run(command, time).await?;
        if output.end != End::Exit(0) {
            if command == Command::Checkout && no_such_tag(&output) {
                return Err(unknown(&host, asked).into());
            }
            return Err(host.failed(command, time, &output).into());
        }
    }
    let found = found(&host).await?;
    let (address, version) = (host.session.address().to_owned(), found.version.clone());
    let verdict = verify(&address, asked, &found);
    let facts = Facts {
        release_in_place: Some(found.version),
        commit_in_place: Some(found.commit),
        ..Facts::default()
    };
    if let Err(error) = verdict {
        // The row then says what is in place, and not what was before.
        context.record(&facts).await?;
        return Err(error.into());
    }
    let running = stop::pids(&host).await?;
    if !running.is_empty() {
        return Err(StepError::transient(
            format!(
                "release {asked} is in place on host {address}, but {} processes of gatewayd run again",
                running.len()
            ),
            "See what starts them (pm2's start at boot, an operator); an update leaves gatewayd stopped.",
        )
        .into());
    }
    host.session.close().await;
    Ok(Next::Advance {
        facts,
        done: format!("release {asked} in place (version {version}), nothing runs"),
    })
}

fn no_such_tag(output: &Output) -> bool {
    let says_so = output
        .stderr
        .windows(GIT_NO_SUCH_TAG.len())
        .any(|part| part == GIT_NO_SUCH_TAG);
    output.end == End::Exit(NO_SUCH_TAG) || says_so
}

fn unknown(host: &Host<'_>, asked: &str) -> StepError {
    StepError::permanent(
        format!(
            "the git repository on host {} has no tag {asked}, also after fetching; gatewayd is stopped",
            host.session.address()
        ),
        "Write a release that exists to the column release, or push that tag to the repository from which the host fetches; then \
         retry.",
    )
}

async fn found(host: &Host<'_>) -> Result<Release, Halt> {
    let output = host.ask(Command::Release).await?;
    let release = parse::release(&output.stdout);
    release.ok_or_else(|| {
        host.strange(
            Command::Release,
            "printed no lines version=… and commit=…",
            &output,
        )
        .into()
    })
}

/// Whether what is in place is what was asked for. Exit statuses of the commands do not say.
fn verify(address: &str, asked: &str, found: &Release) -> Result<(), StepError> {
    let Release {
        version,
        commit,
        tag_commit,
    } = found;
    let as_commit = if commit.is_empty() { "no commit" } else { commit };
    if let Some(tag) = tag_commit.as_ref().filter(|tag| *tag != commit) {
        return Err(StepError::transient(
            format!(
                "release {asked} was asked for on host {address}: its commit is {tag}, but {as_commit} is in place (version {version})"
            ),
            "See why the checkout on the host does not follow (local changes, another repository).",
        ));
    }
    if version == asked.strip_prefix('v').unwrap_or(asked) {
        return Ok(());
    }
    let sentence = format!(
        "release {asked} was asked for on host {address}, but version {version} is in place ({as_commit})"
    );
    // Where the commit is the tag's, trying again cannot change the version.
    Err(if tag_commit.is_some() {
        StepError::permanent(
            sentence,
            "That tag carries another version in its package.json: write a release whose tag fits; then retry.",
        )
    } else {
        StepError::transient(sentence, "See why the checkout on the host does not follow.")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(version: &str, commit: &str, tag: Option<&str>) -> Release {
        Release {
            version: version.into(),
            commit: commit.into(),
            tag_commit: tag.map(str::to_owned),
        }
    }

    #[test]
    fn version_and_commit_must_both_be_those_of_the_tag() {
        let judge = |found: &Release| verify("10.0.0.9", "v3.34.2", found);
        assert!(judge(&release("3.34.2", "aa", Some("aa"))).is_ok());
        assert!(judge(&release("3.34.2", "", None)).is_ok());
        assert!(verify("10.0.0.9", "3.34.2", &release("3.34.2", "", None)).is_ok());

        let old = judge(&release("3.33.0", "bb", None)).unwrap_err();
        assert!(matches!(old, StepError::Transient(_)));
        for part in ["v3.34.2", "3.33.0", "10.0.0.9"] {
            assert!(old.to_string().contains(part), "{old}");
        }
        let other = judge(&release("3.34.2", "bb", Some("aa")))
            .unwrap_err()
            .to_string();
        assert!(other.contains("its commit is aa, but bb is in place"), "{other}");
        assert!(matches!(
            judge(&release("3.33.0", "aa", Some("aa"))),
            Err(StepError::Permanent(_))
        ));
    }
}
