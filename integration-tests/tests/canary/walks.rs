//! Walks with known secrets through all states, all kinds of failures, and panics; then the search.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gatewayzen_core::State;
use gatewayzen_core::seal::{KeyRing, Place};
use integration_tests::harness::{Bed, Options, RedisServer, ServiceProcess, free_port, run};
use integration_tests::simulated_fleet::{Config, Fault, FaultKind};

use crate::secrets::Secrets;
use crate::sources::{self, Sources};

const POSTGRES_PASSWORD: &str = "canaryPostgres5ecretPassword";
const REDIS_PASSWORD: &str = "canaryRedis5ecretPassword";
/// What a host knows of its own database, and prints in its errors.
const HOST_PASSWORD: &str = "canaryHost5ecretPassword";
const SERVICES: [&str; 4] = ["dispatcher", "instance-worker", "ssh-worker", "wallet-worker"];

/// Whether a file of the bed is one in which secrets have their place: keys, rings of keys, and settings with a password.
fn has_its_place(name: &str) -> bool {
    name.ends_with("_key") || name.ends_with("_keys") || name.ends_with(".toml")
}

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

async fn new_row(bed: &Bed, name: &str) -> i64 {
    sqlx::query_scalar("INSERT INTO gatewayds (name) VALUES ($1) RETURNING id")
        .bind(name)
        .fetch_one(&bed.database.app)
        .await
        .unwrap()
}

/// The arguments of a command, and what its environment has of its own.
type Run<'a> = (Vec<&'a str>, Vec<(&'a str, &'a str)>);

/// The services at their most talkative, with what they need to be asked for their health.
struct World {
    bed: Bed,
    services: Vec<(ServiceProcess, u16)>,
    redis: RedisServer,
    traces: std::sync::Arc<std::sync::Mutex<Vec<u8>>>,
}

impl World {
    async fn new() -> World {
        let (endpoint, traces) = sources::collector().await;
        let mut redis = RedisServer::with_password(REDIS_PASSWORD).await;
        redis.start().await;
        let settings = format!(
            "telemetry.log = \"trace\"\ntelemetry.otlp_endpoint = \"{endpoint}\"\nworker.max_attempts = 8\n\
             gatewayd.start_timeout = \"2s\"\n"
        );
        let bed = Bed::new(Options {
            fleet: Config {
                keep_commands: true,
                ..Config::default()
            },
            settings,
            redis_url: Some(redis.url()),
            ..Options::default()
        })
        .await;
        std::fs::create_dir(bed.folder().join("tmp")).unwrap();
        World {
            bed,
            services: Vec::new(),
            redis,
            traces,
        }
    }

    async fn start(&mut self, name: &str, more: &[(&str, &str)]) {
        let port = free_port().await;
        let listen = format!("127.0.0.1:{port}");
        let tmp = self.bed.folder().join("tmp");
        let format = if name == "ssh-worker" { "json" } else { "text" };
        let own = [
            ("GATEWAYZEN_HEALTH__LISTEN", listen.as_str()),
            ("GATEWAYZEN_TELEMETRY__LOG_FORMAT", format),
            ("TMPDIR", tmp.to_str().unwrap()),
            ("LOG_SIGNABLE_BODY", "true"),
        ];
        let mut environment = self.bed.environment.clone();
        environment.extend(
            [&own[..], more]
                .concat()
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned())),
        );
        let config = self.config(name);
        let service = ServiceProcess::start(name, &["--config", &config], &environment, self.bed.folder());
        self.services.push((service, port));
    }

    /// The settings of one service, with its own login and a password in a file, which is where it belongs.
    fn config(&self, name: &str) -> String {
        let role = match name {
            "dispatcher" => "gatewayzen_service".to_owned(),
            worker => format!("gatewayzen_{}", worker.replace('-', "_")),
        };
        let url = self
            .bed
            .database
            .url(&role)
            .replace(&format!("{role}@"), &format!("{role}:{POSTGRES_PASSWORD}@"));
        let text = std::fs::read_to_string(&self.bed.config).unwrap();
        let others: String = text
            .lines()
            .filter(|line| !line.starts_with("postgres.url"))
            .map(|line| format!("{line}\n"))
            .collect();
        let path = self.bed.folder().join(format!("{name}.toml"));
        std::fs::write(&path, format!("{others}postgres.url = \"{url}\"\n")).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    async fn restart(&mut self, name: &str, more: &[(&str, &str)]) {
        for (service, _) in self
            .services
            .iter_mut()
            .filter(|(service, _)| service.name == name)
        {
            service.kill().await;
        }
        self.services.retain(|(service, _)| service.name != name);
        self.start(name, more).await;
    }

    /// What an operator's commands say, and the sentences of commands that cannot connect.
    async fn commands(&self, names: &[&str]) -> Sources {
        let mut all = Vec::new();
        let config = self.bed.config.to_str().unwrap();
        let operator = self.bed.database.url("gatewayzen_operator");
        let operator = operator.replace(
            "gatewayzen_operator@",
            &format!("gatewayzen_operator:{POSTGRES_PASSWORD}@"),
        );
        let nowhere = format!("postgres://u:{POSTGRES_PASSWORD}@127.0.0.1:1/d");
        let unreadable = format!("postgres://u:{POSTGRES_PASSWORD}@127.0.0.1:99999999/d");
        let no_redis = format!("redis://:{REDIS_PASSWORD}@127.0.0.1:1");
        let postgres = "GATEWAYZEN_POSTGRES__URL";
        let mut runs: Vec<Run<'_>> = Vec::new();
        for name in names {
            for command in [vec!["show", name], vec!["why", name]] {
                runs.push((command.clone(), vec![(postgres, &operator)]));
                runs.push(([&["--json"][..], &command].concat(), vec![(postgres, &operator)]));
            }
        }
        for command in [
            vec!["list"],
            vec!["--json", "list", "--faulty"],
            vec!["doctor"],
            vec!["--json", "doctor"],
            vec!["sweep"],
            vec!["watch", "--until-idle", "--timeout", "5s"],
        ] {
            for bad in [
                vec![(postgres, operator.as_str())],
                vec![(postgres, &nowhere)],
                vec![(postgres, &unreadable)],
                vec![(postgres, &operator), ("GATEWAYZEN_REDIS__URL", &no_redis)],
                vec![(postgres, &operator), ("GATEWAYZEN_REDIS__URL", REDIS_PASSWORD)],
                vec![
                    (postgres, &operator),
                    ("GATEWAYZEN_SECRETS__KEYS", POSTGRES_PASSWORD),
                ],
            ] {
                runs.push((command.clone(), bad));
            }
        }
        for (command, own) in runs {
            let mut environment = self.bed.environment.clone();
            environment.extend(own.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
            let arguments = [&["--config", config][..], &command].concat();
            let done = run("gatewayzen", &arguments, &environment).await;
            all.push((
                format!("gatewayzen {}", command.join(" ")),
                [done.stdout, done.stderr].concat(),
            ));
        }
        for service in SERVICES {
            for (key, value) in [
                (postgres, unreadable.as_str()),
                ("GATEWAYZEN_SECRETS__KEYS", REDIS_PASSWORD),
            ] {
                let mut environment = self.bed.environment.clone();
                environment.push((key.to_owned(), value.to_owned()));
                let done = run(service, &["--config", config, "--check"], &environment).await;
                all.push((format!("{service} --check"), [done.stdout, done.stderr].concat()));
            }
        }
        all
    }

    /// Everything that is there now.
    async fn collect(&self) -> Sources {
        let mut all = sources::postgres(&self.bed).await;
        all.extend(sources::redis(&self.redis.url()).await);
        all.extend(sources::files(self.redis.folder(), |_| false));
        all.extend(sources::files(self.bed.folder(), has_its_place));
        for (service, port) in &self.services {
            all.extend(sources::process(service));
            for path in ["/healthz", "/readyz", "/metrics"] {
                all.extend(sources::http_get(*port, path).await);
            }
        }
        all.push(("the trace export".into(), self.traces.lock().unwrap().clone()));
        all.push((
            "the commands of the hosts".into(),
            self.bed.fleet.command_lines().join("\n").into_bytes(),
        ));
        all
    }

    /// The secrets as they truly are: what was seeded, what the hosts have, and what is sealed in the database.
    async fn secrets(&self) -> Secrets {
        let mut secrets = Secrets::default();
        secrets.add("Postgres password", POSTGRES_PASSWORD);
        secrets.add("Redis password", REDIS_PASSWORD);
        secrets.add("password of a host", HOST_PASSWORD);
        for entry in std::fs::read_dir(self.bed.folder()).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            for line in std::fs::read_to_string(&path)
                .unwrap_or_default()
                .lines()
                .filter(|_| name.ends_with("_keys"))
            {
                let key = line.split_once(':').unwrap().1.trim();
                secrets.add(&format!("key of {name}, as text"), key);
                secrets.add(&format!("key of {name}"), STANDARD.decode(key).unwrap());
            }
        }
        let fleet_key = std::fs::read_to_string(self.bed.folder().join("fleet_key")).unwrap();
        secrets.add_private_key("fleet's SSH key", &fleet_key);
        for host in self.bed.fleet.hosts() {
            secrets.add_private_key(&format!("host key of {}", host.instance), &host.ssh_key);
            if let Some(key) = &host.api_key {
                secrets.add_hex(&format!("API key of {}", host.gatewayd), key);
            }
            if let Some(key) = &host.tls_key {
                // P-256 in PKCS#8: the 32 secret bytes stand after a fixed head of 36.
                secrets.add(
                    &format!("TLS key of {}", host.gatewayd),
                    &hex::decode(key).unwrap()[36..68],
                );
            }
        }
        let ring = KeyRing::parse(&self.bed.sealing_keys()).unwrap();
        let seeds: Vec<(i64, i32, Vec<u8>)> =
            sqlx::query_as("SELECT gatewayd_id, version, sealed FROM wallet_seeds")
                .fetch_all(&self.bed.database.admin)
                .await
                .unwrap();
        for (id, version, sealed) in &seeds {
            let row = format!("{id}/{version}");
            let seed = ring.open(Place::wallet_seed(&row), sealed).unwrap();
            let seed = seed.expose_str().unwrap();
            secrets.add(&format!("seed of wallet {id}"), seed);
            let bytes = bs58::decode(seed)
                .with_alphabet(bs58::Alphabet::RIPPLE)
                .with_check(None)
                .into_vec()
                .unwrap();
            secrets.add(&format!("entropy of wallet {id}"), &bytes[bytes.len() - 16..]);
        }
        assert!(seeds.len() >= 3 && self.bed.fleet.hosts().len() >= 15);
        secrets
    }
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
    fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.bed.folder().join(format!("{name}.log"))).unwrap()
    }

    /// The same search over the same places finds what is put there.
    async fn plant_and_find(&self, secrets: &Secrets, id: i64) {
        let key = secrets.get(&format!("API key of {id}")).to_vec();
        let seed = secrets.get(&format!("seed of wallet {id}")).to_vec();
        let client = redis::Client::open(self.redis.url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
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
