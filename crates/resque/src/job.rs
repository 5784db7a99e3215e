use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

/// The class under which an element that is not a job is shown.
pub(crate) const UNPARSEABLE: &str = "(unparseable)";

/// A job as a handler gets it.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// The queue it came from.
    pub queue: String,
    /// The bytes of the queue's element, as they were pushed.
    pub raw: Vec<u8>,
    /// The class: what to do.
    pub class: String,
    /// The arguments. Integers are exact up to 64 bits.
    pub args: Vec<Value>,
    /// How many workers have died with this job in hand before.
    pub rescues: u32,
}

/// Why a job failed, as it will be shown in `failed`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Failure {
    /// The kind of error, such as a class name.
    pub exception: String,
    /// What happened, for a reader. It is stored and shown: it must hold no secret.
    pub error: String,
    /// Where it happened; may be empty.
    pub backtrace: Vec<String>,
    /// A payload (JSON) to show in place of the job's own, and to run when the entry is retried.
    pub payload: Option<Vec<u8>>,
}

impl Failure {
    /// A failure with no backtrace that shows the job's own payload.
    pub fn new(exception: impl Into<String>, error: impl Into<String>) -> Self {
        Self {
            exception: exception.into(),
            error: error.into(),
            ..Self::default()
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.exception, self.error)
    }
}

/// The bytes of a job, as Ruby's client writes them: `{"class":"C","args":[1]}`.
#[must_use]
pub fn payload(class: &str, args: &[Value]) -> Vec<u8> {
    #[derive(Serialize)]
    struct Payload<'a> {
        class: &'a str,
        args: &'a [Value],
    }
    // Cannot fail: no map with keys that are not text, and no writer that errs.
    serde_json::to_vec(&Payload { class, args }).unwrap_or_default()
}

impl Job {
    /// Reads an element of a queue.
    ///
    /// # Errors
    /// The text says why it is not a job.
    pub(crate) fn parse(queue: String, raw: Vec<u8>, rescues: u32) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Wire {
            class: String,
            #[serde(default)]
            args: Value,
        }
        // Text as a whole, for other clients will be shown all of it.
        let text = std::str::from_utf8(&raw).map_err(|cause| cause.to_string());
        match text.and_then(|text| serde_json::from_str::<Wire>(text).map_err(|cause| cause.to_string())) {
            Ok(wire) => Ok(Self {
                queue,
                class: wire.class,
                args: match wire.args {
                    Value::Array(args) => args,
                    Value::Null => Vec::new(),
                    other => vec![other],
                },
                rescues,
                raw,
            }),
            Err(cause) => Err(format!(
                "The queue's element is not a Resque job, {{\"class\":\"…\",\"args\":[…]}}: {}. \
                 Its bytes are kept in the payload.",
                shortened(cause)
            )),
        }
    }
}

/// The parser's words may quote the whole element, which goes on as the payload: not into a log and an error as well.
fn shortened(mut cause: String) -> String {
    if let Some((end, _)) = cause.char_indices().nth(LONGEST_CAUSE) {
        cause.truncate(end);
        cause.push('…');
    }
    cause
}

/// As much is told of why an element is no job.
const LONGEST_CAUSE: usize = 300;

/// A payload fit for display: the JSON object itself without blanks, which Node needs to find an entry
/// again, or the raw bytes wrapped up as the argument of a class that says that they are no job.
pub(crate) fn displayable(raw: &[u8]) -> Box<RawValue> {
    // Numbers that do not fit are for other readers what invalid JSON is, so a whole reading must succeed.
    if let Ok(text) = std::str::from_utf8(raw)
        && serde_json::from_str::<Value>(text).is_ok_and(|job| job["class"].is_string())
        && let Ok(value) = RawValue::from_string(compact(text))
    {
        return value;
    }
    let text = format!(
        "{{\"class\":\"{UNPARSEABLE}\",\"args\":{}}}",
        wrapped(raw, LONGEST)
    );
    RawValue::from_string(text).unwrap_or_default()
}

/// Redis takes no string above 512 MB. A text grows up to six times when it is quoted.
const LONGEST: usize = 400 * 1024 * 1024;

/// The bytes of what is no job, as arguments: text, or what is readable of it and the exact bytes.
fn wrapped(raw: &[u8], longest: usize) -> String {
    let quoted = match std::str::from_utf8(raw) {
        Ok(text) => serde_json::json!([text]).to_string(),
        Err(_) => serde_json::json!([String::from_utf8_lossy(raw), { "hex": hex(raw) }]).to_string(),
    };
    if quoted.len() <= longest {
        return quoted;
    }
    serde_json::json!(["(too long to quote)", { "hex": hex(raw) }]).to_string()
}

fn hex(raw: &[u8]) -> String {
    raw.iter()
        .fold(String::with_capacity(raw.len() * 2), |mut hex, byte| {
            use fmt::Write as _;
            let _ = write!(hex, "{byte:02x}");
            hex
        })
}

/// JSON without the blanks between its tokens; everything else, numbers too, stays as it was written.
fn compact(json: &str) -> String {
    let (mut in_string, mut escaped) = (false, false);
    json.chars()
        .filter(|letter| {
            if in_string {
                (in_string, escaped) = (*letter != '"' || escaped, *letter == '\\' && !escaped);
                return true;
            }
            in_string = *letter == '"';
            !matches!(letter, ' ' | '\t' | '\n' | '\r')
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_payload_has_the_bytes_that_ruby_writes() {
        assert_eq!(
            payload("C", &[json!(1), json!("ü/"), json!(null)]),
            "{\"class\":\"C\",\"args\":[1,\"ü/\",null]}".as_bytes()
        );
    }

    #[test]
    fn what_other_clients_push_is_read() {
        let args = |text: &str| Job::parse("q".into(), text.into(), 0).unwrap().args;
        assert_eq!(args(r#"{"class":"C","queue":"q","args":[1]}"#), [json!(1)]);
        assert_eq!(
            args(r#"{"class": "C", "args": [1], "enqueue_timestamp": 1.5}"#),
            [json!(1)]
        );
        assert_eq!(args(r#"{"class":"C"}"#), Vec::<Value>::new());
        assert_eq!(args(r#"{"class":"C","args":null}"#), Vec::<Value>::new());
        assert_eq!(args(r#"{"class":"C","args":{"a":1}}"#), [json!({ "a": 1 })]);
        assert_eq!(
            args(r#"{"class":"C","args":[9223372036854775807]}"#),
            [json!(i64::MAX)]
        );
    }

    #[test]
    fn what_is_no_job_is_refused_with_a_reason() {
        for element in [
            "",
            "x",
            "[]",
            "5",
            "null",
            "{}",
            r#"{"class":5}"#,
            "\"\\ud800\"",
            "1e400",
        ] {
            let refused = Job::parse("q".into(), element.into(), 0).err();
            assert!(refused.is_some(), "{element}");
        }
        let long = format!("\"{}\"", "ü".repeat(1 << 20));
        let refused = Job::parse("q".into(), long.into(), 0).unwrap_err();
        assert!(
            refused.len() < 1000 && refused.contains("ü…. Its bytes"),
            "{refused}"
        );
    }

    #[test]
    fn the_bytes_of_what_is_no_job_are_kept() {
        assert_eq!(
            displayable(b"[1, 2").get(),
            r#"{"class":"(unparseable)","args":["[1, 2"]}"#
        );
        assert!(displayable(b"\xff\x00").get().contains("\"hex\":\"ff00\""));
        // Quoted, it would be too large for Redis, which would end the connection again and again.
        assert_eq!(wrapped(b"\0\0", 10), r#"["(too long to quote)",{"hex":"0000"}]"#);
    }

    #[test]
    fn blanks_go_and_strings_and_numbers_stay() {
        assert_eq!(
            displayable(br#"{ "class": "C D\" \\", "args": [1.0, 12345678901234567890123] }"#).get(),
            r#"{"class":"C D\" \\","args":[1.0,12345678901234567890123]}"#
        );
    }
}
