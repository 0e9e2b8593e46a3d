//! The charts on a real cluster: rendered objects are accepted, and neither an upgrade nor the operator's absence disturbs runs.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use simsiam_cluster::images::TRAINER;
use simsiam_tests::{root, text, wait_until};

use super::environment::{Environment, NAMESPACE, RELEASE, SYSTEM, chart};

const LIMIT: Duration = Duration::from_secs(300);
const CRD: &str = "simsiamruns.simsiam.dev";
/// Where the CRDs of monitors and rules come from, and their checksum.
const PROMETHEUS: [&str; 2] =
    ["github.com/prometheus-operator/prometheus-operator@v0.85.0", "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s="];

/// Installs the Prometheus Operator's CRDs: ServiceMonitor, PodMonitor, PrometheusRule. Returns whether that was possible.
fn define_monitors(env: &Environment) -> bool {
    let go = match simsiam_cluster::go(&root().join("tests/cluster/tools")) {
        Ok(go) => go,
        Err(why) => {
            println!("skipped: monitors are not checked: {why}");
            return false;
        }
    };
    let folder = tempfile::tempdir().unwrap();
    let [module, sum] = PROMETHEUS;
    let said = Command::new(go).args(["mod", "download", "-json", module]).current_dir(folder.path()).output().unwrap();
    let said: Value = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!(said["Sum"], sum, "{said:#}");
    let definitions = Path::new(said["Dir"].as_str().unwrap()).join("example/prometheus-operator-crd");
    for kind in ["servicemonitors", "podmonitors", "prometheusrules"] {
        let file = definitions.join(format!("monitoring.coreos.com_{kind}.yaml"));
        env.cluster.kubectl(&["apply", "--server-side", "-f", text(&file)]).unwrap();
        let name = format!("crd/{kind}.monitoring.coreos.com");
        env.cluster.kubectl(&["wait", "--for=condition=Established", &name, "--timeout=30s"]).unwrap();
    }
    wait_until(Duration::from_secs(30), "monitors are known", || {
        env.cluster.kubectl(&["get", "servicemonitors,podmonitors,prometheusrules"]).ok()
    });
    true
}

/// Has the API server check every object of a rendering, without keeping any: unknown fields are errors to it. Objects of
/// the Prometheus Operator are left out if the cluster does not know them. Returns how many were checked.
fn check(env: &Environment, values: &str) -> usize {
    let folder = tempfile::tempdir().unwrap();
    let (file, manifest) = (folder.path().join("values.yaml"), folder.path().join("manifest.yaml"));
    fs::write(&file, values).unwrap();
    // Another release's name: nothing of it is there yet.
    let mut helm = env.cluster.helm(&["template", "simsiam-checked", &chart(), "--namespace", SYSTEM]);
    let said = helm.args(["--values", text(&file)]).output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let rendered = String::from_utf8(said.stdout).unwrap();
    let versions = env.cluster.kubectl(&["api-versions"]).unwrap();
    let prometheus = versions.contains("monitoring.coreos.com/v1");
    let known = |document: &&str| {
        document.contains("\nkind: ") && (prometheus || !document.contains("apiVersion: monitoring.coreos.com/v1"))
    };
    let documents: Vec<_> = rendered.split("\n---\n").filter(known).collect();
    fs::write(&manifest, documents.join("\n---\n")).unwrap();
    let apply = ["apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict"];
    let taken = env.cluster.kubectl(&[&apply, ["-f", text(&manifest)].as_slice()].concat()).unwrap();
    assert_eq!(taken.lines().count(), documents.len(), "{taken}");
    documents.len()
}

pub fn chart_objects_are_accepted_by_the_api_server(env: &mut Environment) {
    let monitors = !env.is_external() && define_monitors(env);
    // Deployment, account, two roles and their bindings, two roles of people, Service, definition.
    assert_eq!(check(env, ""), 10);
    assert_eq!(check(env, "{watchNamespace: default, crds: {enabled: false}, rbac: {userRoles: false}}"), 7);
    let everything = check(env, include_str!("../charts/everything.yaml"));
    // Three belong to the Prometheus Operator; an external cluster may have them already.
    assert!(everything == 17 || (everything == 14 && !monitors), "{everything} objects, monitors defined: {monitors}");
}

fn definition(env: &Environment) -> Value {
    env.cluster.json(&["get", "crd", CRD]).unwrap()
}

/// Helm upgrades the definition, not only the operator.
pub fn crd_belongs_to_the_release_and_is_kept(env: &mut Environment) {
    let before = definition(env);
    assert_eq!(before["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
    assert_eq!(before["metadata"]["annotations"]["meta.helm.sh/release-name"], RELEASE);
    env.install(&["simsiam-crds.labels.team=vision"]);
    let after = definition(env);
    assert_eq!(after["metadata"]["labels"]["team"], "vision");
    assert_eq!(after["metadata"]["uid"], before["metadata"]["uid"]);
    // Switching it off is no removal either.
    env.install(&["crds.enabled=false"]);
    assert_eq!(definition(env)["metadata"]["uid"], before["metadata"]["uid"]);
    // One that was applied by hand is taken over only when that is asked for.
    let annotations = ["meta.helm.sh/release-name-", "meta.helm.sh/release-namespace-"];
    env.cluster.kubectl(&[&["annotate", "crd", CRD], annotations.as_slice()].concat()).unwrap();
    env.cluster.kubectl(&["label", "crd", CRD, "app.kubernetes.io/managed-by-"]).unwrap();
    let said = env.try_install(&[], &[]).unwrap_err();
    assert!(said.contains("invalid ownership metadata"), "{said}");
    env.try_install(&[], &["--take-ownership"]).unwrap();
    let after = definition(env);
    assert_eq!(after["metadata"]["uid"], before["metadata"]["uid"]);
    assert_eq!(after["metadata"]["annotations"]["meta.helm.sh/release-name"], RELEASE);
}

/// Two replicas behind the NetworkPolicy, with rights in one namespace alone, reach the API server and the pods of a run,
/// and one leads. Other namespaces' runs are not theirs.
pub fn confined_operator_runs_a_run(env: &mut Environment) {
    let watched = format!("watchNamespace={NAMESPACE}");
    env.install(&["replicas=2", "networkPolicy.enabled=true", &watched]);
    let deployment = env.cluster.json(&["get", "deployment", RELEASE, "-n", SYSTEM]).unwrap();
    assert_eq!(deployment["status"]["readyReplicas"], 2, "{deployment:#}");
    // The nodes have no zone, which topology spread constraints would take for a reason to ignore them.
    let pods = ["get", "pods", "-n", SYSTEM, "-l", "app.kubernetes.io/name=simsiam-operator"];
    let pods = env.cluster.json(&pods).unwrap();
    let pods = pods["items"].as_array().unwrap().iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    let nodes: std::collections::BTreeSet<_> = pods.map(|pod| pod["spec"]["nodeName"].to_string()).collect();
    assert_eq!(nodes.len(), 2, "both replicas are on {nodes:?}");
    let rights = env.cluster.json(&["get", "clusterrole", "-l", "app.kubernetes.io/name=simsiam-operator"]).unwrap();
    let names: Vec<_> = rights["items"].as_array().unwrap().iter().map(|role| &role["metadata"]["name"]).collect();
    assert_eq!(names, ["simsiam-edit", "simsiam-view"], "only people have rights in the whole cluster");
    env.cluster.kubectl(&["create", "namespace", "elsewhere"]).unwrap();
    env.apply_in("elsewhere", "confined", &env.spec("elsewhere")).unwrap();
    env.apply("confined", &env.spec("confined")).unwrap();
    // The progress of a run is asked of its pods.
    env.wait("confined", Duration::from_secs(120), "with a loss", |status| status["progress"]["loss"].is_number());
    env.wait_for("confined", "Succeeded", LIMIT);
    let other = env.cluster.json(&["get", "ssr", "confined", "-n", "elsewhere"]).unwrap();
    assert!(other["status"].is_null(), "{other:#}");
    env.cluster.kubectl(&["delete", "namespace", "elsewhere"]).unwrap();
    env.install(&[]);
}

/// What a newcomer does, on a cluster that has nothing of it but the images: install, draw images, apply, wait. The
/// NetworkPolicies are on, and both namespaces demand the strictest level of Pod Security.
pub fn getting_started_first_run_succeeds(env: &mut Environment) {
    env.uninstall();
    let level = |label: &str| {
        for namespace in [NAMESPACE, SYSTEM] {
            env.cluster.kubectl(&["label", "namespace", namespace, "--overwrite", label]).unwrap();
        }
    };
    level("pod-security.kubernetes.io/enforce=restricted");
    let claim = env.volume();
    let start = Instant::now();
    env.install(&["networkPolicy.enabled=true"]);
    let installed = start.elapsed();
    let images = fs::read_to_string(root().join("examples/cluster/images.yaml")).unwrap();
    assert!(images.contains(&TRAINER.image()), "the image that is to be set");
    env.cluster.apply(&images.replace(&TRAINER.image(), env.trainer())).unwrap();
    env.cluster.kubectl(&["wait", "--for=condition=Complete", "job/draw-images", "--timeout=5m"]).unwrap();
    let drawn = start.elapsed();
    let run = fs::read_to_string(root().join("examples/cluster/quickstart.yaml")).unwrap();
    env.cluster.apply(&run).unwrap();
    env.wait("quickstart", 3 * LIMIT, "with results", |status| status["results"]["knnTop1"].is_number());
    println!("{}", env.cluster.kubectl(&["get", "ssr"]).unwrap());
    let status = env.wait_for("quickstart", "Succeeded", 3 * LIMIT);
    let [installed, drawn, all] = [installed, drawn, start.elapsed()].map(|time| time.as_secs());
    println!("{}", env.cluster.kubectl(&["get", "ssr"]).unwrap());
    println!("helm install → Succeeded: {all} s ({installed} s until installed, {drawn} s until images were drawn)");
    for stage in status["stages"].as_array().unwrap() {
        assert_eq!((&stage["state"], &stage["attempts"]), (&json!("Done"), &json!(1)), "{status:#}");
    }
    let results = &status["results"];
    assert!(results["linearTop1"].as_f64().is_some_and(|top1| top1 > 50.0), "{results}");
    assert_eq!(results["exports"].as_array().map(Vec::len), Some(2), "{results}");
    if let Some(folder) = claim {
        let result: Value = serde_json::from_slice(&fs::read(folder.join("out/result.json")).unwrap()).unwrap();
        let (trained, untrained) = (result["linear"]["top1"].as_f64(), result["linearUntrained"]["top1"].as_f64());
        assert!(trained.unwrap() > untrained.unwrap() + 30.0, "{result:#}");
        assert!(folder.join("out/report.html").exists());
    }
    level("pod-security.kubernetes.io/enforce-");
    env.cluster.kubectl(&["delete", "ssr", "quickstart"]).unwrap();
    env.cluster.kubectl(&["delete", "-f", text(&root().join("examples/cluster/images.yaml"))]).unwrap();
    env.install(&[]);
}

/// The operator is replaced in mid-run; the run does not notice.
pub fn upgrade_during_a_run_keeps_the_attempt(env: &mut Environment) {
    let names = |env: &Environment| {
        let pods =
            env.cluster.json(&["get", "pods", "-n", SYSTEM, "-l", "app.kubernetes.io/name=simsiam-operator"]).unwrap();
        let running = |pod: &&Value| pod["metadata"]["deletionTimestamp"].is_null();
        let items = pods["items"].as_array().cloned().unwrap_or_default();
        items.iter().filter(running).map(|pod| pod["metadata"]["name"].to_string()).collect::<Vec<_>>()
    };
    let before = names(env);
    env.apply("upgraded", &env.spec("upgraded")).unwrap();
    env.wait("upgraded", Duration::from_secs(90), "training", |status| status["phase"] == "Training");
    env.install(&["podAnnotations.note=changed", "logLevel=debug"]);
    let status = env.run("upgraded")["status"].take();
    println!("upgraded at {} of stage {}", status["progress"], status["stage"]);
    let after = wait_until(Duration::from_secs(60), "the old operator gone", || {
        Some(names(env)).filter(|names| names.iter().all(|name| !before.contains(name)))
    });
    assert_eq!(after.len(), 1);
    ends_at_first_attempt(env, "upgraded");
    env.install(&[]);
}

/// Without the operator and its release, runs and their pods continue; the next operator adopts them.
pub fn runs_outlive_the_release(env: &mut Environment) {
    let uid = definition(env)["metadata"]["uid"].take();
    env.apply("kept", &env.spec("kept")).unwrap();
    env.wait("kept", Duration::from_secs(90), "training", |status| status["phase"] == "Training");
    let run = env.run("kept")["metadata"]["uid"].take();
    env.uninstall();
    let left = env
        .cluster
        .json(&[
            "get",
            "deployment,service,serviceaccount,role",
            "-n",
            SYSTEM,
            "-l",
            "app.kubernetes.io/name=simsiam-operator",
        ])
        .unwrap();
    assert!(left["items"].as_array().is_some_and(Vec::is_empty), "{left:#}");
    assert_eq!(definition(env)["metadata"]["uid"], uid);
    assert_eq!(env.run("kept")["metadata"]["uid"], run);
    assert_eq!(env.pods("kept").len(), 2, "the pods of the run");
    env.install(&[]);
    assert_eq!(definition(env)["metadata"]["uid"], uid);
    assert_eq!(env.run("kept")["metadata"]["uid"], run);
    ends_at_first_attempt(env, "kept");
}

fn ends_at_first_attempt(env: &Environment, name: &str) {
    let status = env.wait_for(name, "Succeeded", LIMIT);
    assert_eq!(status["stages"][0]["attempts"], 1, "{status:#}");
    if let Some(undisturbed) = &env.undisturbed {
        assert_eq!(status["results"]["weightsSha256"].as_str(), Some(undisturbed.as_str()));
    }
}
