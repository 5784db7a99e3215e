//! Postgres is the truth, Redis is disposable.

use std::time::Duration;

use futures_util::future::join_all;
use gatewayzen_core::State;
use integration_tests::harness::{Bed, Options, RedisServer};
use integration_tests::simulated_fleet::{Config, Event, Times};

use crate::witness::{count, nothing_is_broken};
use crate::workers::{new_row, walk_round};

const ROWS: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn losing_redis_loses_nothing() {
    let mut redis = RedisServer::new().await;
    redis.start().await;
    let times = Times {
        command_ms: 100,
        ..Times::default()
    };
    let bed = Bed::new(Options {
        fleet: Config {
            times,
            ..Config::default()
        },
        redis_url: Some(redis.url()),
        settings: "worker.max_attempts = 100\n".into(),
        ..Options::default()
    })
    .await;
    let _services = bed.start_all();
    let mut rows = Vec::new();
    for n in 0..ROWS {
        rows.push(new_row(&bed, &format!("row-{n}")).await);
    }
    let ledger = bed.fleet.ledger();
    let disasters = async {
        // In mid-fleet: everything in Redis is gone, then Redis itself, then again while it comes back empty.
        for (n, command) in ["get_key", "start", "stop", "checkout"].into_iter().enumerate() {
            ledger
                .wait_for(|e| matches!(&e.event, Event::Command { name, .. } if name == command))
                .await;
            if n % 2 == 0 {
                bed.burn_redis_whole().await;
            } else {
                redis.kill().await;
                // An outage longer than a lease: steps end without it, and go on after it.
                tokio::time::sleep(Duration::from_secs(3)).await;
                redis.start().await;
            }
        }
    };
    tokio::join!(disasters, join_all(rows.iter().map(|id| walk_round(&bed, *id))));
    nothing_is_broken(&bed).await;
    for id in rows {
        assert_eq!(bed.row(id).await.state, State::Live);
        assert_eq!(
            count(&bed, id, |event| matches!(event, Event::Launched { .. })),
            2,
            "row {id}"
        );
    }
}
