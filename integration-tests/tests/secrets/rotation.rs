//! Keys are rotated while the fleet works: nothing is lost, nothing is overwritten, and a missing key is named.

use std::process::Stdio;

use futures_util::future::join_all;
use gatewayzen_core::State;
use gatewayzen_core::repository::SecretKind;
use gatewayzen_core::seal::{KeyRing, Place};
use gatewayzen_core::wallet::Wallet;
use integration_tests::harness::{Bed, Options, ServiceProcess, binary};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::fixtures::{half_launched, line, live, names, set_keys, walk};

/// When this returns, every service runs with the keys of this moment: a row has walked through all of them.
async fn restart(bed: &Bed, services: &mut Vec<ServiceProcess>, probe: &str) {
    services.clear();
    services.extend(bed.start_all());
    live(bed, &[probe.to_owned()]).await;
}

/// The keys under which secrets in use are, and whether all of them open.
async fn status(bed: &Bed) -> (Vec<(String, String)>, bool) {
    let said = bed.gatewayzen(&["--json", "secrets", "status"]).await;
    let opens = said.is_ok();
    let text = match said {
        Ok(text) => text,
        Err((_, why)) => panic!("{why}"),
    };
    let status: Value = serde_json::from_str(&text).unwrap();
    let mut keys = Vec::new();
    for kind in status["kinds"].as_array().unwrap() {
        for key in kind["keys"].as_array().unwrap() {
            if key["in_use"] == true {
                let text = |value: &Value| value.as_str().unwrap().to_owned();
                keys.push((text(&kind["table"]), text(&key["key"])));
            }
        }
    }
    (keys, opens)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rotation_under_load() {
    let bed = Bed::new(Options::default()).await;
    let (old, new) = (bed.sealing_keys(), line("new"));
    let half = half_launched(&bed).await;
    let mut services = bed.start_all();
    let mut rows = live(&bed, &names("old", 4)).await;
    let before: Vec<Option<String>> =
        join_all(rows.iter().map(async |id| bed.row(*id).await.ripple_address)).await;

    // Everybody opens with the new key before anybody seals with it.
    set_keys(&bed, &[&old, &new]);
    restart(&bed, &mut services, "opens-both").await;

    // The workers seal with the old key all the while; the first rotation is killed, the second goes to the end.
    set_keys(&bed, &[&new, &old]);
    let young_names = names("young", 4);
    let load = async {
        let circles = join_all(rows.iter().map(async |id| {
            walk(&bed, *id, State::Stop, State::Stopped).await;
            walk(&bed, *id, State::Start, State::Live).await;
        }));
        let (_, young) = tokio::join!(circles, live(&bed, &young_names));
        young
    };
    let rotation = async {
        // The first cannot end before it is killed: its last statement waits for this row, which nobody else touches.
        let mut lock = bed.database.admin.begin().await.unwrap();
        sqlx::query("SELECT FROM launch_attempts WHERE gatewayd_id = $1 FOR UPDATE")
            .bind(half)
            .execute(&mut *lock)
            .await
            .unwrap();
        let mut first = tokio::process::Command::new(binary("gatewayzen"))
            .arg("--config")
            .arg(&bed.config)
            .args(["secrets", "rotate"])
            .envs(bed.environment.clone())
            .env(
                "GATEWAYZEN_POSTGRES__URL",
                bed.database.url("gatewayzen_operator"),
            )
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(first.stderr.take().unwrap()).lines();
        let told = said.next_line().await.unwrap().unwrap();
        assert!(
            told.starts_with("wallet seeds: ") && !told.contains(": 0 "),
            "{told}"
        );
        first.start_kill().unwrap();
        assert_eq!(first.wait().await.unwrap().code(), None, "killed");
        lock.rollback().await.unwrap();
        bed.gatewayzen(&["secrets", "rotate", "--reason", "the yearly one"])
            .await
            .unwrap();
    };
    let (young, ()) = tokio::join!(load, rotation);
    rows.extend(young);

    // Now all seal with the new key; what was sealed with the old one meanwhile is rotated, and the old one goes.
    restart(&bed, &mut services, "seals-new").await;
    bed.gatewayzen(&["secrets", "rotate"]).await.unwrap();
    set_keys(&bed, &[&new]);
    restart(&bed, &mut services, "new-alone").await;
    let (keys, opens) = status(&bed).await;
    assert!(opens && keys.iter().all(|(_, key)| key == "new"), "{keys:?}");
    assert_eq!(keys.len(), 3, "{keys:?}");

    // Everything works with the new key alone, and the wallets are the same.
    bed.gatewayzen(&["resume", "half"]).await.unwrap();
    bed.reached(half, State::Live).await;
    join_all(rows.iter().map(async |id| {
        walk(&bed, *id, State::Stop, State::Stopped).await;
        walk(&bed, *id, State::Start, State::Live).await;
    }))
    .await;
    let after: Vec<Option<String>> =
        join_all(rows[..4].iter().map(async |id| bed.row(*id).await.ripple_address)).await;
    assert_eq!(before, after);

    // Nothing was overwritten: the first version of each seed of before, and of those made in the midst, still opens with the old key, to the same address.
    let firsts: Vec<(i64, String, Vec<u8>)> = sqlx::query_as(
        "SELECT w.gatewayd_id, w.address, s.sealed FROM wallets w JOIN wallet_seeds s USING (gatewayd_id) WHERE s.version = 1 ORDER BY w.created_at",
    )
    .fetch_all(&bed.database.admin)
    .await
    .unwrap();
    assert_eq!(
        firsts.len(),
        rows.len() + 4,
        "and the three probes, and the one half way"
    );
    let keys = KeyRing::parse(&old).unwrap();
    for (id, address, sealed) in &firsts[..9] {
        let seed = keys.open(Place::wallet_seed(&format!("{id}/1")), sealed).unwrap();
        assert_eq!(
            Wallet::from_seed(seed.expose_str().unwrap()).unwrap().address(),
            address
        );
    }
    let told = "SELECT string_agg(action, ' ' ORDER BY id) FROM audit WHERE action LIKE 'rotate%'";
    assert_eq!(
        bed.database.text(told).await,
        "rotate-secrets rotate-secrets rotate-secrets-ended rotate-secrets rotate-secrets-ended"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_key_is_named_and_nothing_is_lost() {
    let bed = Bed::new(Options::default()).await;
    let (old, new) = (bed.sealing_keys(), line("new"));
    half_launched(&bed).await;
    let services = bed.start_all();
    live(&bed, &names("acme", 2)).await;
    drop(services);
    set_keys(&bed, &[&new]);
    let (code, why) = bed.gatewayzen(&["secrets", "rotate"]).await.unwrap_err();
    assert_eq!(code, 1);
    assert!(
        why.contains("wallet seeds: 2 left under \"test\", which is not in the key ring (acme-0, acme-1): put that key back"),
        "{why}"
    );
    let (code, why) = bed.gatewayzen(&["secrets", "status"]).await.unwrap_err();
    assert_eq!(
        (code, why.as_str()),
        (1, "gatewayzen: put these keys back into the key ring: test\n")
    );
    set_keys(&bed, &[&new, &old]);
    bed.gatewayzen(&["secrets", "rotate"]).await.unwrap();
    let (keys, opens) = status(&bed).await;
    assert!(opens && keys.iter().all(|(_, key)| key == "new"), "{keys:?}");
    wallets_move_to_keys_of_their_own(bed).await;
}

async fn wallets_move_to_keys_of_their_own(mut bed: Bed) {
    let id = bed.repository.gatewayd_named("acme-0").await.unwrap().unwrap().id;
    bed.environment
        .push(("GATEWAYZEN_SECRETS__WALLET_KEYS".into(), line("w")));
    bed.gatewayzen(&["secrets", "rotate"]).await.unwrap();
    let (keys, opens) = status(&bed).await;
    let of = |table: &str| keys.iter().find(|(kind, _)| kind == table).unwrap().1.as_str();
    assert!(opens, "{keys:?}");
    assert_eq!(
        (of("wallet_seeds"), of("api_keys"), of("launch_attempts")),
        ("w", "new", "new")
    );
    let _services = bed.start_all();
    walk(&bed, id, State::Stop, State::Stopped).await;
    walk(&bed, id, State::Start, State::Live).await;
}

/// What a worker writes while a batch is sealed again stands, and a version that is there is never written again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_in_the_midst_of_a_rotation_wins() {
    let bed = Bed::new(Options::default()).await;
    half_launched(&bed).await;
    let services = bed.start_all();
    let id = live(&bed, &names("acme", 1)).await[0];
    drop(services);
    let operator = bed.database.repository("gatewayzen_operator");
    let ring = KeyRing::parse(&line("new")).unwrap();
    let declared = operator
        .declare_secret_act(
            "rotate-secrets",
            None,
            Some("me"),
            "a test",
            &serde_json::json!({}),
        )
        .await;
    let act = declared.unwrap().unwrap().unwrap();
    for kind in [
        SecretKind::ApiKeys,
        SecretKind::LaunchAttempts,
        SecretKind::WalletSeeds,
    ] {
        let batch = operator
            .sealed_batch(act, kind, Some("new"), None, 10)
            .await
            .unwrap();
        let [row] = batch.as_slice() else {
            panic!("{kind:?}")
        };
        let next = kind.next_row(&row.place_row).unwrap();
        let sealed = |secret: &[u8]| ring.seal(kind.place(&next), secret).unwrap();
        let again = |old: &[u8], new: &[u8]| vec![(row.place_row.clone(), old.to_vec(), new.to_vec())];
        let (first, second) = (sealed(b"first"), sealed(b"second"));
        let reseal = async |old: &[u8], new: &[u8]| operator.reseal(act, kind, "new", &again(old, new)).await;
        // Somebody's former look at the row.
        assert_eq!(reseal(b"other", &first).await.unwrap(), Vec::<String>::new());
        assert_eq!(
            reseal(&row.sealed, &first).await.unwrap(),
            std::slice::from_ref(&row.place_row)
        );
        assert_eq!(reseal(&row.sealed, &second).await.unwrap(), Vec::<String>::new());
        let now = operator.sealed_batch(act, kind, None, None, 10).await.unwrap();
        assert_eq!(
            (now[0].place_row.as_str(), now[0].sealed == first),
            (next.as_str(), true)
        );
        // What is not under the key is no result of a rotation.
        let error = reseal(&first, &row.sealed).await.unwrap_err().to_string();
        assert!(error.contains("is not sealed under the key \"new\""), "{error}");
    }
    let versions: i64 = sqlx::query_scalar("SELECT count(*) FROM wallet_seeds WHERE gatewayd_id = $1")
        .bind(id)
        .fetch_one(&bed.database.admin)
        .await
        .unwrap();
    assert_eq!(versions, 2);
    assert_eq!(
        bed.database.text("SELECT count(*)::text FROM resealed").await,
        "1"
    );
}
