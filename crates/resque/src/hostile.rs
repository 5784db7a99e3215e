//! Whatever stands in Redis: every reader takes any bytes, and what is written of them is JSON that others can read.

use proptest::prelude::*;
use serde_json::Value;

use crate::failed::{FailedEntry, record};
use crate::job::{Failure, Job, displayable};
use crate::workers::{WorkerInfo, Working};

/// Elements of a queue: any bytes, and JSON that is nearly a job.
fn element() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        Just(r#"{"class":"#.to_owned()),
        Just(r#""C""#.to_owned()),
        Just(r#","args":"#.to_owned()),
        Just("[".repeat(200)),
        Just("]".to_owned()),
        Just("}".to_owned()),
        Just("{".to_owned()),
        Just("null".to_owned()),
        Just("1e999".to_owned()),
        Just(r#"{"a":{"a":"#.to_owned()),
        Just(r#"\ud800"#.to_owned()),
        Just(r#","payload":"#.to_owned()),
        Just(r#","queue":"q","failed_at":1,"backtrace":[null]"#.to_owned()),
        "-?[0-9]{1,40}",
        any::<String>(),
        any::<String>().prop_map(|text| Value::from(text).to_string()),
    ];
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..300),
        prop::collection::vec(part, 0..10).prop_map(|parts| parts.concat().into_bytes()),
    ]
}

proptest! {
    #[test]
    fn an_element_of_a_queue_is_a_job_or_a_failure_that_can_be_shown(raw in element()) {
        let shown = displayable(&raw);
        let read: Value = serde_json::from_str(shown.get()).unwrap();
        prop_assert!(read.is_object());
        // Six for one where text is quoted, and twice in hex beside it.
        prop_assert!(shown.get().len() <= 10 * raw.len() + 100);
        match Job::parse("q".into(), raw.clone(), 0) {
            Ok(job) => prop_assert_eq!(job.raw, raw),
            Err(reason) => {
                prop_assert!(reason.len() < 2000);
                let entry = record(&Failure::new("X", reason), &raw, "w", "q");
                prop_assert!(serde_json::from_slice::<Value>(&entry).is_ok());
            }
        }
    }

    #[test]
    fn an_entry_of_failed_is_read_whatever_it_is(raw in element()) {
        let entry = FailedEntry::read(0, raw.clone());
        prop_assert_eq!(&entry.raw, &raw);
        let _ = crate::failed::retried(&raw);
    }

    #[test]
    fn a_worker_is_read_whatever_it_says_of_itself(id in any::<String>(), doing in element()) {
        prop_assert_eq!(&WorkerInfo::read(id.clone()).id, &id);
        let _ = Working::read(&doing);
    }

    #[test]
    fn a_url_that_is_none_is_refused_without_its_password(
        scheme in "(redis|rediss|redis\\+sentinel|rediss\\+sentinel|http)", rest in any::<String>()
    ) {
        let config = crate::Config {
            url: format!("{scheme}://u:hunter2hunter2@{rest}"),
            ..crate::Config::default()
        };
        let said = format!("{config:?} {:?} {:?}", config.server().err(), config.unprotected());
        prop_assert!(!said.contains("hunter2hunter2") || rest.contains('@'), "{said}");
    }
}
