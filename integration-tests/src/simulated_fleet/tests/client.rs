//! The clients of the stories: a raw EC2 form client, an SSH client that pins, an HTTPS client that pins.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use russh::ChannelMsg;
use russh::client::{self, Handle};
use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::keys::{PrivateKey, PrivateKeyWithHashAlg, PublicKey};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::simulated_fleet::{Config, DEFAULT_IMAGE, Entry, Event, SimulatedFleet};

pub(super) fn key(seed: u8) -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
}

pub(super) fn fleet_key() -> PrivateKey {
    key(1)
}

/// The host key that every launch here hands to its instance.
pub(super) fn host_key() -> PrivateKey {
    key(2)
}

/// A fleet with the default times, changed as the test likes.
pub(super) async fn fleet(change: impl FnOnce(&mut Config)) -> SimulatedFleet {
    let mut config = Config {
        fleet_public_key: fleet_key().public_key().to_openssh().unwrap(),
        ..Config::default()
    };
    change(&mut config);
    SimulatedFleet::start(config).await.unwrap()
}

/// Within a limit that only a defect reaches.
pub(super) async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), future)
        .await
        .expect("it takes 20 seconds already")
}

pub(super) async fn seen(fleet: &SimulatedFleet, matches: impl Fn(&Entry) -> bool) -> Entry {
    soon(fleet.ledger().wait_for(matches)).await
}

/// Waits until a fault that comes only so many times has come for the last time.
pub(super) async fn befallen(fleet: &SimulatedFleet) {
    let faults = &fleet.shared.faults;
    soon(async {
        while !faults.list().iter().any(|fault| fault.times == Some(0)) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

pub(super) async fn http<S>(stream: S, request: Request<Full<Bytes>>) -> hyper::Result<(StatusCode, String)>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    connection.abort();
    Ok((status, String::from_utf8(body.to_vec()).unwrap()))
}

/// One call to the endpoint: a status and a body, or a connection that was closed.
pub(super) async fn endpoint(
    fleet: &SimulatedFleet,
    method: &str,
    path: &str,
    access_key: &str,
    body: String,
) -> hyper::Result<(StatusCode, String)> {
    let address = fleet.endpoint().trim_start_matches("http://").to_owned();
    let signature =
        format!("AWS4-HMAC-SHA256 Credential={access_key}/20261101/us-east-1/ec2/aws4_request, Signature=0");
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", &address)
        .header("authorization", signature)
        .body(Full::from(body))
        .unwrap();
    soon(http(TcpStream::connect(address).await.unwrap(), request)).await
}

/// One EC2 call.
pub(super) async fn ec2(fleet: &SimulatedFleet, action: &str, parameters: &[(&str, &str)]) -> (u16, String) {
    let mut form = format!("Action={action}&Version=2016-11-15");
    for (name, value) in parameters {
        let escaped: String = value.bytes().map(|byte| format!("%{byte:02X}")).collect();
        form += &format!("&{name}={escaped}");
    }
    let (status, body) = endpoint(fleet, "POST", "/", "simulated", form).await.unwrap();
    (status.as_u16(), body)
}

/// The texts of every element of a name.
pub(super) fn texts(xml: &str, name: &str) -> Vec<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    xml.split(&open)
        .skip(1)
        .map(|rest| rest.split(&close).next().unwrap().to_owned())
        .collect()
}

pub(super) fn text(xml: &str, name: &str) -> String {
    texts(xml, name)
        .into_iter()
        .next()
        .unwrap_or_else(|| panic!("no {name} in {xml}"))
}

pub(super) fn user_data() -> String {
    let private = host_key().to_openssh(LineEnding::LF).unwrap();
    let indented: String = private.lines().map(|line| format!("    {line}\n")).collect();
    let public = host_key().public_key().to_openssh().unwrap();
    BASE64_STANDARD.encode(format!(
        "#cloud-config\nssh_deletekeys: true\nssh_keys:\n  ed25519_private: |\n{indented}  ed25519_public: {public}\n"
    ))
}

/// RunInstances for a gatewayd under a token.
pub(super) async fn run(fleet: &SimulatedFleet, gatewayd: &str, token: &str) -> (u16, String) {
    let user_data = user_data();
    let parameters = [
        ("ImageId", DEFAULT_IMAGE),
        ("MinCount", "1"),
        ("MaxCount", "1"),
        ("ClientToken", token),
        ("UserData", &user_data),
        ("TagSpecification.1.ResourceType", "instance"),
        ("TagSpecification.1.Tag.1.Key", "Name"),
        ("TagSpecification.1.Tag.1.Value", "a <b> & \"c\""),
        ("TagSpecification.1.Tag.2.Key", "gatewayzen:gatewayd"),
        ("TagSpecification.1.Tag.2.Value", gatewayd),
    ];
    ec2(fleet, "RunInstances", &parameters).await
}

/// Launches a host for a gatewayd and waits until its SSH answers.
pub(super) async fn host(fleet: &SimulatedFleet, gatewayd: &str) -> Ipv4Addr {
    let (status, xml) = run(fleet, gatewayd, &format!("token-{gatewayd}")).await;
    assert_eq!(status, 200, "{xml}");
    seen(fleet, |entry| {
        entry.gatewayd == gatewayd && matches!(entry.event, Event::HostUp { .. })
    })
    .await;
    text(&xml, "privateIpAddress").parse().unwrap()
}

pub(super) struct Pin(PublicKey);

impl client::Handler for Pin {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        key: &russh::keys::PublicKeyOrCertificate,
    ) -> Result<bool, Self::Error> {
        Ok(
            matches!(key, russh::keys::PublicKeyOrCertificate::PublicKey { key, .. } if key.key_data() == self.0.key_data()),
        )
    }
}

/// What a login came to.
pub(super) async fn login(address: Ipv4Addr, key: PrivateKey) -> Result<Handle<Pin>, russh::Error> {
    let pin = Pin(host_key().public_key().clone());
    let config = client::Config {
        nodelay: true,
        ..client::Config::default()
    };
    let mut session = client::connect(Arc::new(config), (address, 2222), pin).await?;
    let key = PrivateKeyWithHashAlg::new(Arc::new(key), None);
    match session.authenticate_publickey("ubuntu", key).await?.success() {
        true => Ok(session),
        false => Err(russh::Error::NotAuthenticated),
    }
}

/// What a command came to; without an exit status the connection was lost.
#[derive(Debug, Default)]
pub(super) struct Ran {
    pub(super) stdout: String,
    pub(super) bytes: usize,
    pub(super) stderr: String,
    pub(super) exit: Option<u32>,
}

/// Runs a command by name, wrapped as the ssh-worker does.
pub(super) async fn command(address: Ipv4Addr, name: &str) -> Ran {
    let line = format!("GATEWAYZEN_COMMAND={name} flock -o -E 75 -w 10 lock timeout -k 1 30 sh -c 'true'");
    soon(command_line(address, &line)).await
}

pub(super) async fn command_line(address: Ipv4Addr, line: &str) -> Ran {
    let session = login(address, fleet_key()).await.unwrap();
    let mut channel = session.channel_open_session().await.unwrap();
    channel.exec(true, line).await.unwrap();
    let mut ran = Ran::default();
    while let Some(message) = channel.wait().await {
        match message {
            ChannelMsg::Data { data } => {
                ran.bytes += data.len();
                if ran.stdout.len() < 10_000 {
                    ran.stdout += &String::from_utf8_lossy(&data);
                }
            }
            ChannelMsg::ExtendedData { data, .. } => ran.stderr += &String::from_utf8_lossy(&data),
            ChannelMsg::ExitStatus { exit_status } => ran.exit = Some(exit_status),
            _ => {}
        }
    }
    ran
}

/// A client of one host's gatewayd.
pub(super) struct Api {
    pub(super) address: Ipv4Addr,
    pub(super) key: String,
    pub(super) pem: String,
}

impl Api {
    /// Reads the key, makes the certificate, starts gatewayd and waits until it listens.
    pub(super) async fn start(fleet: &SimulatedFleet, address: Ipv4Addr) -> Self {
        let printed = command(address, "get_key").await.stdout;
        let key = printed
            .lines()
            .find_map(|line| line.strip_prefix("info: "))
            .unwrap()
            .to_owned();
        let pem = command(address, "tls").await.stdout;
        let api = Self { address, key, pem };
        api.started(fleet).await;
        api
    }

    pub(super) async fn started(&self, fleet: &SimulatedFleet) {
        let started = |entry: &Entry| matches!(entry.event, Event::Listening { .. });
        let before = fleet.ledger().count(started);
        assert_eq!(command(self.address, "start").await.exit, Some(0));
        let count = std::cell::Cell::new(0);
        seen(fleet, |entry| {
            count.set(count.get() + u32::from(started(entry)));
            count.get() as usize > before
        })
        .await;
    }

    pub(super) async fn get(&self, path: &str) -> std::io::Result<(u16, String)> {
        self.call("GET", path, &format!("gatewayzen:{}", self.key), String::new())
            .await
    }

    pub(super) async fn post(&self, path: &str, body: serde_json::Value) -> std::io::Result<(u16, String)> {
        self.call(
            "POST",
            path,
            &format!("gatewayzen:{}", self.key),
            body.to_string(),
        )
        .await
    }

    pub(super) async fn call(
        &self,
        method: &str,
        path: &str,
        credentials: &str,
        body: String,
    ) -> std::io::Result<(u16, String)> {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap())
            .unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect((self.address, 5000)).await?;
        let name = ServerName::from(IpAddr::from(self.address));
        let stream = soon(TlsConnector::from(Arc::new(config)).connect(name, stream)).await?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", self.address.to_string())
            .header(
                "authorization",
                format!("Basic {}", BASE64_STANDARD.encode(credentials)),
            )
            .body(Full::from(body))
            .unwrap();
        let (status, body) = soon(http(stream, request)).await.map_err(std::io::Error::other)?;
        Ok((status.as_u16(), body))
    }
}
