//! Its host is backed up by `stop` before it is ended, unless the host is gone.

use gatewayzen_core::State;

use crate::story::{LONG, NO_WALLET_BACKUP, Story, sees};

#[tokio::test]
async fn a_host_is_backed_up_by_stop_before_it_is_terminated() {
    let story = Story::live(false, true).await;
    let refused = story.refused().await;
    sees(
        &refused,
        &[
            "gatewayd \"acme\" cannot be terminated: no backup of its host was made since gatewayd was started there at 20",
            "UTC, and with its host end its hot wallet and gatewayd's own database. What to do: write `stop` first: its step makes \
             the backup, with gatewayd.backup_command, and it is done when the row is `stopped`; then terminate it",
        ],
    );
    // A stop that is under way, and one that made no backup.
    story.write("stop").await.unwrap();
    sees(
        &story.refused().await,
        &["let its `stop` end first (retry it if it is parked)"],
    );
    story.step(State::Stop).await;
    sees(
        &story.refused().await,
        &["write `start`, and `stop` once it is live"],
    );
    story.write("start").await.unwrap();
    sees(
        &story.refused().await,
        &["let its walk end first (retry it if it is parked), then write `stop`"],
    );
    story.step(State::Start).await;
    story.step(State::Wallet).await;
    story.stop_with_backup().await;
    // Started again, its backup is of the past.
    story.write("start").await.unwrap();
    sees(
        &story.refused().await,
        &["no backup of its host was made since gatewayd was started there"],
    );
    story.step(State::Start).await;
    story.step(State::Wallet).await;
    sees(&story.refused().await, &["write `stop` first"]);
    story.stop_with_backup().await;
    // Both rules in one sentence.
    story.policy(true, true).await;
    assert_eq!(story.refused().await, NO_WALLET_BACKUP);
    story.write("start").await.unwrap();
    sees(
        &story.refused().await,
        &[
            "is in no verified backup and no backup of its host was made since",
            "`gatewayzen secrets verify-backup FILE` (with secrets.wallet_copies configured, each new wallet is backed up as it is \
             made); and let its walk end first",
        ],
    );
    story.policy(false, true).await;
    story.step(State::Start).await;
    story.step(State::Wallet).await;
    story.stop_with_backup().await;
    story.write("terminate").await.unwrap();
    story.step(State::Terminate).await;

    // Built anew: the former host's starts and backups count no more.
    story.write("instance").await.unwrap();
    for state in [State::Instance, State::Key, State::Start, State::Wallet] {
        story.step(state).await;
    }
    sees(&story.refused().await, &["write `stop` first"]);
    story.stop_with_backup().await;
    story.write("terminate").await.unwrap();
}

#[tokio::test]
async fn a_host_that_is_gone_needs_no_backup_until_the_row_is_tried_again() {
    let story = Story::live(false, true).await;
    let worker = story.database.repository("gatewayzen_instance_worker");
    let park = async || {
        story.operator.ask_sweep(true, None, None).await.unwrap().unwrap();
        let sweep = worker.claim_sweep("test", LONG).await.unwrap().unwrap();
        let rows = worker.rows_without_machine(&sweep, &[]).await.unwrap();
        let parked = worker.park_gone(&sweep, &rows[0], "its machine is gone", "terminate it", None);
        assert!(parked.await.unwrap().is_some());
        let report = gatewayzen_core::sweep::Report::default();
        worker.finish_sweep(&sweep, Ok(&report)).await.unwrap();
    };
    park().await;
    // A retry says that it is there after all.
    story.write("live").await.unwrap();
    sees(&story.refused().await, &["write `stop` first"]);
    park().await;
    story.write("terminate").await.unwrap();
}
