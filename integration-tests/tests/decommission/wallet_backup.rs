//! Its cold wallet is in a verified backup before its host is ended.

use gatewayzen_core::State;
use gatewayzen_core::repository::Outcome;
use sqlx::PgPool;

use crate::story::{LONG, NO_WALLET_BACKUP, OVERRIDE, Story, WALLET, write_as};

#[tokio::test]
async fn a_gatewayd_whose_wallet_is_in_no_backup_is_terminated_by_nobody() {
    let story = Story::live(true, false).await;
    let operator = PgPool::connect_lazy(&story.database.url("gatewayzen_operator")).unwrap();
    let migrator = PgPool::connect_lazy(&story.database.url("gatewayzen_migrator")).unwrap();
    for login in [&story.database.app, &operator, &migrator, &story.database.admin] {
        let refused = write_as(login, "terminate").await.unwrap_err();
        assert_eq!(refused, (NO_WALLET_BACKUP.to_owned(), OVERRIDE.to_owned()));
    }
    assert_eq!(story.state().await, "live");
    // A backup of another wallet is none of this one.
    let record = "SELECT record_wallet_backup(1, $1, 'a file', repeat('0', 64))";
    for (address, kept) in [("rrrrrrrrrrrrrrrrrrrrBZbvji", false), (WALLET, true)] {
        assert_eq!(story.refused().await, NO_WALLET_BACKUP);
        let recorded: bool = sqlx::query_scalar(record)
            .bind(address)
            .fetch_one(&operator)
            .await
            .unwrap();
        assert_eq!(recorded, kept);
    }
    story.write("terminate").await.unwrap();
    // The same wallet on the next machine is in the same backup.
    story.step(State::Terminate).await;
    story.write("instance").await.unwrap();
    story.step(State::Instance).await;
    story.write("terminate").await.unwrap();
}

#[tokio::test]
async fn a_row_without_a_wallet_or_whose_end_has_begun_needs_no_backup() {
    // Both rules in force: what never had a machine, what has none yet, and what was never started, ends as ever.
    let story = Story::new().await;
    story.policy(true, true).await;
    for (name, state) in [("fresh", "new"), ("asked", "instance")] {
        sqlx::query("INSERT INTO gatewayds (name, state) VALUES ($1, $2)")
            .bind(name)
            .bind(state)
            .execute(&story.database.app)
            .await
            .unwrap();
    }
    story.step(State::Instance).await;
    assert_eq!(
        story
            .database
            .text("SELECT state FROM gatewayds WHERE name = 'acme'")
            .await,
        "key"
    );
    story.write("terminate").await.unwrap();

    // A retry of `terminate` is no move: nothing is asked a second time.
    let story = Story::live(true, true).await;
    let done = story
        .operator
        .terminate_without_backup("acme", "it burnt", None)
        .await;
    assert_eq!(done.unwrap(), gatewayzen_core::repository::Move::Done);
    let lease = story.lease(State::Terminate).await;
    let park = Outcome::Park {
        fault: "no".into(),
        unblock: "yes".into(),
    };
    let service = story.database.repository("gatewayzen_service");
    service.finish_step(&lease, &park, LONG).await.unwrap();
    story.write("terminate").await.unwrap();
    assert_eq!(
        story
            .database
            .text("SELECT (fault IS NULL)::text FROM gatewayds")
            .await,
        "true"
    );
}
