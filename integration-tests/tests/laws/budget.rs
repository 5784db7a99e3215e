//! When too much of the fleet turns faulty at once, everything stops until a person says that it may go on.

use std::time::Duration;

use gatewayzen_core::repository::{Outcome, Verdict};
use gatewayzen_core::{Repository, State};
use integration_tests::harness::{Bed, Database, Options, eventually, npm_peer, run};
use integration_tests::simulated_fleet::{Event, Fault, FaultKind};

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_fleet_that_turns_faulty_is_halted_until_an_operator_resumes_it() {
    let bed = Bed::new(Options {
        settings: "fault_budget.share = 0.3\nfault_budget.least = 3\ndeadlines.instance = \"8s\"".into(),
        ..Options::default()
    })
    .await;
    let services = bed.start_all();
    let mut live = Vec::new();
    for n in 0..4 {
        live.push(bed.launch(&format!("live-{n}")).await);
    }
    for id in &live {
        bed.reached(*id, State::Live).await;
    }
    let mut faulty = Vec::new();
    for n in 0..3 {
        let name = format!("faulty-{n}");
        let id = bed
            .launch_after(&name, |id| {
                bed.fleet.fault(Fault::new(FaultKind::WrongHostKey).on(id))
            })
            .await;
        faulty.push(id);
    }
    let halt = eventually("the fleet to be halted", async || {
        bed.repository.halt().await.unwrap()
    })
    .await;
    assert!(
        halt.why.contains("3 of 7 gatewayds")
            && halt.why.contains("3 in \"key\"")
            && halt.why.contains("fault_budget.share"),
        "{halt:?}"
    );
    let times_told = || services[0].log().matches("THE FLEET IS HALTED").count();
    eventually("the dispatcher to say so", async || {
        (times_told() > 0).then_some(())
    })
    .await;

    // Whatever is asked for is kept and waits; but what only ends things is done.
    bed.fleet.clear_faults();
    let waiting = bed.launch("waiting").await;
    let retried = bed.gatewayzen(&["retry", "faulty-0"]).await.unwrap();
    assert!(retried.contains("tried again"), "{retried}");
    npm_peer("node-resque", &["requeue", &bed.redis_url, &bed.namespace]).await;
    bed.write_state(live[0], State::Stop).await.unwrap();
    bed.reached(live[0], State::Stopped).await;
    bed.write_state(live[1], State::Terminate).await.unwrap();
    bed.reached(live[1], State::Terminated).await;
    eventually("the retries by Resque to be kept", async || {
        for id in &faulty {
            if bed.row(*id).await.fault.is_some() {
                return None;
            }
        }
        Some(())
    })
    .await;
    // Everybody who looks is told.
    let why = bed.why_json("waiting").await;
    assert_eq!(why["situation"], "fleet_halted", "{why}");
    let text = bed.why("waiting").await;
    assert!(
        text.contains("3 of 7 gatewayds") && text.contains("gatewayzen resume --fleet --why"),
        "{text}"
    );
    for command in ["list", "doctor"] {
        let config = bed.config.to_str().unwrap();
        let mut environment = bed.environment.clone();
        environment.push((
            "GATEWAYZEN_POSTGRES__URL".into(),
            bed.database.url("gatewayzen_operator"),
        ));
        let output = run("gatewayzen", &["--config", config, command], &environment).await;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        assert!(text.contains("the fleet is halted since"), "{command}: {text}");
    }
    // The deadline stands still: the row waits for longer than it has, and is not parked.
    eventually("the deadline to pass by the clock", async || {
        let row = bed.row(waiting).await;
        (row.read_at - row.clock_started_at > Duration::from_secs(10)).then_some(())
    })
    .await;
    let row = bed.row(waiting).await;
    assert_eq!((row.state, row.attempts, row.fault), (State::Instance, 0, None));
    for id in &faulty {
        let row = bed.row(*id).await;
        assert_eq!(
            (row.state, row.attempts),
            (State::Key, 0),
            "no step began, by whatever door its job came"
        );
    }
    let launched = |id: i64| {
        bed.fleet
            .ledger()
            .count(|e| e.gatewayd == id.to_string() && matches!(e.event, Event::Launched { .. }))
    };
    assert_eq!(launched(waiting), 0);

    // It was said once, in all the rounds since.
    assert_eq!(times_told(), 1, "{}", services[0].log());
    // Nobody but an operator ends it.
    for sql in [
        "SELECT resume_fleet('me')",
        "UPDATE fleet_halts SET resumed_at = now()",
    ] {
        let error = sqlx::query(sql)
            .execute(&bed.database.app)
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("permission denied"), "{sql}: {error}");
    }
    let (_, bare) = bed.gatewayzen(&["resume", "--fleet"]).await.unwrap_err();
    assert!(bare.contains("--why"), "{bare}");
    let resumed = bed
        .gatewayzen(&["resume", "--fleet", "--why", "the host keys are right again"])
        .await
        .unwrap();
    assert!(resumed.contains("the fleet goes on"), "{resumed}");
    // The same faults do not halt it again: they were before the resume.
    for id in faulty.iter().chain([&waiting, &live[2]]) {
        bed.reached(*id, State::Live).await;
    }
    assert_eq!(bed.repository.halt().await.unwrap(), None);
    let record = bed
        .database
        .text("SELECT string_agg(resumed_by || ': ' || resumed_why, '|') FROM fleet_halts")
        .await;
    assert_eq!(record, "gatewayzen_operator: the host keys are right again");
}

#[tokio::test]
async fn an_operator_halts_the_fleet_by_hand() {
    let bed = Bed::new(Options::default()).await;
    let _services = bed.start_all();
    bed.gatewayzen(&["halt", "--why", "the network is rebuilt"])
        .await
        .unwrap();
    let id = bed.launch("acme").await;
    let again = bed
        .gatewayzen(&["halt", "--why", "another reason"])
        .await
        .unwrap();
    assert!(again.contains("already"), "{again}");
    let why = bed.why("acme").await;
    assert!(
        why.contains("the network is rebuilt") && why.contains("gatewayzen_operator"),
        "{why}"
    );
    bed.gatewayzen(&["resume", "--fleet", "--why", "done"])
        .await
        .unwrap();
    bed.reached(id, State::Live).await;
    let twice = bed
        .gatewayzen(&["resume", "--fleet", "--why", "done"])
        .await
        .unwrap();
    assert!(twice.contains("was not halted"), "{twice}");
}

async fn park(service: &Repository, id: i64) {
    let taken = service
        .take_lease(id, State::Instance, None, "w", HOUR, 3)
        .await
        .unwrap();
    let Verdict::Taken(lease) = taken else {
        panic!("{taken:?}")
    };
    let fault = Outcome::Park {
        fault: "broken".into(),
        unblock: "mend it".into(),
    };
    service.finish_step(&lease, &fault, HOUR).await.unwrap();
}

#[tokio::test]
async fn one_row_that_is_parked_fifty_times_is_one_row() {
    let database = Database::new().await;
    database
        .write(
            "INSERT INTO gatewayds (name, state) SELECT 'row-' || n, 'instance' FROM generate_series(1, 6) n",
        )
        .await;
    // Nobody's machine and nobody's trouble: these rows make the fleet no larger.
    database
        .write("INSERT INTO gatewayds (name) SELECT 'new-' || n FROM generate_series(1, 50) n")
        .await;
    let service = database.repository("gatewayzen_service");
    let ids: Vec<i64> = sqlx::query_scalar("SELECT id FROM gatewayds WHERE state = 'instance' ORDER BY id")
        .fetch_all(&database.admin)
        .await
        .unwrap();
    let check = async || service.check_fault_budget(0.3, 2, HOUR, "test").await.unwrap();
    for _ in 0..50 {
        park(&service, ids[0]).await;
        assert_eq!(check().await, None);
        database.write("UPDATE gatewayds SET state = state").await;
    }
    // Two of six are more than 30 %, also when one of them is tried again meanwhile.
    park(&service, ids[1]).await;
    let off = service.check_fault_budget(1.0, 2, HOUR, "test").await.unwrap();
    assert_eq!(off, None, "a share of 1 turns it off");
    let moment = Duration::from_micros(1);
    let long_ago = service.check_fault_budget(0.3, 2, moment, "test").await.unwrap();
    assert_eq!(long_ago, None, "what was before the window does not count");
    let halt = check().await.expect("a halt");
    assert!(halt.why.contains("2 of 6"), "{halt:?}");
    // Several dispatchers make one halt.
    assert_eq!(check().await.unwrap(), halt);
    assert_eq!(database.text("SELECT count(*)::text FROM fleet_halts").await, "1");
    let operator = database.repository("gatewayzen_operator");
    assert!(operator.resume_fleet("mended").await.unwrap().unwrap());
    assert_eq!(
        check().await,
        None,
        "what was before the resume does not count again"
    );
    // A row that was ended is of no concern any more.
    database.write("UPDATE gatewayds SET state = state").await;
    park(&service, ids[2]).await;
    park(&service, ids[3]).await;
    sqlx::query("ALTER TABLE gatewayds DISABLE TRIGGER USER")
        .execute(&database.admin)
        .await
        .unwrap();
    sqlx::query("UPDATE gatewayds SET state = 'terminated' WHERE id = $1")
        .bind(ids[2])
        .execute(&database.admin)
        .await
        .unwrap();
    assert_eq!(check().await, None);
}
