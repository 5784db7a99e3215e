use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_ec2::config::BehaviorVersion;
use gatewayzen_core::State;
use time::OffsetDateTime;

use super::*;

fn settings() -> settings::Ec2 {
    settings::Ec2 {
        region: String::new(),
        ami: "ami-golden".into(),
        allowed_amis: vec!["ami-other".into()],
        instance_type: "t3.small".into(),
        allowed_instance_types: vec!["t3.large".into()],
        subnet: "subnet-1".into(),
        security_groups: vec!["sg-2".into(), "sg-1".into()],
        key_name: "fleet".into(),
        instance_profile: "gatewayd".into(),
        volume_key: "alias/fleet".into(),
        poll: Duration::from_secs(1),
        send_for: Duration::from_secs(600),
        consistency_window: Duration::from_secs(300),
        launches_at_once: 100,
        releases: BTreeMap::from([("v3.34.2".to_owned(), "ami-3342".to_owned())]),
    }
}

fn row() -> Gatewayd {
    Gatewayd {
        attempts: 1,
        ..Gatewayd::created(42, "acme", State::Instance, OffsetDateTime::UNIX_EPOCH)
    }
}

fn request(settings: &settings::Ec2, row: &Gatewayd) -> Result<LaunchRequest, StepError> {
    let mut request = LaunchRequest::new(settings, row, Uuid::from_u128(1), Uuid::from_u128(2))?;
    let volume = |device: &str, size| Volume {
        device: device.into(),
        size,
    };
    request.volumes = vec![volume("/dev/sda1", Some(8)), volume("/dev/sdf", None)];
    Ok(request)
}

/// What would go over the wire, but for the user data, which the SDK does not show.
fn sent(request: &LaunchRequest) -> String {
    let config = aws_sdk_ec2::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .build();
    let call = request.call(&Client::from_conf(config), "token", &"user data".into());
    assert_eq!(call.get_user_data().as_deref(), Some("dXNlciBkYXRh"));
    format!("{:?}", call.as_input().clone().build().unwrap())
}

fn refusal(result: Result<LaunchRequest, StepError>) -> String {
    match result {
        Err(StepError::Permanent(problem)) => format!("{} | {}", problem.sentence, problem.unblock),
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn a_replay_is_what_was_stored() {
    let request = request(&settings(), &row()).unwrap();
    let stored = serde_json::to_value(&request).unwrap();
    let read: LaunchRequest = serde_json::from_value(stored).unwrap();
    assert_eq!(sent(&request), sent(&read));
}

#[test]
fn nothing_that_is_sent_is_left_out_of_what_is_stored() {
    let mut other = settings();
    other.key_name = "another".into();
    other.instance_profile = "arn:aws:iam::1:instance-profile/x".into();
    other.subnet = String::new();
    other.security_groups.clear();
    let (one, other) = (
        request(&settings(), &row()).unwrap(),
        request(&other, &row()).unwrap(),
    );
    assert_ne!(one, other);
    assert_ne!(sent(&one), sent(&other));
    let text = sent(&one);
    for part in [
        "ami-golden",
        "subnet-1",
        "sg-2",
        "fleet",
        "gatewayd",
        "Required",
        "gatewayzen:attempt",
        "Volume",
        "/dev/sda1",
        "/dev/sdf",
        "alias/fleet",
        "http_put_response_hop_limit: Some(1)",
    ] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
}

#[test]
fn every_volume_of_the_ami_is_encrypted_and_no_other_is_made() {
    let request = request(&settings(), &row()).unwrap();
    let disks = request.encrypted().unwrap();
    let devices: Vec<_> = disks.iter().filter_map(|disk| disk.device_name()).collect();
    assert_eq!(devices, ["/dev/sda1", "/dev/sdf"]);
    for disk in &disks {
        let disk = disk.ebs().unwrap();
        assert_eq!(
            (disk.encrypted(), disk.kms_key_id()),
            (Some(true), Some("alias/fleet"))
        );
    }
}

/// A launch that an older version stored and a crash left open must be sent again as it was.
#[test]
fn what_an_older_version_stored_is_replayed_without_what_it_did_not_ask_for() {
    let mut stored = serde_json::to_value(request(&settings(), &row()).unwrap()).unwrap();
    for newer in ["metadata_hops", "volumes", "volume_key"] {
        assert!(stored.as_object_mut().unwrap().remove(newer).is_some(), "{newer}");
    }
    let read: LaunchRequest = serde_json::from_value(stored.clone()).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), stored);
    let text = sent(&read);
    assert!(
        !text.contains("/dev/sd") && text.contains("block_device_mappings: None"),
        "{text}"
    );
}

#[test]
fn what_a_newer_version_stored_is_not_replayed_in_part() {
    let mut stored = serde_json::to_value(request(&settings(), &row()).unwrap()).unwrap();
    stored["something_new"] = true.into();
    assert!(serde_json::from_value::<LaunchRequest>(stored).is_err());
}

#[test]
fn the_row_chooses_among_what_is_allowed() {
    let with = |ami: Option<&str>, release: Option<&str>, kind: Option<&str>| {
        let text = |given: Option<&str>| given.map(str::to_owned);
        let row = Gatewayd {
            ami: text(ami),
            release: text(release),
            instance_type: text(kind),
            ..row()
        };
        request(&settings(), &row)
    };
    let image = |ami, release| with(ami, release, None).unwrap().image;
    assert_eq!(image(None, None), "ami-golden");
    assert_eq!(image(None, Some("v3.34.2")), "ami-3342");
    assert_eq!(image(Some("ami-other"), None), "ami-other");
    assert_eq!(image(Some("ami-golden"), None), "ami-golden");
    assert_eq!(image(Some("ami-3342"), None), "ami-3342");
    assert_eq!(with(None, None, None).unwrap().instance_type, "t3.small");
    assert_eq!(
        with(None, None, Some("t3.large")).unwrap().instance_type,
        "t3.large"
    );

    let text = refusal(with(Some("ami-alien"), None, None));
    assert!(
        text.contains("ami-alien") && text.contains("ec2.allowed_amis"),
        "{text}"
    );
    let text = refusal(with(None, Some("v9"), None));
    assert!(
        text.contains("v9") && text.contains("v3.34.2") && text.contains("ec2.releases"),
        "{text}"
    );
    let text = refusal(with(None, None, Some("x1.huge")));
    assert!(
        text.contains("x1.huge") && text.contains("ec2.allowed_instance_types"),
        "{text}"
    );
}

#[test]
fn without_a_golden_ami_the_setting_is_named() {
    let settings = settings::Ec2 {
        ami: String::new(),
        ..settings()
    };
    assert!(refusal(request(&settings, &row())).contains("ec2.ami"));
}
