//! The services at their most talkative, with passwords that are known.

use gatewayzen_core::repository::service_role;
pub(crate) use integration_tests::harness::SERVICES;
use integration_tests::harness::{Bed, Options, RedisServer, ServiceProcess, free_port};
use integration_tests::simulated_fleet::Config;

use crate::sources;

pub(crate) const POSTGRES_PASSWORD: &str = "canaryPostgres5ecretPassword";
pub(crate) const REDIS_PASSWORD: &str = "canaryRedis5ecretPassword";
/// What a host knows of its own database, and prints in its errors.
pub(crate) const HOST_PASSWORD: &str = "canaryHost5ecretPassword";

/// The services at their most talkative, with what they need to be asked for their health.
pub(crate) struct World {
    pub(crate) bed: Bed,
    pub(crate) services: Vec<(ServiceProcess, u16)>,
    pub(crate) redis: RedisServer,
    pub(crate) traces: std::sync::Arc<std::sync::Mutex<Vec<u8>>>,
}

impl World {
    pub(crate) async fn new() -> World {
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

    pub(crate) async fn start(&mut self, name: &str, more: &[(&str, &str)]) {
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
        let role = service_role(name).unwrap();
        let url = self
            .bed
            .database
            .url(role)
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

    pub(crate) async fn restart(&mut self, name: &str, more: &[(&str, &str)]) {
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

    pub(crate) fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.bed.folder().join(format!("{name}.log"))).unwrap()
    }
}
