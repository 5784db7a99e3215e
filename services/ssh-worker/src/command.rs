//! Running one command over a connection: what it printed, how it ended, or why that is not known.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use russh::client::Msg;
use russh::{Channel, ChannelMsg};
use tokio::time::{Instant, timeout_at};

/// What a stream may print before the command is cut off, in multiples of what is kept of it. Up to here the
/// beginning is dropped and the command goes on: an installation may be long-winded.
const FLOOD: usize = 64;

/// How long the rest of the output may take after the command's end. A daemon that the command left behind may hold
/// the streams open for ever.
const AFTER_END: Duration = Duration::from_millis(500);

/// The end of what a stream printed, at most so many bytes of it.
pub struct Kept {
    bytes: VecDeque<u8>,
    limit: usize,
    printed: usize,
}

impl Kept {
    fn new(limit: usize) -> Self {
        Self {
            bytes: VecDeque::new(),
            limit,
            printed: 0,
        }
    }

    /// Adds to it; false when it is a flood.
    fn push(&mut self, data: &[u8]) -> bool {
        self.printed += data.len();
        let data = &data[data.len().saturating_sub(self.limit)..];
        let over = (self.bytes.len() + data.len()).saturating_sub(self.limit);
        self.bytes.drain(..over);
        self.bytes.extend(data);
        self.printed <= self.limit.saturating_mul(FLOOD)
    }

    fn finish(mut self) -> Vec<u8> {
        let cut = self.printed > self.limit;
        let bytes = self.bytes.make_contiguous();
        // A first line without its beginning must not be taken for a whole one.
        let from = if cut {
            bytes
                .iter()
                .position(|b| *b == b'\n')
                .map_or(bytes.len(), |at| at + 1)
        } else {
            0
        };
        bytes[from..].to_vec()
    }
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// With this exit status.
    Exit(u32),
    /// Killed by this signal.
    Signal(String),
    /// The host closed the channel and did not say.
    Unknown,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Exit(status) => write!(f, "exit status {status}"),
            End::Signal(name) => write!(f, "killed by signal {name}"),
            End::Unknown => f.write_str("no exit status"),
        }
    }
}

/// A command that ended. `Debug` shows no output, which may hold a secret.
pub struct Output {
    /// The end of what it printed to standard output.
    pub stdout: Vec<u8>,
    /// The end of what it printed to standard error.
    pub stderr: Vec<u8>,
    /// How it ended.
    pub end: End,
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (out, err) = (self.stdout.len(), self.stderr.len());
        write!(f, "Output({out} bytes, {err} bytes of errors, {})", self.end)
    }
}

/// Why it is not known how a command ended. It may still run on the host, until its time there is over.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// The connection ended first.
    #[error("the connection ended in mid-command after {printed} bytes of output ({reason})")]
    Connection {
        /// What was seen of it.
        reason: String,
        /// Bytes printed until then.
        printed: usize,
    },
    /// It printed without end and was cut off.
    #[error("it flooded {stream} with more than {bytes} bytes and was cut off")]
    Flood {
        /// Standard output or standard error.
        stream: &'static str,
        /// Bytes printed until then.
        bytes: usize,
    },
    /// The host did not begin it.
    #[error("the host refused to run it: {0}")]
    Refused(String),
    /// Neither the command nor its host's limit ended it.
    #[error("no answer within {0:?}, although its host should have ended it before")]
    NoAnswer(Duration),
}

/// Runs `line` over a fresh channel and reads what it prints, keeping `limit` bytes of each stream.
///
/// # Errors
/// It is not known how the command ended. A lost connection has an empty reason here, which the session knows.
pub async fn run(mut channel: Channel<Msg>, line: &str, limit: usize) -> Result<Output, Broken> {
    channel
        .exec(true, line)
        .await
        .map_err(|error| Broken::Refused(error.to_string()))?;
    let (mut stdout, mut stderr) = (Kept::new(limit), Kept::new(limit));
    let mut end = None;
    // Moved close as soon as the command has ended; until then the caller's own limit counts.
    let mut until = Instant::now() + Duration::from_secs(24 * 3600);
    loop {
        let message = match timeout_at(until, channel.wait()).await {
            Ok(message) => message,
            Err(_) => break,
        };
        let whole = match message {
            Some(ChannelMsg::Data { data }) => stdout.push(&data),
            Some(ChannelMsg::ExtendedData { data, .. }) => stderr.push(&data),
            Some(ChannelMsg::Failure) => {
                return Err(Broken::Refused(
                    "its SSH server allows no commands to this login".into(),
                ));
            }
            Some(ChannelMsg::ExitStatus { exit_status }) => {
                end = Some(End::Exit(exit_status));
                until = Instant::now() + AFTER_END;
                true
            }
            Some(ChannelMsg::ExitSignal { signal_name, .. }) => {
                end = Some(End::Signal(format!("{signal_name:?}")));
                until = Instant::now() + AFTER_END;
                true
            }
            Some(ChannelMsg::Close) => {
                end = end.or(Some(End::Unknown));
                break;
            }
            None => break,
            Some(_) => true,
        };
        if !whole {
            let (stream, bytes) = if stdout.printed > stderr.printed {
                ("standard output", stdout.printed)
            } else {
                ("standard error", stderr.printed)
            };
            // The command gets SIGPIPE at its next write. The connection is dropped after this anyhow.
            let _ = channel.close().await;
            return Err(Broken::Flood { stream, bytes });
        }
    }
    match end {
        Some(end) => Ok(Output {
            stdout: stdout.finish(),
            stderr: stderr.finish(),
            end,
        }),
        None => Err(Broken::Connection {
            reason: String::new(),
            printed: stdout.printed + stderr.printed,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_long_output_is_kept_in_whole_lines() {
        let mut kept = Kept::new(16);
        assert!(kept.push(b"info: not this one\n") && kept.push(b"\ninfo: "));
        assert!(kept.push(b"key\n"));
        assert_eq!(kept.finish(), b"\ninfo: key\n");
        let mut short = Kept::new(16);
        assert!(short.push(b"no newline"));
        assert_eq!(short.finish(), b"no newline");
    }

    #[test]
    fn a_flood_is_one_beyond_its_ceiling_and_takes_no_memory() {
        let mut kept = Kept::new(1024);
        let pushed = (0..).take_while(|_| kept.push(&[b'x'; 4096])).count();
        assert_eq!(pushed, FLOOD * 1024 / 4096);
        assert_eq!(kept.bytes.len(), 1024);
    }

    #[test]
    fn debug_shows_no_output() {
        let output = Output {
            stdout: b"info: 5ecret".to_vec(),
            stderr: Vec::new(),
            end: End::Exit(0),
        };
        assert!(!format!("{output:?}").contains("5ecret"));
    }
}
