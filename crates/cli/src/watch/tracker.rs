//! From rows read now and then to changes: the history has every one, whether a look fell between or not.

use std::collections::HashMap;
use std::time::Duration;

use gatewayzen_core::repository::{HistoryEntry, RepositoryError};
use gatewayzen_core::{Gatewayd, Repository, State};
use time::OffsetDateTime;

use crate::text::between;

/// Something to tell.
#[derive(Debug)]
pub(super) enum Change {
    /// A row as it was at the first look.
    Seen(Box<Gatewayd>),
    /// An entry of its history, and how long the row was in the state that it left.
    Event {
        id: i64,
        name: String,
        entry: Box<HistoryEntry>,
        spent: Option<Duration>,
    },
    /// Within a state: it waits for something else, or an attempt failed.
    Progress(Box<Gatewayd>),
}

impl Change {
    fn at(&self) -> OffsetDateTime {
        match self {
            Change::Seen(row) | Change::Progress(row) => row.read_at,
            Change::Event { entry, .. } => entry.at,
        }
    }
}

/// A watched row.
#[derive(Debug)]
pub(super) struct Tracked {
    pub(super) row: Gatewayd,
    pub(super) history: Vec<HistoryEntry>,
    /// Whether it has anything to show: it was named, or was not idle at some time.
    pub(super) shown: bool,
    /// The newest part of its history that was told.
    told: (i64, OffsetDateTime),
}

/// All watched rows.
#[derive(Debug, Default)]
pub(super) struct Tracker {
    rows: Vec<Tracked>,
    show_all: bool,
}

impl Tracker {
    /// `show_all`: idle rows too.
    pub(super) fn new(show_all: bool) -> Tracker {
        Tracker {
            rows: Vec::new(),
            show_all,
        }
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = &Gatewayd> {
        self.rows.iter().map(|tracked| &tracked.row)
    }

    pub(super) fn shown(&self) -> impl Iterator<Item = &Tracked> {
        self.rows.iter().filter(|tracked| tracked.shown)
    }

    /// Takes in rows as they are now, and says what changed.
    pub(super) async fn update(
        &mut self,
        repository: &Repository,
        rows: Vec<Gatewayd>,
    ) -> Result<Vec<Change>, RepositoryError> {
        let mut known: HashMap<i64, Tracked> = self
            .rows
            .drain(..)
            .map(|tracked| (tracked.row.id, tracked))
            .collect();
        let mut changes = Vec::new();
        let mut failed = None;
        for row in rows {
            let tracked = match known.remove(&row.id) {
                None => first(repository, row, self.show_all, &mut changes).await,
                Some(tracked) => again(repository, row, tracked, &mut changes).await,
            };
            match tracked {
                Ok(tracked) => self.rows.push(tracked),
                Err((tracked, error)) => {
                    self.rows.push(tracked);
                    failed = Some(error);
                }
            }
        }
        changes.sort_by_key(Change::at);
        match failed {
            // What was not read is told by the next look; what was read is not lost either.
            Some(error) if changes.is_empty() => Err(error),
            _ => Ok(changes),
        }
    }
}

type Took = Result<Tracked, (Tracked, RepositoryError)>;

async fn first(repository: &Repository, row: Gatewayd, show_all: bool, changes: &mut Vec<Change>) -> Took {
    let shown = show_all || row.state.is_working();
    let mut tracked = Tracked {
        told: (row.generation, row.read_at),
        row,
        history: Vec::new(),
        shown,
    };
    if shown {
        changes.push(Change::Seen(Box::new(tracked.row.clone())));
        match repository.history(tracked.row.id).await {
            Ok(history) => tracked.history = history,
            Err(error) => return Err((tracked, error)),
        }
    }
    Ok(tracked)
}

async fn again(
    repository: &Repository,
    row: Gatewayd,
    mut tracked: Tracked,
    changes: &mut Vec<Change>,
) -> Took {
    let before = &tracked.row;
    let moved = (before.generation, &before.fault, &before.hold) != (row.generation, &row.fault, &row.hold);
    let progressed = (&row.waiting_for, &row.last_error, row.last_error_at)
        != (&before.waiting_for, &before.last_error, before.last_error_at)
        && (row.waiting_for.is_some() || row.last_error.is_some());
    if moved {
        match repository.history(row.id).await {
            Ok(history) => tell(&mut tracked, &row.name, history, changes),
            // The row stays as it was, so that the next look asks again.
            Err(error) => return Err((tracked, error)),
        }
    } else if progressed {
        changes.push(Change::Progress(Box::new(row.clone())));
    }
    tracked.row = row;
    Ok(tracked)
}

/// Tells the entries that were not told yet. By generation, which no late commit can hide; holds keep the
/// generation and go by time.
fn tell(tracked: &mut Tracked, name: &str, history: Vec<HistoryEntry>, changes: &mut Vec<Change>) {
    let id = tracked.row.id;
    let (generation, at) = tracked.told;
    let mut entered: Option<OffsetDateTime> = None;
    for entry in &history {
        let moves = matches!(entry.event.as_str(), "moved" | "created");
        if entry.generation > generation || (entry.generation == generation && entry.at > at) {
            let spent = entered
                .filter(|_| moves)
                .map(|entered| between(entered, entry.at));
            changes.push(Change::Event {
                id,
                name: name.to_owned(),
                entry: Box::new(entry.clone()),
                spent,
            });
            tracked.told = (tracked.told.0.max(entry.generation), tracked.told.1.max(entry.at));
        }
        if moves {
            entered = Some(entry.at);
        }
    }
    tracked.shown = true;
    tracked.history = history;
}

/// The states of the walk that the row is on, or was on last, with the time spent in each.
pub(super) fn walk(tracked: &Tracked) -> Vec<(String, Duration)> {
    let mut walk: Vec<(String, OffsetDateTime)> = Vec::new();
    for entry in &tracked.history {
        if !matches!(entry.event.as_str(), "moved" | "created") {
            continue;
        }
        let from_idle = entry
            .from_state
            .as_ref()
            .is_none_or(|state| state.parse().is_ok_and(|s: State| !s.is_working()));
        if from_idle {
            walk.clear();
        }
        walk.push((entry.to_state.clone(), entry.at));
    }
    let ends: Vec<OffsetDateTime> = walk
        .iter()
        .skip(1)
        .map(|(_, at)| *at)
        .chain([tracked.row.read_at])
        .collect();
    walk.into_iter()
        .zip(ends)
        .map(|((state, from), to)| (state, between(from, to)))
        .collect()
}
