//! An operator ends one gatewayd all the same, on record.

use gatewayzen_core::State;
use sqlx::{Executor, PgPool, Postgres};

use crate::story::{Story, WALLET, sees};

/// What Postgres says to this.
async fn refusal<'c>(login: impl Executor<'c, Database = Postgres>, sql: &'static str) -> String {
    sqlx::query(sql).execute(login).await.unwrap_err().to_string()
}

#[tokio::test]
async fn an_operators_word_ends_one_gatewayd_once_and_stays_on_record() {
    let story = Story::live(true, true).await;
    let operator = PgPool::connect_lazy(&story.database.url("gatewayzen_operator")).unwrap();
    for role in [
        "gatewayzen_app",
        "gatewayzen_service",
        "gatewayzen_instance_worker",
    ] {
        let login = PgPool::connect_lazy(&story.database.url(role)).unwrap();
        for sql in [
            "SELECT terminate_without_backup('acme', 'mine')",
            "SELECT allow_termination('acme', 'mine', NULL)",
            "SELECT set_decommission_policy(false, false, 'mine')",
            "UPDATE decommission_policy SET require_wallet_backup = false",
            "INSERT INTO host_backups (gatewayd_id, attempt_id, made_by) SELECT 1, gen_random_uuid(), 'me'",
        ] {
            sees(&refusal(&login, sql).await, &["permission denied"]);
        }
    }
    // A word that is not followed by the move counts for nobody later, and not for another row.
    sqlx::query("INSERT INTO gatewayds (name, state) VALUES ('other', 'instance')")
        .execute(&story.database.app)
        .await
        .unwrap();
    let allow = "SELECT allow_termination('acme', 'for later', NULL)";
    sqlx::query(allow).execute(&operator).await.unwrap();
    let acme = "UPDATE gatewayds SET state = 'terminate' WHERE name = 'acme'";
    sees(&refusal(&operator, acme).await, &["cannot be terminated"]);
    let mut transaction = operator.begin().await.unwrap();
    let other = "SELECT allow_termination('other', 'another one', NULL)";
    sqlx::query(other).execute(&mut *transaction).await.unwrap();
    sees(&refusal(&mut *transaction, acme).await, &["cannot be terminated"]);
    transaction.rollback().await.unwrap();
    // No reason, no word.
    let refused = story
        .operator
        .terminate_without_backup("acme", "  ", None)
        .await
        .unwrap();
    sees(&format!("{refused:?}"), &["audit_has_a_reason"]);
    assert_eq!(
        story
            .database
            .text("SELECT state FROM gatewayds WHERE name = 'acme'")
            .await,
        "live"
    );

    let done = story
        .operator
        .terminate_without_backup("acme", "the customer left", Some("Ann"))
        .await;
    assert_eq!(done.unwrap(), gatewayzen_core::repository::Move::Done);
    let kept = "SELECT login || ': ' || person || ': ' || reason || ': ' || (details - 'transaction' - 'instance' - 'lacking')::text
        FROM audit WHERE action = 'terminate-without-backup' AND person IS NOT NULL";
    assert_eq!(
        story.database.text(kept).await,
        format!(
            "gatewayzen_operator: Ann: the customer left: {{\"state\": \"live\", \"wallet\": \"{WALLET}\", \"generation\": 5}}"
        )
    );
    let lacking = "SELECT details ->> 'lacking' FROM audit WHERE person IS NOT NULL AND action = 'terminate-without-backup'";
    sees(
        &story.database.text(lacking).await,
        &["is in no verified backup and no backup of its host"],
    );
    let history = "SELECT by || ': ' || why FROM gatewayd_history WHERE to_state = 'terminate'";
    assert_eq!(
        story.database.text(history).await,
        "gatewayzen_operator: without backup: the customer left"
    );
    // It was for that move: the next machine of the same row is judged anew.
    story.step(State::Terminate).await;
    sqlx::query("UPDATE gatewayds SET state = 'instance' WHERE name = 'acme'")
        .execute(&story.database.app)
        .await
        .unwrap();
    sees(&refusal(&operator, acme).await, &["is in no verified backup"]);
}
