//! What happens to a launch in several stories.

use gatewayzen_core::State;
use integration_tests::simulated_fleet::{Entry, Event, Fault, FaultKind};

use crate::faults::{loses_an_answer, refuses};
use crate::story::{Story, transient, waits};

impl Story {
    /// A row whose machine was launched; the answer was lost.
    pub async fn launched_without_an_answer(&self) -> i64 {
        let id = self.launch("acme").await;
        self.sim.fault(loses_an_answer());
        let text = transient(self.step(id, State::Instance).await);
        assert!(text.contains("RunInstances"), "{text}");
        id
    }

    /// A row whose launch EC2 has failed in a way that leaves open whether it happened.
    pub async fn failed_by_ec2(&self) -> i64 {
        let id = self.launch("acme").await;
        self.sim.fault(Fault::new(refuses("InternalError")).times(1));
        transient(self.step(id, State::Instance).await);
        id
    }

    /// A row whose machine EC2 does not show for an hour, met by a step of `state`.
    pub async fn not_shown(&self, state: State) -> i64 {
        let id = self.launch("acme").await;
        let hidden = FaultKind::IdLag { ms: 3_600_000 };
        self.sim.fault(Fault::new(hidden).times(1));
        self.step(id, State::Instance).await.unwrap();
        if state != State::Instance {
            self.write(id, state).await;
        }
        let text = waits(self.step(id, state).await);
        assert!(text.contains("EC2 to show i-"), "{text}");
        self.sql("UPDATE launch_attempts SET instance_known_at = instance_known_at - interval '1 hour'")
            .await;
        id
    }

    /// The time in which the attempt could still happen is over: then, and no earlier, another one is made.
    pub async fn launches_anew_when_the_old_is_impossible(&self, id: i64) {
        assert_eq!(self.launched(), 0);
        self.sql("UPDATE launch_attempts SET send_until = clock_timestamp() - interval '1 hour'")
            .await;
        let text = transient(self.step(id, State::Instance).await);
        assert!(text.contains("launched nothing"), "{text}");
        self.to_its_end(id, State::Instance).await;
        assert_eq!(self.launched(), 1);
    }

    /// The row gets the machine that was launched; how often EC2 was asked for it again under its token.
    pub async fn finds_its_machine(&self, id: i64) -> usize {
        self.to_its_end(id, State::Instance).await;
        assert_eq!(self.launched(), 1);
        let again = |entry: &Entry| matches!(entry.event, Event::LaunchRepeated { .. });
        self.sim.ledger().count(again)
    }
}
