//! An operator says who a host is from now on.

use gatewayzen_core::State;
use integration_tests::harness::{Bed, Options, eventually};
use integration_tests::simulated_fleet::{Fault, FaultKind};
use serde_json::Value;

#[tokio::test]
async fn an_operators_fingerprint_is_the_only_one_that_is_accepted_until_it_was_met() {
    let bed = Bed::new(Options::default()).await;
    let _services = bed.start_all();
    let id = bed.launch("acme").await;
    let live = bed.reached(id, State::Live).await;
    let reset = async |fingerprint: &str, reason: &str| {
        let arguments = [
            "identity",
            "reset",
            "acme",
            "--fingerprint",
            fingerprint,
            "--reason",
            reason,
        ];
        bed.gatewayzen(&arguments).await
    };
    for bad in [
        "SHA256:short",
        "aa:bb",
        "MD5:aa",
        "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA!",
    ] {
        let (code, sentence) = reset(bad, "none").await.unwrap_err();
        assert_eq!(code, 1);
        assert!(
            sentence.contains("is no fingerprint: that of an SSH host key looks like"),
            "{sentence}"
        );
    }
    let (_, sentence) = reset(&"ab".repeat(32), " ").await.unwrap_err();
    assert!(
        sentence.contains("the audit wants a reason of 1 to 500 characters"),
        "{sentence}"
    );
    bed.gatewayzen(&["create", "imagined"]).await.unwrap();
    let arguments = [
        "identity",
        "reset",
        "imagined",
        "--fingerprint",
        &"ab".repeat(32),
        "--reason",
        "none",
    ];
    let (_, sentence) = bed.gatewayzen(&arguments).await.unwrap_err();
    assert!(
        sentence.contains("has no machine whose identity could be reset"),
        "{sentence}"
    );

    // The SSH host key. First a fingerprint that nobody has: the host as it was is refused as well.
    let nobodys = format!("SHA256:{}", "A".repeat(43));
    reset(&nobodys, "the disk was exchanged").await.unwrap();
    bed.write_state(id, State::Stop).await.unwrap();
    let fault = bed.parked(id).await.fault.unwrap();
    let former = live.host_key_fingerprint.unwrap();
    assert!(
        fault.contains(&format!(
            "its SSH host key is {former}, but {nobodys} is expected"
        )),
        "{fault}"
    );
    let new = bed.fleet.rekey(&live.instance_id.unwrap()).unwrap();
    reset(&new, "the disk was exchanged, read on its console")
        .await
        .unwrap();
    bed.gatewayzen(&["retry", "acme"]).await.unwrap();
    bed.reached(id, State::Stopped).await;
    let known = bed
        .database
        .repository("gatewayzen_operator")
        .host_identity(id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(known.expected_host_key, None, "the key itself is pinned now");
    bed.fleet.fault(Fault::new(FaultKind::WrongHostKey).on(id));
    bed.write_state(id, State::Start).await.unwrap();
    let fault = bed.parked(id).await.fault.unwrap();
    assert!(fault.contains(&format!("but {new} is expected")), "{fault}");
    bed.fleet.clear_faults();

    // The certificate.
    let pinned = live.tls_fingerprint.unwrap();
    reset(&"AB:".repeat(32)[..95], "a mistake").await.unwrap();
    bed.gatewayzen(&["retry", "acme"]).await.unwrap();
    let row = bed.parked(id).await;
    let fault = row.fault.unwrap();
    let said = format!(
        "shows the certificate {pinned}, but the pinned one is {}",
        "ab".repeat(32)
    );
    assert!(fault.contains(&said), "{fault}");
    assert!(row.unblock.unwrap().contains("gatewayzen identity reset acme"));
    reset(&pinned, "the mistake is mended").await.unwrap();
    bed.gatewayzen(&["retry", "acme"]).await.unwrap();
    bed.reached(id, State::Live).await;

    let shown: Value = serde_json::from_str(
        &bed.gatewayzen(&["--json", "identity", "show", "acme"])
            .await
            .unwrap(),
    )
    .unwrap();
    assert_eq!(shown["host_key_fingerprint"], new);
    let resets = shown["resets"].as_array().unwrap();
    let actions: Vec<&str> = resets
        .iter()
        .map(|entry| entry["action"].as_str().unwrap())
        .collect();
    let (ssh, tls) = ("reset-ssh-identity", "reset-tls-identity");
    assert_eq!(actions, [ssh, ssh, tls, tls]);
    assert_eq!(resets[0]["login"], "gatewayzen_operator");
    assert_eq!(resets[0]["details"]["former"], former);
    let text = bed.gatewayzen(&["identity", "show", "acme"]).await.unwrap();
    assert!(
        text.contains(&new) && text.contains("made on the host") && text.contains(&pinned),
        "{text}"
    );
}

#[tokio::test]
async fn nothing_is_reset_where_nothing_is_known_yet() {
    let bed = Bed::new(Options::default()).await;
    let _services = ["dispatcher", "instance-worker"].map(|name| bed.start(name));
    let half = bed.launch("half").await;
    bed.reached(half, State::Key).await;
    let waits = bed
        .launch_after("waits", |id| {
            bed.fleet.fault(Fault::new(FaultKind::NoAddress).on(id))
        })
        .await;
    eventually("the row to know its machine", async || {
        bed.row(waits).await.instance_id
    })
    .await;
    let (ssh, tls) = (format!("SHA256:{}", "A".repeat(43)), "ab".repeat(32));
    let makes = |name: &str, state: &str| {
        format!(
            "gatewayd \"{name}\" is in state \"{state}\": its step there makes that identity, and nothing is known that could be reset"
        )
    };
    for (name, fingerprint, expected) in [
        ("nobody", &ssh, "there is no gatewayd \"nobody\"".to_owned()),
        ("nobody", &tls, "there is no gatewayd \"nobody\"".to_owned()),
        ("waits", &ssh, makes("waits", "instance")),
        ("waits", &tls, makes("waits", "instance")),
        ("half", &tls, makes("half", "key")),
    ] {
        let arguments = [
            "identity",
            "reset",
            name,
            "--fingerprint",
            fingerprint,
            "--reason",
            "none",
        ];
        let (code, sentence) = bed.gatewayzen(&arguments).await.unwrap_err();
        assert!(
            code == 1 && sentence.contains(&expected),
            "{arguments:?}: {sentence}"
        );
    }
    assert_eq!(bed.database.text("SELECT count(*)::text FROM audit").await, "0");
}
