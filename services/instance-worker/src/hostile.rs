//! Whatever answers for EC2: no panic, no hang, and no text of it that could lie to a terminal or a log.

use std::time::Duration;

use aws_sdk_ec2::Client;
use aws_sdk_ec2::config::retry::RetryConfig;
use aws_sdk_ec2::config::{BehaviorVersion, Credentials, Region};
use gatewayzen_core::StepError;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::attempt::launched;
use crate::client;
use crate::describe::{Answer, By, Query, describe};
use crate::end::ask_to_terminate;
use crate::errors::Failure;
use crate::image::Images;

/// An EC2 that gives one answer to everybody, and clients of it.
struct Stand {
    runtime: Runtime,
    client: Client,
    answer: watch::Sender<(u16, Vec<u8>)>,
}

impl Stand {
    fn new() -> Stand {
        let runtime = Runtime::new().unwrap();
        let (answer, answers) = watch::channel((200, Vec::new()));
        let client = runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let endpoint = format!("http://{}", listener.local_addr().unwrap());
            tokio::spawn(serve(listener, answers));
            let config = client::loader()
                .behavior_version(BehaviorVersion::latest())
                .region(Region::new("us-east-1"))
                .endpoint_url(endpoint)
                .retry_config(RetryConfig::disabled())
                .credentials_provider(Credentials::new("a", "b", None, None, "test"))
                .load()
                .await;
            client::client(&config)
        });
        Stand {
            runtime,
            client,
            answer,
        }
    }

    /// What is made of an answer to RunInstances, and to TerminateInstances: an instance, or sentences.
    fn act(&self, status: u16, body: &[u8]) -> Vec<Result<Option<String>, String>> {
        self.answer.send_replace((status, body.to_vec()));
        self.runtime.block_on(async {
            let limit = Duration::from_secs(60);
            let launch = self.client.run_instances().min_count(1).max_count(1).send();
            let answer = tokio::time::timeout(limit, launch).await.expect("no hang");
            let ended = tokio::time::timeout(limit, ask_to_terminate(&self.client, "i-1"))
                .await
                .expect("no hang");
            vec![
                answer
                    .map(|answer| launched(&answer).map(str::to_owned))
                    .map_err(|error| Failure::new("RunInstances", &error).sentence()),
                ended.map(|_| None).map_err(|failure| failure.sentence()),
            ]
        })
    }

    /// What is made of an answer to DescribeInstances and to DescribeImages.
    fn ask(&self, status: u16, body: &[u8]) -> (Answer, Result<(), StepError>) {
        self.answer.send_replace((status, body.to_vec()));
        let query = Query {
            by: By::Fleet,
            values: vec!["x".into()],
        };
        self.runtime.block_on(async {
            let limit = Duration::from_secs(60);
            let seen = tokio::time::timeout(limit, describe(self.client.clone(), query))
                .await
                .expect("no hang");
            let images = Images::new(self.client.clone());
            let volumes = tokio::time::timeout(limit, images.volumes("ami-1"))
                .await
                .expect("no hang");
            (seen, volumes.map(drop))
        })
    }
}

async fn serve(listener: TcpListener, answers: watch::Receiver<(u16, Vec<u8>)>) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let answers = answers.clone();
        tokio::spawn(async move {
            let mut head = Vec::new();
            // The body of a question fits into one packet with its head.
            while !head.windows(4).any(|four| four == b"\r\n\r\n") {
                let mut part = [0; 8192];
                match stream.read(&mut part).await {
                    Ok(read) if read > 0 => head.extend_from_slice(&part[..read]),
                    _ => return,
                }
            }
            let (status, body) = answers.borrow().clone();
            let head = format!(
                "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all(&[head.as_bytes(), &body].concat()).await;
        });
    }
}

fn check((seen, volumes): (Answer, Result<(), StepError>)) {
    let mut texts = Vec::new();
    match seen {
        Ok(seen) => {
            for one in seen {
                assert!(crate::describe::is_instance_id(&one.id));
                for address in [&one.public_address, &one.private_address].into_iter().flatten() {
                    assert!(address.parse::<std::net::IpAddr>().is_ok());
                }
                texts.push(one.state.as_str().to_owned());
                texts.extend(
                    [
                        one.state_reason,
                        one.client_token,
                        one.name,
                        one.attempt,
                        one.gatewayd,
                    ]
                    .into_iter()
                    .flatten(),
                );
            }
        }
        Err(failure) => texts.extend([failure.sentence(), failure.step_error().to_string()]),
    }
    texts.extend(volumes.err().map(|error| error.to_string()));
    texts.iter().for_each(|text| check_text(text));
}

fn check_text(text: &str) {
    assert!(
        text.len() < 2500 && !text.chars().any(char::is_control),
        "{text:?}"
    );
}

fn check_act(made: Vec<Result<Option<String>, String>>) {
    for one in made {
        match one {
            Ok(instance) => assert!(instance.is_none_or(|id| crate::describe::is_instance_id(&id))),
            Err(sentence) => check_text(&sentence),
        }
    }
}

fn instances(items: &str) -> Vec<u8> {
    format!(
        "<DescribeInstancesResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><reservationSet><item><instancesSet>\
         {items}</instancesSet></item></reservationSet></DescribeInstancesResponse>"
    )
    .into_bytes()
}

/// The same as an answer to a launch.
fn of_a_launch(answer: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(answer);
    let text = text.replace("DescribeInstancesResponse", "RunInstancesResponse");
    text.replace("<reservationSet><item>", "")
        .replace("</item></reservationSet>", "")
        .into_bytes()
}

fn instance(id: &str, more: &str) -> String {
    format!(
        "<item><instanceId>{id}</instanceId><instanceState><name>running</name></instanceState>{more}</item>"
    )
}

fn answer() -> impl Strategy<Value = Vec<u8>> {
    const NAMES: [&str; 16] = [
        "instanceId",
        "instanceState",
        "name",
        "code",
        "stateReason",
        "message",
        "tagSet",
        "item",
        "key",
        "value",
        "privateIpAddress",
        "launchTime",
        "imagesSet",
        "ebs",
        "volumeSize",
        "nextToken",
    ];
    let text = prop_oneof![
        any::<String>().prop_map(|text| text.replace(['<', '&'], "")),
        Just("gatewayzen:fleet".to_owned()),
        Just("i-$(reboot)".to_owned()),
        Just("&#27;[31m&#0;&#x202e;".to_owned()),
        Just("&bomb;&#xffffffff;&#99999999999;".to_owned()),
        Just("]]><![CDATA[<x>".to_owned()),
        "-?[0-9]{1,30}",
    ];
    let tree = text.prop_recursive(6, 30, 5, |inner| {
        (
            prop::sample::select(NAMES.to_vec()),
            prop::collection::vec(inner, 0..5),
        )
            .prop_map(|(name, parts)| format!("<{name}>{}</{name}>", parts.concat()))
    });
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..300),
        tree.clone().prop_map(|tree| instances(&instance("i-1", &tree))),
        tree.clone().prop_map(String::into_bytes),
        // Cut short anywhere.
        (tree.clone(), any::<prop::sample::Index>()).prop_map(|(tree, at)| {
            let whole = instances(&instance("i-1", &tree));
            whole[..at.index(whole.len())].to_vec()
        }),
        tree.prop_map(
            |tree| format!("<Response><Errors><Error>{tree}</Error></Errors></Response>").into_bytes()
        ),
    ]
}

#[test]
fn any_answer_is_read_or_refused_in_words_that_are_safe_to_show() {
    let stand = Stand::new();
    let usual = ProptestConfig::default();
    // Each is four exchanges over a socket, with signatures.
    let cases = (usual.cases / 20).max(100);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig { cases, ..usual });
    let statuses = prop::sample::select(vec![200_u16, 200, 200, 400, 401, 403, 404, 500, 503]);
    runner
        .run(&(statuses, answer()), |(status, body)| {
            check(stand.ask(status, &body));
            check_act(stand.act(status, &of_a_launch(&body)));
            Ok(())
        })
        .unwrap();
}

#[test]
fn ids_and_addresses_that_are_none_are_not_believed() {
    let stand = Stand::new();
    let bad = [
        "i-$(reboot)",
        "i-1;id",
        "i-",
        "i-a b",
        "../x",
        "i-&#10;x",
        "i-'",
        &format!("i-{}", "a".repeat(41)),
    ];
    let items: String = bad.iter().map(|id| instance(id, "")).collect();
    let good = instance(
        "i-0abc",
        "<privateIpAddress>evil.example</privateIpAddress><ipAddress>10.0.0.1</ipAddress>",
    );
    let (seen, _) = stand.ask(200, &instances(&(items + &good)));
    let seen = seen.unwrap();
    assert_eq!(
        seen.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(),
        ["i-0abc"]
    );
    assert_eq!(
        (&seen[0].private_address, seen[0].public_address.as_deref()),
        (&None, Some("10.0.0.1"))
    );
    for (id, believed) in bad
        .map(|id| (id, None))
        .into_iter()
        .chain([("i-0abc", Some("i-0abc"))])
    {
        let made = stand.act(200, &of_a_launch(&instances(&instance(id, ""))));
        assert_eq!(made[0], Ok(believed.map(str::to_owned)), "{id}");
    }
}

#[test]
fn a_huge_and_a_deep_answer_are_survived() {
    let stand = Stand::new();
    let many: String = (0..30_000)
        .map(|number| instance(&format!("i-{number}"), ""))
        .collect();
    let (seen, _) = stand.ask(200, &instances(&many));
    assert_eq!(seen.unwrap().len(), 30_000);
    let deep = instances(&format!(
        "{}{}",
        "<item>".repeat(100_000),
        "</item>".repeat(100_000)
    ));
    check(stand.ask(200, &deep));
    check(stand.ask(400, "x".repeat(20 << 20).as_bytes()));
}

#[test]
fn an_answer_without_end_is_not_read_to_its_end() {
    let stand = Stand::new();
    // Whatever it is an answer to, and well-formed as far as anybody reads.
    let (seen, volumes) = stand.ask(200, &instances(&instance("i-0abc", &" ".repeat(33 << 20))));
    let refused = seen.unwrap_err().sentence();
    assert!(refused.contains("length limit exceeded"), "{refused}");
    assert!(volumes.is_err());
    check(stand.ask(500, "x".repeat(33 << 20).as_bytes()));
}

#[test]
fn pages_without_end_are_given_up() {
    let stand = Stand::new();
    // The same token again and again: an account does not have so many pages.
    let page = String::from_utf8(instances("")).unwrap();
    let page = page.replace(
        "</reservationSet>",
        "</reservationSet><nextToken>again</nextToken>",
    );
    let (seen, _) = stand.ask(200, page.as_bytes());
    assert!(seen.is_err() || seen.unwrap().is_empty());
}
