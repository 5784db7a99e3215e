//! A Postgres and a Redis of one test's own, which it may stop and kill.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

use super::{dev_env, eventually};

/// A Redis that may go and come back on the same port.
pub struct RedisServer {
    port: u16,
    folder: TempDir,
    password: String,
    tls: bool,
    child: Option<Child>,
}

/// A Postgres that may go and come back on the same port.
pub struct PostgresServer {
    port: u16,
    folder: TempDir,
    tls: bool,
    child: Option<Child>,
}

/// For a Redis that speaks nothing but TLS.
const TLS_ARGUMENTS: &[&str] = &[
    "--port",
    "0",
    "--tls-cert-file",
    "certificate.pem",
    "--tls-key-file",
    "key.pem",
    "--tls-ca-cert-file",
    "certificate.pem",
    "--tls-auth-clients",
    "no",
];

/// A port of loopback that nobody listens on, below those that the system hands out.
pub async fn free_port() -> u16 {
    loop {
        let port = fastrand::u16(12000..19000);
        if TcpListener::bind(("127.0.0.1", port)).await.is_ok() {
            return port;
        }
    }
}

async fn answers(port: u16) {
    eventually(&format!("port {port} to answer"), async || {
        TcpStream::connect(("127.0.0.1", port)).await.ok()
    })
    .await;
}

fn folder() -> TempDir {
    tempfile::Builder::new()
        .prefix("gatewayzen-")
        .tempdir()
        .expect("a folder")
}

impl RedisServer {
    /// One with nothing in it, not started.
    pub async fn new() -> RedisServer {
        RedisServer {
            port: free_port().await,
            folder: folder(),
            password: String::new(),
            tls: false,
            child: None,
        }
    }

    /// As [`new`](Self::new), with a password.
    pub async fn with_password(password: &str) -> RedisServer {
        RedisServer {
            password: password.to_owned(),
            ..RedisServer::new().await
        }
    }

    /// As [`new`](Self::new), over TLS alone, with this certificate (PEM) and its key.
    pub async fn with_tls(certificate: &str, key: &str) -> RedisServer {
        let server = RedisServer {
            tls: true,
            ..RedisServer::new().await
        };
        std::fs::write(server.folder.path().join("certificate.pem"), certificate).expect("a file");
        std::fs::write(server.folder.path().join("key.pem"), key).expect("a file");
        server
    }

    /// Its URL, whether it runs or not.
    pub fn url(&self) -> String {
        if self.tls {
            return format!("rediss://localhost:{}/0", self.port);
        }
        let login = match self.password.as_str() {
            "" => String::new(),
            password => format!(":{password}@"),
        };
        format!("redis://{login}127.0.0.1:{}/0", self.port)
    }

    /// Where it writes its dump.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts it.
    pub async fn start(&mut self) {
        let child = Command::new("redis-server")
            .args([
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "no",
                if self.tls { "--tls-port" } else { "--port" },
            ])
            .arg(self.port.to_string())
            .args(if self.tls { TLS_ARGUMENTS } else { &[] })
            .arg("--dir")
            .arg(self.folder.path())
            .args(["--requirepass", &self.password])
            // Its dumps then show what is in them.
            .args(["--rdbcompression", "no"])
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("redis-server");
        self.child = Some(child);
        answers(self.port).await;
    }

    /// SIGKILL: everything in it is gone.
    pub async fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().await.expect("killed");
        }
    }
}

impl PostgresServer {
    /// One with nothing in it, not started.
    pub async fn new() -> PostgresServer {
        let folder = folder();
        let server = PostgresServer {
            port: free_port().await,
            folder,
            tls: false,
            child: None,
        };
        if is_root() {
            let owned = Command::new("chown")
                .arg("postgres")
                .arg(server.folder.path())
                .status()
                .await;
            assert!(owned.expect("chown").success());
        }
        let made = server
            .postgres("initdb")
            .args(["-A", "trust", "-U", "postgres", "-D"])
            .arg(server.data())
            .output()
            .await
            .expect("initdb");
        assert!(
            made.status.success(),
            "initdb: {}",
            String::from_utf8_lossy(&made.stderr)
        );
        server
    }

    /// Has it speak TLS with this certificate (PEM) and its key, and admit nobody without, when it is started.
    pub async fn require_tls(&mut self, certificate: &str, key: &str) {
        self.tls = true;
        let data = self.data();
        std::fs::write(data.join("server.crt"), certificate).expect("a file");
        std::fs::write(data.join("server.key"), key).expect("a file");
        let admit = "hostssl all all 127.0.0.1/32 trust\nhostssl all all ::1/128 trust\n";
        std::fs::write(data.join("pg_hba.conf"), admit).expect("a file");
        for command in [&["chmod", "600"][..], &["chown", "postgres"]] {
            if command[0] == "chown" && !is_root() {
                continue;
            }
            let done = Command::new(command[0])
                .arg(command[1])
                .arg(data.join("server.key"))
                .status()
                .await;
            assert!(done.expect("a command").success());
        }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A program of Postgres, which refuses to run as root.
    fn postgres(&self, program: &str) -> Command {
        let path = Path::new(&dev_env("PG_BIN")).join(program);
        let mut command = if is_root() {
            let mut command = Command::new("setpriv");
            command
                .args(["--reuid=postgres", "--regid=postgres", "--clear-groups"])
                .arg(path);
            command
        } else {
            Command::new(path)
        };
        command.current_dir("/").stdin(Stdio::null());
        command
    }

    /// Its superuser's URL, whether it runs or not.
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// Starts it.
    pub async fn start(&mut self) {
        let child = self
            .postgres("postgres")
            .arg("-D")
            .arg(self.data())
            .args([
                "-p",
                &self.port.to_string(),
                "-c",
                "listen_addresses=127.0.0.1",
                "-c",
                "unix_socket_directories=",
                "-c",
                "max_connections=200",
                "-c",
                if self.tls { "ssl=on" } else { "ssl=off" },
            ])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("postgres");
        self.child = Some(child);
        let url = self.url() + if self.tls { "?sslmode=require" } else { "" };
        eventually("Postgres to take queries", async || {
            let pool = sqlx::postgres::PgPoolOptions::new()
                .max_connections(1)
                .acquire_timeout(Duration::from_millis(300));
            pool.connect(&url).await.ok()
        })
        .await;
    }

    /// Ends it at once, as a power cut does to its clients: SIGQUIT, Postgres's immediate shutdown.
    pub async fn stop_at_once(&mut self) {
        if let Some(mut child) = self.child.take() {
            let pid = child.id().expect("a process").to_string();
            let told = Command::new("kill")
                .args(["-QUIT", &pid])
                .status()
                .await
                .expect("kill");
            assert!(told.success());
            child.wait().await.expect("its end");
        }
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        // Its children outlive a SIGKILL for a moment and hold files in the folder: ask it to take them along.
        if let Some(pid) = self.child.as_ref().and_then(Child::id) {
            let _ = std::process::Command::new("kill")
                .args(["-QUIT", &pid.to_string()])
                .status();
            for _ in 0..100 {
                if !Path::new(&format!("/proc/{pid}/cwd")).exists() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}
