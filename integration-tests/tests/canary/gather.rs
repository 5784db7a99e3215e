//! What a walk has left behind: all secrets as they truly are, and every place to which one could have got.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gatewayzen_core::seal::{KeyRing, Place};
use integration_tests::harness::run;

use crate::secrets::Secrets;
use crate::sources::{self, Sources};
use crate::world::{HOST_PASSWORD, POSTGRES_PASSWORD, REDIS_PASSWORD, SERVICES, World};

/// Whether a file of the bed is one in which secrets have their place: keys, rings of keys, and settings with a password.
fn has_its_place(name: &str) -> bool {
    name.ends_with("_key") || name.ends_with("_keys") || name.ends_with(".toml")
}

/// The arguments of a command, and what its environment has of its own.
type Run<'a> = (Vec<&'a str>, Vec<(&'a str, &'a str)>);

impl World {
    /// What an operator's commands say, and the sentences of commands that cannot connect.
    pub(crate) async fn commands(&self, names: &[&str]) -> Sources {
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
    pub(crate) async fn collect(&self) -> Sources {
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
    pub(crate) async fn secrets(&self) -> Secrets {
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
        let ring = KeyRing::parse(&self.keys()).unwrap();
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
