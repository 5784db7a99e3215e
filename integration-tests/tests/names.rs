//! What an external writer chooses gets into the database only where it is safe for a shell, a file name, a tag of EC2 and a
//! terminal: any text is tried, and above all those that are nearly right.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "tests"
)]

use integration_tests::harness::Database;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

const COLUMNS: [&str; 5] = ["name", "release", "ami", "instance_type", "owner_id"];

/// What may stand in a column, said once more and otherwise than in the migration.
fn is_safe(column: &str, text: &str) -> bool {
    let all = |more: &str| {
        text.chars()
            .all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    let lower = !text.contains(|c: char| c.is_ascii_uppercase());
    let begins = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    match column {
        "name" => (1..=63).contains(&text.len()) && all("-") && lower && begins && !text.ends_with('-'),
        "release" => (1..=100).contains(&text.len()) && all("._+-") && begins,
        "owner_id" => (1..=200).contains(&text.len()) && all("._:@-") && begins,
        "ami" => text.strip_prefix("ami-").is_some_and(|hex| {
            (8..=17).contains(&hex.len()) && lower && hex.chars().all(|c| c.is_ascii_hexdigit())
        }),
        "instance_type" => text.split_once('.').is_some_and(|(family, size)| {
            let part = |part: &str| {
                (1..=30).contains(&part.len())
                    && part
                        .chars()
                        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
            };
            part(family) && part(size)
        }),
        other => panic!("no column {other}"),
    }
}

fn text() -> impl Strategy<Value = String> {
    let nearly = "[a-zA-Z0-9._+:@-]{0,70}";
    let odd = prop::sample::select(vec![
        "'",
        "\"",
        "$(id)",
        "`id`",
        ";",
        "\n",
        "\r",
        "\t",
        " ",
        "/",
        "..",
        "\\",
        "%",
        "é",
        "\u{202e}",
        "\u{1b}[31m",
        "\u{7f}",
        "-n",
        "|",
        "&",
    ]);
    prop_oneof![
        // Postgres keeps no NUL in a text.
        any::<String>().prop_map(|text| text.replace('\0', "")),
        nearly,
        "ami-[0-9a-fA-F]{6,19}",
        "[a-z0-9-]{0,32}\\.[a-z0-9-]{0,32}",
        (nearly, odd, nearly).prop_map(|(before, odd, after)| format!("{before}{odd}{after}")),
        "[a-z]{60,70}",
        "[a-zA-Z0-9._+-]{95,210}",
    ]
}

#[test]
fn what_a_writer_chooses_is_taken_exactly_where_it_is_safe() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let database = runtime.block_on(Database::new());
    let usual = ProptestConfig::default();
    // Each is a transaction; five columns take turns.
    let cases = (usual.cases / 4).max(500);
    let taken = std::cell::Cell::new(0);
    TestRunner::new(ProptestConfig { cases, ..usual })
        .run(
            &(prop::sample::select(COLUMNS.to_vec()), text()),
            |(column, text)| {
                let written = runtime.block_on(async {
                    let mut tx = database.app.begin().await.unwrap();
                    let insert = match column {
                        "name" => "INSERT INTO gatewayds (name) VALUES ($1)",
                        "release" => "INSERT INTO gatewayds (name, release) VALUES ('x', $1)",
                        "ami" => "INSERT INTO gatewayds (name, ami) VALUES ('x', $1)",
                        "instance_type" => "INSERT INTO gatewayds (name, instance_type) VALUES ('x', $1)",
                        _ => "INSERT INTO gatewayds (name, owner_id) VALUES ('x', $1)",
                    };
                    let written = sqlx::query(insert).bind(&text).execute(&mut *tx).await;
                    tx.rollback().await.unwrap();
                    written
                });
                taken.set(taken.get() + usize::from(written.is_ok()));
                prop_assert_eq!(
                    written.is_ok(),
                    is_safe(column, &text),
                    "{} {:?}: {:?}",
                    column,
                    text,
                    written
                );
                Ok(())
            },
        )
        .unwrap();
    assert!(
        taken.get() > 20,
        "only {} were taken: hardly anything was nearly right",
        taken.get()
    );
    runtime.block_on(async { drop(database) });
}
