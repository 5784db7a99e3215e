//! A fleet of which something can be told: two walks, of which one meets trouble on its way and one is parked; and how a test
//! asks what is told.

use gatewayzen_core::State;
use integration_tests::harness::{Bed, Options, Scrape, ServiceProcess, eventually};
use integration_tests::simulated_fleet::{Fault, FaultKind};

/// A row that is live, after trouble, and one that waits for a person.
pub(crate) struct Story {
    pub(crate) bed: Bed,
    pub(crate) live: i64,
    pub(crate) parked: i64,
    /// Dispatcher, instance-worker, ssh-worker, wallet-worker.
    pub(crate) services: Vec<ServiceProcess>,
}

/// Names that nobody would meet by chance.
pub(crate) const NAMES: [&str; 2] = ["acme-of-story", "evil-of-story"];

impl Story {
    /// Tells it; `settings` besides those of every bed.
    pub(crate) async fn tell(settings: &str) -> Story {
        let bed = Bed::new(Options {
            settings: format!("health.listen = \"127.0.0.1:0\"\nsweep.grace = \"100ms\"\n{settings}"),
            ..Options::default()
        })
        .await;
        bed.fleet.fault(
            Fault::new(FaultKind::Ec2Error {
                code: "RequestLimitExceeded".into(),
                action: Some("RunInstances".into()),
            })
            .times(1),
        );
        let services = bed.start_all();
        let live = bed
            .launch_after(NAMES[0], |id| {
                let release = FaultKind::CommandExits {
                    command: Some("release".into()),
                    status: 3,
                };
                bed.fleet.fault(Fault::new(release).on(id).times(1));
                // The start of gatewayd takes any answer as one, and so has the first of these.
                bed.fleet.fault(Fault::new(FaultKind::ApiHtml500).on(id).times(2));
            })
            .await;
        bed.reached(live, State::Live).await;
        let parked = bed
            .launch_after(NAMES[1], |id| {
                bed.fleet.fault(Fault::new(FaultKind::WrongHostKey).on(id))
            })
            .await;
        bed.parked(parked).await;
        Story {
            bed,
            live,
            parked,
            services,
        }
    }
}

/// Asks until a metric has a value, since some are looked up only so often.
pub(crate) async fn becomes(
    service: &ServiceProcess,
    metric: &str,
    labels: &[(&str, &str)],
    wanted: f64,
) -> Scrape {
    eventually(
        &format!("{metric} {labels:?} of {} to be {wanted}", service.name),
        async || {
            let scrape = service.scrape().await;
            (scrape.value(metric, labels) == Some(wanted)).then_some(scrape)
        },
    )
    .await
}

/// The values that must be there.
pub(crate) fn expect(scrape: &Scrape, metric: &str, wanted: &[(&[(&str, &str)], f64)]) {
    for (labels, value) in wanted {
        let seen = scrape.value(metric, labels);
        assert_eq!(seen, Some(*value), "{metric} {labels:?} in\n{}", scrape.text);
    }
}
