//! What a run stands on: its own Postgres and Redis behind proxies, a simulated fleet, and a tally.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::sync::Mutex;

use super::proxy::Proxy;
use super::tally::Tally;
use crate::harness::{Bed, Options, PostgresServer, RedisServer};
use crate::judge::Evidence;
use crate::simulated_fleet::{Bucket, Config, DEFAULT_IMAGE, MaxStartups, Throttle, Times};

/// The release that an update goes to, besides the golden AMI's own.
pub(super) const NEW_RELEASE: &str = "v3.34.2";
/// The release of the golden AMI.
pub(super) const FIRST_RELEASE: &str = "v3.33.0";

/// Everything of a run but the services. The order of the fields is the order of their end.
pub struct World {
    /// Database, configuration and simulated machines.
    pub bed: Bed,
    /// As an operator.
    pub(super) operator: PgPool,
    /// Between everybody and Postgres.
    pub(super) postgres_line: Arc<Proxy>,
    /// Between everybody and Redis.
    pub(super) redis_line: Arc<Proxy>,
    /// The Postgres itself.
    pub(super) postgres: Mutex<PostgresServer>,
    /// The Redis itself.
    pub(super) redis: Mutex<RedisServer>,
    /// What was done.
    pub(super) tally: Tally,
    /// Machines that the driver launched itself, and whether with the fleet's own tags.
    strays: std::sync::Mutex<BTreeMap<String, bool>>,
    /// The highest id of a row, as it was seen last.
    pub(super) highest_id: AtomicI64,
}

impl World {
    /// Starts Postgres, Redis, proxies and the simulated fleet; no service.
    pub(super) async fn new(seed: u64, faults: bool) -> Arc<World> {
        let (mut postgres, mut redis) = (PostgresServer::new().await, RedisServer::new().await);
        postgres.start().await;
        redis.start().await;
        let postgres_line = Proxy::start(port_of(&postgres.url())).await.expect("a port");
        let redis_line = Proxy::start(port_of(&redis.url())).await.expect("a port");
        let bed = Bed::new(Options {
            fleet: machines(seed, faults),
            settings: SETTINGS.to_owned(),
            postgres_url: Some(format!(
                "postgres://postgres@127.0.0.1:{}/postgres",
                postgres_line.port()
            )),
            redis_url: Some(format!("redis://127.0.0.1:{}/", redis_line.port())),
            ..Options::default()
        })
        .await;
        let operator = PgPoolOptions::new()
            .max_connections(4)
            .acquire_timeout(Duration::from_secs(5))
            .connect_lazy(&bed.database.url("gatewayzen_operator"))
            .expect("a URL");
        Arc::new(World {
            bed,
            operator,
            postgres_line,
            redis_line,
            postgres: Mutex::new(postgres),
            redis: Mutex::new(redis),
            tally: Tally::default(),
            strays: std::sync::Mutex::default(),
            highest_id: AtomicI64::new(1),
        })
    }

    /// What the judge looks at, as it is now.
    pub(super) async fn evidence(&self) -> Evidence {
        let strays = self.strays().clone();
        Evidence::gather(&self.bed, strays).await
    }

    /// Machines that the driver launched itself, and whether with the fleet's own tags.
    pub(super) fn strays(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, bool>> {
        self.strays
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The id of a row by chance. There may be none of this id: those of failed inserts are left out.
    pub(super) fn any_id(&self, random: &mut fastrand::Rng) -> i64 {
        random.i64(1..=self.highest_id.load(Ordering::Relaxed))
    }
}

fn port_of(url: &str) -> u16 {
    let port = url
        .split("://")
        .nth(1)
        .and_then(|rest| rest.split('/').next())
        .and_then(|host| host.rsplit(':').next());
    port.and_then(|port| port.parse().ok())
        .expect("a URL with a port")
}

fn machines(seed: u64, faults: bool) -> Config {
    let images = [
        (DEFAULT_IMAGE, FIRST_RELEASE),
        ("ami-0000000000000002", NEW_RELEASE),
    ];
    Config {
        network: Some("/16".to_owned()),
        seed,
        images: BTreeMap::from(images.map(|(image, release)| (image.to_owned(), release.to_owned()))),
        times: Times {
            boot_ms: 1000,
            ssh_ms: 500,
            terminate_ms: 800,
            start_ms: 200,
            reboot_ms: 1500,
            jitter: 0.5,
            ..Times::default()
        },
        // A tenth of the walks' need would never let them end: tight enough to be met, not more.
        throttle: faults.then(|| Throttle {
            describe: Bucket::new(50.0, 20.0),
            run: Bucket::new(100.0, 20.0),
            terminate: Bucket::new(100.0, 20.0),
            instances: Bucket::new(300.0, 20.0),
        }),
        max_startups: faults.then_some(MaxStartups {
            start: 1,
            rate: 0.3,
            full: 6,
        }),
        ..Config::default()
    }
}

/// Over the bed's own: a busy machine of two cores must not lose leases all the time, or nothing would be done.
const SETTINGS: &str = r#"
telemetry.log = "warn"
postgres.acquire_timeout = "3s"
worker.lease = "5s"
worker.look_again = "2s"
worker.backoff_first = "200ms"
worker.backoff_longest = "2s"
worker.pause = "1s"
worker.max_attempts = 6
worker.drain = "2s"
worker.step_timeout = "60s"
ec2.poll = "500ms"
ec2.consistency_window = "4s"
ec2.send_for = "6h"
ec2.releases."v3.34.2" = "ami-0000000000000002"
gatewayd.command_timeout = "4s"
gatewayd.start_timeout = "5s"
gatewayd.update_timeout = "20s"
fault_budget.share = 1.0
sweep.every = "10s"
sweep.grace = "5s"
sweep.most = 1000
sweep.most_share = 1.0
deadlines.instance = "120s"
deadlines.key = "90s"
deadlines.start = "90s"
deadlines.wallet = "90s"
deadlines.stop = "90s"
deadlines.update = "90s"
deadlines.terminate = "120s"
"#;
