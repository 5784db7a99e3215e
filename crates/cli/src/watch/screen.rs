//! The live table on a terminal.

use std::time::Duration;

use gatewayzen_core::repository::Halt;
use time::OffsetDateTime;

use super::tracker::{Tracked, Tracker, walk};
use super::{settled, summary};
use crate::failure::Failure;
use crate::halts;
use crate::output::{Output, size};
use crate::rows::note;
use crate::text::{between, clean, cut, duration};

/// What stands on the terminal, to be drawn over.
#[derive(Debug, Default)]
pub(super) struct Screen {
    lines: usize,
}

impl Screen {
    /// Draws the table over the last one.
    pub(super) fn draw(
        &mut self,
        output: &Output,
        tracker: &Tracker,
        halt: Option<&Halt>,
        elapsed: Duration,
    ) -> Result<(), Failure> {
        let (width, height) = size();
        let mut lines = frame(output, tracker, elapsed, (width, height.saturating_sub(1)));
        if let Some(halt) = halt {
            let sentence = clean(&halts::sentence(halt, OffsetDateTime::now_utc()));
            lines.insert(0, output.paint("31", &cut(&sentence, width)));
        }
        let mut text = String::new();
        if self.lines > 0 {
            text.push_str(&format!("\x1b[{}A\r", self.lines));
        }
        for line in &lines {
            text.push_str(line);
            text.push_str("\x1b[K\n");
        }
        text.push_str("\x1b[J");
        self.lines = lines.len();
        output.text(&text)
    }
}

fn frame(
    output: &Output,
    tracker: &Tracker,
    elapsed: Duration,
    (width, height): (usize, usize),
) -> Vec<String> {
    let mut shown: Vec<&Tracked> = tracker.shown().collect();
    // The last line of the terminal stays free for the cursor, the first two are the summary and the head.
    let room = height.saturating_sub(4).max(1);
    let mut lines = vec![cut(&summary(tracker, elapsed), width)];
    if shown.is_empty() {
        return lines;
    }
    let walks = shown.len() * 2 <= room;
    let hidden = shown.len().saturating_sub(room);
    if hidden > 0 {
        // Those that walk first: they are what a watcher wants to see.
        shown.sort_by_key(|tracked| settled(&tracked.row) && tracked.row.fault.is_none());
        shown.truncate(room);
    }
    let names = shown
        .iter()
        .map(|tracked| tracked.row.name.chars().count())
        .max()
        .unwrap_or(0)
        .clamp(4, 24);
    let head = format!("{:<names$}  {:<10}  {:<10}  PROGRESS", "NAME", "STATE", "FOR");
    lines.push(output.paint("2", &cut(&head, width)));
    for tracked in shown {
        let row = &tracked.row;
        let spent = duration(between(row.since, row.read_at));
        let left = format!(
            "{:<names$}  {:<10}  {spent:<10}  ",
            cut(&row.name, names),
            row.state
        );
        let left = cut(&left, width);
        let right = cut(&clean(&note(row)), width.saturating_sub(left.chars().count()));
        let colour = match row {
            row if row.fault.is_some() => "31",
            row if row.hold.is_some() => "33",
            row if row.state.is_working() => "36",
            _ => "32",
        };
        lines.push(output.paint(colour, format!("{left}{right}").trim_end()));
        if walks {
            let steps: Vec<String> = walk(tracked)
                .iter()
                .map(|(state, spent)| format!("{state} {}", duration(*spent)))
                .collect();
            lines.push(output.paint("2", &cut(&format!("  {}", steps.join(" → ")), width)));
        }
    }
    if hidden > 0 {
        lines.push(format!("… and {hidden} more"));
    }
    lines
}
