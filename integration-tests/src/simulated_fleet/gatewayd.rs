//! The simulated gatewayd: a process that remembers more than its file, and its HTTPS API.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hyper::body::Bytes;
use hyper::{Method, Request};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::certificate::Certificate;
use super::commands::Outcome;
use super::faults::FaultKind;
use super::host::{Host, Machine, Settings};
use super::ledger::{Event, millis};
use super::network::{self, Answer, Line};
use super::{Shared, lock};

/// How many processes a started gatewayd is.
const PROCESSES: u32 = 5;

/// A running gatewayd.
pub(super) struct Process {
    pub(super) pid: u32,
    /// How many there are of it.
    processes: u32,
    /// What it holds in memory: it reads the file at its start and writes it at a saving call only.
    pub(super) memory: Arc<Mutex<Settings>>,
    stop: CancellationToken,
    server: JoinHandle<()>,
}

impl Process {
    pub(super) fn pids(&self) -> impl Iterator<Item = u32> + use<> {
        self.pid..self.pid + self.processes
    }

    /// The cold wallet that it holds and the file does not: what is forgotten when it ends now.
    pub(super) fn unsaved(&self, machine: &Machine) -> Option<String> {
        let known = lock(&self.memory).cold_wallet.clone()?;
        (machine.saved.cold_wallet.as_ref() != Some(&known)).then_some(known)
    }
}

/// The `start` command. Exit 0 whatever happened, as the real one.
pub(super) fn start(host: &Arc<Host>, shared: &Arc<Shared>) -> Outcome {
    let mut machine = lock(&host.machine);
    if machine.process.is_some() {
        return Outcome {
            stderr: "error: simulated gatewayd is already running\n".to_owned(),
            ..Outcome::default()
        };
    }
    // Without a pair of its own gatewayd serves the one that it ships with, which is nobody's.
    let certificate = match machine
        .certificate
        .clone()
        .map_or_else(|| Certificate::make("shipped").map(Arc::new), Ok)
    {
        Ok(certificate) => certificate,
        Err(error) => return Outcome::failed(1, format!("{error}\n")),
    };
    let left = shared.faults.take(&host.targets(), |kind| match kind {
        FaultKind::StartLeavesProcesses { processes } => Some((*processes).clamp(1, PROCESSES)),
        _ => None,
    });
    let pid = machine.next_pid;
    machine.next_pid += PROCESSES + 1;
    let (memory, stop) = (
        Arc::new(Mutex::new(machine.saved.clone())),
        host.boot().child_token(),
    );
    let server = Server {
        host: host.clone(),
        shared: shared.clone(),
        memory: memory.clone(),
        certificate,
        whole: left.is_none(),
    };
    let server = tokio::spawn(server.run(pid, stop.clone()));
    machine.process = Some(Process {
        pid,
        processes: left.unwrap_or(PROCESSES),
        memory,
        stop,
        server,
    });
    shared.record(host, Event::Started { pid });
    Outcome::default()
}

/// The `stop` command. Exit 0 whatever happened, as the real one.
pub(super) async fn stop(host: &Host, shared: &Shared) -> Outcome {
    if shared
        .faults
        .happens(&host.targets(), &FaultKind::StopLeavesProcess)
    {
        return Outcome::default();
    }
    let process = lock(&host.machine).process.take();
    if let Some(mut process) = process {
        process.stop.cancel();
        let _ = (&mut process.server).await;
        shared.record(host, Event::Stopped { pid: process.pid });
        if let Some(address) = process.unsaved(&lock(&host.machine)) {
            shared.record(host, Event::WalletForgotten { address });
        }
    }
    Outcome::default()
}

#[derive(Clone)]
struct Server {
    host: Arc<Host>,
    shared: Arc<Shared>,
    memory: Arc<Mutex<Settings>>,
    certificate: Arc<Certificate>,
    /// Whether all processes are there: less than a whole gatewayd does not listen.
    whole: bool,
}

impl Server {
    async fn run(self, pid: u32, stop: CancellationToken) {
        let started = Instant::now();
        if !self.whole || self.happens(&FaultKind::NeverListens) {
            return stop.cancelled().await;
        }
        let times = &self.shared.config.times;
        let delay = tokio::time::sleep(self.host.vary(times.start_ms, times));
        if stop.run_until_cancelled(delay).await.is_none() {
            return;
        }
        let Some(listener) = self.host.listen(self.shared.config.api_port).await else {
            return;
        };
        self.shared.record(
            &self.host,
            Event::Listening {
                pid,
                after_ms: millis(started.elapsed()),
            },
        );
        network::serve(listener, &stop, |line| self.clone().connection(line)).await;
    }

    async fn connection(self, line: Line) {
        let mut certificate = self.certificate.clone();
        if self.happens(&FaultKind::OtherCertificate) {
            match Certificate::make("another") {
                Ok(another) => certificate = Arc::new(another),
                Err(_) => return,
            }
        }
        // A client that does not like the certificate ends the handshake: nothing to report here.
        if let Ok(stream) = TlsAcceptor::from(certificate.tls.clone()).accept(line).await {
            network::http(stream, |request| self.answer(request)).await;
        }
    }

    async fn answer(&self, request: Request<Bytes>) -> Answer {
        let slow = self.shared.faults.take(&self.host.targets(), |kind| match kind {
            FaultKind::ApiSlow { ms } => Some(*ms),
            _ => None,
        });
        if let Some(ms) = slow {
            tokio::time::sleep(Duration::from_millis(ms)).await;
        }
        if self.happens(&FaultKind::ApiCloses) {
            return None;
        }
        if self.happens(&FaultKind::ApiHtml500) {
            return html(500, "Error: simulated stack trace");
        }
        if self.happens(&FaultKind::ApiHtml200) {
            return html(200, "A simulated page where JSON belongs");
        }
        if self.happens(&FaultKind::Api401) || !self.authorized(&request) {
            return network::reply(401, "text/plain", "Unauthorized");
        }
        let other = self.shared.faults.take(&self.host.targets(), |kind| match kind {
            FaultKind::OtherWallet { address } => Some(address.clone()),
            _ => None,
        });
        if let Some(address) = other {
            lock(&self.memory).cold_wallet = Some(address);
        }
        let body = serde_json::from_slice::<Value>(request.body());
        let said = |name: &str| body.as_ref().ok()?.get(name)?.as_str().map(str::to_owned);
        match (request.method(), request.uri().path()) {
            (&Method::POST, _) if body.is_err() => html(400, "Error: invalid json"),
            (&Method::GET, "/v1/config/wallets/cold") => {
                let address = lock(&self.memory)
                    .cold_wallet
                    .clone()
                    .map_or_else(|| json!({}), Value::from);
                network::json(200, &json!({ "COLD_WALLET": { "address": address } }))
            }
            (&Method::POST, "/v1/config/wallets/cold") => self.set_wallet(said("address")),
            (&Method::GET, "/v1/config/domain") => {
                network::json(200, &json!({ "DOMAIN": lock(&self.memory).domain }))
            }
            (&Method::POST, "/v1/config/domain") => self.set_domain(said("domain")),
            (&Method::GET, "/v1/config/key") => network::json(200, &json!({ "KEY": lock(&self.memory).key })),
            _ => html(404, "Cannot find it"),
        }
    }

    /// The key may be the name or the password, and neither may be empty.
    fn authorized(&self, request: &Request<Bytes>) -> bool {
        let given = (|| {
            let header = request.headers().get("authorization")?.to_str().ok()?;
            let decoded = BASE64_STANDARD.decode(header.strip_prefix("Basic ")?).ok()?;
            let (name, password) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
            Some((name.to_owned(), password.to_owned()))
        })();
        let Some(key) = lock(&self.memory).key.clone() else {
            return false;
        };
        given.is_some_and(|(name, password)| {
            !name.is_empty() && !password.is_empty() && (name == key || password == key)
        })
    }

    /// Kept in memory only. Nothing about the address is checked, not even that there is one.
    fn set_wallet(&self, address: Option<String>) -> Answer {
        let mut memory = lock(&self.memory);
        if memory.cold_wallet.is_some() {
            let closes = self.shared.config.second_wallet_closes;
            return if closes {
                None
            } else {
                html(500, "Error: Can't set headers after they are sent.")
            };
        }
        memory.cold_wallet.clone_from(&address);
        drop(memory);
        if let Some(address) = address.clone() {
            self.shared.record(&self.host, Event::WalletSet { address });
        }
        network::json(201, &json!({ "COLD_WALLET": address }))
    }

    /// The saving call: the whole of the memory goes over the file.
    fn set_domain(&self, domain: Option<String>) -> Answer {
        if self.happens(&FaultKind::DiskFull) {
            return html(500, "Error: ENOSPC: no space left on device, write");
        }
        let mut memory = lock(&self.memory);
        memory.domain = domain.unwrap_or_default();
        let saved = memory.clone();
        drop(memory);
        lock(&self.host.machine).saved = saved.clone();
        if let Some(address) = saved.cold_wallet {
            self.shared.record(&self.host, Event::WalletSaved { address });
        }
        network::json(200, &json!({ "DOMAIN": saved.domain }))
    }

    fn happens(&self, kind: &FaultKind) -> bool {
        self.shared.faults.happens(&self.host.targets(), kind)
    }
}

fn html(status: u16, text: &str) -> Answer {
    let page = format!("<!DOCTYPE html><html><body><h1>{text}</h1></body></html>");
    network::reply(status, "text/html; charset=utf-8", page)
}
