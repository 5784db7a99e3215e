//! What people do with secrets: rotate their keys while the fleet works, back wallets up, and look at one on record.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "tests"
)]

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use futures_util::future::join_all;
use gatewayzen_core::State;
use gatewayzen_core::repository::SecretKind;
use gatewayzen_core::seal::{KeyRing, Place};
use gatewayzen_core::wallet::Wallet;
use integration_tests::harness::{Bed, Database, Options, ServiceProcess, binary, run};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};

fn line(id: &str) -> String {
    let line = KeyRing::generate_line(id).unwrap();
    line.expose_str().unwrap().to_owned()
}

fn folder(bed: &Bed) -> PathBuf {
    bed.config.parent().unwrap().to_owned()
}

/// The keys that seal from the next start of a process on. Renamed into place: no process ever reads half of them.
fn set_keys(bed: &Bed, lines: &[&str]) {
    let (file, whole) = (folder(bed).join("sealing_keys"), folder(bed).join("whole"));
    std::fs::write(&whole, lines.join("\n")).unwrap();
    std::fs::rename(whole, file).unwrap();
}

/// When this returns, every service runs with the keys of this moment: a row has walked through all of them.
async fn restart(bed: &Bed, services: &mut Vec<ServiceProcess>, probe: &str) {
    services.clear();
    services.extend(bed.start_all());
    live(bed, &[probe.to_owned()]).await;
}

async fn walk(bed: &Bed, id: i64, to: State, ends_in: State) {
    bed.write_state(id, to).await.unwrap();
    bed.reached(id, ends_in).await;
}

async fn live(bed: &Bed, names: &[String]) -> Vec<i64> {
    join_all(names.iter().map(async |name| {
        let id = bed.launch(name).await;
        bed.reached(id, State::Live).await;
        id
    }))
    .await
}

/// A row on hold whose machine runs, and no more: its user data is still sealed, which the step `key` erases.
async fn half_launched(bed: &Bed) -> i64 {
    let _services = [bed.start("dispatcher"), bed.start("instance-worker")];
    let id = bed.launch("half").await;
    bed.reached(id, State::Key).await;
    bed.gatewayzen(&["hold", "half", "--reason", "a test"])
        .await
        .unwrap();
    id
}

fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{prefix}-{n}")).collect()
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
        first.kill().await.unwrap();
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_round_trip() {
    let bed = Bed::new(Options::default()).await;
    let services = bed.start_all();
    let ids = live(&bed, &names("acme", 3)).await;
    let mut sorted = ids.clone();
    sorted.sort_unstable();
    let recorded = async |place: &str| -> Vec<i64> {
        sqlx::query_scalar("SELECT gatewayd_id FROM wallet_backups WHERE place LIKE $1 ORDER BY gatewayd_id")
            .bind(format!("%{place}%"))
            .fetch_all(&bed.database.admin)
            .await
            .unwrap()
    };
    // The workers made copies of their own.
    assert_eq!(recorded("/wallets/wallet-r").await, sorted);

    let file = folder(&bed).join("all.backup");
    let path = file.to_str().unwrap();
    let export = ["secrets", "export", path, "--reason", "weekly"];
    let said = bed.gatewayzen(&export).await.unwrap();
    assert!(said.starts_with("3 wallets in "), "{said}");
    assert_eq!(
        std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let (code, why) = bed.gatewayzen(&export).await.unwrap_err();
    assert!(
        code == 1 && why.contains("exists and is not overwritten"),
        "{why}"
    );
    let acts = "SELECT string_agg(action || ' ' || reason, ', ' ORDER BY id) FROM audit";
    assert_eq!(
        bed.database.text(acts).await,
        "export-wallets weekly, export-wallets-ended weekly"
    );

    assert_eq!(recorded("all.backup").await, Vec::<i64>::new());
    let offline = ["secrets", "verify-backup", path, "--offline"];
    assert!(
        bed.gatewayzen(&offline)
            .await
            .unwrap()
            .contains("nothing was recorded")
    );
    assert_eq!(recorded("all.backup").await, Vec::<i64>::new());
    live(&bed, &names("late", 1)).await;
    let verify = ["secrets", "verify-backup", path];
    let said = bed.gatewayzen(&verify).await.unwrap();
    assert!(
        said.contains("3 wallets") && said.contains("not in it: 1 wallet of the database: late-0"),
        "{said}"
    );
    assert_eq!(recorded("all.backup").await, sorted);
    drop(services);

    // When the database is lost, the file and its keys are enough.
    let seed = folder(&bed).join("seed");
    let lost = [
        "secrets",
        "reveal",
        "acme-1",
        "wallet",
        "--backup",
        path,
        "--offline",
        "--reason",
        "all is lost",
        "--to",
    ];
    bed.gatewayzen(&[&lost[..], &[seed.to_str().unwrap()]].concat())
        .await
        .unwrap();
    let seed = std::fs::read_to_string(&seed).unwrap();
    let address = bed.row(ids[1]).await.ripple_address.unwrap();
    assert_eq!(Wallet::from_seed(seed.trim()).unwrap().address(), address);

    // Each way to be wrong has its sentence, and records nothing.
    let text = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let spoilt = folder(&bed).join("spoilt.backup");
    for (spoil, expected) in [
        (lines[..4].concat(), "was cut off after line 4"),
        ([lines[0], lines[1], lines[3], lines[4]].concat(), "is not whole"),
        (text.replacen("acme-1", "acme-7", 1), "is not whole"),
        (
            text.replacen("\"address\":\"r", "\"address\":\"R", 1),
            "line 2 of the backup: the seed of R",
        ),
        ("wallets".to_owned(), "is not a backup of wallets"),
    ] {
        std::fs::write(&spoilt, spoil).unwrap();
        let (code, why) = bed
            .gatewayzen(&["secrets", "verify-backup", spoilt.to_str().unwrap()])
            .await
            .unwrap_err();
        assert!(code == 1 && why.contains(expected), "{why}");
    }
    let keys = folder(&bed).join("backup_keys");
    let right = std::fs::read_to_string(&keys).unwrap();
    for (id, expected) in [
        (
            "other",
            "sealed with key \"backup\", which is not among the backup keys (they are: other)",
        ),
        ("backup", "another key has this id now"),
    ] {
        std::fs::write(&keys, line(id)).unwrap();
        let (_, why) = bed.gatewayzen(&verify).await.unwrap_err();
        assert!(why.contains(expected), "{why}");
    }
    std::fs::write(&keys, bed.sealing_keys().replacen("test:", "mine:", 1)).unwrap();
    let (code, why) = bed.gatewayzen(&verify).await.unwrap_err();
    assert!(
        code == 64 && why.contains("the backup key \"mine\" is the sealing key \"test\""),
        "{why}"
    );
    std::fs::write(&keys, right).unwrap();
    let other = Database::new().await;
    let environment = [
        bed.environment.clone(),
        vec![(
            "GATEWAYZEN_POSTGRES__URL".to_owned(),
            other.url("gatewayzen_operator"),
        )],
    ]
    .concat();
    let config = bed.config.to_str().unwrap();
    let done = run(
        "gatewayzen",
        &["--config", config, "secrets", "verify-backup", path],
        &environment,
    )
    .await;
    let why = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(
        why.contains("this is the backup of fleet") && done.status.code() == Some(1),
        "{why}"
    );
    assert_eq!(recorded("spoilt").await, Vec::<i64>::new());
}

/// Runs the command with a terminal as its standard output, as an operator.
async fn on_a_terminal(bed: &Bed, arguments: &str) -> (Option<i32>, String) {
    let program = binary("gatewayzen");
    let command = format!(
        "{} --config {} {arguments}",
        program.display(),
        bed.config.display()
    );
    let done = tokio::process::Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .envs(bed.environment.clone())
        .env(
            "GATEWAYZEN_POSTGRES__URL",
            bed.database.url("gatewayzen_operator"),
        )
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    (
        done.status.code(),
        String::from_utf8_lossy(&done.stdout).into_owned(),
    )
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revealing_is_an_act() {
    let bed = Bed::new(Options::default()).await;
    let services = bed.start_all();
    let id = live(&bed, &names("acme", 1)).await[0];
    drop(services);
    sqlx::query("INSERT INTO gatewayds (name) VALUES ('empty')")
        .execute(&bed.database.app)
        .await
        .unwrap();
    let address = bed.row(id).await.ripple_address.unwrap();
    let audit =
        "SELECT count(*) || coalesce(max(action || ' by ' || person || ': ' || reason), '') FROM audit";
    let file = folder(&bed).join("seed");
    let path = file.to_str().unwrap();
    let wallet = [
        "secrets",
        "reveal",
        "acme-0",
        "wallet",
        "--reason",
        "moving funds",
        "--person",
        "ann",
    ];
    let to_file = [&wallet[..], &["--to", path]].concat();

    // A pipe, a file that exists: refused before anything is on record.
    let (code, why) = bed.gatewayzen(&wallet).await.unwrap_err();
    assert!(code == 1 && why.contains("shown on a terminal only"), "{why}");
    std::fs::write(&file, "mine").unwrap();
    let (code, why) = bed.gatewayzen(&to_file).await.unwrap_err();
    assert!(
        code == 1 && why.contains("exists and is not overwritten"),
        "{why}"
    );
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
    std::fs::remove_file(&file).unwrap();
    let no_reason = [
        "secrets", "reveal", "acme-0", "wallet", "--to", path, "--reason", " ",
    ];
    let (code, why) = bed.gatewayzen(&no_reason).await.unwrap_err();
    assert!(code == 1 && why.contains("the audit wants a reason"), "{why}");
    for (name, expected) in [
        ("nobody", "there is no gatewayd \"nobody\""),
        ("empty", "\"empty\" has no cold wallet yet"),
    ] {
        let arguments = ["secrets", "reveal", name, "wallet", "--to", path, "--reason", "x"];
        let (code, why) = bed.gatewayzen(&arguments).await.unwrap_err();
        assert!(code == 1 && why.contains(expected), "{why}");
    }
    assert!(!file.exists(), "what was refused leaves no file");
    assert_eq!(bed.database.text(audit).await, "0");

    bed.gatewayzen(&to_file).await.unwrap();
    assert_eq!(mode(&file), 0o600);
    let seed = std::fs::read_to_string(&file).unwrap();
    assert_eq!(Wallet::from_seed(seed.trim()).unwrap().address(), address);
    assert_eq!(
        bed.database.text(audit).await,
        "1reveal-wallet by ann: moving funds"
    );

    let (code, shown) = on_a_terminal(
        &bed,
        "secrets reveal acme-0 api-key --reason debugging --person bob",
    )
    .await;
    let sealed: Vec<u8> = sqlx::query_scalar("SELECT sealed FROM api_keys")
        .fetch_one(&bed.database.admin)
        .await
        .unwrap();
    let keys = KeyRing::parse(&bed.sealing_keys()).unwrap();
    let key = keys.open(Place::api_key(&id.to_string()), &sealed).unwrap();
    assert!(
        code == Some(0) && shown.contains(key.expose_str().unwrap()),
        "{code:?} {shown}"
    );
    assert!(bed.database.text(audit).await.starts_with('2'));
}

/// Whatever a login of an operator does by SQL, it gets nothing sealed but for an act that is on record for good.
#[tokio::test]
async fn no_record_no_secret() {
    let database = Database::new().await;
    let operator = sqlx::postgres::PgPoolOptions::new()
        .max_connections(1)
        .connect(&database.url("gatewayzen_operator"))
        .await
        .unwrap();
    let refused = async |sql: &'static str| {
        let error = sqlx::raw_sql(sql)
            .execute(&operator)
            .await
            .unwrap_err()
            .to_string();
        sqlx::raw_sql("ROLLBACK").execute(&operator).await.unwrap();
        error
    };
    for sql in [
        "SELECT * FROM sealed_batch(1, 'api_keys', NULL, NULL, 1)",
        "SELECT * FROM secret_to_reveal(1)",
        "SELECT reseal(1, 'api_keys', 'k', '{}', '{}', '{}')",
        "BEGIN; SELECT * FROM sealed_batch(declare_secret_act('check-secrets', NULL, 'me', 'x', NULL), 'api_keys', NULL, NULL, 1)",
        "BEGIN; SAVEPOINT a; SELECT declare_secret_act('check-secrets', NULL, 'me', 'x', NULL); RELEASE a;
         SELECT * FROM sealed_batch((SELECT max(id) FROM audit), 'api_keys', NULL, NULL, 1)",
    ] {
        let error = refused(sql).await;
        assert!(
            error.contains("given for an act that is on record"),
            "{sql}: {error}"
        );
    }
    for (sql, expected) in [
        ("SELECT sealed FROM api_keys", "permission denied"),
        ("SELECT sealed FROM wallet_seeds", "permission denied"),
        ("SELECT sealed FROM resealed", "permission denied"),
        (
            "SELECT sealed_user_data FROM launch_attempts",
            "permission denied",
        ),
        ("DELETE FROM audit", "permission denied"),
        (
            "SELECT secret_act_on_record(1, '{}', '1 day')",
            "permission denied",
        ),
        (
            "SELECT declare_secret_act('reading', NULL, 'me', 'x', NULL)",
            "is no act with secrets",
        ),
    ] {
        let error = refused(sql).await;
        assert!(error.contains(expected), "{sql}: {error}");
    }
    // On record and committed, it is given; to nobody else, and not for another purpose.
    let act: i64 = sqlx::query_scalar("SELECT declare_secret_act('check-secrets', NULL, 'me', 'x', NULL)")
        .fetch_one(&operator)
        .await
        .unwrap();
    let batch = "SELECT count(*) FROM sealed_batch($1, 'api_keys', NULL, NULL, 1)";
    let rows: i64 = sqlx::query_scalar(batch)
        .bind(act)
        .fetch_one(&operator)
        .await
        .unwrap();
    assert_eq!(rows, 0);
    let admin = sqlx::query(batch).bind(act).execute(&database.admin).await;
    assert!(admin.unwrap_err().to_string().contains("on record"));
    let error = sqlx::query("SELECT reseal($1, 'api_keys', 'k', '{}', '{}', '{}')")
        .bind(act)
        .execute(&operator)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("on record"));
    for role in ["gatewayzen_app", "gatewayzen_service", "gatewayzen_wallet_worker"] {
        let pool = sqlx::postgres::PgPoolOptions::new()
            .connect_lazy(&database.url(role))
            .unwrap();
        let call = "SELECT declare_secret_act('check-secrets', NULL, 'me', 'x', NULL)";
        let error = sqlx::query(call).execute(&pool).await.unwrap_err().to_string();
        assert!(error.contains("permission denied"), "{role}: {error}");
    }
}
