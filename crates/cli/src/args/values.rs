//! What may stand for a state, a queue, a yes or no, a time.

use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use gatewayzen_core::{State, Step};

pub(super) fn states() -> impl clap::builder::TypedValueParser<Value = State> {
    PossibleValuesParser::new(State::ALL.map(State::name)).try_map(|name| name.parse::<State>())
}

pub(super) fn yes_or_no() -> impl clap::builder::TypedValueParser<Value = bool> {
    PossibleValuesParser::new(["yes", "no"]).map(|word| word == "yes")
}

pub(super) fn queues() -> impl clap::builder::TypedValueParser<Value = Step> {
    PossibleValuesParser::new(Step::ALL.map(Step::queue))
        .try_map(|name| Step::from_queue(&name).ok_or_else(|| format!("there is no queue `{name}`")))
}

/// A whole number and its unit, as in the configuration; no unit means seconds.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = match unit {
        "ms" => 1,
        "" | "s" => 1000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        _ => 0,
    };
    let millis = number
        .parse::<u64>()
        .ok()
        .filter(|_| unit > 0)
        .and_then(|n| n.checked_mul(unit));
    millis
        .map(Duration::from_millis)
        .ok_or_else(|| "write a whole number and its unit: 500ms, 90s, 10m or 2h".to_owned())
}
