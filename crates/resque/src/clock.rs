//! The forms in which Resque writes a time. All of them in UTC.

use time::{OffsetDateTime, format_description::StaticFormatDescription, macros::format_description};

const FAILED_AT: StaticFormatDescription =
    format_description!("[year]/[month]/[day] [hour]:[minute]:[second] UTC");
const RUN_AT: StaticFormatDescription = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
const STARTED: StaticFormatDescription =
    format_description!("[year]-[month]-[day] [hour]:[minute]:[second] +0000");
const HEARTBEAT: StaticFormatDescription =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]+00:00");

fn now(format: StaticFormatDescription) -> String {
    text(OffsetDateTime::now_utc(), format)
}

fn text(when: OffsetDateTime, format: StaticFormatDescription) -> String {
    // Cannot fail: the formats name parts that every time has.
    when.format(format).unwrap_or_default()
}

/// `failed_at` and `retried_at` of a failure.
pub(crate) fn failed_at() -> String {
    now(FAILED_AT)
}

/// `run_at` of what a worker is doing.
pub(crate) fn run_at() -> String {
    now(RUN_AT)
}

/// `worker:ID:started`.
pub(crate) fn started() -> String {
    now(STARTED)
}

/// A heartbeat, from the server's seconds since 1970. Ruby workers refuse to start beside one that they
/// cannot parse.
pub(crate) fn heartbeat(seconds: i64) -> String {
    let when = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    text(when, HEARTBEAT)
}

/// The seconds since 1970 of a heartbeat, whatever offset its writer used.
pub(crate) fn parse_heartbeat(text: &str) -> Option<i64> {
    OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339)
        .ok()
        .map(OffsetDateTime::unix_timestamp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_ruby_writes_them() {
        let when = OffsetDateTime::from_unix_timestamp(1_795_499_821).unwrap();
        assert_eq!(text(when, FAILED_AT), "2026/11/24 05:57:01 UTC");
        assert_eq!(text(when, RUN_AT), "2026-11-24T05:57:01Z");
        assert_eq!(text(when, STARTED), "2026-11-24 05:57:01 +0000");
        assert_eq!(heartbeat(1_795_499_821), "2026-11-24T05:57:01+00:00");
        assert_eq!(parse_heartbeat("2026-11-24T06:57:01+01:00"), Some(1_795_499_821));
    }
}
