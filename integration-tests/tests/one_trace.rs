//! A walk is one trace, whoever takes its steps, with every call to EC2 and to hosts in it, and their errors. The spans come
//! to a collector of the test's own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    deprecated,
    missing_docs,
    reason = "tests; the conventions for the AWS SDK use names that those for other calls have given up"
)]

use std::collections::BTreeMap;

use gatewayzen_core::{State, Step};
use integration_tests::harness::{Bed, Collector, Options, Seen, eventually};
use integration_tests::simulated_fleet::{Fault, FaultKind};
use opentelemetry_semantic_conventions::attribute as semconv;

const CLIENT: i32 = 3;
const PRODUCER: i32 = 4;
const CONSUMER: i32 = 5;

/// The trace of a row's walk, once its root has come and `whole` is content.
async fn walk(
    collector: &Collector,
    traceparent: &str,
    whole: impl Fn(&[Seen]) -> bool,
) -> (Vec<Seen>, Vec<u8>) {
    let (trace, root) = (
        hex::decode(&traceparent[3..35]).unwrap(),
        hex::decode(&traceparent[36..52]).unwrap(),
    );
    let spans = eventually("the whole walk to reach the collector", async || {
        let spans = collector.trace(&trace);
        (spans.iter().any(|seen| seen.span.span_id == root) && whole(&spans)).then_some(spans)
    })
    .await;
    (spans, root)
}

fn named<'a>(spans: &'a [Seen], name: &str) -> Vec<&'a Seen> {
    spans.iter().filter(|seen| seen.span.name == name).collect()
}

/// Every span hangs from another one of the trace, but for the root.
fn connected(spans: &[Seen], root: &[u8]) {
    for Seen { service, span } in spans {
        let parent = spans
            .iter()
            .any(|other| other.span.span_id == span.parent_span_id);
        assert!(
            span.span_id == root || parent,
            "{} of {service} hangs from a span that nobody sent",
            span.name
        );
    }
}

const STEPS: [&str; 4] = [
    "initializeEc2Instance",
    "retrieveApiKey",
    "startGatewayd",
    "setColdWallet",
];

fn has_all_steps(spans: &[Seen]) -> bool {
    STEPS.iter().all(|step| !named(spans, step).is_empty())
}

#[tokio::test]
async fn a_walk_is_one_trace_from_the_sql_write_to_live() {
    let collector = Collector::start().await;
    let bed = Bed::new(Options {
        settings: format!("telemetry.otlp_endpoint = \"{}\"", collector.endpoint),
        ..Options::default()
    })
    .await;
    let _services = bed.start_all();
    let id = bed.launch("acme").await;
    let written = bed.row(id).await;
    let traceparent = written.traceparent.unwrap();
    let live = bed.reached(id, State::Live).await;
    assert_eq!(
        live.traceparent.as_deref(),
        Some(traceparent.as_str()),
        "the walk keeps its context"
    );
    let (spans, root) = walk(&collector, &traceparent, has_all_steps).await;

    for step in STEPS {
        for Seen { service, span } in named(&spans, step) {
            assert_eq!(service, Step::from_queue(step).unwrap().worker());
            assert_eq!(span.parent_span_id, root, "{step} hangs from the SQL write");
            assert_eq!(span.kind, CONSUMER);
        }
    }
    let roots: Vec<&Seen> = spans.iter().filter(|seen| seen.span.span_id == root).collect();
    assert_eq!(roots.len(), 1, "one root for one walk");
    assert!(roots[0].span.parent_span_id.is_empty());
    let begun = u128::from(roots[0].span.start_time_unix_nano) as i128;
    assert!(
        (begun - written.since.unix_timestamp_nanos()).abs() < 100_000_000,
        "it begins with the write"
    );
    connected(&spans, &root);

    // Another walk of the same row is another trace.
    bed.write_state(id, State::Stop).await.unwrap();
    let stopped = bed.reached(id, State::Stopped).await;
    assert_ne!(stopped.traceparent.unwrap()[3..35], traceparent[3..35]);
}

#[tokio::test]
async fn every_call_of_a_walk_is_a_client_span_of_its_step_and_a_failed_one_has_its_error() {
    let collector = Collector::start().await;
    let bed = Bed::new(Options {
        settings: format!("telemetry.otlp_endpoint = \"{}\"", collector.endpoint),
        ..Options::default()
    })
    .await;
    // Each fails once: a call to EC2, a command on the host, and a request to gatewayd. The start of gatewayd, which takes any
    // answer as one, has the first of the latter.
    let (throttled, broken) = ("RequestLimitExceeded", 3);
    bed.fleet.fault(
        Fault::new(FaultKind::Ec2Error {
            code: throttled.into(),
            action: Some("RunInstances".into()),
        })
        .times(1),
    );
    bed.fleet.fault(
        Fault::new(FaultKind::CommandExits {
            command: Some("release".into()),
            status: broken,
        })
        .times(1),
    );
    bed.fleet.fault(Fault::new(FaultKind::ApiHtml500).times(2));
    let mut services = bed.start_all();
    let id = bed.launch("acme").await;
    let traceparent = bed.row(id).await.traceparent.unwrap();
    bed.reached(id, State::Live).await;
    let key = bed.fleet.hosts()[0].api_key.clone().unwrap();
    // What is left in a service's hand comes at its end.
    for service in &mut services {
        service.signal("TERM").await;
        assert_eq!(service.ended().await, Some(0));
    }
    let (spans, root) = walk(&collector, &traceparent, has_all_steps).await;
    connected(&spans, &root);

    // Every client span hangs from a step, of the service that makes such calls.
    let by_id: BTreeMap<&[u8], &Seen> = spans
        .iter()
        .map(|seen| (seen.span.span_id.as_slice(), seen))
        .collect();
    for seen in spans.iter().filter(|seen| seen.span.kind == CLIENT) {
        let step = by_id[seen.span.parent_span_id.as_slice()];
        assert!(
            STEPS.contains(&step.span.name.as_str()),
            "{} in {}",
            seen.span.name,
            step.span.name
        );
        assert_eq!(seen.service, step.service);
        let own = match seen.span.name.split(['.', ' ']).next().unwrap() {
            "EC2" => "instance-worker",
            "ssh" => "ssh-worker",
            // The start of gatewayd is seen over HTTPS too.
            "GET" | "POST" => seen.service.as_str(),
            other => panic!("no such call: {other}"),
        };
        assert_eq!(seen.service, own, "{}", seen.span.name);
        assert!(seen.attribute(semconv::SERVER_PORT).is_some() || seen.span.name == "EC2.DescribeInstances");
    }

    let runs = named(&spans, "EC2.RunInstances");
    assert_eq!(runs.len(), 2);
    for run in &runs {
        assert_eq!(run.attribute(semconv::RPC_SYSTEM).as_deref(), Some("aws-api"));
        assert_eq!(run.attribute(semconv::RPC_SERVICE).as_deref(), Some("EC2"));
        assert_eq!(
            run.attribute(semconv::RPC_METHOD).as_deref(),
            Some("RunInstances")
        );
        assert_eq!(
            run.attribute(semconv::SERVER_ADDRESS).as_deref(),
            Some("127.0.0.1")
        );
    }
    let of_run: Vec<_> = runs
        .iter()
        .map(|run| (run.attribute(semconv::HTTP_RESPONSE_STATUS_CODE), run.error()))
        .collect();
    assert!(
        of_run.contains(&(Some("503".into()), Some(throttled.into()))),
        "{of_run:?}"
    );
    assert!(of_run.contains(&(Some("200".into()), None)), "{of_run:?}");
    assert!(!named(&spans, "EC2.DescribeInstances").is_empty());

    let address = bed
        .row(id)
        .await
        .private_address
        .or(bed.row(id).await.public_address);
    for name in ["connect", "get_key", "tls", "saved_wallet", "processes", "start"] {
        let calls = named(&spans, &format!("ssh {name}"));
        assert!(!calls.is_empty(), "{name}");
        // A host that boots refuses connections at first.
        let well = calls
            .iter()
            .filter(|call| call.error().is_none())
            .collect::<Vec<_>>();
        assert!(!well.is_empty(), "{name}");
        for call in well {
            assert_eq!(call.attribute(semconv::SERVER_ADDRESS), address);
            assert_eq!(call.attribute(semconv::SERVER_PORT).as_deref(), Some("2222"));
            let exit = call.attribute(semconv::PROCESS_EXIT_CODE);
            assert_eq!(exit.as_deref(), (name != "connect").then_some("0"), "{name}");
        }
    }
    let releases = named(&spans, "ssh release");
    let of_release: Vec<_> = releases
        .iter()
        .map(|call| (call.attribute(semconv::PROCESS_EXIT_CODE), call.error()))
        .collect();
    assert_eq!(of_release.len(), 2);
    assert!(
        of_release.contains(&(Some("3".into()), Some("failed".into()))),
        "{of_release:?}"
    );
    assert!(of_release.contains(&(Some("0".into()), None)), "{of_release:?}");

    let gets = named(&spans, "GET /v1/config/wallets/cold");
    assert_eq!(
        gets.len(),
        3,
        "one that failed, one that finds none, one that finds it"
    );
    let failed: Vec<_> = gets.iter().filter(|get| get.error().is_some()).collect();
    assert_eq!(failed.len(), 1);
    for (name, value) in [
        (semconv::HTTP_REQUEST_METHOD, "GET"),
        (semconv::HTTP_RESPONSE_STATUS_CODE, "500"),
        (semconv::ERROR_TYPE, "500"),
        (semconv::URL_TEMPLATE, "/v1/config/wallets/cold"),
    ] {
        assert_eq!(failed[0].attribute(name).as_deref(), Some(value), "{name}");
    }
    assert!(
        failed[0]
            .attribute(semconv::URL_FULL)
            .unwrap()
            .starts_with("https://")
    );
    assert_eq!(named(&spans, "POST /v1/config/wallets/cold").len(), 1);

    // The steps in which they failed say so, and their others do not.
    for (step, error) in [
        ("initializeEc2Instance", "environment"),
        ("retrieveApiKey", "transient"),
        ("setColdWallet", "transient"),
    ] {
        let tries = named(&spans, step);
        let failed: Vec<String> = tries.iter().filter_map(|seen| seen.error()).collect();
        assert_eq!(failed, [error], "{step}");
    }
    // Jobs are pushed by the dispatcher at first, and then by the worker that took the step before.
    let send = named(&spans, "send initializeEc2Instance");
    assert!(
        send.iter()
            .any(|seen| seen.service == "dispatcher" && seen.span.kind == PRODUCER)
    );
    for seen in &send {
        assert_eq!(
            seen.attribute(semconv::MESSAGING_DESTINATION_NAME).as_deref(),
            Some("initializeEc2Instance")
        );
    }
    let send = named(&spans, "send setColdWallet");
    assert!(send.iter().any(|seen| seen.service == "ssh-worker"));

    // No secret in anything that was sent.
    let all = format!("{:?}", collector.spans());
    for secret in [
        key.as_str(),
        "OPENSSH PRIVATE KEY",
        "Basic ",
        "b3BlbnNzaC1rZXktdjEA",
    ] {
        assert!(!all.contains(secret), "a span holds a secret");
    }
    // The same collector was sent the metrics.
    for (service, metric) in [
        ("dispatcher", "gatewayzen.rows"),
        ("instance-worker", "gatewayzen.ec2.call.duration"),
        ("ssh-worker", "gatewayzen.ssh.command.duration"),
        ("wallet-worker", "gatewayzen.wallet.checks"),
        ("wallet-worker", "process.memory.usage"),
    ] {
        assert!(
            collector.metrics(service).contains(metric),
            "{metric} of {service}"
        );
    }
}

#[tokio::test]
async fn a_sweep_is_a_trace_of_its_own() {
    let collector = Collector::start().await;
    let bed = Bed::new(Options {
        settings: format!("telemetry.otlp_endpoint = \"{}\"", collector.endpoint),
        ..Options::default()
    })
    .await;
    let _worker = bed.start("instance-worker");
    bed.gatewayzen(&["sweep"]).await.unwrap();
    let sweep = eventually("the sweep's trace", async || {
        named(&collector.spans(), "sweep")
            .first()
            .map(|seen| (*seen).clone())
    })
    .await;
    assert!(sweep.span.parent_span_id.is_empty());
    assert_eq!(sweep.attribute("gatewayzen.sweep.machines").as_deref(), Some("0"));
    let spans = collector.trace(&sweep.span.trace_id);
    let describe = named(&spans, "EC2.DescribeInstances");
    assert_eq!(describe.len(), 1);
    assert_eq!(describe[0].span.parent_span_id, sweep.span.span_id);
    // Nothing else asks by itself: no step, no call, and no round of anybody is a trace.
    let roots = collector
        .spans()
        .into_iter()
        .filter(|seen| seen.span.parent_span_id.is_empty());
    assert!(roots.into_iter().all(|seen| seen.span.name == "sweep"));
}
