//! The walk itself, on real programs only: moto's EC2, OpenSSH, and gatewayd with all its processes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "tests"
)]

use gatewayzen_core::State;
use integration_tests::harness::{LocalFleet, Mode, eventually};

/// Each environment of local hosts has a network of its own; the demo has 127.64.
const NETWORK: u8 = 71;
const NETWORK_OF_MANY: u8 = 72;
const NETWORK_OF_IDENTITIES: u8 = 73;

/// Asks the running gatewayd for its cold wallet, on its host; prints nothing while it does not answer.
const ASK_WALLET: &str = r#"cd gatewayd && node -e '
process.env.NODE_TLS_REJECT_UNAUTHORIZED = "0";
var key = JSON.parse(require("fs").readFileSync("config/config.json", "utf8")).KEY;
var ask = { host: process.env.HOST, port: 5000, path: "/v1/config/wallets/cold", auth: "test:" + key };
require("https").get(ask, function (answer) { answer.pipe(process.stdout); }).on("error", function () {});
'"#;

#[tokio::test]
async fn a_real_gatewayd_walks_round_every_state_and_keeps_its_wallet() {
    let fleet = LocalFleet::new(Mode::Full, NETWORK, "").await;
    let services = fleet.start_all();
    let id = fleet.launch("acme").await;
    let live = fleet.reached(id, State::Live).await;
    let instance = live.instance_id.clone().unwrap();
    let wallet = live.ripple_address.clone().unwrap();
    assert_eq!(live.release_in_place.as_deref(), Some("3.29.0"));
    let processes = fleet.on_host(&instance, "pm2 jlist").await;
    assert!(
        processes.contains("processes/server.js") && processes.contains("processes/deposits.js"),
        "{processes}"
    );

    // Restarted behind our back, and nobody sets a wallet: it is there, because it was saved.
    fleet.on_host(&instance, "pm2 kill").await;
    drop(services);
    let start = "cd gatewayd && pm2 ping >/dev/null && SSL_KEY_PATH=$HOME/.gatewayzen/tls/key.pem \
        SSL_CERTIFICATE_PATH=$HOME/.gatewayzen/tls/certificate.pem timeout 30 bin/gateway start";
    fleet.on_host(&instance, start).await;
    let answer = eventually("the restarted gatewayd to answer", async || {
        let answer = fleet.on_host(&instance, ASK_WALLET).await;
        answer.contains("COLD_WALLET").then_some(answer)
    })
    .await;
    assert!(answer.contains(&wallet), "what the running server says: {answer}");

    let _services = fleet.start_all();
    for (to, ends_in) in [(State::Stop, State::Stopped), (State::Start, State::Live)] {
        fleet.write_state(id, to).await.unwrap();
        fleet.reached(id, ends_in).await;
    }
    sqlx::query("UPDATE gatewayds SET state = 'update', release = 'v3.29.1' WHERE id = $1")
        .bind(id)
        .execute(&fleet.database.app)
        .await
        .unwrap();
    let updated = fleet.reached(id, State::Stopped).await;
    assert_eq!(updated.release_in_place.as_deref(), Some("3.29.1"));
    assert_ne!(updated.commit_in_place, live.commit_in_place);
    let head = fleet
        .on_host(&instance, "cd gatewayd && git rev-parse v3.29.1^{commit}")
        .await;
    assert_eq!(updated.commit_in_place.as_deref(), Some(head.trim()));

    fleet.write_state(id, State::Start).await.unwrap();
    let again = fleet.reached(id, State::Live).await;
    assert_eq!(again.ripple_address.as_deref(), Some(wallet.as_str()));
    assert_eq!(
        again.tls_fingerprint, live.tls_fingerprint,
        "the host keeps its certificate"
    );
    fleet.write_state(id, State::Terminate).await.unwrap();
    let ended = fleet.reached(id, State::Terminated).await;
    assert_eq!(
        ended.ripple_address.as_deref(),
        Some(wallet.as_str()),
        "the wallet stays"
    );
    fleet.end().await;
}

#[tokio::test]
async fn three_real_gatewayds_come_to_live_side_by_side() {
    let fleet = LocalFleet::new(Mode::Light, NETWORK_OF_MANY, "").await;
    let _services = fleet.start_all();
    let mut ids = Vec::new();
    for name in ["one", "two", "three"] {
        ids.push(fleet.launch(name).await);
    }
    let mut wallets = std::collections::BTreeSet::new();
    for id in &ids {
        let row = fleet.reached(*id, State::Live).await;
        let saved = fleet
            .on_host(
                row.instance_id.as_deref().unwrap(),
                "cat gatewayd/config/config.json",
            )
            .await;
        let wallet = row.ripple_address.unwrap();
        assert!(saved.contains(&wallet), "what the row says is what the host has");
        wallets.insert(wallet);
    }
    assert_eq!(wallets.len(), 3, "each has a wallet of its own");
    fleet.end().await;
}

#[tokio::test]
async fn a_real_openssh_gets_a_host_key_of_its_own_and_goes_over_to_another_login_key() {
    let fleet = LocalFleet::new(Mode::Light, NETWORK_OF_IDENTITIES, "").await;
    let mut services = fleet.start_all();
    let id = fleet.launch("acme").await;
    let live = fleet.reached(id, State::Live).await;
    let instance = live.instance_id.clone().unwrap();
    let on_host = async |command: &str| fleet.on_host(&instance, command).await.trim().to_owned();

    // What OpenSSH shows to a stranger is what the row says, and nothing else.
    let scan = format!(
        "ssh-keyscan -p {} $HOST 2>/dev/null | ssh-keygen -lf - | cut -d ' ' -f 2",
        fleet.facts["ssh_port"]
    );
    assert_eq!(Some(on_host(&scan).await), live.host_key_fingerprint);
    let private = on_host("grep -rl 'PRIVATE KEY' root .gatewayzen .ssh | grep -v tls/").await;
    assert_eq!(
        private, "root/etc/ssh/ssh_host_ed25519_key",
        "the only private key that is left"
    );
    assert_eq!(
        on_host("ls root/var/lib/cloud/instance").await,
        "",
        "no copy of the user data"
    );
    let (launched, erased): (String, bool) = sqlx::query_as(
        "SELECT request::text, sealed_user_data IS NULL AND pending_host_key IS NULL FROM launch_attempts WHERE gatewayd_id = $1",
    )
    .bind(id)
    .fetch_one(&fleet.database.admin)
    .await
    .unwrap();
    assert!(erased, "{launched}");

    // Another key for the fleet.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("next_key").to_string_lossy().into_owned();
    let made = std::process::Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f", &file])
        .status();
    assert!(made.unwrap().success());
    let public = std::fs::read_to_string(format!("{file}.pub")).unwrap();
    services.remove(2).kill().await;
    services.push(fleet.start_with("ssh-worker", &[("GATEWAYZEN_SSH__NEXT_KEY_FILE", &file)]));
    let ssh_key = async |act: &str| {
        fleet
            .gatewayzen(&["ssh-key", act, "--reason", "the yearly one"])
            .await
    };
    println!("{}", ssh_key("rotate").await.unwrap());
    let authorized = on_host("cat .ssh/authorized_keys").await;
    assert_eq!(authorized.lines().count(), 2, "{authorized}");
    println!("{}", ssh_key("retire").await.unwrap());
    let authorized = on_host("cat .ssh/authorized_keys").await;
    assert_eq!(authorized, format!("{} gatewayzen", public.trim()));
    services.retain(|service| service.name != "ssh-worker");
    let _worker = fleet.start_with("ssh-worker", &[("GATEWAYZEN_SSH__KEY_FILE", &file)]);
    fleet.write_state(id, State::Stop).await.unwrap();
    fleet.reached(id, State::Stopped).await;
    fleet.end().await;
}
