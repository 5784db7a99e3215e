//! Who may do what in Postgres: each role logs in and tries what it must not do. What a role may do stands in the tables here,
//! so that a new table, column or function that is on none of them fails a test.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "tests"
)]

use std::collections::{BTreeMap, BTreeSet};

use gatewayzen_core::State;
use gatewayzen_core::repository::{Lease, LeaseCheck, Verdict};
use integration_tests::harness::Database;
use sqlx::{AssertSqlSafe, PgPool};

/// The roles that log in, in the words of the tables below. Each worker is a member of `service`.
const LOGINS: [(&str, &str); 6] = [
    ("app", "gatewayzen_app"),
    ("operator", "gatewayzen_operator"),
    ("service", "gatewayzen_service"),
    ("instance", "gatewayzen_instance_worker"),
    ("ssh", "gatewayzen_ssh_worker"),
    ("wallet", "gatewayzen_wallet_worker"),
];
const WORKERS: [&str; 3] = ["instance", "ssh", "wallet"];

/// Who reads a table; where a column is named, who reads that one.
const READERS: [(&str, &str); 27] = [
    ("_sqlx_migrations", "app operator service"),
    ("states", "app operator service"),
    ("transitions", "app operator service"),
    ("fleet", "app operator service"),
    ("fleet_halts", "app operator service"),
    ("gatewayds", "app operator service"),
    ("gatewayd_history", "app operator service"),
    ("launch_attempts", "operator service"),
    ("launch_attempts.sealed_user_data", "instance"),
    ("launch_attempts.pending_host_key", "operator instance ssh"),
    ("launch_attempts.expected_host_key", "operator instance ssh"),
    ("launch_attempts.host_key_replaced_at", "operator instance ssh"),
    ("launch_attempts.launch_key_erased_at", "operator instance ssh"),
    ("ssh_logins", "operator ssh"),
    ("ssh_key_runs", "operator ssh"),
    ("wallets", "operator service"),
    ("wallet_seeds", "wallet"),
    ("wallet_backups", "operator service"),
    ("host_backups", "operator service"),
    ("decommission_policy", "app operator service"),
    ("api_keys", "wallet"),
    ("resealed", ""),
    ("audit", "operator"),
    ("sweeps", "operator"),
    ("orphans", "operator"),
    ("missed_machines", "operator"),
    ("restores", "operator"),
];

/// What is written past the functions: the front door, and nothing else.
const WRITERS: [(&str, &str, &str); 4] = [
    (
        "INSERT",
        "name state release ami instance_type owner_id changed_why traceparent",
        "app operator",
    ),
    (
        "UPDATE",
        "state release ami instance_type owner_id changed_why traceparent",
        "app operator",
    ),
    ("UPDATE", "hold", "operator"),
    ("DELETE", "", "app operator"),
];

/// Who calls a function. One that is not here is called by nobody who logs in.
const CALLERS: [(&str, &str); 55] = [
    ("new_traceparent", "app operator"),
    ("gatewayds_begin_again", "app operator"),
    ("fleet_is_halted", "operator service"),
    ("works_while_halted", "operator service"),
    ("halt_fleet", "operator"),
    ("resume_fleet", "operator"),
    ("ask_sweep", "operator"),
    ("withdraw_sweep", "operator"),
    ("declare_restored", "operator"),
    ("record_wallet_backup", "operator wallet"),
    ("declare_secret_act", "operator"),
    ("secret_to_reveal", "operator"),
    ("sealed_batch", "operator"),
    ("sealed_counts", "operator"),
    ("reseal", "operator"),
    ("record_host_backup", "ssh"),
    ("allow_termination", "operator"),
    ("terminate_without_backup", "operator"),
    ("set_decommission_policy", "operator"),
    ("claim_due", "service"),
    ("park_overdue", "service"),
    ("check_fault_budget", "service"),
    ("ask_sweep_on_period", "service"),
    ("take_lease", "service"),
    ("renew_lease", "service"),
    ("record_facts", "service"),
    ("finish_step", "service"),
    ("open_launch_attempt", "instance"),
    ("resolve_launch_attempt", "instance"),
    ("end_launch_attempt", "instance"),
    ("claim_sweep", "instance"),
    ("renew_sweep", "instance"),
    ("finish_sweep", "instance"),
    ("compare_machines", "instance"),
    ("end_orphan", "instance"),
    ("rows_without_machine", "instance"),
    ("miss_machines", "instance"),
    ("park_gone", "instance"),
    ("keep_api_key", "ssh"),
    ("keep_wallet", "wallet"),
    ("fleet_figures", "service"),
    ("ask_ssh_key_run", "operator"),
    ("withdraw_ssh_key_run", "operator"),
    ("reset_identity", "operator"),
    ("keep_pending_host_key", "ssh"),
    ("promote_host_key", "ssh"),
    ("forget_launch_key", "ssh"),
    ("pin_host_key", "ssh"),
    ("record_ssh_login", "ssh"),
    ("lease_for_ssh_key", "ssh"),
    ("release_from_ssh_key", "ssh"),
    ("claim_ssh_key_run", "ssh"),
    ("begin_ssh_key_run", "ssh"),
    ("renew_ssh_key_run", "ssh"),
    ("finish_ssh_key_run", "ssh"),
];

/// The logins of one of the tables' words.
fn logins(words: &str) -> BTreeSet<String> {
    let mut all: BTreeSet<String> = words.split_whitespace().map(str::to_owned).collect();
    if all.contains("service") {
        all.extend(WORKERS.map(str::to_owned));
    }
    all
}

fn pool(database: &Database, role: &str) -> PgPool {
    PgPool::connect_lazy(&database.url(role)).unwrap()
}

/// Pairs of an object and a login, by object.
fn by_object(rows: Vec<(String, String)>) -> BTreeMap<String, BTreeSet<String>> {
    let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (object, role) in rows {
        let (word, _) = LOGINS.iter().find(|(_, name)| *name == role).unwrap();
        all.entry(object).or_default().insert((*word).to_owned());
    }
    all
}

fn role_names() -> Vec<&'static str> {
    LOGINS.map(|(_, name)| name).to_vec()
}

const RELATIONS: &str = "FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped,
  unnest($1::text[]) AS role WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f')";

#[tokio::test]
async fn each_column_is_read_by_those_on_the_list_and_by_nobody_else() {
    let database = Database::new().await;
    let sql = format!(
        "SELECT c.relname || '.' || a.attname, role {RELATIONS} AND has_column_privilege(role, c.oid, a.attnum, 'SELECT')"
    );
    let rows = sqlx::query_as(AssertSqlSafe(sql)).bind(role_names());
    let found = by_object(rows.fetch_all(&database.admin).await.unwrap());
    let sql = format!("SELECT DISTINCT c.relname || '.' || a.attname {RELATIONS}");
    let columns = sqlx::query_scalar(AssertSqlSafe(sql)).bind(role_names());
    let columns: Vec<String> = columns.fetch_all(&database.admin).await.unwrap();
    assert!(columns.len() > 100, "{columns:?}");
    let listed: BTreeMap<&str, &str> = READERS.into_iter().collect();
    let mut wrong = Vec::new();
    for column in columns {
        let table = column.split_once('.').unwrap().0;
        let wanted = listed.get(column.as_str()).or_else(|| listed.get(table));
        let wanted = logins(wanted.unwrap_or(&""));
        let found = found.get(&column).cloned().unwrap_or_default();
        if found != wanted {
            wrong.push(format!(
                "{column} is read by {found:?}, and should be by {wanted:?}"
            ));
        }
    }
    assert_eq!(wrong, [""; 0]);
    // The sequences of identity columns need no right, and nobody has one.
    let sequences = "SELECT c.relname::text, role FROM pg_class c, unnest($1::text[]) AS role
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'S' AND has_sequence_privilege(role, c.oid, 'USAGE, SELECT, UPDATE')";
    let found: Vec<(String, String)> = sqlx::query_as(sequences)
        .bind(role_names())
        .fetch_all(&database.admin)
        .await
        .unwrap();
    assert_eq!(found, []);
}

#[tokio::test]
async fn only_the_front_door_is_written_past_the_functions() {
    let database = Database::new().await;
    let sql = format!(
        "SELECT DISTINCT right_name || ' ' || c.relname || CASE WHEN right_name IN ('INSERT', 'UPDATE', 'REFERENCES') THEN '.' || a.attname ELSE '' END, role
         FROM unnest(ARRAY['INSERT', 'UPDATE', 'REFERENCES', 'DELETE', 'TRUNCATE', 'TRIGGER']) AS right_name, LATERAL (SELECT) x, {}
           AND CASE WHEN right_name IN ('INSERT', 'UPDATE', 'REFERENCES')
                    THEN has_column_privilege(role, c.oid, a.attnum, right_name) ELSE has_table_privilege(role, c.oid, right_name) END",
        RELATIONS.trim_start_matches("FROM ")
    );
    let rows = sqlx::query_as(AssertSqlSafe(sql)).bind(role_names());
    let found = by_object(rows.fetch_all(&database.admin).await.unwrap());
    let mut wanted: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (right, columns, who) in WRITERS {
        if columns.is_empty() {
            wanted.insert(format!("{right} gatewayds"), logins(who));
        }
        for column in columns.split_whitespace() {
            wanted.insert(format!("{right} gatewayds.{column}"), logins(who));
        }
    }
    assert_eq!(found, wanted);
}

#[tokio::test]
async fn each_function_is_called_by_those_on_the_list_and_by_nobody_else() {
    let database = Database::new().await;
    // With the call that is tried below: NULL for every argument.
    let functions: Vec<(String, String, bool)> = sqlx::query_as(
        "SELECT p.proname::text,
                format('SELECT %s(%s)', p.proname, (SELECT string_agg(format('NULL::%s', format_type(t, NULL)), ', ') FROM unnest(p.proargtypes) t)),
                EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a WHERE a.grantee = 0)
         FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace",
    )
    .fetch_all(&database.admin)
    .await
    .unwrap();
    let may = "SELECT p.proname::text, role FROM pg_proc p, unnest($1::text[]) AS role
        WHERE p.pronamespace = 'public'::regnamespace AND has_function_privilege(role, p.oid, 'EXECUTE')";
    let rows = sqlx::query_as(may).bind(role_names());
    let found = by_object(rows.fetch_all(&database.admin).await.unwrap());
    let listed: BTreeMap<&str, &str> = CALLERS.into_iter().collect();
    assert!(functions.len() >= CALLERS.len());
    let mut wrong = Vec::new();
    for (name, _, everybody) in &functions {
        let wanted = logins(listed.get(name.as_str()).unwrap_or(&""));
        let found = found.get(name).cloned().unwrap_or_default();
        if *everybody || found != wanted {
            wrong.push(format!(
                "{name} is called by {found:?} (everybody: {everybody}), and should be by {wanted:?}"
            ));
        }
    }
    assert_eq!(wrong, [""; 0]);
    for (name, _) in CALLERS {
        assert!(
            functions.iter().any(|(there, ..)| there == name),
            "there is no function {name}"
        );
    }
    for (word, role) in LOGINS {
        let login = pool(&database, role);
        for (name, call, _) in &functions {
            if !logins(listed.get(name.as_str()).unwrap_or(&"")).contains(word) {
                let refused = sqlx::query(AssertSqlSafe(call.clone())).execute(&login).await;
                let refused = refused.expect_err(&format!("{role} may: {call}")).to_string();
                assert!(
                    refused.contains("permission denied for function"),
                    "{role}: {call}: {refused}"
                );
            }
        }
    }
}

/// One row with a wallet, an API key and a launch, and its lease.
async fn full_row(database: &Database) -> Lease {
    database
        .write("INSERT INTO gatewayds (name, state) VALUES ('acme', 'instance')")
        .await;
    let service = database.repository("gatewayzen_service");
    let id = service.gatewayd_named("acme").await.unwrap().unwrap().id;
    let lease = std::time::Duration::from_secs(600);
    let Verdict::Taken(lease) = service
        .take_lease(id, State::Instance, None, "test", lease, 9)
        .await
        .unwrap()
    else {
        panic!("not taken");
    };
    let instance = database.repository("gatewayzen_instance_worker");
    let (attempt, hour) = (uuid::Uuid::new_v4(), std::time::Duration::from_secs(3600));
    instance
        .open_launch_attempt(
            &lease,
            attempt,
            "token",
            &serde_json::json!({}),
            b"sealed",
            "key",
            hour,
            9,
        )
        .await
        .unwrap();
    let kept = database.repository("gatewayzen_ssh_worker");
    assert_eq!(
        kept.keep_api_key(&lease, b"sealed").await.unwrap(),
        LeaseCheck::Held
    );
    let kept = database.repository("gatewayzen_wallet_worker");
    let wallet = kept.keep_wallet(&lease, WALLET, "ed25519", b"sealed").await;
    assert_eq!(wallet.unwrap(), LeaseCheck::Held);
    lease
}

const WALLET: &str = "rHb9CJAWyB4rj91VRWn96DkukG4bwdtyTh";
const OTHER: &str = "rrrrrrrrrrrrrrrrrrrrBZbvji";

/// What no login may do, whatever it is.
const FORBIDDEN: [&str; 37] = [
    // To be somebody else.
    "SET ROLE gatewayzen_engine",
    "SET ROLE gatewayzen_migrator",
    "SET SESSION AUTHORIZATION postgres",
    "GRANT gatewayzen_engine TO CURRENT_USER",
    "ALTER ROLE CURRENT_USER SUPERUSER",
    "CREATE ROLE mallory",
    // To switch the guards off.
    "ALTER TABLE gatewayds DISABLE TRIGGER USER",
    "ALTER TABLE wallets DISABLE TRIGGER ALL",
    "ALTER TABLE wallet_seeds DISABLE TRIGGER wallets_stay",
    "ALTER TABLE audit DISABLE TRIGGER only_added_to",
    "SET session_replication_role = replica",
    "DROP TRIGGER wallets_stay ON wallets",
    "CREATE TRIGGER mine BEFORE INSERT ON wallets FOR EACH ROW EXECUTE FUNCTION refuse_change()",
    "CREATE RULE mine AS ON INSERT TO wallet_seeds DO INSTEAD NOTHING",
    "CREATE OR REPLACE FUNCTION may_act(p_unknown text[]) RETURNS text LANGUAGE sql AS 'SELECT NULL'",
    "ALTER FUNCTION keep_wallet SECURITY INVOKER",
    "CREATE TABLE mine (x int)",
    "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "DROP TABLE wallet_seeds CASCADE",
    "ALTER TABLE wallets RENAME TO lost",
    // To overwrite or delete what must stay.
    "DELETE FROM wallets",
    "DELETE FROM wallet_seeds",
    "UPDATE wallets SET address = 'rrrrrrrrrrrrrrrrrrrrBZbvji'",
    "UPDATE wallet_seeds SET sealed = ''",
    "TRUNCATE wallets CASCADE",
    "TRUNCATE wallet_seeds",
    "LOCK TABLE wallets IN ACCESS EXCLUSIVE MODE",
    "INSERT INTO wallet_seeds (gatewayd_id, version, sealed) VALUES (1, 2, '')",
    "INSERT INTO wallet_backups (gatewayd_id, address, place, digest) SELECT 1, 'x', 'x', repeat('0', 64)",
    "INSERT INTO audit (action, reason) VALUES ('nothing', 'I was never here')",
    "UPDATE audit SET reason = 'other'",
    "DELETE FROM gatewayd_history",
    "TRUNCATE gatewayds CASCADE",
    "UPDATE gatewayds SET ripple_address = 'rrrrrrrrrrrrrrrrrrrrBZbvji'",
    "DELETE FROM launch_attempts",
    "UPDATE api_keys SET sealed = ''",
    // To read files of the server, where everything lies.
    "SELECT pg_read_file('postgresql.conf')",
];

#[tokio::test]
async fn every_login_is_refused_what_no_login_may_do() {
    let database = Database::new().await;
    full_row(&database).await;
    for (_, role) in LOGINS {
        let login = pool(&database, role);
        for sql in FORBIDDEN {
            let mut transaction = login.begin().await.unwrap();
            let refused = sqlx::query(sql).execute(&mut *transaction).await;
            let refused = refused.expect_err(&format!("{role} may: {sql}")).to_string();
            assert!(
                ["permission denied", "must be ", "must have "]
                    .iter()
                    .any(|words| refused.contains(words)),
                "{role}: {sql}: {refused}"
            );
        }
    }
    let whole = "SELECT w.address || ' ' || s.version || ' ' || encode(s.sealed, 'escape') FROM wallets w JOIN wallet_seeds s USING (gatewayd_id)";
    assert_eq!(database.text(whole).await, format!("{WALLET} 1 sealed"));
}

#[tokio::test]
async fn a_secret_is_read_by_the_worker_that_needs_it_and_by_nobody_else() {
    let database = Database::new().await;
    full_row(&database).await;
    for (sql, reader) in [
        ("SELECT sealed FROM wallet_seeds", "wallet"),
        ("SELECT count(*), max(sealed::text) FROM wallet_seeds", "wallet"),
        ("SELECT sealed FROM api_keys", "wallet"),
        ("SELECT sealed_user_data FROM launch_attempts", "instance"),
        ("SELECT to_jsonb(a)::text FROM launch_attempts a", "instance"),
        ("SELECT row_to_json(s)::text FROM wallet_seeds s", "wallet"),
        ("CREATE TEMP TABLE mine AS SELECT * FROM api_keys", "wallet"),
    ] {
        for (word, role) in LOGINS {
            let read = sqlx::query(sql).execute(&pool(&database, role)).await;
            match read {
                Ok(_) => assert_eq!(word, reader, "{role} may: {sql}"),
                Err(error) => {
                    assert_ne!(word, reader, "{sql}: {error}");
                    assert!(error.to_string().contains("permission denied"), "{sql}: {error}");
                }
            }
        }
    }
}

#[tokio::test]
async fn no_path_deletes_or_overwrites_a_wallet() {
    let database = Database::new().await;
    let lease = full_row(&database).await;
    // The functions run as the engine: what it may do is all that any of them can.
    for (table, rights) in [
        ("wallets", "UPDATE, DELETE, TRUNCATE"),
        ("wallet_seeds", "UPDATE, DELETE, TRUNCATE"),
    ] {
        let may: bool = sqlx::query_scalar(
            "SELECT has_table_privilege('gatewayzen_engine', $1, $2) OR has_any_column_privilege('gatewayzen_engine', $1, 'UPDATE')",
        )
        .bind(table)
        .bind(rights)
        .fetch_one(&database.admin)
        .await
        .unwrap();
        assert!(!may, "the engine may change {table}");
    }
    // The one function that keeps a wallet keeps no second one.
    let wallet = database.repository("gatewayzen_wallet_worker");
    wallet
        .keep_wallet(&lease, OTHER, "ed25519", b"other")
        .await
        .unwrap();
    let kept = wallet.wallet(lease.id).await.unwrap().unwrap();
    assert_eq!(
        (kept.address.as_str(), kept.sealed.as_slice()),
        (WALLET, b"sealed".as_slice())
    );
    // A row that has lived takes its wallet nowhere; and the owner of the tables and the superuser meet the guards too.
    let deleted = sqlx::query("DELETE FROM gatewayds").execute(&database.app).await;
    assert!(deleted.unwrap_err().to_string().contains("cannot be deleted"));
    let migrator = pool(&database, "gatewayzen_migrator");
    for login in [&migrator, &database.admin] {
        for sql in [
            "DELETE FROM wallets",
            "DELETE FROM wallet_seeds",
            "UPDATE wallets SET address = address",
            "UPDATE wallet_seeds SET sealed = ''",
            "TRUNCATE wallets CASCADE",
            "INSERT INTO wallets (gatewayd_id, address, key_type) SELECT gatewayd_id, address, key_type FROM wallets
               ON CONFLICT (gatewayd_id) DO UPDATE SET address = 'rrrrrrrrrrrrrrrrrrrrBZbvji'",
        ] {
            let error = sqlx::query(sql).execute(login).await.unwrap_err().to_string();
            assert!(
                error.contains("a wallet is never changed and never deleted"),
                "{sql}: {error}"
            );
        }
    }
}
