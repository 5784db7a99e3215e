//! No host is ended while what must stay is kept nowhere else: refused in the database, with a sentence that says what to do.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "tests"
)]

use std::time::Duration;

use gatewayzen_core::repository::{Lease, LeaseCheck, Outcome, Repository, Verdict};
use gatewayzen_core::{Facts, State};
use integration_tests::harness::{Bed, Database, Options};
use serde_json::Value;
use sqlx::PgPool;
use uuid::Uuid;

const WALLET: &str = "rHb9CJAWyB4rj91VRWn96DkukG4bwdtyTh";
const LONG: Duration = Duration::from_secs(600);

/// What an external application hears of a gatewayd whose wallet is kept nowhere else.
const NO_WALLET_BACKUP: &str = "gatewayd \"acme\" cannot be terminated: the key of its cold wallet \
    rHb9CJAWyB4rj91VRWn96DkukG4bwdtyTh is in no verified backup, and with its host end its hot wallet and gatewayd's own database. \
    What to do: `gatewayzen secrets export FILE --reason TEXT`, then `gatewayzen secrets verify-backup FILE` (with secrets.wallet_copies \
    configured, each new wallet is backed up as it is made); then terminate it";
const OVERRIDE: &str = "An operator may end it all the same, on record: `gatewayzen terminate acme --without-backup --reason ...`.";

/// A database with one gatewayd, `acme`, in `instance`; its steps are taken by hand.
struct Story {
    database: Database,
    operator: Repository,
    id: i64,
}

impl Story {
    async fn new() -> Story {
        let database = Database::new().await;
        let made = "INSERT INTO gatewayds (name, state) VALUES ('acme', 'instance') RETURNING id";
        let id = sqlx::query_scalar(made).fetch_one(&database.app).await.unwrap();
        let operator = database.repository("gatewayzen_operator");
        Story {
            database,
            operator,
            id,
        }
    }

    /// A gatewayd that is `live`, with a wallet that is kept nowhere else, under this policy.
    async fn live(wallet_backup: bool, host_backup: bool) -> Story {
        let story = Story::new().await;
        story.policy(wallet_backup, host_backup).await;
        for state in [State::Instance, State::Key, State::Start, State::Wallet] {
            story.step(state).await;
        }
        story
    }

    async fn policy(&self, wallet_backup: bool, host_backup: bool) {
        let set = self
            .operator
            .set_decommission_policy(Some(wallet_backup), Some(host_backup), "a test", Some("Ann"))
            .await;
        set.unwrap().unwrap();
    }

    async fn lease(&self, state: State) -> Lease {
        let service = self.database.repository("gatewayzen_service");
        match service
            .take_lease(self.id, state, None, "test", LONG, 99)
            .await
            .unwrap()
        {
            Verdict::Taken(lease) => lease,
            other => panic!("no lease in {state}: {other:?}"),
        }
    }

    async fn finish(&self, lease: &Lease, to: State) {
        let outcome = Outcome::Advance {
            to,
            facts: Facts::default(),
            why: "test".into(),
        };
        let service = self.database.repository("gatewayzen_service");
        let finished = service.finish_step(lease, &outcome, LONG).await.unwrap();
        assert_eq!(finished.check, LeaseCheck::Held);
    }

    /// Takes the step of a state, with what it leaves behind; that of `stop` without a backup.
    async fn step(&self, state: State) {
        let lease = self.lease(state).await;
        match state {
            State::Instance => self.launched(&lease).await,
            State::Wallet => {
                let worker = self.database.repository("gatewayzen_wallet_worker");
                worker
                    .keep_wallet(&lease, WALLET, "secp256k1", b"sealed")
                    .await
                    .unwrap();
            }
            State::Terminate => {
                let worker = self.database.repository("gatewayzen_instance_worker");
                let attempt = worker.launch_attempt(self.id).await.unwrap().unwrap();
                worker
                    .end_launch_attempt(&lease, attempt.id, "it ended")
                    .await
                    .unwrap();
            }
            _ => {}
        }
        self.finish(&lease, state.after_step().unwrap()).await;
    }

    async fn launched(&self, lease: &Lease) {
        let worker = self.database.repository("gatewayzen_instance_worker");
        let (attempt, token) = (Uuid::new_v4(), Uuid::new_v4().to_string());
        let nothing = serde_json::json!({});
        worker
            .open_launch_attempt(lease, attempt, &token, &nothing, b"", "key", LONG, 9)
            .await
            .unwrap();
        let instance = format!("i-{}", &token[..8]);
        worker
            .resolve_launch_attempt(lease, attempt, &instance)
            .await
            .unwrap();
    }

    /// `stop`, whose step backs the host up.
    async fn stop_with_backup(&self) {
        self.write("stop").await.unwrap();
        let lease = self.lease(State::Stop).await;
        let worker = self.database.repository("gatewayzen_ssh_worker");
        let kept = worker.record_host_backup(&lease, Some("s3://backups/acme")).await;
        assert_eq!(kept.unwrap(), LeaseCheck::Held);
        self.finish(&lease, State::Stopped).await;
    }

    /// Writes a state as the application; the refusal's sentence where there is one.
    async fn write(&self, state: &str) -> Result<(), String> {
        write_as(&self.database.app, state)
            .await
            .map_err(|(text, _)| text)
    }

    async fn refused(&self) -> String {
        self.write("terminate").await.unwrap_err()
    }

    async fn state(&self) -> String {
        self.database.text("SELECT state FROM gatewayds").await
    }
}

/// The sentence and the hint.
async fn write_as(login: &PgPool, state: &str) -> Result<(), (String, String)> {
    match sqlx::query("UPDATE gatewayds SET state = $1")
        .bind(state)
        .execute(login)
        .await
    {
        Ok(_) => Ok(()),
        Err(sqlx::Error::Database(error)) => {
            let hint = error
                .try_downcast_ref::<sqlx::postgres::PgDatabaseError>()
                .and_then(|error| error.hint());
            Err((error.message().to_owned(), hint.unwrap_or_default().to_owned()))
        }
        Err(other) => panic!("{other}"),
    }
}

fn sees(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{text}: does not say {word}");
    }
}

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
            let error = sqlx::query(sql).execute(&login).await.unwrap_err().to_string();
            sees(&error, &["permission denied"]);
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
    sees(
        &sqlx::query(acme)
            .execute(&operator)
            .await
            .unwrap_err()
            .to_string(),
        &["cannot be terminated"],
    );
    let mut transaction = operator.begin().await.unwrap();
    let other = "SELECT allow_termination('other', 'another one', NULL)";
    sqlx::query(other).execute(&mut *transaction).await.unwrap();
    sees(
        &sqlx::query(acme)
            .execute(&mut *transaction)
            .await
            .unwrap_err()
            .to_string(),
        &["cannot be terminated"],
    );
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
    sees(
        &sqlx::query(acme)
            .execute(&operator)
            .await
            .unwrap_err()
            .to_string(),
        &["is in no verified backup"],
    );
}

#[tokio::test]
async fn a_whole_walk_ends_with_its_backups_and_the_command_line_says_what_is_missing() {
    let bed = Bed::new(Options {
        settings: "secrets.wallet_copies = \"\"\n".into(),
        ..Options::default()
    })
    .await;
    let _services = bed.start_all();
    let id = bed.launch("acme").await;
    bed.reached(id, State::Live).await;

    // The rules, and a change of them.
    let rules = bed.gatewayzen(&["policy"]).await.unwrap();
    sees(
        &rules,
        &[
            "its cold wallet must be in a verified backup",
            "its host need not be backed up",
        ],
    );
    let no_reason = bed
        .gatewayzen(&["policy", "--require-host-backup", "yes"])
        .await
        .unwrap_err();
    assert_eq!(no_reason.0, 2, "{no_reason:?}");
    let change = [
        "policy",
        "--require-host-backup",
        "yes",
        "--reason",
        "audit of May",
        "--json",
    ];
    let rules: Value = serde_json::from_str(&bed.gatewayzen(&change).await.unwrap()).unwrap();
    assert_eq!(
        [
            &rules["require_wallet_backup"],
            &rules["require_host_backup"],
            &rules["changed_by"]
        ],
        [
            &Value::Bool(true),
            &Value::Bool(true),
            &Value::from("gatewayzen_operator")
        ]
    );
    let kept = "SELECT login || ': ' || reason || ': ' || details::text FROM audit WHERE action = 'decommission-policy'";
    assert_eq!(
        bed.database.text(kept).await,
        "gatewayzen_operator: audit of May: {\"require_host_backup\": [false, true], \"require_wallet_backup\": [true, true]}"
    );

    // Both refusals, whole, on one line.
    let wallet = bed.database.text("SELECT address FROM wallets").await;
    for command in [&["move", "acme", "terminate"][..], &["terminate", "acme"]] {
        let (code, told) = bed.gatewayzen(command).await.unwrap_err();
        assert_eq!((code, told.lines().count()), (1, 1), "{told}");
        sees(
            &told,
            &[
                &format!(
                    "gatewayzen: gatewayd \"acme\" cannot be terminated: the key of its cold wallet {wallet} is in no verified backup and"
                ),
                "no backup of its host was made since",
                "with its host end its hot wallet and gatewayd's own database",
                "`gatewayzen secrets export FILE --reason TEXT`, then `gatewayzen secrets verify-backup FILE`",
                "write `stop` first: its step makes the backup",
                OVERRIDE,
            ],
        );
    }
    // What it says is done: then it ends.
    bed.gatewayzen(&["move", "acme", "stop"]).await.unwrap();
    bed.reached(id, State::Stopped).await;
    let place = "SELECT place || ' ' || made_by FROM host_backups";
    sees(
        &bed.database.text(place).await,
        &["sim://backups/i-", " ssh-worker@"],
    );
    let history = bed.gatewayzen(&["show", "acme"]).await.unwrap();
    sees(&history, &["its host was backed up to sim://backups/i-"]);
    let (_, told) = bed.gatewayzen(&["terminate", "acme"]).await.unwrap_err();
    assert!(!told.contains("no backup of its host"), "{told}");
    let recorded = sqlx::query_scalar("SELECT record_wallet_backup($1, $2, 'a safe', repeat('0', 64))")
        .bind(id)
        .bind(&wallet);
    let recorded: bool = recorded.fetch_one(&bed.database.admin).await.unwrap();
    assert!(recorded);
    bed.gatewayzen(&["terminate", "acme", "--reason", "the customer left"])
        .await
        .unwrap();
    bed.reached(id, State::Terminated).await;
}

#[tokio::test]
async fn the_command_line_ends_a_gatewayd_without_backup_only_with_a_reason() {
    let bed = Bed::new(Options {
        settings: "secrets.wallet_copies = \"\"\n".into(),
        ..Options::default()
    })
    .await;
    let _services = bed.start_all();
    let id = bed.launch("acme").await;
    bed.reached(id, State::Live).await;
    let (code, _) = bed
        .gatewayzen(&["terminate", "acme", "--without-backup"])
        .await
        .unwrap_err();
    assert_eq!(code, 2);
    let done = bed
        .gatewayzen(&["terminate", "acme", "--without-backup", "--reason", "it burnt"])
        .await
        .unwrap();
    sees(&done, &["acme: live → terminate, without a look at its backups"]);
    bed.reached(id, State::Terminated).await;
    let again = bed
        .gatewayzen(&["terminate", "acme", "--without-backup", "--reason", "again"])
        .await;
    sees(
        &again.unwrap_err().1,
        &["gatewayd \"acme\" is in state \"terminated\" already"],
    );
}
