//! Each way in which EC2 is late, loses a reply or an instance.

use super::client::{ec2, endpoint, fleet, host, run, seen, soon, text, texts};
use super::ec2::describe;
use crate::simulated_fleet::{Event, Fault, FaultKind};

#[tokio::test]
async fn ids_and_tags_may_lag() {
    let fleet = fleet(|_| {}).await;
    fleet.fault(Fault::new(FaultKind::IdLag { ms: 3_600_000 }).on("1"));
    fleet.fault(Fault::new(FaultKind::TagLag { ms: 3_600_000 }).on("2"));
    let (_, unseen) = run(&fleet, "1", "one").await;
    let (_, untagged) = run(&fleet, "2", "two").await;
    let xml = describe(&fleet, &[]).await;
    assert_eq!(texts(&xml, "instanceId"), [text(&untagged, "instanceId")]);
    assert!(!xml.contains("tagSet"), "{xml}");
    let by_tag = [
        ("Filter.1.Name", "tag:gatewayzen:gatewayd"),
        ("Filter.1.Value.1", "2"),
    ];
    assert!(texts(&describe(&fleet, &by_tag).await, "instanceId").is_empty());
    let (_, xml) = ec2(
        &fleet,
        "TerminateInstances",
        &[("InstanceId.1", &text(&unseen, "instanceId"))],
    )
    .await;
    assert_eq!(text(&xml, "Code"), "InvalidInstanceID.NotFound");
    // The token is the authority all the while.
    assert_eq!(
        text(&run(&fleet, "1", "one").await.1, "instanceId"),
        text(&unseen, "instanceId")
    );
}

#[tokio::test]
async fn a_lost_reply_has_launched_all_the_same() {
    let fleet = fleet(|_| {}).await;
    fleet.fault(
        Fault::new(FaultKind::Ec2LosesReply {
            action: Some("RunInstances".to_owned()),
        })
        .times(1),
    );
    let lost = [
        "Action=RunInstances",
        "ClientToken=one",
        "MinCount=1",
        "MaxCount=1",
        "ImageId=ami-0000000000000001",
    ];
    endpoint(&fleet, "POST", "/", "simulated", lost.join("&"))
        .await
        .expect_err("the connection closes");
    let (status, xml) = endpoint(&fleet, "POST", "/", "simulated", lost.join("&"))
        .await
        .unwrap();
    assert_eq!(
        (status.as_u16(), text(&xml, "instanceId")),
        (200, fleet.hosts()[0].instance.clone())
    );
    assert_eq!(fleet.hosts().len(), 1);
}

#[tokio::test]
async fn an_instance_may_die_pending_or_never_have_an_address() {
    let fleet = fleet(|_| {}).await;
    fleet.fault(Fault::new(FaultKind::DiesPending).on("1"));
    fleet.fault(Fault::new(FaultKind::NoAddress).on("2"));
    run(&fleet, "1", "one").await;
    run(&fleet, "2", "two").await;
    seen(&fleet, |entry| {
        entry.gatewayd == "1" && entry.event == Event::Died
    })
    .await;
    seen(&fleet, |entry| {
        entry.gatewayd == "2" && entry.event == Event::Running
    })
    .await;
    let died = [
        ("Filter.1.Name", "tag:gatewayzen:gatewayd"),
        ("Filter.1.Value.1", "1"),
    ];
    let xml = describe(&fleet, &died).await;
    assert_eq!(text(&xml, "name"), "terminated");
    assert!(xml.contains("<code>Server.InternalError</code>"), "{xml}");
    let lonely = [
        ("Filter.1.Name", "tag:gatewayzen:gatewayd"),
        ("Filter.1.Value.1", "2"),
    ];
    let xml = describe(&fleet, &lonely).await;
    assert_eq!(
        (text(&xml, "name"), texts(&xml, "privateIpAddress").len()),
        ("running".to_owned(), 0)
    );
    assert_eq!(
        fleet
            .ledger()
            .count(|entry| matches!(entry.event, Event::HostUp { .. })),
        0
    );
}

#[tokio::test]
async fn a_running_instance_may_be_killed() {
    let fleet = fleet(|_| {}).await;
    let address = host(&fleet, "7").await;
    let id = fleet.hosts()[0].instance.clone();
    assert!(fleet.kill(&id));
    assert_eq!(fleet.ledger().count(|entry| entry.event == Event::Died), 1);
    let xml = describe(&fleet, &[("InstanceId.1", &id)]).await;
    assert_eq!(text(&xml, "name"), "terminated");
    assert!(xml.contains("Server.SpotInstanceTermination"), "{xml}");
    soon(async {
        while tokio::net::TcpStream::connect((address, 2222)).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(!fleet.kill(&id), "it dies once");
    ec2(&fleet, "TerminateInstances", &[("InstanceId.1", &id)]).await;
    assert_eq!(
        fleet.ledger().count(|entry| entry.event == Event::Terminated),
        0,
        "what is dead is not terminated again"
    );
}
