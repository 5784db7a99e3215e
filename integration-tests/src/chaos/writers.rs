//! External applications, as the role gatewayzen_app: legal moves, illegal ones, stale ones, and several at once.

use std::sync::Arc;
use std::time::Duration;

use gatewayzen_core::State;
use sqlx::PgPool;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::world::{FIRST_RELEASE, NEW_RELEASE, World};

/// How long a write may take: Postgres may be silent just now.
pub(super) const PATIENCE: Duration = Duration::from_secs(8);

/// One row as a writer saw it.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// Its id.
    pub id: i64,
    /// Its state.
    pub state: State,
}

/// A row by chance; none when Postgres is away.
async fn any_row(world: &World, random: &mut fastrand::Rng) -> Option<Seen> {
    let read = sqlx::query_as::<_, (i64, String)>(
        "SELECT id, state FROM gatewayds WHERE id >= $1 ORDER BY id LIMIT 1",
    )
    .bind(world.any_id(random))
    .fetch_optional(&world.bed.database.app);
    let (id, state) = tokio::time::timeout(PATIENCE, read).await.ok()?.ok()??;
    Some(Seen {
        id,
        state: state.parse().ok()?,
    })
}

/// Writes with so many rows a second until told to stop. `most` rows are never exceeded.
pub(super) async fn write(
    world: Arc<World>,
    mut random: fastrand::Rng,
    per_second: f64,
    most: i64,
    stop: CancellationToken,
) {
    let mut writes = JoinSet::new();
    loop {
        let wait = Duration::from_secs_f64(random.f64() * 2.0 / per_second);
        if stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
            break;
        }
        // More than a few that hang would only be a queue at the pool.
        while writes.len() >= 8 {
            writes.join_next().await;
        }
        let (world, mut own) = (world.clone(), random.fork());
        writes.spawn(async move {
            match own.u32(..100) {
                0..55 => legal(&world, &mut own).await,
                55..70 => illegal_move(&world, &mut own).await,
                70..78 => forbidden(&world, &mut own).await,
                78..86 => stale(&world, &mut own).await,
                86..93 => several(&world, &mut own).await,
                93..96 => insert(&world, most, &mut own).await,
                _ => every_column(&world, &mut own).await,
            }
        });
    }
    while writes.join_next().await.is_some() {}
}

/// Where a writer moves a row on, if anywhere: mostly round the circle, sometimes to its end.
fn wish(state: State, random: &mut fastrand::Rng) -> Option<State> {
    let ends = match state {
        State::Live | State::Stopped => 0.15,
        State::Terminate | State::Terminated => 0.0,
        _ => 0.04,
    };
    if random.f64() < ends {
        return Some(State::Terminate);
    }
    let others: Vec<State> = state
        .external_moves()
        .iter()
        .copied()
        .filter(|to| *to != State::Terminate)
        .collect();
    (!others.is_empty()).then(|| others[random.usize(..others.len())])
}

/// Writes a state, with the release that belongs to the move. The rows written, or the refusal.
async fn move_to(pool: &PgPool, id: i64, to: State, release: &str) -> Result<u64, sqlx::Error> {
    let sql = match to {
        State::Update => "UPDATE gatewayds SET state = $2, release = $3 WHERE id = $1",
        // Built anew with the release of the golden AMI. $3 is named so that every statement has it.
        State::Instance => "UPDATE gatewayds SET state = $2, release = nullif($3, $3) WHERE id = $1",
        _ => "UPDATE gatewayds SET state = $2 WHERE id = $1 AND $3::text IS NOT NULL",
    };
    let write = sqlx::query(sql)
        .bind(id)
        .bind(to.name())
        .bind(release)
        .execute(pool);
    match tokio::time::timeout(PATIENCE, write).await {
        Ok(written) => written.map(|done| done.rows_affected()),
        Err(_) => Err(sqlx::Error::PoolTimedOut),
    }
}

fn a_release(random: &mut fastrand::Rng) -> &'static str {
    if random.bool() { NEW_RELEASE } else { FIRST_RELEASE }
}

async fn legal(world: &World, random: &mut fastrand::Rng) {
    let pool = &world.bed.database.app;
    if let Some(row) = any_row(world, random).await
        && let Some(to) = wish(row.state, random)
    {
        // It may be refused: somebody else may have moved the row since.
        let written = move_to(pool, row.id, to, a_release(random)).await;
        world
            .tally
            .count(if written.is_ok() { "write" } else { "write failed" });
    }
}

/// Reads, waits, and writes what was right then.
async fn stale(world: &World, random: &mut fastrand::Rng) {
    let pool = &world.bed.database.app;
    if let Some(row) = any_row(world, random).await
        && let Some(to) = wish(row.state, random)
    {
        tokio::time::sleep(Duration::from_millis(random.u64(200..3000))).await;
        let written = move_to(pool, row.id, to, a_release(random)).await;
        world.tally.count(if written.is_ok() {
            "stale write"
        } else {
            "stale write failed"
        });
    }
}

/// Several writers want several things of one row at once.
async fn several(world: &World, random: &mut fastrand::Rng) {
    let pool = &world.bed.database.app;
    if let Some(row) = any_row(world, random).await {
        let wishes: Vec<_> = (0..3).filter_map(|_| wish(row.state, random)).collect();
        let release = a_release(random);
        let writes = wishes.iter().map(|to| move_to(pool, row.id, *to, release));
        let count = futures_util::future::join_all(writes).await.len();
        world.tally.count(format!("{count} writes at once"));
    }
}

/// A move that the diagram does not have must be refused, whatever else goes on.
async fn illegal_move(world: &World, random: &mut fastrand::Rng) {
    let pool = &world.bed.database.app;
    let Some(row) = any_row(world, random).await else {
        return;
    };
    let wrong: Vec<State> = State::ALL
        .into_iter()
        .filter(|to| *to != row.state && !row.state.external_moves().contains(to))
        .collect();
    let to = wrong[random.usize(..wrong.len())];
    let write = sqlx::query("UPDATE gatewayds SET state = $2 WHERE id = $1 AND state = $3")
        .bind(row.id)
        .bind(to.name())
        .bind(row.state.name())
        .execute(pool);
    match tokio::time::timeout(PATIENCE, write).await {
        Ok(Ok(done)) if done.rows_affected() > 0 => world.tally.broken(format!(
            "an illegal write was not refused: row {} was moved from {} to {to}",
            row.id, row.state
        )),
        Ok(Err(sqlx::Error::Database(error))) if error.constraint() == Some("legal_move") => {
            world.tally.count("illegal write refused");
        }
        // The row moved on before, or Postgres is away.
        _ => {}
    }
}

/// What an external application may never do.
const FORBIDDEN: [&str; 10] = [
    "UPDATE gatewayds SET generation = generation + 1 WHERE id = $1",
    "UPDATE gatewayds SET lease_until = NULL, lease_token = NULL WHERE id = $1",
    "UPDATE gatewayds SET instance_id = 'i-00000000000000000' WHERE id = $1",
    "UPDATE gatewayds SET name = 'other' || id WHERE id = $1",
    "UPDATE gatewayds SET hold = 'not mine to say' WHERE id = $1",
    "DELETE FROM gatewayds WHERE id = $1 AND state <> 'new'",
    "UPDATE wallets SET address = 'rHb9CJAWyB4rj91VRWn96DkukG4bwdtyTh' WHERE gatewayd_id = $1",
    "DELETE FROM wallets WHERE gatewayd_id = $1",
    "DELETE FROM gatewayd_history WHERE gatewayd_id = $1",
    "UPDATE launch_attempts SET ended_at = NULL WHERE gatewayd_id = $1",
];

async fn forbidden(world: &World, random: &mut fastrand::Rng) {
    let sql = FORBIDDEN[random.usize(..FORBIDDEN.len())];
    let write = sqlx::query(sql)
        .bind(world.any_id(random))
        .execute(&world.bed.database.app);
    match tokio::time::timeout(PATIENCE, write).await {
        Ok(Ok(done)) if done.rows_affected() > 0 => {
            world
                .tally
                .broken(format!("a forbidden write was not refused: {sql}"));
        }
        Ok(Err(sqlx::Error::Database(error))) if !error.code().is_some_and(|code| code.starts_with("57")) => {
            world.tally.count("forbidden write refused");
        }
        _ => {}
    }
}

/// As an ORM does: every column that the application may write, the state among them.
async fn every_column(world: &World, random: &mut fastrand::Rng) {
    let write = sqlx::query(
        "UPDATE gatewayds SET state = state, release = release, ami = ami, instance_type = instance_type,
           owner_id = $2 WHERE id = $1",
    )
    .bind(world.any_id(random))
    .bind(format!("owner-{}", random.u32(..50)))
    .execute(&world.bed.database.app);
    if let Ok(Ok(_)) = tokio::time::timeout(PATIENCE, write).await {
        world.tally.count("write of every column");
    }
}

async fn insert(world: &World, most: i64, random: &mut fastrand::Rng) {
    let state = if random.bool() { "new" } else { "instance" };
    // Ids are given out even to inserts that fail, so the limit counts rows.
    let write = sqlx::query(
        "INSERT INTO gatewayds (name, state) SELECT $1, $2 WHERE (SELECT count(*) FROM gatewayds) < $3",
    )
    .bind(format!("late-{:08x}", random.u32(..)))
    .bind(state)
    .bind(most)
    .execute(&world.bed.database.app);
    if let Ok(Ok(done)) = tokio::time::timeout(PATIENCE, write).await
        && done.rows_affected() > 0
    {
        world.tally.count("insert");
    }
}
