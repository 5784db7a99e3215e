//! Postgres and Redis over TLS, by configuration alone: to the right authority, and to nobody else.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "tests"
)]

use std::path::Path;
use std::time::Duration;

use gatewayzen_core::{Repository, State};
use integration_tests::harness::{Bed, Options, PostgresServer, RedisServer};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

/// An authority, and what it has signed for a server.
struct Identity {
    authority: String,
    certificate: String,
    key: String,
}

fn identity(names: &[&str]) -> Identity {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer_key = KeyPair::generate().unwrap();
    let authority = params.self_signed(&issuer_key).unwrap().pem();
    let issuer = Issuer::new(params, issuer_key);
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let certificate = CertificateParams::new(names)
        .unwrap()
        .signed_by(&key, &issuer)
        .unwrap();
    Identity {
        authority,
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    }
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

async fn postgres(identity: &Identity) -> PostgresServer {
    let mut server = PostgresServer::new().await;
    server.require_tls(&identity.certificate, &identity.key).await;
    server.start().await;
    server
}

#[tokio::test]
async fn postgres_is_believed_by_its_authority_and_its_name_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, other) = (identity(&["localhost", "127.0.0.1"]), identity(&["localhost"]));
    let elsewhere = identity(&["db.example"]);
    let right = write(folder.path(), "ca.pem", &ours.authority);
    let wrong = write(folder.path(), "other.pem", &other.authority);
    let named = write(folder.path(), "elsewhere.pem", &elsewhere.authority);
    let (server, misnamed) = (postgres(&ours).await, postgres(&elsewhere).await);
    let ask = async |port: u16, query: String| {
        let url = format!("postgres://postgres@localhost:{port}/postgres?{query}");
        let repository = Repository::new(&url, 1, Duration::from_secs(5)).unwrap();
        repository.ping().await.map_err(|error| error.to_string())
    };
    let (port, verified) = (server.port(), "sslmode=verify-full&sslrootcert=");
    assert_eq!(ask(port, format!("{verified}{right}")).await, Ok(()));
    for (refused, port, query) in [
        ("another authority", port, format!("{verified}{wrong}")),
        ("the system's authorities", port, "sslmode=verify-full".into()),
        ("another name", misnamed.port(), format!("{verified}{named}")),
        ("plaintext", port, "sslmode=disable".into()),
    ] {
        let error = ask(port, query).await.expect_err(refused);
        println!("{refused}: {error}");
    }
}

#[tokio::test]
async fn redis_is_believed_by_its_authority_and_its_name_alone() {
    let folder = tempfile::tempdir().unwrap();
    let ours = identity(&["localhost", "127.0.0.1"]);
    let elsewhere = identity(&["cache.example"]);
    let right = write(folder.path(), "ca.pem", &ours.authority);
    let wrong = write(folder.path(), "other.pem", &identity(&["localhost"]).authority);
    let named = write(folder.path(), "elsewhere.pem", &elsewhere.authority);
    let mut server = RedisServer::with_tls(&ours.certificate, &ours.key).await;
    let mut misnamed = RedisServer::with_tls(&elsewhere.certificate, &elsewhere.key).await;
    server.start().await;
    misnamed.start().await;
    let ask = async |url: String, ca_file: &str| {
        let config = resque::Config {
            url,
            ca_file: ca_file.to_owned(),
            connect_timeout: Duration::from_secs(3),
            ..resque::Config::default()
        };
        resque::Queue::connect(&config)
            .await
            .map(drop)
            .map_err(|error| error.to_string())
    };
    assert_eq!(ask(server.url(), &right).await, Ok(()));
    for (refused, url, file) in [
        ("another authority", server.url(), wrong.as_str()),
        ("the system's authorities", server.url(), ""),
        ("another name", misnamed.url(), named.as_str()),
        ("plaintext", server.url().replace("rediss://", "redis://"), ""),
    ] {
        let error = ask(url, file).await.expect_err(refused);
        println!("{refused}: {error}");
    }
}

#[tokio::test]
async fn a_fleet_works_over_tls_to_both() {
    let folder = tempfile::tempdir().unwrap();
    let ours = identity(&["localhost", "127.0.0.1"]);
    let authority = write(folder.path(), "ca.pem", &ours.authority);
    let server = postgres(&ours).await;
    let mut redis = RedisServer::with_tls(&ours.certificate, &ours.key).await;
    redis.start().await;
    let bed = Bed::new(Options {
        settings: format!("redis.ca_file = \"{authority}\"\n"),
        redis_url: Some(redis.url()),
        postgres_url: Some(server.url()),
        ..Options::default()
    })
    .await;
    let url = bed.database.url("gatewayzen_service");
    let text = std::fs::read_to_string(&bed.config).unwrap();
    let verified = text.replace(
        &url,
        &format!("{url}?sslmode=verify-full&sslrootcert={authority}"),
    );
    assert_ne!(verified, text);
    std::fs::write(&bed.config, verified).unwrap();
    let _services = bed.start_all();
    let id = bed.launch("acme").await;
    bed.reached(id, State::Live).await;
    let plain: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM pg_stat_activity a JOIN pg_stat_ssl s USING (pid)
         WHERE a.usename = 'gatewayzen_service' AND NOT s.ssl",
    )
    .fetch_one(&bed.database.admin)
    .await
    .unwrap();
    assert_eq!(plain, 0, "connections of services in the clear");
}

#[tokio::test]
async fn a_wrong_authority_is_told_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let wrong = write(folder.path(), "other.pem", &identity(&["localhost"]).authority);
    let server = postgres(&identity(&["localhost", "127.0.0.1"])).await;
    let bed = Bed::new(Options {
        postgres_url: Some(server.url()),
        ..Options::default()
    })
    .await;
    let url = format!(
        "{}?sslmode=verify-full&sslrootcert={wrong}",
        bed.database.url("gatewayzen_service")
    );
    let dispatcher = bed.start_with("dispatcher", &[("GATEWAYZEN_POSTGRES__URL", url.as_str())]);
    let told = integration_tests::harness::eventually("the dispatcher to say so", async || {
        dispatcher
            .log()
            .lines()
            .find(|line| line.contains("cannot be used"))
            .map(str::to_owned)
    })
    .await;
    println!("{told}");
    assert!(
        told.contains("certificate") && told.contains("postgres.url"),
        "{told}"
    );
}
