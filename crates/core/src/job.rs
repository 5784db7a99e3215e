//! The job schema: what stands in the `args` of a Resque job.
//!
//! `[42]` is a complete job. Ours carry a second argument, `{"generation":7,"traceparent":"00-…"}`, inside
//! `args` because every Resque client drops what stands beside them when it queues a job again.

use serde_json::{Value, json};

use crate::state::Step;

/// The arguments of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobArgs {
    /// `gatewayds.id`.
    pub id: i64,
    /// The generation for which the job was made. Without one the job is for whatever stands in the row.
    pub generation: Option<i64>,
    /// The walk's W3C trace context.
    pub traceparent: Option<String>,
}

/// Arguments that are no job of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the arguments of a job are [ID] or [ID, {{\"generation\": N, \"traceparent\": \"…\"}}], with ID a whole number above 0; {0}"
)]
pub struct BadArgs(String);

impl JobArgs {
    /// Reads the `args` of a job, which anybody may have pushed.
    pub fn parse(args: &[Value]) -> Result<JobArgs, BadArgs> {
        let id = match args.first() {
            None => return Err(BadArgs("this job has none".into())),
            // Some clients send every argument as text.
            Some(Value::String(text)) => text.parse().ok(),
            Some(value) => value.as_i64(),
        };
        let Some(id) = id.filter(|id| *id > 0) else {
            return Err(BadArgs("the first argument of this job is something else".into()));
        };
        if args.len() > 2 {
            return Err(BadArgs(format!("this job has {} arguments", args.len())));
        }
        let (generation, traceparent) = match args.get(1) {
            None | Some(Value::Null) => (None, None),
            Some(Value::Object(extra)) => {
                let generation =
                    match extra.get("generation") {
                        None | Some(Value::Null) => None,
                        Some(value) => Some(value.as_i64().ok_or_else(|| {
                            BadArgs("the generation of this job is not a whole number".into())
                        })?),
                    };
                // A trace context is a convenience: a broken one is no reason to refuse the job.
                let traceparent = extra
                    .get("traceparent")
                    .and_then(Value::as_str)
                    .filter(|text| is_traceparent(text))
                    .map(str::to_owned);
                (generation, traceparent)
            }
            Some(_) => return Err(BadArgs("the second argument of this job is not an object".into())),
        };
        Ok(JobArgs {
            id,
            generation,
            traceparent,
        })
    }

    /// The bytes of the job as this project pushes it.
    ///
    /// One row and generation always gives the same bytes: they are the job's unique key in Redis.
    pub fn payload(&self, step: Step) -> Vec<u8> {
        let mut args = vec![json!(self.id)];
        if self.generation.is_some() || self.traceparent.is_some() {
            let mut extra = serde_json::Map::new();
            if let Some(generation) = self.generation {
                extra.insert("generation".into(), json!(generation));
            }
            if let Some(traceparent) = &self.traceparent {
                extra.insert("traceparent".into(), json!(traceparent));
            }
            args.push(Value::Object(extra));
        }
        // Field by field, since the order of Ruby's client is what other clients expect.
        format!(r#"{{"class":"{}","args":{}}}"#, step.queue(), Value::Array(args)).into_bytes()
    }
}

/// Whether a text is a W3C `traceparent` of version 00.
fn is_traceparent(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let hex = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    matches!(parts[..], [v, t, s, f] if v == "00" && hex(t, 32) && hex(s, 16) && hex(f, 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<JobArgs, BadArgs> {
        JobArgs::parse(serde_json::from_str::<Value>(text).unwrap().as_array().unwrap())
    }

    #[test]
    fn an_id_alone_is_a_complete_job() {
        let args = parse("[42]").unwrap();
        assert_eq!((args.id, args.generation), (42, None));
        assert_eq!(
            args.payload(Step::SetColdWallet),
            br#"{"class":"setColdWallet","args":[42]}"#
        );
        assert_eq!(parse(r#"["42"]"#).unwrap().id, 42);
    }

    #[test]
    fn what_is_pushed_reads_back() {
        let args = JobArgs {
            id: 7,
            generation: Some(3),
            traceparent: Some("00-0123456789abcdef0123456789abcdef-0123456789abcdef-01".into()),
        };
        let payload: Value = serde_json::from_slice(&args.payload(Step::StartGatewayd)).unwrap();
        assert_eq!(payload["class"], "startGatewayd");
        assert_eq!(JobArgs::parse(payload["args"].as_array().unwrap()).unwrap(), args);
    }

    #[test]
    fn hostile_arguments_are_refused_by_a_sentence() {
        for text in [
            "[]",
            "[0]",
            "[-1]",
            "[null]",
            "[1.5]",
            "[1e30]",
            r#"["1; DROP TABLE"]"#,
            "[{}]",
            "[[1]]",
            "[1,2]",
            r#"[1,{"generation":"x"}]"#,
            "[1,{},3]",
            "[9223372036854775808]",
            "[true]",
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains("[ID]"), "{text}: {error}");
        }
        assert_eq!(
            parse(r#"[1,{"traceparent":"nonsense\n"}]"#).unwrap().traceparent,
            None
        );
    }
}
