//! What an expression of PromQL names: metrics with the labels that are asked of them, and labels that results are grouped by.

use std::collections::{BTreeMap, BTreeSet};

const KEYWORDS: [&str; 8] = [
    "or",
    "and",
    "unless",
    "bool",
    "offset",
    "group_left",
    "group_right",
    "Inf",
];
const GROUPS: [&str; 4] = ["by", "without", "on", "ignoring"];
const AGGREGATORS: [&str; 5] = ["sum", "max", "min", "count", "avg"];

#[derive(Debug, Default, PartialEq)]
pub(crate) struct Names {
    /// Each metric with the labels in its braces.
    pub(crate) metrics: BTreeMap<String, BTreeSet<String>>,
    /// Labels in `by (…)` and the like.
    pub(crate) groups: BTreeSet<String>,
}

/// Reads an expression. It must be one that Prometheus takes, which promtool sees to.
pub(crate) fn names(expression: &str) -> Names {
    let text: Vec<char> = expression.chars().collect();
    let mut names = Names::default();
    let mut at = 0;
    while let Some(&c) = text.get(at) {
        match c {
            '"' => at = until(&text, at + 1, '"').1,
            '[' => at = until(&text, at, ']').1,
            _ if c.is_ascii_alphabetic() || c == '_' => {
                let (word, end) = word(&text, at);
                at = skip_blanks(&text, end);
                let next = text.get(at);
                if GROUPS.contains(&word.as_str()) {
                    let (inside, end) = until(&text, at, ')');
                    names.groups.extend(list(inside.trim_start_matches('(')));
                    at = end;
                } else if next == Some(&'(')
                    || AGGREGATORS.contains(&word.as_str())
                    || KEYWORDS.contains(&word.as_str())
                {
                    // A function, or a word of the language.
                } else if next == Some(&'{') {
                    let (labels, end) = matched(&text, at + 1);
                    names.metrics.entry(word).or_default().extend(labels);
                    at = end;
                } else {
                    names.metrics.entry(word).or_default();
                }
            }
            // A number may end in letters: 10m, 1e6.
            _ if c.is_ascii_digit() => at = word(&text, at).1,
            _ => at += 1,
        }
    }
    names
}

/// The labels that a text for people takes the values of: `{{ $labels.queue }}`, or `{{queue}}` in a legend.
pub(crate) fn templates(text: &str) -> BTreeSet<String> {
    let inside = text
        .split("{{")
        .skip(1)
        .filter_map(|rest| rest.split("}}").next());
    inside
        .map(str::trim)
        .filter(|inside| !inside.starts_with("$value"))
        .map(|inside| inside.trim_start_matches("$labels.").to_owned())
        .collect()
}

/// The labels between braces, and where these end.
fn matched(text: &[char], from: usize) -> (Vec<String>, usize) {
    let (mut labels, mut at) = (Vec::new(), from);
    while let Some(&c) = text.get(at) {
        match c {
            '}' => return (labels, at + 1),
            '"' => at = until(text, at + 1, '"').1,
            _ if c.is_ascii_alphabetic() || c == '_' => {
                let (label, end) = word(text, at);
                labels.push(label);
                at = end;
            }
            _ => at += 1,
        }
    }
    (labels, at)
}

fn word(text: &[char], from: usize) -> (String, usize) {
    let letters = text[from..]
        .iter()
        .take_while(|c| c.is_ascii_alphanumeric() || **c == '_');
    let word: String = letters.collect();
    let end = from + word.len();
    (word, end)
}

fn until(text: &[char], from: usize, end: char) -> (String, usize) {
    let inside: String = text[from..].iter().take_while(|c| **c != end).collect();
    let after = from + inside.chars().count() + 1;
    (inside, after)
}

fn skip_blanks(text: &[char], from: usize) -> usize {
    from + text[from..].iter().take_while(|c| c.is_whitespace()).count()
}

fn list(text: &str) -> Vec<String> {
    text.split(',').map(|one| one.trim().to_owned()).collect()
}

#[test]
fn an_expression_is_taken_apart() {
    let seen = names(
        "histogram_quantile(0.95, sum by (queue, le) (rate(a_bucket{result!=\"x{y}\",state=~\"k|s\"}[5m])))\n\
         unless on (queue) max by (queue) (b) > 1e6 or time() - c{} == bool 3",
    );
    let metrics: Vec<(&str, Vec<&str>)> = seen
        .metrics
        .iter()
        .map(|(name, labels)| (name.as_str(), labels.iter().map(String::as_str).collect()))
        .collect();
    assert_eq!(metrics[0].0, "a_bucket");
    assert_eq!(
        metrics.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
        ["a_bucket", "b", "c"]
    );
    assert!(metrics[0].1.contains(&"result"), "{metrics:?}");
    assert_eq!(seen.groups.into_iter().collect::<Vec<_>>(), ["le", "queue"]);
    let seen = templates("{{ $value | humanize }} of {{ $labels.queue }} and {{instance}}");
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["instance", "queue"]);
}
