//! Tests the monitoring files with a real Prometheus: alerts fire exactly when they should, every panel of both dashboards
//! shows data of a real run, the dashboards follow Grafana's schema, and every metric is documented.
//!
//! Prometheus and promtool come from Debian's package. Without them, or without a recent Go, the tests are skipped with a
//! message. The pictures of the dashboards are written to `target/monitoring/`.

#![allow(clippy::unwrap_used)] // The helpers here are tests too.

mod dashboard;
mod documented;
mod picture;
mod prometheus;
mod schema;
mod sources;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use simsiam_tests::browser::Browser;
use simsiam_tests::{RunFile, command, root, synth, text, wait_until};

use dashboard::{Panel, filled, panels};
use documented::{exposed, in_source, tabled};
use picture::Shown;
use prometheus::{Prometheus, free_address, get, is_there, now, promtool};
use sources::{NAMESPACE, POD, RUN, Sources};

const RULES: &str = "charts/simsiam-operator/rules/simsiam.yaml";

/// Panels with made-up values, because they need a GPU, NVIDIA's exporter or Kueue.
const MADE_UP: [&str; 5] =
    ["GPU memory", "GPU utilisation", "GPU utilisation, mean", "Kueue: pending workloads", "Kueue: time to admission"];

/// Panels fed by the operator's own code with made-up runs.
const OF_MADE_UP_RUNS: [&str; 22] = [
    "Active runs",
    "Errors by reason",
    "Failed runs",
    "Failures by reason",
    "GPUs",
    "GPUs in use",
    "GPUs requested",
    "Leader",
    "Phase",
    "Progress of the stage",
    "Reconcile time",
    "Reconciliations",
    "Requests to the API server",
    "Restart budget used",
    "Restarts",
    "Restarts by kind",
    "Restarts by reason",
    "Runs by phase",
    "Time left in stage",
    "Time to start",
    "Unfinished runs",
    "Waiting runs",
];

fn rules() -> Value {
    let text = fs::read_to_string(root().join(RULES)).unwrap();
    serde_saphyr::from_str(&text).unwrap()
}

/// All alerts of the rule file.
fn alerts(rules: &Value) -> Vec<&Value> {
    let groups = rules["groups"].as_array().unwrap();
    groups.iter().flat_map(|group| group["rules"].as_array().unwrap()).filter(|r| r["alert"].is_string()).collect()
}

fn rule_tests() -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(root().join("tests/monitoring"))
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".test.yaml"))
        .collect();
    names.sort();
    assert!(!names.is_empty());
    names
}

#[test]
fn every_alert_has_a_runbook() {
    let rules = rules();
    let mut pages = BTreeSet::new();
    for alert in alerts(&rules) {
        let name = alert["alert"].as_str().unwrap();
        let severity = alert["labels"]["severity"].as_str().unwrap_or_default();
        assert!(["critical", "warning", "info"].contains(&severity), "{name}: {severity}");
        let annotation = |field: &str| alert["annotations"][field].as_str().unwrap_or_default().to_owned();
        assert_eq!(annotation("runbook_url"), format!("docs/runbooks/{name}.md"));
        if !name.starts_with("SimSiamOperator") {
            assert!(annotation("summary").contains("{{ $labels.namespace }}/{{ $labels.run }}"), "{name}: which run?");
            assert!(annotation("description").contains("{{ $labels.run }}"), "{name}: which run?");
        }
        let page = fs::read_to_string(root().join(annotation("runbook_url"))).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(page.starts_with(&format!("# {name}\n")), "{name}");
        for part in ["## What it means", "## How to look", "## What to do"] {
            assert!(page.contains(part), "{name}: no {part:?}");
        }
        pages.insert(format!("{name}.md"));
    }
    let written: BTreeSet<_> = fs::read_dir(root().join("docs/runbooks"))
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(written, pages, "a runbook page for each alert, and no other");
    let table = fs::read_to_string(root().join("docs/monitoring.md")).unwrap();
    for page in &pages {
        assert!(table.contains(&format!("(runbooks/{page})")), "docs/monitoring.md does not name {page}");
    }
}

#[test]
fn alert_rules_pass_their_tests_and_mutants_fail() {
    if !is_there("promtool") {
        return;
    }
    let (good, said) = promtool(&["check", "rules", RULES], &root());
    assert!(good, "{said}");
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("tests/monitoring")).unwrap();
    fs::create_dir_all(folder.path().join(RULES).parent().unwrap()).unwrap();
    let names = rule_tests();
    for name in &names {
        let path = Path::new("tests/monitoring").join(name);
        fs::copy(root().join(&path), folder.path().join(&path)).unwrap();
    }
    let arguments: Vec<&str> = ["test", "rules"].into_iter().chain(names.iter().map(String::as_str)).collect();
    let tried = |rules: &Value| {
        fs::write(folder.path().join(RULES), rules.to_string()).unwrap();
        promtool(&arguments, &folder.path().join("tests/monitoring"))
    };
    let whole = rules();
    let (good, said) = tried(&whole);
    assert!(good, "{said}");
    // Each alert is seen to fire, and seen to be silent: if it never or always fires, a test of it fails.
    for (expr, how) in [("vector(1) > 2", "never"), ("vector(1)", "always")] {
        let mut broken = whole.clone();
        let groups = broken["groups"].as_array_mut().unwrap().iter_mut();
        for rule in groups.flat_map(|g| g["rules"].as_array_mut().unwrap()).filter(|r| r["alert"].is_string()) {
            rule["expr"] = expr.into();
            rule.as_object_mut().unwrap().remove("for");
        }
        let (_, said) = tried(&broken);
        for name in alerts(&whole).iter().map(|alert| alert["alert"].as_str().unwrap()) {
            // "alertname: X, time: 10m, exp:[…], got:[…]" shows the broken alert.
            let empty = if how == "never" { "got:[]" } else { "exp:[]" };
            let failures = said.split("alertname:").skip(1).map(|f| f.split_whitespace().collect::<String>());
            let minded = failures.filter(|f| f.starts_with(&format!("{name},"))).any(|f| f.contains(empty));
            assert!(minded, "no test detects that {name} {how} fires: {said}");
        }
    }
}

#[test]
fn dashboards_are_well_formed() {
    for name in dashboard::NAMES {
        let wrong = dashboard::complaints(&dashboard::read(name));
        assert!(wrong.is_empty(), "{name}: {wrong:#?}");
    }
    // What is broken is noticed.
    type Break = fn(&mut Value);
    let breaks: [(&str, Break); 6] = [
        ("the id is not its own", |d| d["panels"][2]["id"] = d["panels"][1]["id"].clone()),
        ("overlaps", |d| d["panels"][3]["gridPos"]["x"] = d["panels"][2]["gridPos"]["x"].clone()),
        ("beyond the grid", |d| d["panels"][1]["gridPos"]["w"] = 25.into()),
        ("has a data source of its own", |d| d["panels"][1]["targets"][0]["datasource"]["uid"] = "mine".into()),
        ("variable that is never set", |d| d["panels"][1]["targets"][0]["expr"] = "x{run=\"$nobody\"}".into()),
        ("no description", |d| d["panels"][1]["description"] = "".into()),
    ];
    for (complaint, what) in breaks {
        let mut broken = dashboard::read("run");
        what(&mut broken);
        let wrong = dashboard::complaints(&broken);
        assert!(wrong.iter().any(|line| line.contains(complaint)), "{complaint}: {wrong:?}");
    }
}

#[test]
fn every_metric_is_documented() {
    let page = tabled(&documented::page());
    let trainer: BTreeMap<_, _> = in_source();
    assert!(trainer.len() > 20 && trainer.contains_key("simsiam_gpu_memory_bytes"), "{trainer:#?}");
    // All of the operator's show once it has had something to do.
    let sources = Sources::start();
    let operator = wait_until(Duration::from_secs(60), "the operator's metrics", || {
        let metrics = exposed(&get(&sources.address, "/metrics")?);
        (metrics.contains_key("simsiam_operator_run_failed")
            && metrics.contains_key("simsiam_operator_reconcile_errors_total"))
        .then_some(metrics)
    });
    let rows: String = operator
        .iter()
        .map(|(name, m)| {
            let labels: Vec<_> = m.labels.iter().map(|label| format!("`{label}`")).collect();
            format!("| `{name}` | {} | {} | {} |\n", m.kind, labels.join(", "), m.help)
        })
        .collect();
    for (name, metric) in &operator {
        assert_eq!(page.get(name), Some(metric), "docs/metrics.md should say\n{rows}");
    }
    for (name, help) in &trainer {
        assert_eq!(page.get(name).map(|metric| &metric.help), Some(help), "docs/metrics.md: {name}");
    }
    let known: BTreeSet<_> = trainer.keys().chain(operator.keys()).collect();
    assert_eq!(page.keys().collect::<BTreeSet<_>>(), known, "docs/metrics.md and the code name the same metrics");
    // What the dashboards and the alerts ask for is there.
    let mut asked = fs::read_to_string(root().join(RULES)).unwrap();
    for panel in dashboard::NAMES.iter().flat_map(|name| panels(&dashboard::read(name))) {
        asked.extend(panel.targets.into_iter().map(|target| target.expr + "\n"));
    }
    for word in asked.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).filter(|w| w.starts_with("simsiam_")) {
        let of = ["", "_bucket", "_sum", "_count"].iter().find_map(|end| word.strip_suffix(end).map(String::from));
        let ends = ["_bucket", "_sum", "_count"].iter().filter_map(|end| word.strip_suffix(end));
        let named = of.into_iter().chain(ends.map(String::from)).any(|name| page.contains_key(&name));
        assert!(named, "{word} is not a metric");
    }
}

/// A small run on drawn images, with kNN and a linear classifier.
fn small_run(folder: &Path) -> RunFile {
    let data = synth(folder, 24, 6);
    let mut file = RunFile::new(folder, &data, "val");
    file.set("/pretrain/epochs", 12.into())
        .set("/pretrain/lr", 0.4.into())
        .set("/knn", json!({"everyEpochs": 1, "protocols": [{"k": 5, "temperature": 0.07}]}))
        // Long enough to be scraped several times on a fast machine.
        .set("/linear", json!({"epochs": 60, "batchSize": 40, "lr": 3, "optimizer": "sgd"}));
    file
}

/// Returns the scrape configuration in the documentation.
fn documented_config() -> Value {
    let page = fs::read_to_string(root().join("docs/monitoring.md")).unwrap();
    let config = page.split("```yaml\n").skip(1).find(|part| part.starts_with("scrape_configs:")).unwrap();
    serde_saphyr::from_str(config.split("```").next().unwrap()).unwrap()
}

/// Returns it with local targets, labelled as Kubernetes' service discovery would, and one for made-up values.
fn config(sources: &str, run: &str) -> String {
    let mut config = documented_config();
    config["global"] = json!({"scrape_interval": "1s", "evaluation_interval": "1s"});
    config["rule_files"] = json!([root().join(RULES)]);
    let pod = |address: &str, namespace: &str, pod: &str, app: &str, port: &str, run: &str| {
        json!({"targets": [address], "labels": {
            "__meta_kubernetes_namespace": namespace, "__meta_kubernetes_pod_name": pod,
            "__meta_kubernetes_pod_label_app_kubernetes_io_name": app,
            "__meta_kubernetes_pod_container_port_name": port, "__meta_kubernetes_pod_label_simsiam_dev_run": run,
        }})
    };
    let pods = json!([
        pod(run, NAMESPACE, POD, "simsiam-trainer", "metrics", RUN),
        pod(sources, "simsiam-system", "operator-0", "simsiam-operator", "http", ""),
        // Neither job takes these.
        pod(sources, NAMESPACE, "stranger", "nginx", "metrics", ""),
        pod(sources, NAMESPACE, POD, "simsiam-trainer", "other", RUN),
    ]);
    let jobs = config["scrape_configs"].as_array_mut().unwrap();
    jobs.retain(|job| job["job_name"] != "simsiam-here");
    for job in jobs.iter_mut() {
        // Debian's Prometheus has no discovery by Kubernetes.
        job.as_object_mut().unwrap().remove("kubernetes_sd_configs").unwrap();
        job["static_configs"] = pods.clone();
    }
    let made_up = json!({"job_name": "made-up", "metrics_path": "/made-up", "static_configs": [{"targets": [sources]}],
        "honor_labels": true});
    jobs.push(made_up);
    config.to_string()
}

#[test]
fn every_panel_has_data_of_a_real_run() {
    if !is_there("prometheus") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = small_run(folder.path());
    let address = free_address();
    let sources = Sources::start();
    let start = now();
    let server = Prometheus::start(folder.path(), &config(&sources.address, &address));
    let jobs = wait_until(Duration::from_secs(30), "the targets", || {
        let targets = server.api("targets", &[("state", "active")])["activeTargets"].take();
        let jobs = targets.as_array()?.iter().map(|target| target["labels"]["job"].as_str().map(str::to_owned));
        jobs.collect::<Option<Vec<_>>>().filter(|jobs| !jobs.is_empty())
    });
    let found = ["made-up", "simsiam-operator", "simsiam-runs"];
    assert_eq!(jobs.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>(), found);
    assert_eq!(jobs.len(), found.len(), "{jobs:?}");
    let mut child = command(&["run", "-f", file.write(), "--nproc", "2", "--metrics-addr", &address])
        .env("SIMSIAM_PEAK_FLOPS", "1e11")
        .stdout(Stdio::null())
        .stderr(fs::File::create(folder.path().join("run.log")).unwrap())
        .spawn()
        .unwrap();
    let mut metrics = String::new();
    let status = wait_until(Duration::from_secs(400), "the run", || {
        metrics = get(&address, "/metrics").unwrap_or(std::mem::take(&mut metrics));
        child.try_wait().unwrap()
    });
    assert!(status.success(), "{}", fs::read_to_string(folder.path().join("run.log")).unwrap());
    let end = now();

    // What the real run exposed is documented, and of the documented types and labels.
    let page = tabled(&documented::page());
    for (name, metric) in exposed(&metrics) {
        assert_eq!(page.get(&name), Some(&metric), "docs/metrics.md: {name}");
    }

    let mut empty = Vec::new();
    let mut seen = (BTreeSet::new(), BTreeSet::new());
    for (name, namespace, title) in [("run", NAMESPACE, "SimSiam / Run"), ("fleet", ".*", "SimSiam / Fleet")] {
        let dashboard = dashboard::read(name);
        assert_eq!(dashboard["title"], title);
        let variables = [("namespace", namespace), ("run", RUN)];
        choices(&server, &dashboard, &variables);
        let shown: Vec<_> = panels(&dashboard)
            .into_iter()
            .map(|panel| {
                let note = origin(&panel, &mut seen);
                let series: Vec<_> = panel
                    .targets
                    .iter()
                    .map(|target| {
                        let series = server.range(&filled(&target.expr, &variables), start, end);
                        if series.is_empty() {
                            empty.push(format!("{name}: {}: {}", panel.title, target.expr));
                        }
                        series
                    })
                    .collect();
                Shown { panel, series, note }
            })
            .collect();
        let subtitle = format!(
            "Drawn by the test from the dashboard's own queries to a real Prometheus, over {:.0} s; {}. Where \
             noted, runs or values are made up.",
            end - start,
            if name == "run" { format!("namespace {NAMESPACE}, run {RUN}") } else { "all namespaces".into() }
        );
        draw(name, &picture::svg(title, &subtitle, &shown, (start, end)));
    }
    assert!(empty.is_empty(), "panels without data:\n{}", empty.join("\n"));
    let named = |list: &[&str]| list.iter().map(|title| (*title).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(seen, (named(&MADE_UP), named(&OF_MADE_UP_RUNS)), "which panels' values are made up");

    // The rules were evaluated without error, and the run that diverged in the operator's words was noticed.
    let groups = server.api("rules", &[])["groups"].take();
    let rules = groups.as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap());
    for rule in rules {
        assert_eq!(rule["health"], "ok", "{rule}");
    }
    let alerts = server.api("alerts", &[])["alerts"].take();
    let firing = |name: &str| {
        let of =
            alerts.as_array().unwrap().iter().filter(|a| a["labels"]["alertname"] == name && a["state"] == "firing");
        of.map(|alert| alert["labels"]["run"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(firing("SimSiamLossNotFinite"), ["flat-lr"]);
    assert_eq!(firing("SimSiamRunFailed"), ["typo"]);
    assert_eq!((firing("SimSiamCollapsed"), firing("SimSiamOperatorDown")), (vec![], vec![]));
}

/// Each variable offers the value that the test uses.
fn choices(server: &Prometheus, dashboard: &Value, variables: &[(&str, &str)]) {
    for variable in dashboard["templating"]["list"].as_array().unwrap().iter().filter(|v| v["type"] == "query") {
        let query = filled(variable["query"]["query"].as_str().unwrap(), variables);
        let inner = query.strip_prefix("label_values(").and_then(|q| q.strip_suffix(')')).unwrap();
        let (selector, label) = inner.rsplit_once(", ").unwrap();
        let values = server.api(&format!("label/{label}/values"), &[("match[]", selector)]);
        let wanted = if label == "run" { RUN } else { NAMESPACE };
        assert!(values.as_array().unwrap().contains(&wanted.into()), "{query}: {values}");
    }
}

/// Returns the note about the origin of a panel's values, if not the real run.
fn origin(panel: &Panel, seen: &mut (BTreeSet<String>, BTreeSet<String>)) -> Option<&'static str> {
    let asks = |name: &str| panel.targets.iter().any(|target| target.expr.contains(name));
    if ["DCGM_", "kueue_", "simsiam_gpu_memory"].iter().any(|name| asks(name)) {
        seen.0.insert(panel.title.clone());
        Some("made-up values")
    } else if asks("simsiam_operator_") {
        seen.1.insert(panel.title.clone());
        Some("made-up runs")
    } else {
        None
    }
}

/// Writes a dashboard's picture to `target/monitoring`, as SVG and, if there is a browser, as PNG.
fn draw(name: &str, svg: &str) {
    let folder = root().join("target/monitoring");
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join(format!("{name}.svg"));
    fs::write(&path, svg).unwrap();
    let size = |side: &str| svg.split_once(&format!("{side}=\"")).unwrap().1.split('"').next().unwrap().parse::<f64>();
    let Some(mut browser) = Browser::start() else { return };
    let (width, height) = (size("width").unwrap() as u32, size("height").unwrap() as u32);
    browser.open(&format!("file://{}", text(&path)), width, height);
    browser.screenshot(&folder.join(format!("{name}.png")));
}
