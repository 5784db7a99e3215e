//! An illegal write is refused by Postgres, not by a convention.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use gatewayzen_core::State;
use integration_tests::simulated_fleet::{Config, Event};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;

use crate::witness::{count, nothing_is_broken};
use crate::workers::{bed, new_row, walk_round};

/// Every move that no external write may make, onto every row, again and again; how many were refused.
async fn attack(pool: &PgPool, refused: &AtomicUsize) {
    loop {
        for from in State::ALL {
            for to in State::ALL
                .into_iter()
                .filter(|to| *to != from && !from.external_moves().contains(to))
            {
                let mut tx = pool.begin().await.unwrap();
                // The row is looked at and held in the state for which this move is illegal.
                let rows: Vec<i64> =
                    sqlx::query_scalar("SELECT id FROM gatewayds WHERE state = $1 FOR UPDATE SKIP LOCKED")
                        .bind(from.name())
                        .fetch_all(&mut *tx)
                        .await
                        .unwrap();
                if rows.is_empty() {
                    continue;
                }
                let written = sqlx::query("UPDATE gatewayds SET state = $2 WHERE id = ANY ($1)")
                    .bind(&rows)
                    .bind(to.name())
                    .execute(&mut *tx)
                    .await;
                let error = written.expect_err("an illegal move was taken");
                let text = error.to_string();
                let says = format!("is in state \"{from}\" and cannot be moved to \"{to}\"");
                assert!(text.contains(&says), "{text}");
                refused.fetch_add(1, Ordering::Relaxed);
            }
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_illegal_write_is_refused_by_postgres() {
    let bed = bed(Config::default(), "").await;
    let _services = bed.start_all();
    let mut rows = Vec::new();
    for n in 0..8 {
        rows.push(new_row(&bed, &format!("row-{n}")).await);
    }
    let refused = [(); 3].map(|()| AtomicUsize::new(0));
    let operator = PgPoolOptions::new()
        .connect_lazy(&bed.database.url("gatewayzen_operator"))
        .unwrap();
    let attacks = join_all([
        attack(&bed.database.app, &refused[0]),
        attack(&operator, &refused[1]),
        // Nor may the superuser by a plain write.
        attack(&bed.database.admin, &refused[2]),
    ]);
    let service = PgPoolOptions::new()
        .connect_lazy(&bed.database.url("gatewayzen_service"))
        .unwrap();
    tokio::select! {
        _ = attacks => unreachable!("attacks have no end"),
        _ = join_all(rows.iter().map(|id| walk_round(&bed, *id))) => {}
    }
    // The role of the workers has no write of its own at all.
    let plain = sqlx::query("UPDATE gatewayds SET state = 'terminate'")
        .execute(&service)
        .await;
    assert!(plain.unwrap_err().to_string().contains("permission denied"));
    let refused = refused.map(AtomicUsize::into_inner);
    println!("refused: {refused:?}");
    assert!(refused.iter().all(|refused| *refused > 20), "{refused:?}");
    nothing_is_broken(&bed).await;
    for id in rows {
        assert_eq!(
            count(&bed, id, |event| matches!(event, Event::Launched { .. })),
            2,
            "row {id}"
        );
    }
}
