//! An S3 for one test: moto, an independent program, and the AWS command line that speaks to it.

use std::process::Stdio;

use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::{PATIENCE, dev_folder, eventually, free_port};

/// A server of buckets on loopback, with none in it.
pub struct ObjectStore {
    endpoint: String,
    _server: Child,
}

impl ObjectStore {
    /// Starts one.
    pub async fn start() -> ObjectStore {
        let port = free_port().await;
        let mut server = Command::new(dev_folder().join("venv/bin/moto_server"))
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("moto_server; `make setup` installs it");
        eventually("the S3 to answer", async || {
            assert!(server.try_wait().expect("its state").is_none(), "the S3 ended");
            TcpStream::connect(("127.0.0.1", port)).await.ok()
        })
        .await;
        ObjectStore {
            endpoint: format!("http://127.0.0.1:{port}"),
            _server: server,
        }
    }

    /// The AWS command line for this S3: the words to put before those that a person would type after `aws`.
    pub fn aws(&self) -> Vec<String> {
        let program = dev_folder().join("venv/bin/aws");
        let words = [
            program.to_str().expect("a path that is text"),
            "--endpoint-url",
            &self.endpoint,
        ];
        words.map(str::to_owned).to_vec()
    }

    /// Runs `aws` with these words; its standard output.
    pub async fn run(&self, words: &[&str]) -> Vec<u8> {
        let own = self.aws();
        let run = Command::new(&own[0])
            .args(&own[1..])
            .args(words)
            .env("AWS_ACCESS_KEY_ID", "simulated")
            .env("AWS_SECRET_ACCESS_KEY", "simulated")
            .env("AWS_REGION", "us-east-1")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(PATIENCE, run)
            .await
            .expect("aws to end")
            .expect("aws; `make setup` installs it");
        assert!(
            output.status.success(),
            "aws {words:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        output.stdout
    }
}
