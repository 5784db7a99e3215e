//! Copies of cold wallets in an S3 bucket, carried there by the command that the operating guide gives: the AWS command line,
//! before a server that keeps buckets (moto).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "tests"
)]

use gatewayzen_core::State;
use integration_tests::harness::{Bed, ObjectStore, Options};
use integration_tests::simulated_fleet::Event;

/// What docs/operating.md says after `aws`.
const CARRY: [&str; 5] = ["s3", "cp", "--only-show-errors", "{file}", "s3://bucket/wallets/"];

#[tokio::test]
async fn no_server_hears_of_a_wallet_before_its_copy_is_in_the_bucket() {
    let store = ObjectStore::start().await;
    let mut command = store.aws();
    command.extend(CARRY.map(str::to_owned));
    let bed = Bed::new(Options {
        settings: format!("secrets.wallet_copy_command = {command:?}\n"),
        ..Options::default()
    })
    .await;
    let _services = bed.start_all();
    let id = bed.launch("acme").await;

    // There is no such bucket yet: the worker pauses with S3's own words, and the server hears nothing.
    let row = bed.failing(id).await;
    let said = row.last_error.as_deref().unwrap_or_default();
    for part in [
        "was not carried further: the command ended with exit status: 1 and says: upload failed",
        "The specified bucket does not exist",
    ] {
        assert!(said.contains(part), "{part:?} is not in: {said}");
    }
    assert_eq!((row.state, row.attempts), (State::Wallet, 0), "{row:?}");
    let unblock = row.unblock.as_deref().unwrap_or_default();
    assert!(
        unblock.contains("Nothing was told to gatewayd") && unblock.contains("secrets.wallet_copy_command"),
        "{unblock}"
    );
    let heard = bed
        .fleet
        .ledger()
        .count(|entry| matches!(entry.event, Event::WalletSet { .. }));
    assert_eq!(heard, 0);

    // The bucket is made, and the row goes on by itself.
    store.run(&["s3api", "create-bucket", "--bucket", "bucket"]).await;
    let live = bed.reached(id, State::Live).await;
    let name = format!("wallet-{}.backup", live.ripple_address.expect("an address"));
    let carried = store
        .run(&[
            "s3",
            "cp",
            "--only-show-errors",
            &format!("s3://bucket/wallets/{name}"),
            "-",
        ])
        .await;
    assert_eq!(carried, std::fs::read(bed.wallet_copies().join(&name)).unwrap());

    // What came back from the bucket is a backup like any other.
    let fetched = bed.folder().join("fetched");
    std::fs::write(&fetched, carried).unwrap();
    let verified = bed
        .gatewayzen(&["secrets", "verify-backup", fetched.to_str().unwrap()])
        .await
        .unwrap();
    let whole = format!("{} is whole: 1 wallet, made ", fetched.display());
    assert!(verified.starts_with(&whole), "{verified}");
}
