//! A scrape of each service over HTTP says what has happened.

use gatewayzen_core::{State, Step};
use integration_tests::harness::eventually;

use super::story::{NAMES, Story, becomes, expect};

#[tokio::test]
async fn each_service_tells_exactly_what_has_happened() {
    let story = Story::tell("").await;
    let [dispatcher, instance, ssh, wallet] = &story.services[..] else {
        panic!("four services")
    };

    // The dispatcher tells of the whole fleet.
    let scrape = becomes(dispatcher, "gatewayzen_rows_parked", &[("state", "key")], 1.0).await;
    for state in State::ALL {
        let rows = f64::from(matches!(state, State::Live | State::Key) as u8);
        let labels = [("state", state.name())];
        expect(&scrape, "gatewayzen_rows", &[(&labels, rows)]);
        expect(&scrape, "gatewayzen_rows_held", &[(&labels, 0.0)]);
    }
    expect(&scrape, "gatewayzen_rows_parked", &[(&[], 1.0)]);
    expect(&scrape, "gatewayzen_fleet_halted", &[(&[], 0.0)]);
    expect(&scrape, "gatewayzen_failed_jobs", &[(&[], 1.0)]);
    for step in Step::ALL {
        let labels = [("queue", step.queue())];
        expect(&scrape, "gatewayzen_queue_depth", &[(&labels, 0.0)]);
        expect(
            &scrape,
            "gatewayzen_queue_oldest_job_age_seconds",
            &[(&labels, 0.0)],
        );
        expect(&scrape, "gatewayzen_queue_slots", &[(&labels, 50.0)]);
    }
    assert_eq!(
        scrape.value("gatewayzen_rows_oldest_age_seconds", &[]),
        None,
        "nobody is on his way"
    );
    let pushed = [("queue", "initializeEc2Instance")];
    assert!(scrape.value("gatewayzen_jobs_pushed_total", &pushed).unwrap() >= 2.0);
    let age = scrape.value("gatewayzen_fleet_ssh_key_age_seconds", &[]).unwrap();
    assert!(age > 0.0 && age < 600.0, "{age}");
    assert!(
        scrape
            .value("gatewayzen_host_identity_oldest_age_seconds", &[])
            .unwrap()
            < age
    );

    // EC2 was asked twice too often: once by each name, once refused.
    let scrape = instance.scrape().await;
    let run = |result| [("operation", "RunInstances"), ("result", result)];
    expect(
        &scrape,
        "gatewayzen_ec2_call_duration_seconds_count",
        &[(&run("ok"), 2.0), (&run("RequestLimitExceeded"), 1.0)],
    );
    expect(
        &scrape,
        "gatewayzen_ec2_throttles_total",
        &[
            (&[("operation", "RunInstances")], 1.0),
            (&[("operation", "TerminateInstances")], 0.0),
        ],
    );
    let ended = |result| [("queue", "initializeEc2Instance"), ("result", result)];
    expect(
        &scrape,
        "gatewayzen_step_duration_seconds_count",
        &[(&ended("advance"), 2.0), (&ended("pause"), 1.0)],
    );
    let paused = scrape
        .value("gatewayzen_worker_paused_seconds_total", &[])
        .unwrap();
    assert!((0.4..=0.6).contains(&paused), "worker.pause is 500 ms: {paused}");

    // The ssh-worker's command failed once, and another host has another key.
    let scrape = becomes(ssh, "gatewayzen_ssh_sessions", &[], 0.0).await;
    let command = |command, result| [("command", command), ("result", result)];
    expect(
        &scrape,
        "gatewayzen_ssh_command_duration_seconds_count",
        &[
            (&command("release", "failed"), 1.0),
            (&command("release", "ok"), 1.0),
            (&command("get_key", "ok"), 2.0),
            (&command("start", "ok"), 1.0),
        ],
    );
    // One for each of three steps, and one to see that the host has the key that it made.
    expect(
        &scrape,
        "gatewayzen_ssh_connect_duration_seconds_count",
        &[(&[("result", "ok")], 4.0), (&[("result", "wrong_host_key")], 1.0)],
    );
    let key = |result| [("queue", "retrieveApiKey"), ("result", result)];
    expect(
        &scrape,
        "gatewayzen_step_duration_seconds_count",
        &[
            (&key("backoff"), 1.0),
            (&key("advance"), 1.0),
            (&key("park"), 1.0),
        ],
    );

    // The wallet-worker was answered nonsense once.
    let scrape = wallet.scrape().await;
    let request = |method, result| [("method", method), ("result", result)];
    expect(
        &scrape,
        "gatewayzen_https_request_duration_seconds_count",
        &[
            (&request("GET", "500"), 1.0),
            (&request("GET", "200"), 3.0),
            // The wallet was made, the domain was saved.
            (&request("POST", "201"), 1.0),
            (&request("POST", "200"), 1.0),
        ],
    );
    let saw = |result| [("result", result)];
    let checks = [("no_answer", 1.0), ("none", 1.0), ("ours", 1.0), ("another", 0.0)];
    for (result, number) in checks {
        expect(
            &scrape,
            "gatewayzen_wallet_checks_total",
            &[(&saw(result), number)],
        );
    }

    for (number, service) in story.services.iter().enumerate() {
        let scrape = service.scrape().await;
        for component in ["postgres", "redis"] {
            expect(&scrape, "gatewayzen_ready", &[(&[("component", component)], 1.0)]);
        }
        // An attempt is what was taken: each has ended in one way.
        if number > 0 {
            let attempts = scrape.value("gatewayzen_jobs_total", &[("verdict", "taken")]);
            assert_eq!(
                attempts,
                scrape.value("gatewayzen_step_duration_seconds_count", &[])
            );
            expect(&scrape, "gatewayzen_steps_in_hand", &[(&[], 0.0)]);
            expect(&scrape, "gatewayzen_leases_lost_total", &[(&[], 0.0)]);
            expect(&scrape, "gatewayzen_jobs_rescued_total", &[(&[], 0.0)]);
            expect(&scrape, "gatewayzen_worker_slots", &[(&[], 50.0)]);
        }
        let memory = scrape.value("process_memory_usage_bytes", &[]).unwrap();
        assert!((1e6..1e9).contains(&memory), "{memory}");
        assert!(scrape.value("process_cpu_time_seconds_total", &[]).unwrap() > 0.0);
        // The number of series does not grow with the fleet, and nothing tells of one of its members.
        let ids = [story.live, story.parked].map(|id| id.to_string());
        for (metric, series) in &scrape.metrics {
            let labels = series.iter().flat_map(|one| &one.labels);
            let of_one = labels.filter(|(name, value)| name.contains("gatewayd") || ids.contains(value));
            assert_eq!(of_one.count(), 0, "{metric}");
            assert!(series.len() < 400, "{metric}");
        }
        for name in NAMES {
            assert!(!scrape.text.contains(name), "{name} in\n{}", scrape.text);
        }
    }
}

#[tokio::test]
async fn a_dispatcher_without_redis_tells_what_it_still_knows_and_that_redis_is_gone() {
    use integration_tests::harness::{Bed, Options, RedisServer};
    let mut redis = RedisServer::new().await;
    redis.start().await;
    let bed = Bed::new(Options {
        settings: "health.listen = \"127.0.0.1:0\"".into(),
        redis_url: Some(redis.url()),
        ..Options::default()
    })
    .await;
    let dispatcher = bed.start("dispatcher");
    let id = bed.launch("acme").await;
    becomes(
        &dispatcher,
        "gatewayzen_queue_depth",
        &[("queue", "initializeEc2Instance")],
        1.0,
    )
    .await;
    redis.kill().await;
    let scrape = becomes(&dispatcher, "gatewayzen_ready", &[("component", "redis")], 0.0).await;
    assert_eq!(
        scrape.value("gatewayzen_ready", &[("component", "postgres")]),
        Some(1.0)
    );
    let scrape = eventually("the queues to be told no more", async || {
        let scrape = dispatcher.scrape().await;
        scrape
            .value("gatewayzen_queue_depth", &[])
            .is_none()
            .then_some(scrape)
    })
    .await;
    // That it waits for a worker is known all the same.
    assert_eq!(
        scrape.value("gatewayzen_rows", &[("state", "instance")]),
        Some(1.0)
    );
    let waiting = [("queue", "initializeEc2Instance")];
    let waits = scrape
        .value("gatewayzen_queue_oldest_job_age_seconds", &waiting)
        .unwrap();
    let since = bed.row(id).await;
    let most = (since.read_at - since.since).as_seconds_f64();
    assert!(waits > 0.0 && waits <= most, "{waits} of {most}");
}

#[tokio::test]
async fn holds_a_halt_and_a_sweep_that_finds_a_stranger_show() {
    use integration_tests::harness::{Bed, Options};
    let bed = Bed::new(Options {
        settings: "health.listen = \"127.0.0.1:0\"".into(),
        ..Options::default()
    })
    .await;
    bed.gatewayzen(&["halt", "--why", "a test"]).await.unwrap();
    let id = bed.launch("acme").await;
    bed.gatewayzen(&["hold", "acme", "--reason", "a test"])
        .await
        .unwrap();
    bed.launch("waits").await;
    let fleet = bed.repository.fleet_id().await.unwrap().to_string();
    let attempt = uuid::Uuid::new_v4().to_string();
    let tags = [
        ("gatewayzen:fleet", fleet.as_str()),
        ("gatewayzen:attempt", attempt.as_str()),
    ];
    bed.fleet.launch(&tags).unwrap();
    let (dispatcher, _worker) = (bed.start("dispatcher"), bed.start("instance-worker"));

    let scrape = becomes(&dispatcher, "gatewayzen_fleet_halted", &[], 1.0).await;
    let instance = [("state", "instance")];
    expect(&scrape, "gatewayzen_rows", &[(&instance, 2.0)]);
    expect(&scrape, "gatewayzen_rows_held", &[(&instance, 1.0)]);
    // Nobody may take it, so nobody is late.
    let queue = [("queue", "initializeEc2Instance")];
    expect(
        &scrape,
        "gatewayzen_queue_oldest_job_age_seconds",
        &[(&queue, 0.0)],
    );
    assert_eq!(
        scrape.value("gatewayzen_sweep_last_machines", &[]),
        None,
        "there was no sweep"
    );

    // It may not act, and says so with an exit code of its own.
    let _ = bed.gatewayzen(&["sweep", "--act"]).await;
    let scrape = becomes(&dispatcher, "gatewayzen_sweep_last_machines", &[], 1.0).await;
    expect(&scrape, "gatewayzen_sweep_last_unknown", &[(&[], 1.0)]);
    expect(&scrape, "gatewayzen_sweep_last_not_in_full", &[(&[], 1.0)]);
    expect(&scrape, "gatewayzen_orphans", &[(&[], 0.0)]);
    assert_eq!(bed.row(id).await.attempts, 0);

    bed.gatewayzen(&["resume", "--fleet", "--why", "a test"])
        .await
        .unwrap();
    becomes(&dispatcher, "gatewayzen_rows", &[("state", "key")], 1.0).await;
}

#[tokio::test]
async fn the_figures_of_a_large_fleet_are_there_in_a_moment() {
    let database = integration_tests::harness::Database::new().await;
    sqlx::query("INSERT INTO gatewayds (name, state) SELECT 'row-' || n, CASE n % 2 WHEN 0 THEN 'instance' ELSE 'new' END \
                 FROM generate_series(1, 20000) n")
        .execute(&database.app)
        .await
        .unwrap();
    let repository = database.repository("gatewayzen_service");
    repository.figures().await.unwrap();
    let begun = std::time::Instant::now();
    let figures = repository.figures().await.unwrap();
    let took = begun.elapsed();
    println!("figures of 20,000 rows in {took:?}");
    assert_eq!(
        (figures.states["new"].rows, figures.states["instance"].rows),
        (10_000, 10_000)
    );
    assert!(figures.states["instance"].waiting.unwrap() > 0.0 && figures.states["new"].waiting.is_none());
    assert!(took < std::time::Duration::from_secs(1), "{took:?}");
}
