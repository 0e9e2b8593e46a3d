//! The charts on a real cluster: what is rendered is taken, and runs notice neither an upgrade nor an absence.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use simsiam_cluster::images::TRAINER;
use simsiam_tests::{root, text, until};

use super::place::{NAMESPACE, Place, RELEASE, SYSTEM, chart};

const LIMIT: Duration = Duration::from_secs(300);
const CRD: &str = "simsiamruns.simsiam.dev";
/// Where the definitions of monitors and rules are taken from, and what it has to be.
const PROMETHEUS: [&str; 2] =
    ["github.com/prometheus-operator/prometheus-operator@v0.85.0", "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s="];

/// Defines what the Prometheus Operator would: ServiceMonitor, PodMonitor, PrometheusRule. Gives whether it could.
fn define_monitors(place: &Place) -> bool {
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
        place.cluster.kubectl(&["apply", "--server-side", "-f", text(&file)]).unwrap();
        let name = format!("crd/{kind}.monitoring.coreos.com");
        place.cluster.kubectl(&["wait", "--for=condition=Established", &name, "--timeout=30s"]).unwrap();
    }
    until(Duration::from_secs(30), "monitors are known", || {
        place.cluster.kubectl(&["get", "servicemonitors,podmonitors,prometheusrules"]).ok()
    });
    true
}

/// Has the API server check every object of a rendering, without keeping any: unknown fields are errors to it. Objects of
/// the Prometheus Operator are left out where the cluster does not know them. Gives how many were checked.
fn check(place: &Place, values: &str) -> usize {
    let folder = tempfile::tempdir().unwrap();
    let (file, manifest) = (folder.path().join("values.yaml"), folder.path().join("manifest.yaml"));
    fs::write(&file, values).unwrap();
    // Another release's name: nothing of it is there yet.
    let mut helm = place.cluster.helm(&["template", "simsiam-checked", &chart(), "--namespace", SYSTEM]);
    let said = helm.args(["--values", text(&file)]).output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let rendered = String::from_utf8(said.stdout).unwrap();
    let versions = place.cluster.kubectl(&["api-versions"]).unwrap();
    let prometheus = versions.contains("monitoring.coreos.com/v1");
    let known = |document: &&str| {
        document.contains("\nkind: ") && (prometheus || !document.contains("apiVersion: monitoring.coreos.com/v1"))
    };
    let documents: Vec<_> = rendered.split("\n---\n").filter(known).collect();
    fs::write(&manifest, documents.join("\n---\n")).unwrap();
    let apply = ["apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict"];
    let taken = place.cluster.kubectl(&[&apply, ["-f", text(&manifest)].as_slice()].concat()).unwrap();
    assert_eq!(taken.lines().count(), documents.len(), "{taken}");
    documents.len()
}

pub fn every_object_of_the_charts_is_taken(place: &mut Place) {
    let monitors = !place.is_anothers() && define_monitors(place);
    // Deployment, account, two roles and their bindings, two roles of people, Service, definition.
    assert_eq!(check(place, ""), 10);
    assert_eq!(check(place, "{watchNamespace: default, crds: {enabled: false}, rbac: {userRoles: false}}"), 7);
    let everything = check(place, include_str!("../charts/everything.yaml"));
    // Three are the Prometheus Operator's; somebody else's cluster may know them by itself.
    assert!(everything == 17 || (everything == 14 && !monitors), "{everything} objects, monitors defined: {monitors}");
}

fn definition(place: &Place) -> Value {
    place.cluster.json(&["get", "crd", CRD]).unwrap()
}

/// Helm upgrades the definition, not only the operator.
pub fn the_definition_is_the_release_s_and_stays(place: &mut Place) {
    let before = definition(place);
    assert_eq!(before["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
    assert_eq!(before["metadata"]["annotations"]["meta.helm.sh/release-name"], RELEASE);
    place.install(&["simsiam-crds.labels.team=vision"]);
    let after = definition(place);
    assert_eq!(after["metadata"]["labels"]["team"], "vision");
    assert_eq!(after["metadata"]["uid"], before["metadata"]["uid"]);
    // Switching it off is no removal either.
    place.install(&["crds.enabled=false"]);
    assert_eq!(definition(place)["metadata"]["uid"], before["metadata"]["uid"]);
    // One that was applied by hand is taken over only when that is asked for.
    let annotations = ["meta.helm.sh/release-name-", "meta.helm.sh/release-namespace-"];
    place.cluster.kubectl(&[&["annotate", "crd", CRD], annotations.as_slice()].concat()).unwrap();
    place.cluster.kubectl(&["label", "crd", CRD, "app.kubernetes.io/managed-by-"]).unwrap();
    let said = place.try_install(&[], &[]).unwrap_err();
    assert!(said.contains("invalid ownership metadata"), "{said}");
    place.try_install(&[], &["--take-ownership"]).unwrap();
    let after = definition(place);
    assert_eq!(after["metadata"]["uid"], before["metadata"]["uid"]);
    assert_eq!(after["metadata"]["annotations"]["meta.helm.sh/release-name"], RELEASE);
}

/// Two replicas behind the NetworkPolicy, with rights in one namespace alone, reach the API server and the pods of a run,
/// and one leads. Other namespaces' runs are not theirs.
pub fn the_operator_is_confined_and_works(place: &mut Place) {
    let watched = format!("watchNamespace={NAMESPACE}");
    place.install(&["replicas=2", "networkPolicy.enabled=true", &watched]);
    let deployment = place.cluster.json(&["get", "deployment", RELEASE, "-n", SYSTEM]).unwrap();
    assert_eq!(deployment["status"]["readyReplicas"], 2, "{deployment:#}");
    let rights = place.cluster.json(&["get", "clusterrole", "-l", "app.kubernetes.io/name=simsiam-operator"]).unwrap();
    let names: Vec<_> = rights["items"].as_array().unwrap().iter().map(|role| &role["metadata"]["name"]).collect();
    assert_eq!(names, ["simsiam-edit", "simsiam-view"], "only people have rights in the whole cluster");
    place.cluster.kubectl(&["create", "namespace", "elsewhere"]).unwrap();
    place.apply_in("elsewhere", "confined", &place.spec("elsewhere")).unwrap();
    place.apply("confined", &place.spec("confined")).unwrap();
    // The progress of a run is asked of its pods.
    place.wait("confined", Duration::from_secs(120), "with a loss", |status| status["progress"]["loss"].is_number());
    place.wait_for("confined", "Succeeded", LIMIT);
    let other = place.cluster.json(&["get", "ssr", "confined", "-n", "elsewhere"]).unwrap();
    assert!(other["status"].is_null(), "{other:#}");
    place.cluster.kubectl(&["delete", "namespace", "elsewhere"]).unwrap();
    place.install(&[]);
}

/// What a newcomer does, on a cluster that has nothing of it but the images: install, draw images, apply, wait. The
/// NetworkPolicies are on, and both namespaces demand the strictest level of Pod Security.
pub fn the_first_run_succeeds(place: &mut Place) {
    place.uninstall();
    let level = |label: &str| {
        for namespace in [NAMESPACE, SYSTEM] {
            place.cluster.kubectl(&["label", "namespace", namespace, "--overwrite", label]).unwrap();
        }
    };
    level("pod-security.kubernetes.io/enforce=restricted");
    let claim = place.volume();
    let begun = Instant::now();
    place.install(&["networkPolicy.enabled=true"]);
    let installed = begun.elapsed();
    let images = fs::read_to_string(root().join("examples/cluster/images.yaml")).unwrap();
    assert!(images.contains(&TRAINER.image()), "the image that is to be set");
    place.cluster.apply(&images.replace(&TRAINER.image(), place.trainer())).unwrap();
    place.cluster.kubectl(&["wait", "--for=condition=Complete", "job/draw-images", "--timeout=5m"]).unwrap();
    let drawn = begun.elapsed();
    let run = fs::read_to_string(root().join("examples/cluster/quickstart.yaml")).unwrap();
    place.cluster.apply(&run).unwrap();
    place.wait("quickstart", 3 * LIMIT, "with figures", |status| status["results"]["knnTop1"].is_number());
    println!("{}", place.cluster.kubectl(&["get", "ssr"]).unwrap());
    let status = place.wait_for("quickstart", "Succeeded", 3 * LIMIT);
    let [installed, drawn, all] = [installed, drawn, begun.elapsed()].map(|time| time.as_secs());
    println!("{}", place.cluster.kubectl(&["get", "ssr"]).unwrap());
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
    place.cluster.kubectl(&["delete", "ssr", "quickstart"]).unwrap();
    place.cluster.kubectl(&["delete", "-f", text(&root().join("examples/cluster/images.yaml"))]).unwrap();
    place.install(&[]);
}

/// The operator is replaced in mid-run; the run does not notice.
pub fn an_upgrade_goes_unnoticed(place: &mut Place) {
    let names = |place: &Place| {
        let pods = place
            .cluster
            .json(&["get", "pods", "-n", SYSTEM, "-l", "app.kubernetes.io/name=simsiam-operator"])
            .unwrap();
        let running = |pod: &&Value| pod["metadata"]["deletionTimestamp"].is_null();
        let items = pods["items"].as_array().cloned().unwrap_or_default();
        items.iter().filter(running).map(|pod| pod["metadata"]["name"].to_string()).collect::<Vec<_>>()
    };
    let before = names(place);
    place.apply("upgraded", &place.spec("upgraded")).unwrap();
    place.wait("upgraded", Duration::from_secs(90), "training", |status| status["phase"] == "Training");
    place.install(&["podAnnotations.note=changed", "logLevel=debug"]);
    let status = place.run("upgraded")["status"].take();
    println!("upgraded at {} of stage {}", status["progress"], status["stage"]);
    let after = until(Duration::from_secs(60), "the old operator gone", || {
        Some(names(place)).filter(|names| names.iter().all(|name| !before.contains(name)))
    });
    assert_eq!(after.len(), 1);
    ends_at_first_attempt(place, "upgraded");
    place.install(&[]);
}

/// Without an operator, and without its release, runs and their pods go on; the next operator picks them up.
pub fn runs_outlive_the_release(place: &mut Place) {
    let uid = definition(place)["metadata"]["uid"].take();
    place.apply("kept", &place.spec("kept")).unwrap();
    place.wait("kept", Duration::from_secs(90), "training", |status| status["phase"] == "Training");
    let run = place.run("kept")["metadata"]["uid"].take();
    place.uninstall();
    let left = place
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
    assert_eq!(definition(place)["metadata"]["uid"], uid);
    assert_eq!(place.run("kept")["metadata"]["uid"], run);
    assert_eq!(place.pods("kept").len(), 2, "the pods of the run");
    place.install(&[]);
    assert_eq!(definition(place)["metadata"]["uid"], uid);
    assert_eq!(place.run("kept")["metadata"]["uid"], run);
    ends_at_first_attempt(place, "kept");
}

fn ends_at_first_attempt(place: &Place, name: &str) {
    let status = place.wait_for(name, "Succeeded", LIMIT);
    assert_eq!(status["stages"][0]["attempts"], 1, "{status:#}");
    if let Some(undisturbed) = &place.undisturbed {
        assert_eq!(status["results"]["weightsSha256"].as_str(), Some(undisturbed.as_str()));
    }
}
