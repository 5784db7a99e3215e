//! Every place to which a secret could have got.

use std::path::Path;
use std::process::Stdio;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use integration_tests::harness::{Bed, ServiceProcess, dev_env, redis_connection};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use tokio::net::{TcpListener, TcpStream};

/// What was collected: where from, and the bytes.
pub(crate) type Sources = Vec<(String, Vec<u8>)>;

/// An OTLP collector that keeps what it is sent, byte by byte. Its base URL.
pub(crate) async fn collector() -> (String, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let kept = Arc::new(Mutex::new(Vec::new()));
    let sink = kept.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let sink = sink.clone();
            let service = service_fn(move |request: http::Request<Incoming>| {
                let sink = sink.clone();
                async move {
                    let head = format!("{:?}", request.headers());
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    let mut sink = sink.lock().unwrap();
                    sink.extend_from_slice(head.as_bytes());
                    sink.extend_from_slice(&body);
                    Ok::<_, Infallible>(http::Response::new(Full::new(Bytes::new())))
                }
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    (endpoint, kept)
}

/// Every key of a Redis, its value as DUMP gives it, and whether it is text the value itself.
pub(crate) async fn redis(url: &str) -> Sources {
    let mut connection = redis_connection(url).await;
    let keys: Vec<Vec<u8>> = redis::cmd("KEYS")
        .arg("*")
        .query_async(&mut connection)
        .await
        .unwrap();
    assert!(keys.len() > 5, "Redis holds next to nothing");
    let mut all = Vec::new();
    for key in keys {
        let name = format!("Redis key {}", String::from_utf8_lossy(&key));
        let kind: String = redis::cmd("TYPE")
            .arg(&key)
            .query_async(&mut connection)
            .await
            .unwrap();
        let read = match kind.as_str() {
            "string" => redis::cmd("GET").arg(&key).to_owned(),
            "list" => redis::cmd("LRANGE").arg(&key).arg(0).arg(-1).to_owned(),
            "set" => redis::cmd("SMEMBERS").arg(&key).to_owned(),
            "zset" => redis::cmd("ZRANGE").arg(&key).arg(0).arg(-1).to_owned(),
            "hash" => redis::cmd("HGETALL").arg(&key).to_owned(),
            // Gone meanwhile.
            _ => continue,
        };
        let value: redis::Value = read.query_async(&mut connection).await.unwrap();
        let mut bytes = key.clone();
        flatten(&value, &mut bytes);
        let dump: Option<Vec<u8>> = redis::cmd("DUMP")
            .arg(&key)
            .query_async(&mut connection)
            .await
            .unwrap();
        bytes.extend(dump.unwrap_or_default());
        all.push((name, bytes));
    }
    let _: String = redis::cmd("SAVE").query_async(&mut connection).await.unwrap();
    all
}

fn flatten(value: &redis::Value, bytes: &mut Vec<u8>) {
    match value {
        redis::Value::BulkString(text) => {
            bytes.push(b'\n');
            bytes.extend_from_slice(text);
        }
        redis::Value::Array(values) | redis::Value::Set(values) => {
            values.iter().for_each(|value| flatten(value, bytes));
        }
        redis::Value::Map(pairs) => pairs.iter().for_each(|(key, value)| {
            flatten(key, bytes);
            flatten(value, bytes);
        }),
        other => bytes.extend_from_slice(format!("{other:?}").as_bytes()),
    }
}

/// A plain dump of the whole database, with its rows.
pub(crate) async fn postgres(bed: &Bed) -> Sources {
    let superuser = dev_env("DATABASE_URL");
    let name = bed.database.text("SELECT current_database()::text").await;
    let url = format!("{}/{name}", superuser.rsplit_once('/').unwrap().0);
    let dump = tokio::process::Command::new(Path::new(&dev_env("PG_BIN")).join("pg_dump"))
        .args(["--dbname", &url])
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
    assert!(String::from_utf8_lossy(&dump.stdout).contains("COPY public.wallet_seeds"));
    vec![("the dump of Postgres".into(), dump.stdout)]
}

/// What the system tells of a process to those who may ask.
pub(crate) fn process(service: &ServiceProcess) -> Sources {
    let pid = service.pid();
    let mut all = Vec::new();
    for file in ["cmdline", "environ", "comm", "status", "limits", "maps"] {
        // Only the superuser can read some: it is not dumpable.
        if let Ok(bytes) = std::fs::read(format!("/proc/{pid}/{file}")) {
            assert!(file != "cmdline" || !bytes.is_empty());
            all.push((format!("{file} of {}", service.name), bytes));
        }
    }
    all
}

/// Every file of a folder and of those in it, but for those in which a secret has its place.
pub(crate) fn files(folder: &Path, has_its_place: fn(&str) -> bool) -> Sources {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(&path, has_its_place));
        } else if !has_its_place(path.file_name().unwrap().to_str().unwrap()) {
            all.push((
                format!("file {}", path.display()),
                std::fs::read(&path).unwrap_or_default(),
            ));
        }
    }
    all
}

/// An answer of a health endpoint, with its head.
pub(crate) async fn http_get(port: u16, path: &str) -> Sources {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 "), "{path}");
    vec![(format!("{path} at port {port}"), answer)]
}
