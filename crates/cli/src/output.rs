//! Standard output, in text or JSON.

use std::io::{IsTerminal as _, Write as _};

use serde_json::Value;

use crate::failure::Failure;

/// How results are printed.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    /// JSON in place of text.
    pub(crate) json: bool,
    /// Whether standard output is a terminal.
    pub(crate) terminal: bool,
    /// Whether text may be coloured.
    pub(crate) colours: bool,
    /// The width of the terminal in characters; `None` on a pipe, where no line is cut or broken.
    pub(crate) width: Option<usize>,
}

impl Output {
    pub(crate) fn new(json: bool) -> Output {
        let terminal = std::io::stdout().is_terminal();
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Output {
            json,
            terminal,
            colours: terminal && !plain,
            width: terminal.then(|| size().0),
        }
    }

    /// Prints a text as it is.
    pub(crate) fn text(&self, text: &str) -> Result<(), Failure> {
        let mut out = std::io::stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Ok(()) => Ok(()),
            // `gatewayzen list | head` has seen enough.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            Err(error) => Err(Failure::Failed(format!(
                "standard output cannot be written: {error}"
            ))),
        }
    }

    /// Prints a result as JSON: indented for a reader, on one line for a program.
    pub(crate) fn json(&self, value: &Value) -> Result<(), Failure> {
        let text = if self.terminal {
            format!("{value:#}\n")
        } else {
            format!("{value}\n")
        };
        self.text(&text)
    }

    /// A text in a colour (an SGR code), where colours are wanted.
    pub(crate) fn paint(&self, code: &str, text: &str) -> String {
        if self.colours {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// Columns and lines of the terminal.
pub(crate) fn size() -> (usize, usize) {
    terminal_size::terminal_size().map_or((80, 24), |(width, height)| (width.0.into(), height.0.into()))
}
