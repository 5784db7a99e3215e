//! The files in deploy/observe name only what a running fleet has, and the tools that read them take them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use gatewayzen_core::State;
use integration_tests::harness::{Scrape, eventually};
use integration_tests::simulated_fleet::{Fault, FaultKind};
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use yaml_rust2::{Yaml, YamlLoader};

use super::expressions::{names, templates};
use super::story::Story;

/// What Prometheus adds to every series, by itself or by deploy/observe/prometheus.yaml.
const OF_PROMETHEUS: [&str; 3] = ["instance", "job", "service"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// An expression, where it stands, and the texts that take values of its labels.
struct Expression {
    place: String,
    text: String,
    texts: Vec<String>,
}

fn dashboards() -> Vec<(String, Value)> {
    let mut files: Vec<_> = std::fs::read_dir(root().join("deploy/observe/dashboards"))
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    let parse = |path: &PathBuf| serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    files
        .iter()
        .map(|path| {
            (
                path.file_name().unwrap().to_string_lossy().into_owned(),
                parse(path),
            )
        })
        .collect()
}

fn of_dashboards() -> Vec<Expression> {
    let mut expressions = Vec::new();
    for (file, dashboard) in dashboards() {
        for panel in dashboard["panels"].as_array().unwrap() {
            for target in panel["targets"].as_array().into_iter().flatten() {
                expressions.push(Expression {
                    place: format!("{file}, {}", panel["title"]),
                    text: target["expr"].as_str().unwrap().replace("$__rate_interval", "5m"),
                    texts: vec![target["legendFormat"].as_str().unwrap().to_owned()],
                });
            }
        }
    }
    expressions
}

fn alerts() -> Vec<Yaml> {
    let files = YamlLoader::load_from_str(&read("deploy/observe/alerts/gatewayzen.yaml")).unwrap();
    let groups = files[0]["groups"].as_vec().unwrap();
    groups
        .iter()
        .flat_map(|group| group["rules"].as_vec().unwrap().clone())
        .collect()
}

fn of_alerts() -> Vec<Expression> {
    let of = |alert: &Yaml| Expression {
        place: format!("alert {}", alert["alert"].as_str().unwrap()),
        text: alert["expr"].as_str().unwrap().to_owned(),
        texts: ["summary", "what_to_do"]
            .map(|name| alert["annotations"][name].as_str().unwrap().to_owned())
            .to_vec(),
    };
    alerts().iter().map(of).collect()
}

/// A fleet of which everything can be told that any of the files asks for.
async fn scraped() -> (Story, Scrape) {
    let story = Story::tell("").await;
    story.bed.gatewayzen(&["sweep", "--act"]).await.unwrap();
    let waits = story
        .bed
        .launch_after("waits-of-story", |id| {
            story.bed.fleet.fault(Fault::new(FaultKind::NoAddress).on(id))
        })
        .await;
    eventually("a row that waits", async || {
        (story.bed.row(waits).await.waiting_for.is_some()).then_some(())
    })
    .await;
    let labels = [("state", State::Instance.name())];
    eventually("the dispatcher to tell of it", async || {
        let scrape = story.services[0].scrape().await;
        scrape
            .value("gatewayzen_rows_oldest_age_seconds", &labels)
            .map(drop)
    })
    .await;
    let mut all = Scrape::default();
    for service in &story.services {
        let scrape = service.scrape().await;
        promtool(&["check", "metrics"], Some(&scrape.text)).await;
        all.text.push_str(&scrape.text);
        all.extend(scrape);
    }
    (story, all)
}

#[tokio::test]
async fn every_metric_and_label_of_a_dashboard_or_an_alert_is_in_a_scrape_of_a_running_fleet() {
    let (_story, scrape) = scraped().await;
    let expressions: Vec<Expression> = of_dashboards().into_iter().chain(of_alerts()).collect();
    assert!(expressions.len() > 60, "{}", expressions.len());
    let labels_of = |metric: &str| -> BTreeSet<&str> {
        let mut labels = scrape.labels(metric);
        labels.extend(OF_PROMETHEUS);
        if metric.ends_with("_bucket") {
            labels.insert("le");
        }
        labels
    };
    for Expression { place, text, texts } in &expressions {
        let names = names(text);
        assert!(!names.metrics.is_empty(), "{place}: no metric in {text}");
        let mut known: BTreeSet<&str> = BTreeSet::new();
        for (metric, labels) in &names.metrics {
            // Prometheus's own.
            if metric != "up" {
                assert!(
                    scrape.metrics.contains_key(metric),
                    "{place}: nobody has {metric}"
                );
            }
            let has = labels_of(metric);
            for label in labels {
                assert!(
                    has.contains(label.as_str()),
                    "{place}: {metric} has no label {label}"
                );
            }
            known.extend(has);
        }
        let asked = names
            .groups
            .iter()
            .cloned()
            .chain(texts.iter().flat_map(|text| templates(text)));
        for label in asked {
            assert!(
                known.contains(label.as_str()),
                "{place}: nothing in it has the label {label}"
            );
        }
    }

    // The table of docs/observing.md has every metric that there is, and no other.
    let docs = read("docs/observing.md");
    let table: BTreeSet<&str> = docs
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .filter(|name| name.starts_with("gatewayzen_") || name.starts_with("process_"))
        .collect();
    let typed = scrape
        .text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "));
    let there: BTreeSet<&str> = typed.filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(table, there, "left: docs/observing.md, right: a scrape");
}

#[tokio::test]
async fn promtool_takes_the_configuration_the_rules_their_tests_and_the_expressions_of_the_dashboards() {
    let root = root();
    let path = |file: &str| root.join(file).to_string_lossy().into_owned();
    promtool(
        &["check", "config", &path("deploy/observe/prometheus.yaml")],
        None,
    )
    .await;
    promtool(
        &["check", "rules", &path("deploy/observe/alerts/gatewayzen.yaml")],
        None,
    )
    .await;
    promtool(
        &["test", "rules", &path("deploy/observe/tests/alerts.yaml")],
        None,
    )
    .await;
    // A dashboard's expressions, as rules.
    let rules: Vec<Value> = of_dashboards()
        .iter()
        .enumerate()
        .map(|(number, expression)| serde_json::json!({"record": format!("panel:{number}"), "expr": expression.text}))
        .collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    let groups = serde_json::json!({"groups": [{"name": "panels", "rules": rules}]});
    // YAML knows JSON.
    std::fs::write(file.path(), groups.to_string()).unwrap();
    promtool(&["check", "rules", &file.path().to_string_lossy()], None).await;
}

#[test]
fn every_alert_says_what_to_do_and_where_more_is_written() {
    let alerts = alerts();
    let observing = read("docs/observing.md");
    assert!(alerts.len() >= 20);
    for alert in &alerts {
        let name = alert["alert"].as_str().unwrap();
        let text = |name: &str| alert["annotations"][name].as_str().unwrap_or_default();
        assert!(
            text("summary").ends_with('.') && text("what_to_do").ends_with('.'),
            "{name}"
        );
        let severity = alert["labels"]["severity"].as_str();
        assert!(matches!(severity, Some("warning" | "critical")), "{name}");
        let (file, anchor) = text("runbook").split_once('#').unwrap();
        let there = read(file)
            .lines()
            .any(|line| line.starts_with("## ") && slug(line) == anchor);
        assert!(there, "{name}: {file} has no section {anchor}");
        assert!(
            observing.contains(&format!("| `{name}` |")),
            "docs/observing.md does not have {name}"
        );
    }
}

/// The anchor of a heading, as GitHub makes it.
fn slug(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    text.chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

#[test]
fn dashboards_stand_on_the_data_source_that_is_provisioned_and_their_panels_beside_each_other() {
    let dashboards = dashboards();
    let ids: BTreeSet<&str> = dashboards
        .iter()
        .map(|(_, one)| one["uid"].as_str().unwrap())
        .collect();
    assert_eq!(ids.len(), dashboards.len());
    for (file, dashboard) in &dashboards {
        let mut taken = BTreeSet::new();
        for panel in dashboard["panels"].as_array().unwrap() {
            let number = |name: &str| panel["gridPos"][name].as_u64().unwrap();
            let (x, y, w, h) = (number("x"), number("y"), number("w"), number("h"));
            assert!(x + w <= 24, "{file}: {}", panel["title"]);
            for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
                assert!(taken.insert(cell), "{file}: {} lies on another", panel["title"]);
            }
            if panel["type"] != "row" {
                assert_eq!(panel["datasource"]["uid"], "prometheus");
            }
        }
    }
}

/// Runs promtool, which must be content. Where there is none, that is said, and nothing is checked.
async fn promtool(arguments: &[&str], input: Option<&str>) {
    let own = root().join(".dev/tools/bin/promtool");
    let program = if own.exists() {
        own
    } else {
        PathBuf::from("promtool")
    };
    let spawned = tokio::process::Command::new(&program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => return eprintln!("SKIPPED, no promtool ({error}): deploy/dev/promtool fetches it"),
    };
    let mut stdin = child.stdin.take().unwrap();
    stdin
        .write_all(input.unwrap_or_default().as_bytes())
        .await
        .unwrap();
    drop(stdin);
    let output = child.wait_with_output().await.unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(
        output.status.success(),
        "promtool {}: {text}",
        arguments.join(" ")
    );
}
