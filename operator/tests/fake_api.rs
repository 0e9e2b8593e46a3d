//! The controller against a fake API server, which gives answers that a real one does not give on demand: conflicts,
//! refusals and broken watches.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod world;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use kube::client::Body;
use kube::runtime::events::Reporter;
use kube::{Client, Resource};
use serde_json::{Value, json};
use simsiam_operator::api::RunIdentity;
use simsiam_operator::apply::{Cluster, Written};
use simsiam_operator::controller::{self, Context};
use simsiam_operator::events::publish;
use simsiam_operator::metrics::Metrics;
use simsiam_operator::plan::{Action, EventKind, PlannedEvent};
use simsiam_operator::progress::ProgressPoller;
use simsiam_operator::serve::{Health, serve};
use world::{World, object, settings, spec};

/// The server's objects and the requests it received.
#[derive(Default)]
struct Server {
    /// Objects by plural.
    objects: BTreeMap<String, Vec<Value>>,
    /// Requests that are refused: method, part of the path, code and how often.
    refusals: Vec<(&'static str, &'static str, u16, usize)>,
    /// How many watches of a plural end with 410 before one lasts.
    broken: BTreeMap<String, usize>,
    /// The runs after their watch has broken.
    runs_after_break: Option<Vec<Value>>,
    log: Vec<String>,
    patches: Vec<Value>,
    /// Nodes that are being read, and the most that were at once.
    reading: (usize, usize),
    /// How long it takes to read a node.
    slow_nodes: Duration,
    /// What was sent by server-side apply.
    applied: Vec<Value>,
}

type Shared = Arc<Mutex<Server>>;
type Answer = UnsyncBoxBody<Bytes, std::io::Error>;

fn whole(text: String) -> Answer {
    Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync()
}

fn client(server: &Shared) -> Client {
    let server = server.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        let server = server.clone();
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            if parts.uri.path().contains("/nodes/") {
                let delay = {
                    let mut server = server.lock().unwrap();
                    server.reading.0 += 1;
                    server.reading.1 = server.reading.1.max(server.reading.0);
                    server.slow_nodes
                };
                tokio::time::sleep(delay).await;
                server.lock().unwrap().reading.0 -= 1;
            }
            Ok::<_, std::convert::Infallible>(answer(&server, &parts, &body))
        }
    });
    Client::new(service, "n")
}

fn respond(code: u16, value: &Value) -> Response<Answer> {
    Response::builder().status(code).body(whole(value.to_string())).unwrap()
}

fn refused(code: u16) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": "refused by the test",
        "reason": "Test"})
}

fn answer(server: &Shared, parts: &http::request::Parts, body: &Bytes) -> Response<Answer> {
    let mut server = server.lock().unwrap();
    let (method, path) = (parts.method.as_str(), parts.uri.path());
    let query = parts.uri.query().unwrap_or_default();
    let watch = query.contains("watch=true");
    server.log.push(format!("{} {path}", if watch { "WATCH" } else { method }));
    for (what, part, code, times) in &mut server.refusals {
        if *what == method && path.contains(*part) && *times > 0 {
            *times -= 1;
            let code = *code;
            return respond(code, &refused(code));
        }
    }
    if path.contains("/nodes/") {
        let ready = json!([{"type": "Ready", "status": "True"}]);
        let node =
            json!({"kind": "Node", "apiVersion": "v1", "metadata": {"name": "x"}, "status": {"conditions": ready}});
        return respond(200, &node);
    }
    let plural = path.rsplit('/').next().unwrap_or_default().to_owned();
    if watch {
        let broken = server.broken.entry(plural.clone()).or_default();
        if *broken > 0 {
            *broken -= 1;
            if plural == "simsiamruns"
                && let Some(runs) = server.runs_after_break.take()
            {
                server.objects.insert(plural, runs);
            }
            let line = json!({"type": "ERROR", "object": refused(410)});
            return Response::new(whole(format!("{line}\n")));
        }
        let silent = futures_util::stream::pending::<Result<http_body::Frame<Bytes>, std::io::Error>>();
        return Response::new(StreamBody::new(silent).boxed_unsync());
    }
    match method {
        "GET" => {
            let items = server.objects.get(&plural).cloned().unwrap_or_default();
            respond(
                200,
                &json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": items}),
            )
        }
        "PATCH" | "POST" => {
            let value: Value = serde_json::from_slice(body).unwrap_or_default();
            if path.ends_with("/status") {
                server.patches.push(value.clone());
                let name = path.rsplit('/').nth(1).unwrap_or_default();
                let runs = server.objects.entry("simsiamruns".to_owned()).or_default();
                let Some(run) = runs.iter_mut().find(|run| run["metadata"]["name"] == name) else {
                    return respond(404, &refused(404));
                };
                merge(&mut run["status"], &value["status"]);
                let run = run.clone();
                return respond(200, &run);
            }
            if method == "PATCH" {
                server.applied.push(value.clone());
            }
            if method == "POST" {
                let objects = server.objects.entry(plural).or_default();
                if objects.iter().any(|there| there["metadata"]["name"] == value["metadata"]["name"]) {
                    return respond(409, &refused(409));
                }
                let mut stored = value.clone();
                stored["metadata"]["uid"] = json!(format!("uid-{}", objects.len()));
                objects.push(stored);
            }
            respond(200, &value)
        }
        _ => respond(200, &json!({"kind": "Status", "apiVersion": "v1", "status": "Success"})),
    }
}

fn merge(into: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *into = patch.clone();
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    for (key, value) in fields {
        if value.is_null() {
            into.as_object_mut().unwrap().remove(key);
        } else {
            merge(&mut into[key], value);
        }
    }
}

fn server() -> Shared {
    let run = serde_json::to_value(object(&spec())).unwrap();
    Arc::new(Mutex::new(Server { objects: [("simsiamruns".to_owned(), vec![run])].into(), ..Server::default() }))
}

/// Runs the controller until `enough` holds, or for ten seconds.
async fn run_until(server: &Shared, enough: impl Fn(&Server) -> bool) -> bool {
    run_with(server, &Arc::new(Metrics::new().unwrap()), enough).await
}

async fn run_with(server: &Shared, metrics: &Arc<Metrics>, enough: impl Fn(&Server) -> bool) -> bool {
    let context = Arc::new(Context::new(client(server), settings(), ProgressPoller::default(), metrics.clone()));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let controller = tokio::spawn(async move {
        controller::run(context, None, async {
            let _ = stopped.await;
        })
        .await;
    });
    let mut held = false;
    for _ in 0..200 {
        held = enough(&server.lock().unwrap());
        if held {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let _ = stop.send(());
    tokio::time::timeout(Duration::from_secs(5), controller).await.expect("it stops on request").unwrap();
    held
}

#[tokio::test]
async fn conflicting_status_write_is_repeated_before_any_action() {
    let server = server();
    server.lock().unwrap().refusals.push(("PATCH", "/status", 409, 3));
    let created = |server: &Server| server.objects.get("jobs").is_some_and(|jobs| jobs.len() == 1);
    let metrics = Arc::new(Metrics::new().unwrap());
    assert!(run_with(&server, &metrics, created).await, "{:#?}", server.lock().unwrap().log);
    let text = metrics.text();
    assert!(!text.contains("reconcile_errors_total{"), "{text}");
    let server = server.lock().unwrap();
    let first_job = server.log.iter().position(|line| line.starts_with("POST") && line.ends_with("/jobs")).unwrap();
    let statuses = server.log[..first_job].iter().filter(|line| line.ends_with("/status")).count();
    assert!(statuses >= 4, "a Job was created before the status was written: {:#?}", server.log);
    assert_eq!(server.patches[0]["metadata"]["resourceVersion"], "1", "it is written over the version that was read");
}

#[tokio::test]
async fn refused_request_is_reported_in_the_status_and_retried() {
    let server = server();
    server.lock().unwrap().refusals.push(("POST", "/jobs", 403, 2));
    let both = |server: &Server| {
        let reported = server.patches.iter().any(|patch| patch.to_string().contains("refused by the test"));
        reported && server.objects.contains_key("jobs")
    };
    assert!(run_until(&server, both).await, "{:#?}", server.lock().unwrap().patches);
}

#[tokio::test]
async fn broken_watch_is_relisted_alone() {
    let server = server();
    server.lock().unwrap().broken.insert("pods".into(), 2);
    let enough = |server: &Server| {
        let lists = |plural: &str| server.log.iter().filter(|l| l.starts_with("GET") && l.ends_with(plural)).count();
        lists("/pods") == 3 && lists("/jobs") == 1
    };
    assert!(run_until(&server, enough).await, "{:#?}", server.lock().unwrap().log);
}

/// While the watch was down one run was deleted and another created, and both events were missed.
#[tokio::test]
async fn runs_changed_while_the_watch_was_down_are_noticed() {
    let server = server();
    {
        let mut server = server.lock().unwrap();
        let mut other = server.objects["simsiamruns"][0].clone();
        other["metadata"]["name"] = json!("other");
        other["metadata"]["uid"] = json!("other-uid");
        server.broken.insert("simsiamruns".into(), 1);
        server.runs_after_break = Some(vec![other]);
    }
    let metrics = Arc::new(Metrics::new().unwrap());
    let shared = metrics.clone();
    let enough = move |server: &Server| {
        let text = shared.text();
        let created = server
            .objects
            .get("jobs")
            .is_some_and(|jobs| jobs.iter().any(|j| j["metadata"]["labels"]["simsiam.dev/run"] == "other"));
        created && text.contains("run=\"other\"") && !text.contains("run=\"r\"")
    };
    assert!(run_with(&server, &metrics, enough).await, "{}\n{:#?}", metrics.text(), server.lock().unwrap().log);
}

#[tokio::test]
async fn malformed_run_does_not_block_the_others() {
    let server = server();
    {
        let mut server = server.lock().unwrap();
        let mut bad = server.objects["simsiamruns"][0].clone();
        bad["metadata"]["name"] = json!("bad");
        bad["metadata"]["uid"] = json!("bad-uid");
        bad["spec"] = json!({"pretrain": "yes please", "dataset": 7});
        bad["status"] = json!("not even an object");
        server.objects.get_mut("simsiamruns").unwrap().push(bad);
    }
    let created = |server: &Server| server.objects.get("jobs").is_some_and(|jobs| !jobs.is_empty());
    assert!(run_until(&server, created).await, "{:#?}", server.lock().unwrap().log);
}

/// A status of a newer version is kept, with a condition that says why the run is left alone.
#[tokio::test]
async fn unreadable_status_is_kept_and_reported_in_a_condition() {
    let server = server();
    let newer = json!({"phase": "Archived", "completionTime": "2026-01-01T00:00:00Z", "shards": [1]});
    server.lock().unwrap().objects.get_mut("simsiamruns").unwrap()[0]["status"] = newer.clone();
    let reported = |server: &Server| {
        let status = &server.objects["simsiamruns"][0]["status"];
        let kept = ["phase", "completionTime", "shards"].iter().all(|field| status[field] == newer[field]);
        kept && status["conditions"][0]["reason"] == "StatusUnreadable"
    };
    assert!(run_until(&server, reported).await, "{:#?}", server.lock().unwrap().patches);
    let server = server.lock().unwrap();
    assert!(!server.objects.contains_key("jobs"), "{:#?}", server.log);
}

/// Objects that do not belong to the run but have names that it needs are neither changed nor used.
#[tokio::test]
async fn taken_names_are_reported_and_left_alone() {
    let names = {
        let mut world = World::new(&spec());
        let plan = world.step();
        let name = |action: &Action| match action {
            Action::ApplyService(it) => ("services", it.metadata.name.clone().unwrap()),
            Action::ApplyNetworkPolicy(it) => ("networkpolicies", it.metadata.name.clone().unwrap()),
            Action::CreateConfigMap(it) => ("configmaps", it.metadata.name.clone().unwrap()),
            Action::CreateJob(it) => ("jobs", it.metadata.name.clone().unwrap()),
            other => panic!("{other:?}"),
        };
        plan.actions.iter().map(name).collect::<Vec<_>>()
    };
    assert_eq!(names.len(), 4);
    for (plural, name) in names {
        let owner =
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "w", "controller": true});
        for owners in [json!([]), json!([owner])] {
            let server = server();
            let metadata = json!({"name": name, "namespace": "n", "uid": "theirs", "ownerReferences": owners});
            server.lock().unwrap().objects.insert(plural.to_owned(), vec![json!({"metadata": metadata})]);
            let message = |server: &Server| {
                let conditions = server.objects["simsiamruns"][0]["status"]["conditions"].as_array().cloned();
                let taken = conditions.into_iter().flatten().find(|condition| condition["reason"] == "NameTaken");
                taken.map(|condition| condition["message"].as_str().unwrap_or_default().to_owned())
            };
            let reported = |server: &Server| message(server).is_some();
            assert!(run_until(&server, reported).await, "{plural}: {:#?}", server.lock().unwrap().log);
            let server = server.lock().unwrap();
            assert_eq!(server.objects[plural].len(), 1);
            let changes = |line: &&String| line.contains(&format!("/{plural}")) && !line.starts_with("POST");
            let changes: Vec<_> = server.log.iter().filter(changes).filter(|line| !line.contains("GET")).collect();
            assert!(changes.iter().all(|line| line.starts_with("WATCH")), "{changes:#?}");
            let message = message(&server).unwrap();
            assert!(message.contains(&name) && message.contains("not this run's"), "{message}");
            if plural != "jobs" {
                assert!(!server.objects.contains_key("jobs"), "no Job without what its pods need: {:#?}", server.log);
            }
        }
    }
}

/// A Service of the run that lost its labels, so that no watch shows it, is restored.
#[tokio::test]
async fn own_object_that_no_watch_shows_is_updated_by_its_uid() {
    let server = server();
    let owner = json!({"apiVersion": "simsiam.dev/v1alpha1", "kind": "SimSiamRun", "name": "r", "uid": "run-uid",
        "controller": true});
    let metadata = json!({"name": "r-workers", "namespace": "n", "uid": "service-uid", "ownerReferences": [owner]});
    server.lock().unwrap().objects.insert("services".to_owned(), vec![json!({"metadata": metadata})]);
    let updated = |server: &Server| {
        let mut applied = server.applied.iter();
        applied.any(|value| value["kind"] == "Service" && value["metadata"]["uid"] == "service-uid")
            && server.objects.contains_key("jobs")
    };
    assert!(run_until(&server, updated).await, "{:#?}", server.lock().unwrap().log);
}

#[tokio::test]
async fn unchanged_status_is_not_written() {
    let server = server();
    let metrics = Metrics::new().unwrap();
    let client = client(&server);
    let cluster = Cluster { client: &client, metrics: &metrics };
    let mut object = object(&spec());
    let run = RunIdentity::of(&object).unwrap();
    let mut status = object.status().unwrap();
    status.reason = Some("X".into());
    assert_eq!(cluster.write_status(&run, &object, &status).await.unwrap(), Written::Yes);
    object.status = Some((&serde_json::to_value(&status).unwrap()).into());
    assert_eq!(cluster.write_status(&run, &object, &status).await.unwrap(), Written::Unchanged);
    assert_eq!(server.lock().unwrap().patches.len(), 1);
}

/// Attempt 2 would otherwise be reported in the words of attempt 1.
#[tokio::test]
async fn events_with_the_same_reason_keep_their_own_words() {
    let server = server();
    let reporter = Reporter { controller: "simsiam-operator".into(), instance: None };
    let reference = object(&spec()).object_ref(&());
    for message in ["pretrain, attempt 1: Job r-pretrain-1".to_owned(), "ü".repeat(1000)] {
        let event = PlannedEvent { warning: true, reason: "Crashed".into(), message, kind: EventKind::Restart };
        publish(&client(&server), &reporter, &reference, &event).await.unwrap();
    }
    let server = server.lock().unwrap();
    let notes: Vec<_> = server.objects["events"].iter().map(|event| event["note"].as_str().unwrap()).collect();
    assert_eq!(notes[0], "pretrain, attempt 1: Job r-pretrain-1");
    assert!(notes[1].starts_with('ü') && notes[1].len() <= 1024, "{}", notes[1].len());
}

/// A gang of a thousand pods must not wait for a thousand answers in a row.
#[tokio::test]
async fn nodes_are_looked_up_concurrently() {
    let server = server();
    server.lock().unwrap().slow_nodes = Duration::from_millis(50);
    let (client, metrics) = (client(&server), Metrics::new().unwrap());
    let cluster = Cluster { client: &client, metrics: &metrics };
    let names: Vec<_> = (0..100).map(|i| format!("node-{i}")).collect();
    assert_eq!(cluster.nodes(names).await.len(), 100);
    let most = server.lock().unwrap().reading.1;
    assert!((8..=64).contains(&most), "{most} at once");
}

/// An operator that no longer sees the cluster must not look healthy.
#[tokio::test]
async fn operator_whose_watches_ended_fails_its_liveness_probe() {
    let server = server();
    let metrics = Arc::new(Metrics::new().unwrap());
    let health = Health { metrics: metrics.clone(), ready: Arc::default() };
    let address = serve("127.0.0.1:0".parse().unwrap(), health).await.unwrap();
    let probe = async || {
        let response = reqwest::get(format!("http://{address}/healthz")).await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    };
    server.lock().unwrap().broken.insert("pods".into(), 2);
    let relisted =
        |server: &Server| server.log.iter().filter(|l| l.starts_with("WATCH") && l.ends_with("/pods")).count() == 3;
    assert_eq!(probe().await.0, 200, "before it leads");
    let shared = metrics.clone();
    let seen = move |server: &Server| {
        let text = shared.text();
        let up = text.contains("simsiam_operator_watch_up{kind=\"Pod\"} 1");
        relisted(server) && up && text.contains("simsiam_operator_watch_errors_total{kind=\"Pod\"} 2")
    };
    assert!(run_with(&server, &metrics, seen).await, "{}", metrics.text());
    // The controller has stopped, and with it the watches.
    assert!(metrics.text().contains("simsiam_operator_watch_up{kind=\"Pod\"} 0"), "{}", metrics.text());
    let (code, text) = probe().await;
    assert_eq!(code, 503);
    assert!(text.contains("has ended"), "{text}");
}
