//! A fleet of local hosts for one test: moto as EC2, and for each instance a real sshd and a real gatewayd.

use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::process::Stdio;

use serde_json::Value;
use tokio::process::{Child, ChildStdin, Command};

use super::stand::{Stand, quoted};
use super::{Database, dev_env, dev_folder, eventually};

/// How much of gatewayd runs on each host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Its web server only.
    Light,
    /// All its processes.
    Full,
}

/// Local hosts and what they stand on. Everything ends with it.
pub struct LocalFleet {
    stand: Stand,
    /// What `local_ec2.py` says of itself: endpoint, images, keys.
    pub facts: Value,
    local_ec2: Child,
    /// Its end is the end of the local EC2 and of every host, also when this test is killed.
    line: Option<ChildStdin>,
}

impl Deref for LocalFleet {
    type Target = Stand;

    fn deref(&self) -> &Stand {
        &self.stand
    }
}

impl DerefMut for LocalFleet {
    fn deref_mut(&mut self) -> &mut Stand {
        &mut self.stand
    }
}

impl LocalFleet {
    /// Local hosts on 127.`network`.1.0/24, which no other fleet may have, and no service running.
    pub async fn new(mode: Mode, network: u8, settings: &str) -> LocalFleet {
        let mut stand = Stand::new(Database::new().await, None);
        let state = stand.folder().join("ec2");
        let program = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("local-hosts/local_ec2.py");
        let mut local_ec2 = Command::new(dev_folder().join("venv/bin/python"))
            .arg(program)
            .arg("--state")
            .arg(&state)
            .args([
                "--network",
                &network.to_string(),
                "--pending",
                "1",
                "--ending",
                "0.5",
                "--boot-delay",
                "0.5",
            ])
            .args([
                "--mode",
                if mode == Mode::Full { "full" } else { "light" },
                "--end-with-stdin",
            ])
            .env("PGPORT", dev_env("PGPORT"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("the local EC2; `make setup` installs what it needs");
        let line = local_ec2.stdin.take();
        let file = state.join("ec2.json");
        let facts: Value = eventually("the local EC2 to be ready", async || {
            assert!(
                local_ec2.try_wait().expect("its state").is_none(),
                "the local EC2 ended"
            );
            serde_json::from_slice(&std::fs::read(&file).ok()?).ok()
        })
        .await;
        let fact = |name: &str| facts[name].as_str().expect("a text").to_owned();
        stand.environment = vec![
            ("AWS_ENDPOINT_URL".into(), fact("endpoint")),
            ("AWS_ACCESS_KEY_ID".into(), fact("access_key")),
            ("AWS_SECRET_ACCESS_KEY".into(), fact("secret_key")),
            ("AWS_REGION".into(), fact("region")),
            ("AWS_EC2_METADATA_DISABLED".into(), "true".into()),
        ];
        let machines = [
            // Tests park rows on purpose.
            ("fault_budget.share", "1.0".to_owned()),
            ("ec2.ami", quoted(&fact("ami"))),
            ("ec2.subnet", quoted(&fact("subnet"))),
            (
                "ec2.security_groups",
                format!("[{}]", quoted(&fact("security_group"))),
            ),
            ("ec2.key_name", quoted(&fact("key_name"))),
            ("ssh.user", quoted(&fact("ssh_user"))),
            ("ssh.port", facts["ssh_port"].to_string()),
            ("ssh.key_file", quoted(&fact("ssh_key"))),
            ("gatewayd.https_port", facts["gatewayd_port"].to_string()),
        ];
        let machines: String = machines
            .iter()
            .map(|(key, value)| format!("{key} = {value}\n"))
            .collect();
        stand.configure(&machines, settings);
        LocalFleet {
            stand,
            facts,
            local_ec2,
            line,
        }
    }

    /// Runs a command on a host as its login user, past SSH: what somebody else does there.
    pub async fn on_host(&self, instance: &str, command: &str) -> String {
        let enter = PathBuf::from(self.facts["hosts"].as_str().expect("a path"))
            .join(instance)
            .join("enter");
        let output = Command::new(enter)
            .env("SSH_ORIGINAL_COMMAND", command)
            .stdin(Stdio::null())
            .output();
        let output = tokio::time::timeout(super::PATIENCE, output)
            .await
            .expect("its end")
            .expect("its start");
        assert!(
            output.status.success(),
            "{command}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Ends the local EC2 and its hosts, and waits for it.
    pub async fn end(mut self) {
        drop(self.line.take());
        let ended = tokio::time::timeout(super::PATIENCE, self.local_ec2.wait()).await;
        ended.expect("the local EC2 to end").expect("its state");
    }
}
