//! A secret that does not open although its key is there is counted, named, and left as it is; the others are not held up by it.

use gatewayzen_core::seal::KeyRing;
use integration_tests::harness::{Bed, Options};
use serde_json::{Value, json};

use crate::fixtures::{folder, line, said, set_keys};
use crate::vault::{fill, spoil};

/// What `secrets status` tells of one kind of secrets whose key is there.
fn of(table: &str, keys: Value, open: usize, broken: &[String]) -> Value {
    json!({
        "table": table,
        "keys": keys,
        "first_key": "test",
        "open": open,
        "without_key": [],
        "broken": broken,
    })
}

/// What `secrets rotate` tells of one kind of secrets whose key is there.
fn rotated(resealed: usize, broken: usize) -> Value {
    json!({ "resealed": resealed, "overtaken": 0, "without_key": {}, "broken": broken })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_open_is_named_and_left_as_it_is() {
    let bed = Bed::new(Options::default()).await;
    let old = bed.sealing_keys();
    let ring = KeyRing::parse(&old).unwrap();
    let rows = fill(&bed.database, 5, &[&ring]).await;
    let kind = |words: &str| {
        format!(
            "{words}\n  {:>8} under \"test\": the first key\n  {:>8} open\n",
            5, 5
        )
    };
    let whole = ["wallet seeds", "API keys", "user data of launches"].map(kind);
    assert_eq!(
        bed.gatewayzen(&["secrets", "status"]).await.unwrap(),
        whole.concat()
    );

    let spoilt = spoil(&bed.database, &ring, &rows).await;
    let (code, told, _) = said(&bed, &["secrets", "status"]).await;
    assert_eq!(code, Some(1), "{told}");
    let sentences = [
        &spoilt.seeds[..],
        &[spoilt.api_key.clone(), spoilt.user_data.clone()],
    ]
    .concat();
    for sentence in &sentences {
        assert!(told.contains(&format!("  does not open: {sentence}\n")), "{told}");
    }
    for counted in [
        format!("  {:>8} under -: not sealed values\n", 1),
        format!(
            "  {:>8} under \"test\": former versions, which nothing opens any more\n",
            4
        ),
        format!("wallet seeds\n  {:>8} under \"test\": the first key\n", 4),
    ] {
        assert!(told.contains(&counted), "{counted}{told}");
    }
    let (code, told, _) = said(&bed, &["--json", "secrets", "status"]).await;
    let told: Value = serde_json::from_str(&told).unwrap();
    let under =
        |rows: usize, in_use: bool| json!({ "key": "test", "rows": rows, "in_use": in_use, "in_ring": true });
    let no_key = json!({ "key": null, "rows": 1, "in_use": true, "in_ring": null });
    let kinds = json!([
        of(
            "wallet_seeds",
            json!([under(4, true), no_key, under(4, false)]),
            1,
            &spoilt.seeds
        ),
        of(
            "api_keys",
            json!([under(5, true)]),
            4,
            std::slice::from_ref(&spoilt.api_key)
        ),
        of(
            "launch_attempts",
            json!([under(5, true)]),
            4,
            std::slice::from_ref(&spoilt.user_data)
        ),
    ]);
    assert_eq!((code, told), (Some(1), json!({ "kinds": kinds, "put_back": [] })));

    // A rotation takes the rest, and adds no version to what it did not prove.
    set_keys(&bed, &[&line("new"), &old]);
    let (code, counts, why) = said(&bed, &["--json", "secrets", "rotate"]).await;
    let counts: Value = serde_json::from_str(&counts).unwrap();
    let expected =
        json!({ "wallet_seeds": rotated(1, 4), "api_keys": rotated(4, 1), "launch_attempts": rotated(4, 1) });
    assert_eq!((code, counts), (Some(1), expected));
    let not_that_of = |n: usize| {
        format!(
            "{}: its seed is not that of {}: restore it from a backup",
            rows[n].name,
            rows[n].wallet.address()
        )
    };
    for (words, sentence) in [
        ("wallet seeds", &not_that_of(1)),
        ("wallet seeds", &spoilt.seeds[1]),
        ("wallet seeds", &not_that_of(3)),
        ("wallet seeds", &spoilt.seeds[3]),
        ("API keys", &spoilt.api_key),
        ("user data of launches", &spoilt.user_data),
    ] {
        let left = format!("gatewayzen: {words}: left as it is: {sentence}\n");
        assert!(why.contains(&left), "{left}{why}");
    }
    let versions = "SELECT string_agg(newest::text, ' ' ORDER BY gatewayd_id) FROM
        (SELECT gatewayd_id, max(version) AS newest FROM wallet_seeds GROUP BY gatewayd_id) v";
    assert_eq!(bed.database.text(versions).await, "2 2 2 2 2");

    // An export has the one that opens, says which it has not, and does not call that well done.
    let file = folder(&bed).join("one.backup");
    let path = file.to_str().unwrap();
    let (code, told, why) = said(&bed, &["secrets", "export", path, "--reason", "weekly"]).await;
    assert!(
        code == Some(1) && told.starts_with("1 wallet in "),
        "{code:?} {told}"
    );
    for sentence in &spoilt.seeds {
        assert!(why.contains(&format!("gatewayzen: {sentence}\n")), "{why}");
    }
    let left_out = "left out, since they do not open: row-001, row-002, row-003, row-004; run `gatewayzen secrets status`";
    assert!(why.contains(left_out), "{why}");
    let ended = "SELECT (details ->> 'wallets') || ' ' || (details ->> 'left_out') FROM audit WHERE action = 'export-wallets-ended'";
    assert_eq!(bed.database.text(ended).await, "1 4");
    let told = bed.gatewayzen(&["secrets", "verify-backup", path]).await.unwrap();
    assert!(
        told.contains("not in it: 4 wallets of the database: row-001, row-002, row-003, row-004;"),
        "{told}"
    );
}
