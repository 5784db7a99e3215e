//! Secrets are read in batches, and at no border between two of them is one left out or given twice.

use gatewayzen_core::Repository;
use gatewayzen_core::repository::{SealedRow, SecretKind};
use gatewayzen_core::seal::KeyRing;
use integration_tests::harness::{Bed, Database, Options};
use serde_json::{Value, json};

use crate::fixtures::{folder, line, said, set_keys};
use crate::vault::{Kept, add_seed, fill, ring};

/// More than two of the batches that the command line reads, and no multiple of one.
const MANY: usize = 205;

async fn declared(operator: &Repository) -> i64 {
    let declared = operator
        .declare_secret_act("rotate-secrets", None, Some("me"), "a test", &json!({}))
        .await;
    declared.unwrap().unwrap().unwrap()
}

/// All batches of two, one after the other.
async fn batches(
    operator: &Repository,
    act: i64,
    kind: SecretKind,
    not_under: Option<&str>,
) -> Vec<Vec<SealedRow>> {
    let (mut all, mut after) = (Vec::new(), None::<String>);
    loop {
        let batch = operator
            .sealed_batch(act, kind, not_under, after.as_deref(), 2)
            .await
            .unwrap();
        let Some(last) = batch.last() else { return all };
        after = Some(last.place.clone());
        all.push(batch);
    }
}

fn sizes(batches: &[Vec<SealedRow>]) -> Vec<usize> {
    batches.iter().map(Vec::len).collect()
}

/// Row and name of each secret, sorted: one that was given twice is there twice.
fn given(batches: &[Vec<SealedRow>]) -> Vec<(String, String)> {
    let rows = batches.iter().flatten();
    let mut all: Vec<_> = rows
        .map(|row| (row.place_row.clone(), row.name.clone()))
        .collect();
    all.sort();
    all
}

/// Five rows, of which the first, third and fifth are sealed under the key `old`; the first has a former seed and a former
/// launch, of which nobody must hear.
async fn five(database: &Database, old: &KeyRing, new: &KeyRing) -> Vec<Kept> {
    let rows = fill(database, 5, &[old, new]).await;
    let place_row = format!("{}/2", rows[0].id);
    let place = SecretKind::WalletSeeds.place(&place_row);
    let second = old.seal(place, rows[0].wallet.seed().expose()).unwrap();
    add_seed(database, &rows[0], &second).await;
    sqlx::query(
        "INSERT INTO launch_attempts (id, gatewayd_id, client_token, request, host_key, send_until, ended_at)
         VALUES (gen_random_uuid(), $1, 'a former one', '{}', 'a host key', now(), now())",
    )
    .bind(rows[0].id)
    .execute(&database.admin)
    .await
    .unwrap();
    rows
}

/// What must be given of these rows.
fn wanted(rows: &[Kept], kind: SecretKind, every: usize) -> Vec<(String, String)> {
    let mut all: Vec<_> = rows
        .iter()
        .step_by(every)
        .map(|row| (row.place_row(kind), row.name.clone()))
        .collect();
    if kind == SecretKind::WalletSeeds {
        all[0].0 = format!("{}/2", rows[0].id);
    }
    all.sort();
    all
}

#[tokio::test]
async fn every_secret_is_in_one_batch_and_in_no_other() {
    let database = Database::new().await;
    let (old, new) = (ring("old"), ring("new"));
    let rows = five(&database, &old, &new).await;
    let operator = database.repository("gatewayzen_operator");
    let act = declared(&operator).await;
    for kind in SecretKind::ALL {
        let all = batches(&operator, act, kind, None).await;
        assert_eq!(sizes(&all), [2, 2, 1], "{kind:?}");
        assert_eq!(given(&all), wanted(&rows, kind, 1), "{kind:?}");
        let left = batches(&operator, act, kind, Some("new")).await;
        assert_eq!(sizes(&left), [2, 1], "{kind:?}");
        assert_eq!(given(&left), wanted(&rows, kind, 2), "{kind:?}");
        assert_eq!(
            sizes(&batches(&operator, act, kind, Some("third")).await),
            [2, 2, 1]
        );
    }
}

/// As a rotation goes through them: what was sealed again in one batch is out of the way of the next.
#[tokio::test]
async fn every_secret_is_sealed_again_once_whatever_was_sealed_before_it() {
    let database = Database::new().await;
    let (old, new) = (ring("old"), ring("new"));
    let rows = five(&database, &old, &new).await;
    let operator = database.repository("gatewayzen_operator");
    let act = declared(&operator).await;
    for kind in SecretKind::ALL {
        let (mut after, mut resealed) = (None::<String>, Vec::new());
        loop {
            let batch = operator
                .sealed_batch(act, kind, Some("new"), after.as_deref(), 2)
                .await
                .unwrap();
            let Some(last) = batch.last() else { break };
            after = Some(last.place.clone());
            let mut again = Vec::new();
            for row in &batch {
                let secret = old.open(kind.place(&row.place_row), &row.sealed).unwrap();
                let next = kind.next_row(&row.place_row).unwrap();
                let sealed = new.seal(kind.place(&next), secret.expose()).unwrap();
                again.push((row.place_row.clone(), row.sealed.clone(), sealed));
            }
            let kept = operator.reseal(act, kind, "new", &again).await.unwrap();
            assert_eq!(kept.len(), batch.len(), "{kind:?}");
            resealed.push(batch);
        }
        assert_eq!(given(&resealed), wanted(&rows, kind, 2), "{kind:?}");
        assert!(batches(&operator, act, kind, Some("new")).await.is_empty());
        // Every one is under the new key now, those that were so before included, and each opens in its place.
        let all = batches(&operator, act, kind, None).await;
        assert_eq!(sizes(&all), [2, 2, 1], "{kind:?}");
        for row in all.iter().flatten() {
            new.open(kind.place(&row.place_row), &row.sealed).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_commands_miss_none_of_many_secrets() {
    let bed = Bed::new(Options::default()).await;
    let (old, new) = (bed.sealing_keys(), line("new"));
    let rows = fill(&bed.database, MANY, &[&KeyRing::parse(&old).unwrap()]).await;
    let status = async || -> Vec<(Value, Value)> {
        let told = bed.gatewayzen(&["--json", "secrets", "status"]).await.unwrap();
        let told: Value = serde_json::from_str(&told).unwrap();
        let kinds = told["kinds"].as_array().unwrap();
        kinds
            .iter()
            .map(|kind| (kind["open"].clone(), kind["keys"].clone()))
            .collect()
    };
    let under =
        |key: &str, in_use: bool| json!({ "key": key, "rows": MANY, "in_use": in_use, "in_ring": true });
    let before = (json!(MANY), json!([under("test", true)]));
    assert_eq!(status().await, [before.clone(), before.clone(), before]);

    set_keys(&bed, &[&new, &old]);
    let (code, counts, _) = said(&bed, &["--json", "secrets", "rotate"]).await;
    let counts: Value = serde_json::from_str(&counts).unwrap();
    let all = json!({ "resealed": MANY, "overtaken": 0, "without_key": {}, "broken": 0 });
    assert_eq!(
        (code, counts),
        (
            Some(0),
            json!({ "wallet_seeds": all, "api_keys": all, "launch_attempts": all })
        )
    );
    // What was there before is kept of seeds and API keys, and counted; of user data it is not.
    let (kept, erased) = (
        (json!(MANY), json!([under("new", true), under("test", false)])),
        (json!(MANY), json!([under("new", true)])),
    );
    assert_eq!(status().await, [kept.clone(), kept, erased]);

    let file = folder(&bed).join("many.backup");
    let path = file.to_str().unwrap();
    let export = ["secrets", "export", path, "--reason", "weekly"];
    let told = bed.gatewayzen(&export).await.unwrap();
    assert!(told.starts_with(&format!("{MANY} wallets in ")), "{told}");
    let told = bed.gatewayzen(&["secrets", "verify-backup", path]).await.unwrap();
    assert!(
        told.contains(&format!("{MANY} wallets")) && !told.contains("not in it"),
        "{told}"
    );
    let recorded: Vec<String> = sqlx::query_scalar("SELECT address FROM wallet_backups ORDER BY gatewayd_id")
        .fetch_all(&bed.database.admin)
        .await
        .unwrap();
    let addresses: Vec<&str> = rows.iter().map(|row| row.wallet.address()).collect();
    assert_eq!(recorded, addresses);
}
