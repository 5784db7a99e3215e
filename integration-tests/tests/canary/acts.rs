//! The commands that open secrets or tell of them: with the right keys, with others, and with what is no ring of keys.

use gatewayzen_core::seal::KeyRing;
use integration_tests::harness::run;

use crate::sources::Sources;
use crate::world::{POSTGRES_PASSWORD, World};

/// Where the keys are when the acts are over.
const ROTATED: &str = "rotated_keys";

/// Settings of one run in its environment, which win over those of the bed.
type Own<'a> = &'a [(&'a str, &'a str)];

const KEYS: &str = "GATEWAYZEN_SECRETS__KEY_FILE";
const BACKUP_KEYS: &str = "GATEWAYZEN_SECRETS__BACKUP_KEY_FILE";

impl World {
    /// The keys under which every secret of the database opens.
    pub(crate) fn keys(&self) -> String {
        std::fs::read_to_string(self.bed.folder().join(ROTATED)).unwrap_or_else(|_| self.bed.sealing_keys())
    }

    /// What the commands say that open every seed, and those that tell of identities, of keys and of the policy. Backups that
    /// they write stay in the bed's folder. The last one leaves all secrets under another key, which no service has.
    pub(crate) async fn acts_with_secrets(&self, name: &str) -> Sources {
        let path = |file: &str| self.bed.folder().join(file).to_str().unwrap().to_owned();
        let new_line = |id: &str| {
            KeyRing::generate_line(id)
                .unwrap()
                .expose_str()
                .unwrap()
                .to_owned()
        };
        let (other, other_backups, rotated) =
            (path("strange_keys"), path("strange_backup_keys"), path(ROTATED));
        std::fs::write(&other, new_line("strange")).unwrap();
        std::fs::write(&other_backups, new_line("strange-backup")).unwrap();
        // A file that holds a secret and no ring: the sentence about it must quote nothing.
        let no_ring = path("fleet_key");
        let files = ["all", "none", "rotated"].map(|file| path(&format!("{file}.backup")));
        let [all, none, after] = files.each_ref().map(String::as_str);

        let mut said = Sources::new();
        let right: Own<'_> = &[];
        let status = ["secrets", "status"];
        let json_status = ["--json", "secrets", "status"];
        let rotate = ["secrets", "rotate"];
        let export = |file| ["secrets", "export", file, "--reason", "the canary"];
        let verify = |file| ["secrets", "verify-backup", file];
        let reveal = ["secrets", "reveal", name, "wallet", "--reason", "the canary"];
        let with_the_right_keys: [(&[&str], i32); 14] = [
            (&status, 0),
            (&json_status, 0),
            (&rotate, 0),
            (&export(all), 0),
            (&["--json", "secrets", "export", all, "--reason", "the canary"], 1),
            (&verify(all), 0),
            (&["--json", "secrets", "verify-backup", all, "--offline"], 0),
            // On a pipe it is refused.
            (&reveal, 1),
            (&["ssh-key", "status"], 0),
            (&["--json", "ssh-key", "status"], 0),
            (&["identity", "show", name], 0),
            (&["--json", "identity", "show", name], 0),
            (&["policy"], 0),
            (&["--json", "policy"], 0),
        ];
        for (arguments, code) in with_the_right_keys {
            said.push(self.act(arguments, right, Some(code)).await);
        }
        let strange: Own<'_> = &[(KEYS, &other)];
        for arguments in [&status[..], &json_status, &rotate, &export(none)] {
            said.push(self.act(arguments, strange, Some(1)).await);
        }
        said.push(
            self.act(&verify(all), &[(BACKUP_KEYS, &other_backups)], Some(1))
                .await,
        );
        for own in [&[(KEYS, no_ring.as_str())], &[(BACKUP_KEYS, no_ring.as_str())]] {
            for arguments in [&status[..], &rotate, &export(after), &verify(all), &reveal] {
                said.push(self.act(arguments, own, None).await);
            }
        }

        let ring = [new_line("rotated"), self.bed.sealing_keys()].join("\n");
        std::fs::write(&rotated, ring).unwrap();
        let rotated: Own<'_> = &[(KEYS, &rotated)];
        for arguments in [
            &["--json", "secrets", "rotate"][..],
            &status,
            &export(after),
            &verify(after),
        ] {
            said.push(self.act(arguments, rotated, Some(0)).await);
        }
        said
    }

    /// Runs a command as an operator; where it came from, and both of its outputs. `code`: how it must end.
    async fn act(&self, arguments: &[&str], own: Own<'_>, code: Option<i32>) -> (String, Vec<u8>) {
        let role = "gatewayzen_operator";
        let login = self.bed.database.url(role);
        let login = login.replace(&format!("{role}@"), &format!("{role}:{POSTGRES_PASSWORD}@"));
        let mut environment = self.bed.environment.clone();
        environment.push(("GATEWAYZEN_POSTGRES__URL".to_owned(), login));
        environment.extend(own.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        let config = self.bed.config.to_str().unwrap();
        let done = run(
            "gatewayzen",
            &[&["--config", config][..], arguments].concat(),
            &environment,
        )
        .await;
        let words = format!("gatewayzen {} with {own:?}", arguments.join(" "));
        let text = [done.stdout, done.stderr].concat();
        assert!(
            code.is_none_or(|code| done.status.code() == Some(code)),
            "{words}: {:?}: {}",
            done.status,
            String::from_utf8_lossy(&text)
        );
        (words, text)
    }
}
