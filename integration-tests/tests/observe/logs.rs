//! JSON logs: one vocabulary, and a walk's lines of all services by its trace id.

use serde_json::{Map, Value};

use super::story::{NAMES, Story};

type Line = Map<String, Value>;

#[tokio::test]
async fn the_lines_of_a_walk_are_found_by_its_trace_id_in_all_services() {
    // Nothing is sent anywhere: the ids are there all the same.
    let story = Story::tell("telemetry.log_format = \"json\"").await;
    let row = story.bed.row(story.live).await;
    let trace = &row.traceparent.unwrap()[3..35];
    for service in &story.services {
        let log = service.log();
        let lines: Vec<Line> = log
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
            .collect();
        for line in &lines {
            let text = Value::Object(line.clone()).to_string();
            for name in ["timestamp", "level", "service", "message", "target"] {
                assert!(line[name].is_string(), "{name} of {text}");
            }
            assert_eq!(line["service"], service.name, "{text}");
            assert!(line.values().all(|value| !value.is_object()), "not flat: {text}");
            // One vocabulary: a gatewayd's id and name have one name each, in every service and in the trace.
            for other in ["id", "gatewayd", "gatewayd_id", "name", "state", "trace"] {
                assert!(!line.contains_key(other), "{other} of {text}");
            }
            assert_eq!(
                line.contains_key("trace_id"),
                line.contains_key("span_id"),
                "{text}"
            );
        }
        let of_walk: Vec<&Line> = lines
            .iter()
            .filter(|line| line.get("trace_id").is_some_and(|id| id == trace))
            .collect();
        assert!(
            !of_walk.is_empty(),
            "no line of the walk in {}:\n{log}",
            service.name
        );
        for line in of_walk {
            assert_eq!(line["gatewayd.id"], story.live, "{line:?}");
            // The dispatcher claims a row without reading its name.
            if service.name != "dispatcher" {
                assert_eq!(line["gatewayd.name"], NAMES[0], "{line:?}");
                assert!(
                    line["step"].is_string() && line["attempt"].is_number(),
                    "{line:?}"
                );
            }
        }
    }
    // What went wrong is a line that says in words what a person reads in the row.
    let log = story.services[2].log();
    let parked: Vec<Line> = log
        .lines()
        .map(|line| serde_json::from_str::<Line>(line).unwrap())
        .filter(|line| line["message"] == "step parked")
        .collect();
    let fault = story.bed.row(story.parked).await.fault.unwrap();
    assert_eq!(parked.len(), 1);
    assert_eq!(parked[0]["error"], fault);
    assert_eq!(parked[0]["gatewayd.id"], story.parked);
    assert_eq!(parked[0]["level"], "ERROR");
}
