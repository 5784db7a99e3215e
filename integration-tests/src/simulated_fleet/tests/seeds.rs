//! A seed draws the same again.

use super::client::{command, ec2, fleet, host};
use crate::simulated_fleet::{Fault, FaultKind};

/// What a fleet drew while it was asked one thing after the other.
#[derive(Debug, PartialEq)]
struct Drawn {
    instances: Vec<String>,
    /// The hosts' places in their network, which is each fleet's own.
    places: Vec<u8>,
    api_keys: Vec<String>,
    /// The SSH key of a host that was launched without one.
    host_key: String,
    /// What each of some calls came to, half of which a fault refuses.
    dice: Vec<u16>,
}

async fn drawn(seed: u64) -> Drawn {
    let fleet = fleet(|config| config.seed = seed).await;
    for gatewayd in ["7", "8"] {
        let address = host(&fleet, gatewayd).await;
        assert_eq!(command(address, "get_key").await.exit, Some(0));
    }
    fleet.launch(&[("Name", "stray")]).unwrap();
    let mut refuses = Fault::new(FaultKind::Ec2Error {
        code: "Unavailable".to_owned(),
        action: Some("DescribeImages".to_owned()),
    });
    refuses.probability = 0.5;
    fleet.fault(refuses);
    let mut dice = Vec::new();
    for _ in 0..32 {
        dice.push(ec2(&fleet, "DescribeImages", &[]).await.0);
    }
    let hosts = fleet.hosts();
    let place = |address: std::net::Ipv4Addr| address.octets()[3];
    Drawn {
        instances: hosts.iter().map(|host| host.instance.clone()).collect(),
        places: hosts.iter().map(|host| place(host.address.unwrap())).collect(),
        api_keys: hosts.iter().filter_map(|host| host.api_key.clone()).collect(),
        host_key: hosts[2].host_key.clone(),
        dice,
    }
}

#[tokio::test]
async fn a_seed_draws_the_same_again_and_another_seed_something_else() {
    let (first, again, other) = (drawn(7).await, drawn(7).await, drawn(8).await);
    assert_eq!(first, again);
    assert_eq!((first.instances.len(), first.api_keys.len()), (3, 2), "{first:?}");
    assert!(
        first.dice.contains(&200) && first.dice.contains(&503),
        "half of them: {first:?}"
    );

    assert_eq!(
        first.places, other.places,
        "addresses go by the order of launches"
    );
    let differs = |first: &[String], other: &[String]| first.iter().all(|one| !other.contains(one));
    assert!(differs(&first.instances, &other.instances), "{first:?} {other:?}");
    assert!(differs(&first.api_keys, &other.api_keys), "{first:?} {other:?}");
    assert_ne!(first.host_key, other.host_key);
    assert_ne!(first.dice, other.dice);
}
