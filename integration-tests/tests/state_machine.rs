//! The state machine stands in three places: Rust, Postgres and the README. They are one.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "tests"
)]

use std::collections::BTreeSet;

use gatewayzen_core::State;
use gatewayzen_core::repository::Halt;
use gatewayzen_core::state::Mover;
use integration_tests::harness::Database;

type Moves = BTreeSet<(String, String, &'static str)>;

fn moves_of_the_enum() -> Moves {
    let mut moves = Moves::new();
    for from in State::ALL {
        for to in State::ALL {
            if let Some(mover) = from.mover(to) {
                let by = match mover {
                    Mover::External => "external",
                    Mover::Worker => "worker",
                };
                moves.insert((from.to_string(), to.to_string(), by));
            }
        }
    }
    moves
}

/// The README's diagram: a line `from --> to` is a move, `: by its worker` says whose; a move of any state to
/// `terminate` is told in words below it, so the diagram leaves those out.
fn moves_of_the_readme() -> Moves {
    let readme = include_str!("../../README.md");
    let diagram = readme
        .split("```mermaid")
        .nth(1)
        .expect("a diagram")
        .split("```")
        .next()
        .unwrap();
    let mut moves = Moves::new();
    for line in diagram.lines().map(str::trim) {
        let Some((from, rest)) = line.split_once("-->") else {
            continue;
        };
        let (to, by) = rest.split_once(':').expect("who makes the move");
        let by = match by.trim() {
            "your write" => "external",
            step if State::ALL
                .iter()
                .any(|s| s.step().is_some_and(|s| s.queue() == step)) =>
            {
                "worker"
            }
            other => panic!("`{other}` is neither `your write` nor a step"),
        };
        moves.insert((from.trim().to_owned(), to.trim().to_owned(), by));
    }
    for from in State::ALL {
        if !matches!(from, State::Terminate | State::Terminated) {
            moves.insert((from.to_string(), "terminate".into(), "external"));
        }
    }
    moves
}

#[tokio::test]
async fn the_table_the_enum_and_the_diagram_are_one() {
    let database = Database::new().await;
    let repository = database.repository("gatewayzen_service");
    let table: Moves = repository
        .transitions()
        .await
        .unwrap()
        .into_iter()
        .map(|(from, to, by)| (from, to, if by == "worker" { "worker" } else { "external" }))
        .collect();
    assert_eq!(moves_of_the_enum(), table, "the enum and the table differ");
    assert_eq!(
        moves_of_the_enum(),
        moves_of_the_readme(),
        "the enum and the README differ"
    );

    let states: Vec<_> = State::ALL
        .iter()
        .map(|s| {
            let step = s.step();
            (
                s.to_string(),
                step.map(|s| s.queue().to_owned()),
                step.map(|s| s.worker().to_owned()),
            )
        })
        .collect();
    assert_eq!(states, repository.states().await.unwrap());
}

#[tokio::test]
async fn what_a_halted_fleet_still_does_is_the_same_here_and_there() {
    let database = Database::new().await;
    for state in State::ALL {
        let works: bool = sqlx::query_scalar("SELECT works_while_halted($1)")
            .bind(state.name())
            .fetch_one(&database.admin)
            .await
            .unwrap();
        assert_eq!(works, Halt::lets_work(state), "{state}");
    }
}
