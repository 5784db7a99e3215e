//! A command that carries a copy further: to an object store, to another machine.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::process::Command;

/// As much as is told of what the command says.
const LONGEST_COMPLAINT: u64 = 300;

/// The command, and how long it may take.
#[derive(Debug, Clone)]
pub struct Carrier {
    /// Program and arguments; `{file}` in them is the copy's path. No shell sees them.
    pub command: Vec<String>,
    /// It is ended then.
    pub limit: Duration,
}

impl Carrier {
    /// Runs the command for a file. The error follows "the command".
    pub(super) async fn carry(&self, file: &Path) -> Result<(), String> {
        let file = file.to_str().ok_or("cannot be told a path that is no text")?;
        let mut words = self.command.iter().map(|word| word.replace("{file}", file));
        let program = words.next().ok_or("is empty")?;
        let mut child = Command::new(program)
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("cannot be run: {error}"))?;
        let stderr = child.stderr.take();
        let complaint = async move {
            let mut text = Vec::new();
            if let Some(mut stderr) = stderr {
                let _ = (&mut stderr).take(LONGEST_COMPLAINT).read_to_end(&mut text).await;
                // What is said beyond that must not fill the pipe and hang the command.
                let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
            }
            text
        };
        let both = async { tokio::join!(complaint, child.wait()) };
        match tokio::time::timeout(self.limit, both).await {
            Err(_) => Err(format!("did not end within {:?}", self.limit)),
            Ok((_, Err(error))) => Err(format!("was lost: {error}")),
            Ok((_, Ok(status))) if status.success() => Ok(()),
            Ok((said, Ok(status))) => {
                let said = String::from_utf8_lossy(&said).replace(char::is_control, " ");
                match said.trim() {
                    "" => Err(format!("ended with {status}")),
                    said => Err(format!("ended with {status} and says: {said}")),
                }
            }
        }
    }
}
