//! Postgres grants what the tables say, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use integration_tests::harness::Database;
use sqlx::AssertSqlSafe;

use crate::fixtures::pool;
use crate::tables::{CALLERS, LOGINS, READERS, WRITERS, logins};

const RELATIONS: &str = "FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped,
  unnest($1::text[]) AS role WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f')";

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
