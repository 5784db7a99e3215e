//! What the judge looks at: the database, the ledger, and the hosts as they truly are.

use std::collections::BTreeMap;

use gatewayzen_core::Gatewayd;
use gatewayzen_core::repository::{Filter, HistoryEntry};

use crate::harness::Bed;
use crate::simulated_fleet::{Entry, HostView};

/// Everything that is judged.
#[derive(Default)]
pub struct Evidence {
    /// The rows, by id.
    pub rows: BTreeMap<i64, Gatewayd>,
    /// The history of each row, oldest first.
    pub histories: BTreeMap<i64, Vec<HistoryEntry>>,
    /// The kept wallets: row and address, as often as they are kept.
    pub wallets: Vec<(i64, String)>,
    /// What truly happened, oldest first.
    pub ledger: Vec<Entry>,
    /// The hosts as they are now.
    pub hosts: Vec<HostView>,
    /// Machines that the driver launched itself, and whether with the fleet's own tags.
    pub strays: BTreeMap<String, bool>,
}

/// A law that was broken.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Broken {
    /// The law's name.
    pub law: &'static str,
    /// The row, where there is one.
    pub row: Option<i64>,
    /// What was seen.
    pub what: String,
}

impl Broken {
    /// A broken law.
    pub fn new(law: &'static str, row: Option<i64>, what: impl Into<String>) -> Broken {
        Broken {
            law,
            row,
            what: what.into(),
        }
    }
}

impl Evidence {
    /// Reads it all.
    /// Machines that somebody launched beside GatewayZen stand in `strays`, each with whether it has the fleet's own tags.
    pub async fn gather(bed: &Bed, strays: BTreeMap<String, bool>) -> Evidence {
        let rows = bed
            .repository
            .gatewayds(&Filter::default())
            .await
            .expect("the rows");
        let admin = &bed.database.admin;
        let mut histories = BTreeMap::<i64, Vec<HistoryEntry>>::new();
        #[derive(sqlx::FromRow)]
        struct Line {
            gatewayd_id: i64,
            #[sqlx(flatten)]
            entry: HistoryEntry,
        }
        let lines: Vec<Line> = sqlx::query_as(
            "SELECT gatewayd_id, at, event, from_state, to_state, generation, by, why FROM gatewayd_history
             ORDER BY gatewayd_id, id",
        )
        .fetch_all(admin)
        .await
        .expect("the histories");
        for line in lines {
            histories.entry(line.gatewayd_id).or_default().push(line.entry);
        }
        Evidence {
            rows: rows.into_iter().map(|row| (row.id, row)).collect(),
            histories,
            wallets: sqlx::query_as("SELECT gatewayd_id, address FROM wallets")
                .fetch_all(admin)
                .await
                .expect("the wallets"),
            ledger: bed.fleet.ledger().entries(),
            hosts: bed.fleet.hosts(),
            strays,
        }
    }

    /// The host of a row's instance, dead or alive.
    pub fn host(&self, row: &Gatewayd) -> Option<&HostView> {
        let instance = row.instance_id.as_deref()?;
        self.hosts.iter().find(|host| host.instance == instance)
    }

    /// The history of a row and what the ledger has of it, for somebody who wants to know why.
    pub fn about(&self, id: i64) -> String {
        let mut text = match self.rows.get(&id) {
            Some(row) => format!(
                "row {id}: {} generation {}, instance {:?}, fault {:?}, unblock {:?}, hold {:?}\n",
                row.state, row.generation, row.instance_id, row.fault, row.unblock, row.hold
            ),
            None => format!("row {id}: there is none\n"),
        };
        for entry in self.histories.get(&id).into_iter().flatten() {
            text += &format!(
                "  {} {} {} -> {} generation {} by {}: {}\n",
                entry.at,
                entry.event,
                entry.from_state.as_deref().unwrap_or("-"),
                entry.to_state,
                entry.generation,
                entry.by,
                entry.why.as_deref().unwrap_or("-")
            );
        }
        let gatewayd = id.to_string();
        for entry in self.ledger.iter().filter(|entry| entry.gatewayd == gatewayd) {
            text += &format!("  {:>8} ms {} {:?}\n", entry.at_ms, entry.instance, entry.event);
        }
        text
    }
}
