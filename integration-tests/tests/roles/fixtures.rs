//! A login, and a row that has everything that must be guarded.

use gatewayzen_core::State;
use gatewayzen_core::repository::{Lease, LeaseCheck, Verdict};
use integration_tests::harness::Database;
use sqlx::PgPool;

pub(crate) const WALLET: &str = "rHb9CJAWyB4rj91VRWn96DkukG4bwdtyTh";

pub(crate) fn pool(database: &Database, role: &str) -> PgPool {
    PgPool::connect_lazy(&database.url(role)).unwrap()
}

/// A row in `instance`, and its lease.
pub(crate) async fn leased_row(database: &Database) -> Lease {
    database
        .write("INSERT INTO gatewayds (name, state) VALUES ('acme', 'instance')")
        .await;
    let service = database.repository("gatewayzen_service");
    let id = service.gatewayd_named("acme").await.unwrap().unwrap().id;
    let lease = std::time::Duration::from_secs(600);
    let taken = service.take_lease(id, State::Instance, None, "test", lease, 9);
    let Verdict::Taken(lease) = taken.await.unwrap() else {
        panic!("not taken");
    };
    lease
}

/// One row with a wallet, an API key and a launch, and its lease.
pub(crate) async fn full_row(database: &Database) -> Lease {
    let lease = leased_row(database).await;
    let instance = database.repository("gatewayzen_instance_worker");
    let (attempt, hour) = (uuid::Uuid::new_v4(), std::time::Duration::from_secs(3600));
    instance
        .open_launch_attempt(
            &lease,
            attempt,
            "token",
            &serde_json::json!({}),
            b"sealed",
            "key",
            hour,
            9,
        )
        .await
        .unwrap();
    let kept = database.repository("gatewayzen_ssh_worker");
    assert_eq!(
        kept.keep_api_key(&lease, b"sealed").await.unwrap(),
        LeaseCheck::Held
    );
    let kept = database.repository("gatewayzen_wallet_worker");
    let wallet = kept.keep_wallet(&lease, WALLET, "ed25519", b"sealed").await;
    assert_eq!(wallet.unwrap(), LeaseCheck::Held);
    lease
}
