//! EC2 as it should be: tokens, filters, pages, refusals; and what is open over HTTP.

use super::client::{ec2, endpoint, fleet, host, run, seen, text, texts};
use crate::simulated_fleet::{Event, Fault, FaultKind, SimulatedFleet};

pub(crate) async fn describe(fleet: &SimulatedFleet, parameters: &[(&str, &str)]) -> String {
    let (status, xml) = ec2(fleet, "DescribeInstances", parameters).await;
    assert_eq!(status, 200, "{xml}");
    xml
}

#[tokio::test]
async fn the_same_token_is_the_same_instance() {
    let fleet = fleet(|_| {}).await;
    let (_, first) = run(&fleet, "7", "one").await;
    let (status, second) = run(&fleet, "7", "one").await;
    let id = text(&first, "instanceId");
    assert_eq!((status, text(&second, "instanceId")), (200, id.clone()));

    ec2(&fleet, "TerminateInstances", &[("InstanceId.1", &id)]).await;
    seen(&fleet, |entry| entry.event == Event::Terminated).await;
    let (status, third) = run(&fleet, "7", "one").await;
    assert_eq!((status, text(&third, "instanceId")), (200, id));
    assert_eq!(text(&third, "name"), "terminated");

    assert_eq!(
        fleet
            .ledger()
            .count(|entry| matches!(entry.event, Event::Launched { .. })),
        1
    );
    assert_eq!(
        fleet
            .ledger()
            .count(|entry| matches!(entry.event, Event::LaunchRepeated { .. })),
        2
    );
    let (_, other) = run(&fleet, "7", "two").await;
    assert_ne!(text(&other, "instanceId"), text(&first, "instanceId"));
}

#[tokio::test]
async fn another_request_under_a_token_is_refused() {
    let fleet = fleet(|_| {}).await;
    run(&fleet, "7", "one").await;
    let (status, xml) = run(&fleet, "8", "one").await;
    assert_eq!(
        (status, text(&xml, "Code")),
        (400, "IdempotentParameterMismatch".to_owned())
    );
    assert_eq!(fleet.hosts().len(), 1);
}

#[tokio::test]
async fn an_instance_boots_and_ends_for_a_reason() {
    let fleet = fleet(|config| config.times.terminate_ms = 300).await;
    let (_, xml) = run(&fleet, "7", "one").await;
    assert_eq!(text(&xml, "name"), "pending");
    assert!(
        texts(&xml, "ipAddress").is_empty(),
        "no public address while pending: {xml}"
    );
    seen(&fleet, |entry| entry.event == Event::Running).await;
    let id = text(&xml, "instanceId");
    let xml = describe(&fleet, &[("InstanceId.1", &id)]).await;
    assert_eq!(
        (text(&xml, "name"), text(&xml, "clientToken")),
        ("running".to_owned(), "one".to_owned())
    );
    assert_eq!(text(&xml, "ipAddress"), text(&xml, "privateIpAddress"));
    assert!(
        xml.contains("<value>a &lt;b&gt; &amp; &quot;c&quot;</value>"),
        "{xml}"
    );

    let (_, xml) = ec2(&fleet, "TerminateInstances", &[("InstanceId.1", &id)]).await;
    assert_eq!(texts(&xml, "name"), ["shutting-down", "running"]);
    seen(&fleet, |entry| entry.event == Event::Terminated).await;
    let xml = describe(&fleet, &[("InstanceId.1", &id)]).await;
    assert_eq!(
        (text(&xml, "name"), text(&xml, "code")),
        ("terminated".to_owned(), "48".to_owned())
    );
    assert!(xml.contains("Client.UserInitiatedShutdown"), "{xml}");
}

#[tokio::test]
async fn filters_and_pages_find_what_they_name() {
    let fleet = fleet(|_| {}).await;
    let mut ids = Vec::new();
    for number in 0..7 {
        let (_, xml) = run(&fleet, &number.to_string(), &format!("token-{number}")).await;
        ids.push(text(&xml, "instanceId"));
    }
    let by_tag = [
        ("Filter.1.Name", "tag:gatewayzen:gatewayd"),
        ("Filter.1.Value.1", "3"),
    ];
    assert_eq!(
        texts(&describe(&fleet, &by_tag).await, "instanceId"),
        [ids[3].clone()]
    );
    let by_token = [("Filter.1.Name", "client-token"), ("Filter.1.Value.1", "token-5")];
    assert_eq!(
        texts(&describe(&fleet, &by_token).await, "instanceId"),
        [ids[5].clone()]
    );
    let by_id = [
        ("Filter.1.Name", "instance-id"),
        ("Filter.1.Value.1", &ids[2]),
        ("Filter.1.Value.2", "i-00000000000000000"),
    ];
    assert_eq!(
        texts(&describe(&fleet, &by_id).await, "instanceId"),
        [ids[2].clone()]
    );
    let ended = [
        ("Filter.1.Name", "instance-state-name"),
        ("Filter.1.Value.1", "terminated"),
    ];
    assert!(texts(&describe(&fleet, &ended).await, "instanceId").is_empty());

    let first = describe(&fleet, &[("MaxResults", "5")]).await;
    assert_eq!(texts(&first, "instanceId"), ids[..5]);
    let next = text(&first, "nextToken");
    let second = describe(&fleet, &[("MaxResults", "5"), ("NextToken", &next)]).await;
    assert_eq!(
        (texts(&second, "instanceId"), texts(&second, "nextToken").len()),
        (ids[5..].to_vec(), 0)
    );

    let (status, xml) = ec2(
        &fleet,
        "DescribeInstances",
        &[("InstanceId.1", &ids[0]), ("InstanceId.2", "i-0")],
    )
    .await;
    assert_eq!(
        (status, text(&xml, "Code")),
        (400, "InvalidInstanceID.NotFound".to_owned())
    );
    let (_, xml) = ec2(
        &fleet,
        "DescribeInstances",
        &[("Filter.1.Name", "colour"), ("Filter.1.Value.1", "red")],
    )
    .await;
    assert_eq!(text(&xml, "Code"), "InvalidParameterValue");
}

#[tokio::test]
async fn ec2_refuses_in_its_own_words() {
    let fleet = fleet(|_| {}).await;
    let refusals = [
        ("InsufficientInstanceCapacity", 500),
        ("RequestLimitExceeded", 503),
        ("UnauthorizedOperation", 403),
    ];
    for (code, status) in refusals {
        let fault = FaultKind::Ec2Error {
            code: code.to_owned(),
            action: Some("RunInstances".to_owned()),
        };
        fleet.fault(Fault::new(fault).on("7").times(1));
        assert_eq!(
            run(&fleet, "8", code).await.0,
            200,
            "another gatewayd's launch is let through"
        );
        let (seen, xml) = run(&fleet, "7", "one").await;
        assert_eq!((seen, text(&xml, "Code")), (status, code.to_owned()));
    }
    let (status, xml) = ec2(
        &fleet,
        "RunInstances",
        &[("ImageId", "ami-none"), ("MinCount", "1"), ("MaxCount", "1")],
    )
    .await;
    assert_eq!(
        (status, text(&xml, "Code")),
        (400, "InvalidAMIID.NotFound".to_owned())
    );
    let (_, xml) = ec2(&fleet, "DescribeImages", &[("ImageId.1", "ami-none")]).await;
    assert_eq!(text(&xml, "Code"), "InvalidAMIID.NotFound");
    assert_eq!(
        text(&ec2(&fleet, "DescribeImages", &[]).await.1, "imageState"),
        "available"
    );
    assert_eq!(ec2(&fleet, "DescribeRegions", &[]).await.0, 200);
    let (status, xml) = ec2(&fleet, "DescribeInstances", &[("DryRun", "true")]).await;
    assert_eq!((status, text(&xml, "Code")), (412, "DryRunOperation".to_owned()));
    let form = "Action=DescribeInstances".to_owned();
    let (status, xml) = endpoint(&fleet, "POST", "/", "wrong", form).await.unwrap();
    assert_eq!(
        (status.as_u16(), text(&xml, "Code")),
        (401, "AuthFailure".to_owned())
    );
    // A refused launch used up no token.
    assert_eq!(run(&fleet, "7", "one").await.0, 200);
}

#[tokio::test]
async fn the_ledger_and_the_faults_are_open_over_http() {
    let fleet = fleet(|_| {}).await;
    let fault = r#"{"fault":{"kind":"ec2_error","code":"RequestLimitExceeded"},"times":1}"#;
    let (status, _) = endpoint(&fleet, "POST", "/_sim/faults", "", fault.to_owned())
        .await
        .unwrap();
    assert_eq!(status.as_u16(), 201);
    assert_eq!(run(&fleet, "7", "one").await.0, 503);
    let (status, body) = endpoint(&fleet, "POST", "/_sim/faults", "", "{}".to_owned())
        .await
        .unwrap();
    assert_eq!(
        (status.as_u16(), body.contains("not a fault")),
        (400, true),
        "{body}"
    );

    host(&fleet, "7").await;
    let (_, body) = endpoint(&fleet, "GET", "/_sim/ledger", "", String::new())
        .await
        .unwrap();
    let ledger: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(ledger["entries"][0]["event"], "launched");
    assert_eq!(ledger["entries"][0]["tags"]["gatewayzen:gatewayd"], "7");
    assert!(ledger["times"]["7"]["boot_ms"].as_u64().unwrap() >= 300, "{body}");
    let (_, body) = endpoint(&fleet, "GET", "/_sim/hosts", "", String::new())
        .await
        .unwrap();
    assert!(body.contains(&fleet.hosts()[0].instance), "{body}");
    endpoint(&fleet, "DELETE", "/_sim/faults", "", String::new())
        .await
        .unwrap();
    let (_, body) = endpoint(&fleet, "GET", "/_sim/faults", "", String::new())
        .await
        .unwrap();
    assert_eq!(body, "[]");
}

#[tokio::test]
async fn two_fleets_never_share_a_network() {
    let first = fleet(|_| {}).await;
    let config = crate::simulated_fleet::Config {
        network: Some(first.network()),
        fleet_public_key: super::client::fleet_key().public_key().to_openssh().unwrap(),
        ..Default::default()
    };
    let error = SimulatedFleet::start(config)
        .await
        .err()
        .expect("the network is taken");
    assert!(error.to_string().contains("name another"), "{error}");
}
