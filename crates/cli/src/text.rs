//! How things look: times, durations, columns and wrapped paragraphs, as plain text.

use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

/// A duration in the two largest units that say something: "0.4 s", "12 s", "3 min 5 s", "2 h", "3 d 4 h".
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds < 10 {
        let tenths = duration.as_millis().div_ceil(100);
        return if tenths.is_multiple_of(10) {
            format!("{} s", tenths / 10)
        } else {
            format!("{}.{} s", tenths / 10, tenths % 10)
        };
    }
    let two = |large: u64, unit: &str, small: u64, sub: &str| {
        if small == 0 {
            format!("{large} {unit}")
        } else {
            format!("{large} {unit} {small} {sub}")
        }
    };
    match seconds {
        0..60 => format!("{seconds} s"),
        60..600 => two(seconds / 60, "min", seconds % 60, "s"),
        600..3600 => format!("{} min", seconds / 60),
        3600..86_400 => two(seconds / 3600, "h", seconds % 3600 / 60, "min"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3600, "h"),
    }
}

/// The time between two moments; none where the second is the earlier one.
pub(crate) fn between(from: OffsetDateTime, to: OffsetDateTime) -> Duration {
    Duration::try_from(to - from).unwrap_or_default()
}

/// "2026-11-24 08:12:01 UTC"
pub(crate) fn absolute(when: OffsetDateTime) -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second] UTC");
    when.to_offset(time::UtcOffset::UTC)
        .format(&format)
        .unwrap_or_default()
}

/// "08:12:01"
pub(crate) fn clock(when: OffsetDateTime) -> String {
    let format = format_description!("[hour]:[minute]:[second]");
    when.to_offset(time::UtcOffset::UTC)
        .format(&format)
        .unwrap_or_default()
}

/// "4 min ago" or "in 40 s"
pub(crate) fn relative(when: OffsetDateTime, now: OffsetDateTime) -> String {
    if when <= now {
        format!("{} ago", duration(between(when, now)))
    } else {
        format!("in {}", duration(between(now, when)))
    }
}

/// "2026-11-24 08:12:01 UTC (4 min ago)"
pub(crate) fn moment(when: OffsetDateTime, now: OffsetDateTime) -> String {
    format!("{} ({})", absolute(when), relative(when, now))
}

/// RFC 3339 in UTC, for JSON.
pub(crate) fn rfc3339(when: OffsetDateTime) -> String {
    when.to_offset(time::UtcOffset::UTC)
        .format(&Rfc3339)
        .unwrap_or_default()
}

/// "1 job", "3 jobs"
pub(crate) fn count(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// A text on one line and with nothing in it that a terminal would obey: errors may quote what a host printed.
pub(crate) fn clean(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\n' | '\r' | '\t' => clean.push(' '),
            c if c.is_control() => clean.extend(c.escape_default()),
            c => clean.push(c),
        }
    }
    clean
}

/// Shortens a text to `width` characters, the last of which then is an ellipsis.
pub(crate) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(width.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// Breaks a text into lines of at most `width` characters, between words; a longer word stays whole, so that an
/// address or a command can be copied.
pub(crate) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Labels on the left, their texts beside them, wrapped to `width` characters in all (`None`: not wrapped).
pub(crate) fn paragraphs(pairs: &[(String, String)], width: Option<usize>) -> String {
    let margin = pairs
        .iter()
        .map(|(label, _)| label.chars().count())
        .max()
        .unwrap_or(0)
        + 4;
    let mut out = String::new();
    for (label, text) in pairs {
        let text = clean(text);
        let lines = match width {
            Some(width) => wrap(&text, width.saturating_sub(margin).max(30)),
            None => vec![text],
        };
        for (number, line) in lines.iter().enumerate() {
            let label = if number == 0 { label.as_str() } else { "" };
            out.push_str(&format!("  {label:<pad$}{line}\n", pad = margin - 2));
        }
    }
    out
}

/// Rows in aligned columns. The last column takes what is left of `width` (`None`: all that it needs).
pub(crate) fn table(head: &[&str], rows: &[Vec<String>], width: Option<usize>) -> String {
    let columns = head.len();
    let mut widths: Vec<usize> = head.iter().map(|title| title.chars().count()).collect();
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| row.iter().map(|cell| clean(cell)).collect())
        .collect();
    for row in &rows {
        for (column, cell) in row.iter().enumerate().take(columns) {
            widths[column] = widths[column].max(cell.chars().count());
        }
    }
    let taken: usize = widths.iter().take(columns.saturating_sub(1)).map(|w| w + 2).sum();
    let last = width.map_or(usize::MAX, |width| width.saturating_sub(taken).max(10));
    let mut out = String::new();
    let mut line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut text = String::new();
        for (column, cell) in cells.enumerate().take(columns) {
            if column + 1 == columns {
                text.push_str(&cut(cell, last));
            } else {
                text.push_str(&format!("{cell:<pad$}", pad = widths[column] + 2));
            }
        }
        out.push_str(text.trim_end());
        out.push('\n');
    };
    line(&mut head.iter().copied());
    for row in &rows {
        line(&mut row.iter().map(String::as_str));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_at_most_two_units() {
        let text = |seconds: f64| duration(Duration::from_secs_f64(seconds));
        for (seconds, expected) in [
            (0.0, "0 s"),
            (0.31, "0.4 s"),
            (4.0, "4 s"),
            (59.9, "59 s"),
            (60.0, "1 min"),
            (185.0, "3 min 5 s"),
            (600.0, "10 min"),
            (3599.0, "59 min"),
            (3600.0, "1 h"),
            (7380.0, "2 h 3 min"),
            (86_400.0 * 3.0 + 3600.0 * 4.0, "3 d 4 h"),
        ] {
            assert_eq!(text(seconds), expected, "{seconds}");
        }
    }

    #[test]
    fn a_moment_says_when_and_how_long_ago() {
        let now = time::macros::datetime!(2026-11-24 08:12:01 UTC);
        assert_eq!(
            moment(now - Duration::from_secs(240), now),
            "2026-11-24 08:08:01 UTC (4 min ago)"
        );
        assert_eq!(relative(now + Duration::from_secs(40), now), "in 40 s");
        let elsewhere = now.to_offset(time::macros::offset!(+5));
        assert_eq!(
            (rfc3339(elsewhere), clock(elsewhere)),
            ("2026-11-24T08:12:01Z".into(), "08:12:01".into())
        );
    }

    #[test]
    fn what_a_host_printed_cannot_steer_the_terminal() {
        assert_eq!(clean("a\nb\x1b[2J\u{9b}"), "a b\\u{1b}[2J\\u{9b}");
    }

    #[test]
    fn a_table_fits_its_width_and_loses_nothing_on_a_pipe() {
        let rows = vec![vec![
            "acme".to_owned(),
            "a long fault that goes on and on".to_owned(),
        ]];
        let narrow = table(&["NAME", "FAULT"], &rows, Some(24));
        assert!(narrow.lines().all(|line| line.chars().count() <= 24), "{narrow}");
        assert!(narrow.contains('…'), "{narrow}");
        assert_eq!(
            table(&["NAME", "FAULT"], &rows, None),
            "NAME  FAULT\nacme  a long fault that goes on and on\n"
        );
    }

    #[test]
    fn paragraphs_are_wrapped_between_words_under_their_label() {
        let pairs = vec![(
            "unblock".to_owned(),
            "one two three four five six seven eight nine ten".to_owned(),
        )];
        assert_eq!(
            paragraphs(&pairs, Some(41)),
            "  unblock  one two three four five six\n           seven eight nine ten\n"
        );
    }
}
