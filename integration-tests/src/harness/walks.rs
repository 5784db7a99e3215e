//! Rows and their walks, as an external application writes them.

use gatewayzen_core::State;

use super::Stand;

/// The whole circle: each write, and the state in which it ends.
pub const CIRCLE: [(State, State); 6] = [
    (State::Instance, State::Live),
    (State::Stop, State::Stopped),
    (State::Update, State::Stopped),
    (State::Start, State::Live),
    (State::Terminate, State::Terminated),
    (State::Instance, State::Live),
];

/// A row in `new`.
pub async fn new_row(stand: &Stand, name: &str) -> i64 {
    sqlx::query_scalar("INSERT INTO gatewayds (name) VALUES ($1) RETURNING id")
        .bind(name)
        .fetch_one(&stand.database.app)
        .await
        .expect("a row")
}

/// One write of a row's state; with `update`, of a release too.
pub async fn write(stand: &Stand, id: i64, to: State) {
    let release = (to == State::Update).then_some("v3.34.2");
    sqlx::query("UPDATE gatewayds SET state = $2, release = $3 WHERE id = $1")
        .bind(id)
        .bind(to.name())
        .bind(release)
        .execute(&stand.database.app)
        .await
        .expect("a legal move");
}

/// Walks a row to the state in which this write ends.
pub async fn walk(stand: &Stand, id: i64, (to, ends_in): (State, State)) {
    write(stand, id, to).await;
    stand.reached(id, ends_in).await;
}

/// Round the circle, from `new`, or from `live` once more.
pub async fn walk_round(stand: &Stand, id: i64) {
    let begun = usize::from(stand.row(id).await.state == State::Live);
    for leg in &CIRCLE[begun..] {
        walk(stand, id, *leg).await;
    }
}
