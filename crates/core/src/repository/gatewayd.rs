//! A row of `gatewayds`, as it is read.

use sqlx::Row as _;
use sqlx::postgres::PgRow;
use time::OffsetDateTime;

use super::{RepositoryError, Result};
use crate::state::State;

/// One row of `gatewayds`. The columns' meaning stands in `migrations/0003_gatewayds.sql`.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "each field is the column of that name")]
pub struct Gatewayd {
    pub id: i64,
    pub name: String,
    pub state: State,
    pub release: Option<String>,
    pub ami: Option<String>,
    pub instance_type: Option<String>,
    pub owner_id: Option<String>,
    pub traceparent: Option<String>,
    pub hold: Option<String>,
    pub held_since: Option<OffsetDateTime>,
    pub generation: i64,
    pub since: OffsetDateTime,
    pub clock_started_at: OffsetDateTime,
    pub public_address: Option<String>,
    pub private_address: Option<String>,
    pub instance_id: Option<String>,
    pub ripple_address: Option<String>,
    pub release_in_place: Option<String>,
    pub commit_in_place: Option<String>,
    pub host_key_fingerprint: Option<String>,
    pub tls_fingerprint: Option<String>,
    pub attempts: i32,
    pub next_try_at: Option<OffsetDateTime>,
    pub waiting_for: Option<String>,
    pub last_error: Option<String>,
    pub last_error_at: Option<OffsetDateTime>,
    pub fault: Option<String>,
    pub unblock: Option<String>,
    pub lease_number: i64,
    pub lease_owner: Option<String>,
    pub lease_taken_at: Option<OffsetDateTime>,
    pub lease_until: Option<OffsetDateTime>,
    pub created_at: OffsetDateTime,
    /// Postgres's clock when the row was read: compare the other times with this one.
    pub read_at: OffsetDateTime,
}

impl Gatewayd {
    /// A row as it is when it was just created, read in the same moment: what a story begins with where there is no Postgres.
    #[must_use]
    pub fn created(id: i64, name: &str, state: State, at: OffsetDateTime) -> Self {
        Self {
            id,
            name: name.to_owned(),
            state,
            release: None,
            ami: None,
            instance_type: None,
            owner_id: None,
            traceparent: None,
            hold: None,
            held_since: None,
            generation: 1,
            since: at,
            clock_started_at: at,
            public_address: None,
            private_address: None,
            instance_id: None,
            ripple_address: None,
            release_in_place: None,
            commit_in_place: None,
            host_key_fingerprint: None,
            tls_fingerprint: None,
            attempts: 0,
            next_try_at: None,
            waiting_for: None,
            last_error: None,
            last_error_at: None,
            fault: None,
            unblock: None,
            lease_number: 0,
            lease_owner: None,
            lease_taken_at: None,
            lease_until: None,
            created_at: at,
            read_at: at,
        }
    }
}

pub(super) const COLUMNS: &str = "id, name, state, release, ami, instance_type, owner_id, traceparent, hold, held_since, generation, \
    since, clock_started_at, public_address, private_address, instance_id, ripple_address, release_in_place, \
    commit_in_place, host_key_fingerprint, tls_fingerprint, attempts, next_try_at, waiting_for, last_error, \
    last_error_at, fault, unblock, lease_number, lease_owner, lease_taken_at, lease_until, created_at, clock_timestamp() AS read_at";

pub(super) fn gatewayd(row: &PgRow) -> Result<Gatewayd> {
    let id: i64 = row.try_get("id")?;
    Ok(Gatewayd {
        id,
        name: row.try_get("name")?,
        state: state(id, row.try_get("state")?)?,
        release: row.try_get("release")?,
        ami: row.try_get("ami")?,
        instance_type: row.try_get("instance_type")?,
        owner_id: row.try_get("owner_id")?,
        traceparent: row.try_get("traceparent")?,
        hold: row.try_get("hold")?,
        held_since: row.try_get("held_since")?,
        generation: row.try_get("generation")?,
        since: row.try_get("since")?,
        clock_started_at: row.try_get("clock_started_at")?,
        public_address: row.try_get("public_address")?,
        private_address: row.try_get("private_address")?,
        instance_id: row.try_get("instance_id")?,
        ripple_address: row.try_get("ripple_address")?,
        release_in_place: row.try_get("release_in_place")?,
        commit_in_place: row.try_get("commit_in_place")?,
        host_key_fingerprint: row.try_get("host_key_fingerprint")?,
        tls_fingerprint: row.try_get("tls_fingerprint")?,
        attempts: row.try_get("attempts")?,
        next_try_at: row.try_get("next_try_at")?,
        waiting_for: row.try_get("waiting_for")?,
        last_error: row.try_get("last_error")?,
        last_error_at: row.try_get("last_error_at")?,
        fault: row.try_get("fault")?,
        unblock: row.try_get("unblock")?,
        lease_number: row.try_get("lease_number")?,
        lease_owner: row.try_get("lease_owner")?,
        lease_taken_at: row.try_get("lease_taken_at")?,
        lease_until: row.try_get("lease_until")?,
        created_at: row.try_get("created_at")?,
        read_at: row.try_get("read_at")?,
    })
}

pub(super) fn state(id: i64, text: &str) -> Result<State> {
    text.parse().map_err(|_| RepositoryError::Strange {
        id,
        what: format!("the state `{text}`"),
    })
}
