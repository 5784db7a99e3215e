//! Asking EC2 about instances: one call for all the steps of a process that wait, and never more than one a period.

use std::collections::VecDeque;
use std::time::Duration;

use aws_sdk_ec2::Client;
use aws_sdk_ec2::types::{Filter, Instance, InstanceStateName};
use gatewayzen_bootstrap::telemetry;
use time::OffsetDateTime;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tracing::Instrument as _;
use uuid::Uuid;

use crate::errors::{Failure, shortened};
use crate::observe;
use crate::request::{ATTEMPT_TAG, FLEET_TAG, GATEWAYD_TAG, NAME_TAG};

/// EC2's limit of values in one filter.
const MOST_VALUES: usize = 200;
/// Instances in one page of an answer.
const PAGE: i32 = 1000;
/// More pages than an account can have: whoever gives more gives them for ever.
const MOST_PAGES: usize = 200;
const CALL: &str = "DescribeInstances";

/// By what instances are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Their id. As a filter, since one unknown id in EC2's list of ids fails the whole call.
    Id,
    /// The launch attempt in their tag.
    Attempt,
    /// The client token of their launch.
    Token,
    /// The row in their tag, in this fleet; only those that are not terminated.
    Gatewayd(Uuid),
    /// The fleet in their tag: all that EC2 still shows, terminated ones too.
    Fleet,
}

/// One call: what is looked for, by at most 200 values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// By what.
    pub by: By,
    /// Its values.
    pub values: Vec<String>,
}

/// An instance as EC2 shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "EC2's own names")]
pub struct Seen {
    pub id: String,
    pub state: InstanceStateName,
    /// Why it is in that state, in EC2's words.
    pub state_reason: Option<String>,
    pub public_address: Option<String>,
    pub private_address: Option<String>,
    pub client_token: Option<String>,
    /// When it was launched, or last started.
    pub launched_at: Option<OffsetDateTime>,
    /// The tag with the fleet.
    pub fleet: Option<String>,
    /// The tag with the launch attempt.
    pub attempt: Option<String>,
    /// The tag with the row.
    pub gatewayd: Option<String>,
    /// The tag with the row's name.
    pub name: Option<String>,
}

impl Seen {
    /// Whether it is over with it: ended, or about to be.
    pub fn is_ending(&self) -> bool {
        matches!(
            self.state,
            InstanceStateName::ShuttingDown | InstanceStateName::Terminated
        )
    }

    fn matches(&self, by: By, value: &str) -> bool {
        let own = match by {
            By::Id => Some(&self.id),
            By::Attempt => self.attempt.as_ref(),
            By::Token => self.client_token.as_ref(),
            By::Gatewayd(_) => self.gatewayd.as_ref(),
            By::Fleet => self.fleet.as_ref(),
        };
        own.is_some_and(|own| own == value)
    }
}

pub(crate) type Answer = Result<Vec<Seen>, Failure>;

struct Ask {
    by: By,
    value: String,
    answer: oneshot::Sender<Answer>,
}

/// Answers many askers with few calls. Clones ask the same.
#[derive(Debug, Clone)]
pub struct Describer {
    asks: mpsc::UnboundedSender<Ask>,
}

impl Describer {
    /// One that asks EC2, at most once a `period`. Ends with its last clone.
    pub fn new(client: Client, period: Duration) -> Describer {
        Describer::with(period, move |query| describe(client.clone(), query))
    }

    /// One that makes its calls by a closure.
    pub fn with<C, F>(period: Duration, call: C) -> Describer
    where
        C: Fn(Query) -> F + Send + 'static,
        F: Future<Output = Answer> + Send + 'static,
    {
        let (asks, waiting) = mpsc::unbounded_channel();
        tokio::spawn(answer_all(waiting, period, call));
        Describer { asks }
    }

    /// The instances that match. The first asker after an idle period is answered by a call at once; the others
    /// share the next one.
    ///
    /// # Errors
    /// The call failed, for all who waited for it.
    pub async fn ask(&self, by: By, value: &str) -> Answer {
        let span = observe::span(CALL);
        // How long this step waited for the call that it shares with others.
        span.record("gatewayzen.shared", true);
        let answer = self.ask_unseen(by, value).instrument(span.clone()).await;
        if let Err(failure) = &answer {
            telemetry::fail(&span, failure.kind());
        }
        answer
    }

    async fn ask_unseen(&self, by: By, value: &str) -> Answer {
        let (answer, answered) = oneshot::channel();
        let ended = || Failure::unanswered(CALL, "this process stops asking");
        self.asks
            .send(Ask {
                by,
                value: value.to_owned(),
                answer,
            })
            .map_err(|_| ended())?;
        answered.await.unwrap_or_else(|_| Err(ended()))
    }
}

async fn answer_all<C, F>(mut asks: mpsc::UnboundedReceiver<Ask>, period: Duration, call: C)
where
    C: Fn(Query) -> F,
    F: Future<Output = Answer>,
{
    let mut waiting: VecDeque<Ask> = VecDeque::new();
    let mut next_call = Instant::now();
    loop {
        if waiting.is_empty() {
            let Some(ask) = asks.recv().await else { return };
            waiting.push_back(ask);
        }
        tokio::time::sleep_until(next_call).await;
        while let Ok(ask) = asks.try_recv() {
            waiting.push_back(ask);
        }
        // A step that was cut short meanwhile asks no more.
        waiting.retain(|ask| !ask.answer.is_closed());
        // Whoever waits longest says by what this call asks.
        let Some(by) = waiting.front().map(|ask| ask.by) else {
            continue;
        };
        let (now, later) = batch(std::mem::take(&mut waiting), by);
        waiting = later;
        let mut values: Vec<String> = now.iter().map(|ask| ask.value.clone()).collect();
        values.sort_unstable();
        values.dedup();
        next_call = Instant::now() + period;
        let answer = call(Query { by, values }).await;
        for ask in now {
            let own = answer.clone().map(|mut seen| {
                seen.retain(|one| one.matches(ask.by, &ask.value));
                seen
            });
            // Nobody may wait for it any more.
            let _ = ask.answer.send(own);
        }
    }
}

/// The asks of one call, and those that must wait for another.
fn batch(waiting: VecDeque<Ask>, by: By) -> (Vec<Ask>, VecDeque<Ask>) {
    let (mut now, mut later) = (Vec::new(), VecDeque::new());
    for ask in waiting {
        if ask.by == by && now.len() < MOST_VALUES {
            now.push(ask);
        } else {
            later.push_back(ask);
        }
    }
    (now, later)
}

pub(crate) async fn describe(client: Client, query: Query) -> Answer {
    let mut filters = vec![];
    match query.by {
        By::Id => filters.push(filter("instance-id", query.values)),
        By::Attempt => filters.push(filter(&format!("tag:{ATTEMPT_TAG}"), query.values)),
        By::Token => filters.push(filter("client-token", query.values)),
        By::Fleet => filters.push(filter(&format!("tag:{FLEET_TAG}"), query.values)),
        By::Gatewayd(fleet) => {
            let alive = ["pending", "running", "stopping", "stopped", "shutting-down"];
            filters.push(filter(&format!("tag:{FLEET_TAG}"), vec![fleet.to_string()]));
            filters.push(filter(&format!("tag:{GATEWAYD_TAG}"), query.values));
            filters.push(filter("instance-state-name", alive.map(str::to_owned).to_vec()));
        }
    }
    let mut pages = client
        .describe_instances()
        .set_filters(Some(filters))
        .into_paginator()
        .page_size(PAGE)
        .send();
    let mut seen = Vec::new();
    for number in 1.. {
        let Some(page) = pages.next().await else { break };
        if number > MOST_PAGES {
            return Err(Failure::unanswered(CALL, "its answer has no end"));
        }
        let page = page.map_err(|error| Failure::new(CALL, &error))?;
        let reservations = page.reservations.unwrap_or_default();
        seen.extend(
            reservations
                .into_iter()
                .flat_map(|one| one.instances.unwrap_or_default())
                .filter_map(read),
        );
    }
    Ok(seen)
}

fn filter(name: &str, values: Vec<String>) -> Filter {
    Filter::builder().name(name).set_values(Some(values)).build()
}

/// Whether a text can be an instance's id. It goes to logs, to operators, to the database and back to EC2.
pub(crate) fn is_instance_id(text: &str) -> bool {
    text.strip_prefix("i-")
        .is_some_and(|rest| (1..=40).contains(&rest.len()) && rest.bytes().all(|b| b.is_ascii_alphanumeric()))
}

/// What EC2 shows of one instance; nothing where its id is none. Texts are cleaned, since people read them and anybody who
/// may tag an instance writes some of them.
fn read(instance: Instance) -> Option<Seen> {
    let tag = |key: &str| {
        let tags = instance.tags.as_deref().unwrap_or_default();
        tags.iter()
            .find(|tag| tag.key() == Some(key))
            .and_then(|tag| tag.value().map(shortened))
    };
    let (fleet, attempt) = (tag(FLEET_TAG), tag(ATTEMPT_TAG));
    let (gatewayd, name) = (tag(GATEWAYD_TAG), tag(NAME_TAG));
    let address = |text: Option<String>| text.filter(|text| text.parse::<std::net::IpAddr>().is_ok());
    Some(Seen {
        id: instance.instance_id.filter(|id| is_instance_id(id))?,
        state: InstanceStateName::from(shortened(instance.state?.name?.as_str()).as_str()),
        state_reason: instance
            .state_reason
            .and_then(|reason| reason.message.or(reason.code))
            .map(|reason| shortened(&reason)),
        public_address: address(instance.public_ip_address),
        private_address: address(instance.private_ip_address),
        client_token: instance.client_token.as_deref().map(shortened),
        launched_at: instance
            .launch_time
            .and_then(|at| OffsetDateTime::from_unix_timestamp(at.secs()).ok()),
        fleet,
        attempt,
        gatewayd,
        name,
    })
}

#[cfg(test)]
#[path = "describe_tests.rs"]
mod tests;
