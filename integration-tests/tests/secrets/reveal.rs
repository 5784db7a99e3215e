//! A look at a secret is an act on record, and there is no way round the record.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;

use gatewayzen_core::seal::{KeyRing, Place};
use gatewayzen_core::wallet::Wallet;
use integration_tests::harness::{Bed, Database, Options, binary};

use crate::fixtures::{folder, live, names};

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
