//! Running the command that unwraps a key.

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use gatewayzen_core::seal::SecretBytes;
use zeroize::Zeroizing;

/// More than a key in base64 has.
const LONGEST: u64 = 128;
/// As much as is told of what the command says of itself.
const LONGEST_COMPLAINT: u64 = 300;
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Gives the command the wrapped bytes; what it printed, without blanks around it. The error follows the command's name, and
/// holds nothing of its standard output.
pub(super) fn run(command: &[String], wrapped: &[u8], limit: Duration) -> Result<SecretBytes, String> {
    let (program, arguments) = command.split_first().ok_or("is empty")?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot be run: {error}"))?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let wrapped = wrapped.to_vec();
    // A command that reads nothing must not hang us, nor one that prints without end.
    std::thread::spawn(move || stdin.map(|mut stdin| stdin.write_all(&wrapped)));
    let (told, printed) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut text = Zeroizing::new(Vec::with_capacity(LONGEST as usize + 1));
        let read = stdout.map(|stdout| stdout.take(LONGEST + 1).read_to_end(&mut text));
        let _ = told.send((read.is_some_and(|read| read.is_ok()), text));
    });
    let (complained, complaint) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut text = Vec::new();
        let _ = stderr.map(|stderr| stderr.take(LONGEST_COMPLAINT).read_to_end(&mut text));
        let _ = complained.send(
            String::from_utf8_lossy(&text)
                .replace('\n', " ")
                .trim()
                .to_owned(),
        );
    });
    let end = Instant::now() + limit;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < end => std::thread::sleep(LOOK_EVERY),
            ended => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(match ended {
                    Err(error) => format!("was lost: {error}"),
                    // One that waits until somebody reads the rest of what it prints is no key service either.
                    _ if printed
                        .try_recv()
                        .is_ok_and(|(_, text)| text.len() as u64 > LONGEST) =>
                    {
                        "printed more than a key".to_owned()
                    }
                    _ => format!("did not end within {limit:?}"),
                });
            }
        }
    };
    let patience = end.saturating_duration_since(Instant::now()).max(LOOK_EVERY * 10);
    match printed.recv_timeout(patience) {
        Ok((_, text)) if text.len() as u64 > LONGEST => Err("printed more than a key".to_owned()),
        _ if !status.success() => {
            let complaint = complaint.recv_timeout(LOOK_EVERY * 10).unwrap_or_default();
            match complaint.is_empty() {
                true => Err(format!("ended with {status}")),
                false => Err(format!("ended with {status} and says: {complaint}")),
            }
        }
        Ok((true, text)) => Ok(text.trim_ascii().to_vec().into()),
        _ => Err("printed nothing that can be read".to_owned()),
    }
}
