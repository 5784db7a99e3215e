//! Walks with known secrets through all states, all kinds of failures, and panics; then the search.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gatewayzen_core::State;
use gatewayzen_core::seal::KeyRing;
use integration_tests::harness::{new_row, redis_connection};
use integration_tests::simulated_fleet::{Fault, FaultKind};

use crate::secrets::Secrets;
use crate::sources::Sources;
use crate::world::{HOST_PASSWORD, SERVICES, World};

fn prints(command: &str) -> FaultKind {
    FaultKind::CommandPrints {
        command: Some(command.into()),
        text: format!(
            "{{\"database\": {{\"password\": \"{HOST_PASSWORD}\", \"user\": \"gatewayd\"}}}}\n\
             Error: connect postgres://gatewayd:{HOST_PASSWORD}@127.0.0.1/gatewayd\nPGPASSWORD={HOST_PASSWORD}\n"
        ),
    }
}

/// One row for each kind of failure, with the state in which it shows.
fn failures() -> Vec<(&'static str, FaultKind)> {
    let exits = |command: &str| FaultKind::CommandExits {
        command: Some(command.into()),
        status: 1,
    };
    let other = "rHb9CJAWyB4rj91VRWn96DkukG4bwdtyTh".to_owned();
    vec![
        ("wrong-host-key", FaultKind::WrongHostKey),
        ("refused-login", FaultKind::RefusesUserKey),
        ("no-key", FaultKind::NoKey),
        ("key-fails", exits("get_key")),
        ("tls-fails", exits("tls")),
        ("prints-release", prints("release")),
        ("prints-pids", prints("processes")),
        ("prints-wallet", prints("saved_wallet")),
        ("never-listens", FaultKind::NeverListens),
        ("other-certificate", FaultKind::OtherCertificate),
        ("api-500", FaultKind::ApiHtml500),
        ("other-wallet", FaultKind::OtherWallet { address: other }),
        ("disk-full", FaultKind::DiskFull),
        ("dies", FaultKind::DiesPending),
        (
            "no-capacity",
            FaultKind::Ec2Error {
                code: "InsufficientInstanceCapacity".into(),
                action: Some("RunInstances".into()),
            },
        ),
    ]
}

fn leaks<'a>(search: &'a crate::secrets::Search, all: &'a Sources) -> BTreeSet<(&'a str, &'a str)> {
    all.iter()
        .flat_map(|(place, bytes)| {
            search
                .find(bytes)
                .into_iter()
                .map(move |what| (place.as_str(), what))
        })
        .collect()
}

#[tokio::test]
async fn no_secret_is_anywhere_but_in_its_place() {
    let mut world = World::new().await;
    let good = new_row(&world.bed, "good").await;
    let panics = new_row(&world.bed, "panics").await;
    let refuses = new_row(&world.bed, "api-401").await;
    let mut faulty = Vec::new();
    for (name, fault) in failures() {
        let id = new_row(&world.bed, name).await;
        world.bed.fleet.fault(Fault::new(fault).on(id));
        faulty.push((name, id));
    }
    let points = [
        "instance:RunInstances:after",
        "key:get_key:after",
        "key:keep_api_key:before",
        "wallet:keep_wallet:before",
        "wallet:POST /v1/config/wallets/cold:after",
    ];
    let points: Vec<String> = points.iter().map(|point| format!("{panics}:{point}")).collect();
    let points = serde_json::to_string(&points).unwrap();
    for service in SERVICES {
        world
            .start(service, &[("GATEWAYZEN_TESTING__PANIC_AT", &points)])
            .await;
    }
    for id in [good, panics, refuses]
        .into_iter()
        .chain(faulty.iter().map(|(_, id)| *id))
    {
        world.bed.write_state(id, State::Instance).await.unwrap();
    }

    // All states, and the wrong ring on the way.
    let bed = &world.bed;
    bed.reached(good, State::Live).await;
    bed.reached(panics, State::Live).await;
    for (name, id) in &faulty {
        println!("{name}: {}", bed.parked(*id).await.fault.unwrap());
    }
    bed.reached(refuses, State::Live).await;
    for (to, ends_in) in [(State::Stop, State::Stopped), (State::Start, State::Live)] {
        bed.write_state(refuses, to).await.unwrap();
        if to == State::Start {
            bed.reached(refuses, State::Wallet).await;
            bed.fleet.fault(Fault::new(FaultKind::Api401).on(refuses));
            bed.parked(refuses).await;
        } else {
            bed.reached(refuses, ends_in).await;
        }
        bed.write_state(good, to).await.unwrap();
        bed.reached(good, ends_in).await;
    }
    let update = "UPDATE gatewayds SET state = 'update', release = 'v3.34.2' WHERE id = $1";
    sqlx::query(update)
        .bind(good)
        .execute(&bed.database.app)
        .await
        .unwrap();
    bed.reached(good, State::Stopped).await;
    // Where ending a wallet's server needs a backup first, the refusal is one more text to be searched.
    let mut more: Sources = Vec::new();
    match bed.write_state(good, State::Terminate).await {
        Ok(()) => drop(bed.reached(good, State::Terminated).await),
        Err(refused) => more.push((
            "the refusal of terminate".into(),
            refused.to_string().into_bytes(),
        )),
    }
    let other = bed.folder().join("other_keys");
    let line = KeyRing::generate_line("other").unwrap();
    std::fs::write(&other, line.expose_str().unwrap()).unwrap();
    world
        .restart(
            "wallet-worker",
            &[("GATEWAYZEN_SECRETS__KEY_FILE", other.to_str().unwrap())],
        )
        .await;
    world.bed.gatewayzen(&["retry", "api-401"]).await.unwrap();
    println!("{}", world.bed.parked(refuses).await.fault.unwrap());

    let names: Vec<&str> = ["good", "panics", "api-401"]
        .into_iter()
        .chain(faulty.iter().map(|(name, _)| *name))
        .collect();
    more.extend(world.commands(&names).await);
    more.extend(world.acts_with_secrets("panics").await);
    let logged: usize = SERVICES.iter().map(|name| world.log(name).len()).sum();
    assert!(
        world.log("ssh-worker").contains("panic on demand") && logged > 1 << 20,
        "{logged} bytes of logs"
    );
    assert!(world.traces.lock().unwrap().len() > 10_000, "few traces");
    more.extend(world.collect().await);

    let secrets = world.secrets().await;
    let search = secrets.search();
    let bytes: usize = more.iter().map(|(_, bytes)| bytes.len()).sum();
    println!(
        "{} secrets looked for in {} places, {bytes} bytes",
        secrets.names().len(),
        more.len()
    );
    assert_eq!(leaks(&search, &more), BTreeSet::new());

    world.plant_and_find(&secrets, good).await;
}

impl World {
    /// The same search over the same places finds what is put there.
    async fn plant_and_find(&self, secrets: &Secrets, id: i64) {
        let key = secrets.get(&format!("API key of {id}")).to_vec();
        let seed = secrets.get(&format!("seed of wallet {id}")).to_vec();
        let mut connection = redis_connection(&self.redis.url()).await;
        let failed = format!(
            "{{\"error\":\"401 to Basic {}\"}}",
            STANDARD.encode([b"gatewayzen:", &key[..]].concat())
        );
        let list = format!("{}:failed", self.bed.namespace);
        let _: i64 = redis::cmd("RPUSH")
            .arg(list)
            .arg(failed)
            .query_async(&mut connection)
            .await
            .unwrap();
        let park = "INSERT INTO fleet_halts (why, halted_by) VALUES ($1, 'test')";
        let planted = sqlx::query(park)
            .bind(hex::encode(&seed))
            .execute(&self.bed.database.admin)
            .await;
        if planted.is_err() {
            let table = "CREATE TABLE planted AS SELECT $1::text AS why";
            sqlx::query(table)
                .bind(hex::encode(&seed))
                .execute(&self.bed.database.admin)
                .await
                .unwrap();
        }
        std::fs::write(self.bed.folder().join("tmp/left-behind"), &seed).unwrap();
        let all = self.collect().await;
        let search = secrets.search();
        let found = leaks(&search, &all);
        for place in ["the dump of Postgres", "Redis key", "dump.rdb", "left-behind"] {
            assert!(
                found.iter().any(|(found, _)| found.contains(place)),
                "nothing found in {place}: {found:?}"
            );
        }
    }
}
