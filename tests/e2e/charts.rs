//! The charts as rendered by Helm: snapshots for several sets of values, refused values, and the operator's permissions.
//!
//! After an intended change, run `INSTA_UPDATE=always cargo test -p simsiam-tests --test charts` and review the diff.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::{Value, json};
use simsiam_cluster::Tools;
use simsiam_tests::{build_program, output_of, root, text};

/// Everything that can be switched on.
const EVERYTHING: &str = include_str!("charts/everything.yaml");

/// Returns the program that contains Helm, or `None` with a message if it can't be built.
fn program() -> Option<&'static Path> {
    static PROGRAM: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let program = PROGRAM.get_or_init(|| match Tools::obstacle() {
        Some(why) => Err(why),
        None => Ok(Tools::ensure().expect("Helm").kube()),
    });
    program.as_deref().map_err(|why| println!("skipped: {why}")).ok()
}

/// Runs Helm: exit code, standard output and standard error.
fn helm(program: &Path, arguments: &[&str]) -> (i32, String, String) {
    let home = tempfile::tempdir().unwrap();
    let mut helm = Command::new(program);
    helm.arg("helm").args(arguments).env("HOME", home.path()).env_remove("KUBECONFIG");
    output_of(helm.output().unwrap())
}

fn chart(name: &str) -> PathBuf {
    root().join("charts").join(name)
}

/// Renders a chart with values.
fn template(program: &Path, chart: &Path, values: &str) -> Result<String, String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("values.yaml");
    fs::write(&file, values).unwrap();
    let arguments = ["template", "simsiam", text(chart), "--namespace", "simsiam-system", "--kube-version", "1.34.0"];
    let (code, out, err) = helm(program, &[&arguments, ["--values", text(&file)].as_slice()].concat());
    if code == 0 { Ok(out) } else { Err(err) }
}

fn rendered(program: &Path, values: &str) -> String {
    template(program, &chart("simsiam-operator"), values).unwrap_or_else(|e| panic!("{values}\n{e}"))
}

/// The objects of a rendering.
fn objects(rendered: &str) -> Vec<Value> {
    let parse = |part: &str| serde_saphyr::from_str::<Value>(part).unwrap_or_else(|e| panic!("{e}\n{part}"));
    rendered.split("\n---\n").map(parse).filter(|object| object.is_object()).collect()
}

fn of_kind(rendered: &str, kind: &str) -> Vec<Value> {
    objects(rendered).into_iter().filter(|object| object["kind"] == kind).collect()
}

fn only(rendered: &str, kind: &str) -> Value {
    let mut all = of_kind(rendered, kind);
    assert_eq!(all.len(), 1, "{kind}");
    all.remove(0)
}

#[test]
fn helm_lint_of_the_charts_is_clean() {
    let Some(program) = program() else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("values.yaml");
    fs::write(&file, EVERYTHING).unwrap();
    for (name, values) in [("simsiam-operator", Some(&file)), ("simsiam-operator", None), ("simsiam-crds", None)] {
        let chart = chart(name);
        let mut arguments = vec!["lint", "--strict", text(&chart), "--kube-version", "1.34.0"];
        arguments.extend(values.iter().flat_map(|file| ["--values", text(file)]));
        let (code, out, err) = helm(program, &arguments);
        assert_eq!(code, 0, "{out}{err}");
    }
}

#[test]
fn rendered_charts_match_their_snapshots() {
    let Some(program) = program() else { return };
    for (name, values) in [
        ("default", ""),
        ("namespaced", "{watchNamespace: vision, crds: {enabled: false}, rbac: {userRoles: false}}"),
        ("two-replicas", "{replicas: 2}"),
        ("without-leader-election", "{leaderElection: false, serviceAccount: {create: false}}"),
        ("everything", EVERYTHING),
    ] {
        let rendered = rendered(program, values);
        let shown = rendered.split("\n---\n").filter_map(shown).collect::<Vec<_>>().join("\n---\n");
        insta::with_settings!({omit_expression => true, prepend_module_to_snapshot => false, snapshot_path => "charts"}, {
            insta::assert_snapshot!(name, shown);
        });
    }
}

/// A document as a snapshot has it. The definition's body is in `crds/`, and rules and dashboards are in files too.
fn shown(document: &str) -> Option<String> {
    if document.contains("\nkind: PrometheusRule\n") || document.contains("/templates/dashboards.yaml") {
        return None;
    }
    let kept = match document.split_once("\nspec:\n") {
        Some((head, _)) if document.contains("\nkind: CustomResourceDefinition\n") => format!("{head}\nspec: …"),
        _ => document.to_owned(),
    };
    Some(kept.trim_end().to_owned())
}

#[test]
fn invalid_values_are_refused_with_their_path() {
    let Some(program) = program() else { return };
    for (values, words) in [
        ("{replicas: two}", "at '/replicas': got string, want integer"),
        ("{replicas: -1}", "at '/replicas': minimum: got -1, want 0"),
        ("{imge: {tag: x}}", "additional properties 'imge' not allowed"),
        ("{image: {tga: x}}", "at '/image': additional properties 'tga' not allowed"),
        ("{image: {tag: 1.0}}", "at '/image/tag': got number, want string"),
        ("{image: {digest: latest}}", "at '/image/digest': 'latest' does not match pattern"),
        (
            "{image: {pullPolicy: Sometimes}}",
            "at '/image/pullPolicy': value must be one of 'Always', 'IfNotPresent', 'Never'",
        ),
        ("{imagePullSecrets: [{name: x}]}", "at '/imagePullSecrets/0': got object, want string"),
        ("{watchNamespace: A_B}", "at '/watchNamespace': 'A_B' does not match pattern"),
        ("{leaderElection: 'yes'}", "at '/leaderElection': got string, want boolean"),
        ("{logFormat: xml}", "at '/logFormat': value must be one of 'json', 'text'"),
        ("{prometheus: {podLabels: {app: 1}}}", "at '/prometheus/podLabels/app': got number, want string"),
        (
            "{metrics: {podMonitor: {interval: often}}}",
            "at '/metrics/podMonitor/interval': 'often' does not match pattern",
        ),
        ("{metrics: {grafana: true}}", "at '/metrics': additional properties 'grafana' not allowed"),
        ("{networkPolicy: {apiServer: {ports: []}}}", "at '/networkPolicy/apiServer/ports': minItems: got 0, want 1"),
        ("{networkPolicy: {nodeCIDRs: [node-1]}}", "at '/networkPolicy/nodeCIDRs/0': 'node-1' does not match pattern"),
        ("{extraEnv: [{nmae: A}]}", "at '/extraEnv/0'"),
        ("{extraArgs: [listen]}", "at '/extraArgs/0': 'listen' does not match pattern"),
        ("{simsiam-crds: {label: {}}}", "additional properties 'label' not allowed"),
        ("{replicas: 2, leaderElection: false}", "replicas: more than one needs leaderElection: true"),
        (
            "{metrics: {service: {enabled: false}, serviceMonitor: {enabled: true}}}",
            "metrics.serviceMonitor.enabled needs metrics.service.enabled: true",
        ),
    ] {
        match template(program, &chart("simsiam-operator"), values) {
            Ok(_) => panic!("{values}: taken"),
            Err(said) => assert!(said.contains(words), "{values}: expected {words:?} in\n{said}"),
        }
    }
}

/// Every value is explained twice, by a comment for readers and by the schema for editors; neither has a value of its own.
#[test]
fn values_and_schema_have_the_same_keys() {
    for name in ["simsiam-operator", "simsiam-crds"] {
        let values = fs::read_to_string(chart(name).join("values.yaml")).unwrap();
        let values: Value = serde_saphyr::from_str(&values).unwrap();
        let schema = fs::read_to_string(chart(name).join("values.schema.json")).unwrap();
        let schema: Value = serde_json::from_str(&schema).unwrap();
        compare(name, &values, &schema);
    }
}

fn compare(place: &str, values: &Value, schema: &Value) {
    let Some(properties) = schema["properties"].as_object() else { return };
    assert_eq!(schema["additionalProperties"], false, "{place}");
    let helms = ["global", "simsiam-crds", "claims"];
    let known: BTreeSet<_> = properties.keys().filter(|key| !helms.contains(&key.as_str())).collect();
    let there: BTreeSet<_> = values.as_object().unwrap_or_else(|| panic!("{place}")).keys().collect();
    assert_eq!(there, known, "{place}");
    for (key, inner) in properties {
        let place = format!("{place}.{key}");
        let parts: Vec<_> = place.split('.').collect();
        // A port under `ports` needs no description.
        assert!(inner["description"].is_string() || parts.len() < 2, "{place}: no description");
        if values[key].is_object() {
            compare(&place, &values[key], inner);
        }
    }
}

/// What the operator asks of the API server: group and resource, verb, and the place in its source that does. A line is
/// here because the code is, and a right is in the chart because the line is.
const ASKED: &[(&str, &str, &str, &str)] = &[
    ("simsiam.dev/simsiamruns", "list watch", "controller.rs", "watch_runs(api::<SimSiamRun>"),
    ("simsiam.dev/simsiamruns", "delete", "apply.rs", "self.delete::<SimSiamRun>"),
    ("simsiam.dev/simsiamruns/status", "patch", "apply.rs", "api.patch_status("),
    // For clusters with the admission plugin OwnerReferencesPermissionEnforcement.
    ("simsiam.dev/simsiamruns/finalizers", "update", "build/metadata.rs", "block_owner_deletion: Some(true)"),
    ("batch/jobs", "list watch", "controller.rs", "|caches| &caches.jobs)"),
    ("batch/jobs", "create", "apply.rs", "self.create::<Job>"),
    // Whether an object that exists already belongs to the run.
    ("batch/jobs", "list", "apply.rs", "api.list(&ListParams"),
    ("batch/jobs", "delete", "apply.rs", "self.delete::<Job>"),
    ("/pods", "list watch", "controller.rs", "|caches| &caches.pods)"),
    ("/pods", "delete", "apply.rs", "self.delete::<Pod>"),
    ("/services", "list watch", "controller.rs", "|caches| &caches.services)"),
    ("/services", "create patch", "apply.rs", "self.apply::<Service>"),
    ("/configmaps", "list watch", "controller.rs", "|caches| &caches.config_maps)"),
    ("/configmaps", "create", "apply.rs", "self.create::<ConfigMap>"),
    ("networking.k8s.io/networkpolicies", "list watch", "controller.rs", "|caches| &caches.policies)"),
    ("networking.k8s.io/networkpolicies", "create patch", "apply.rs", "self.apply::<NetworkPolicy>"),
    ("events.k8s.io/events", "create", "events.rs", "Recorder::new(client.clone()"),
    ("events.k8s.io/events", "list", "apply.rs", "let events: Api<Event>"),
    ("/nodes", "get", "apply.rs", "let api: Api<Node>"),
    (
        "coordination.k8s.io/leases",
        "get create patch",
        "election.rs",
        "LeaseManagerBuilder::new(client, \"simsiam-operator\")",
    ),
];

type Rights = BTreeMap<String, BTreeSet<String>>;

fn rights(roles: &[Value]) -> Rights {
    let mut rights = Rights::new();
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
    };
    for rule in roles.iter().flat_map(|role| role["rules"].as_array().unwrap()) {
        for group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]) {
                let verbs = rights.entry(format!("{group}/{resource}")).or_default();
                for verb in texts(&rule["verbs"]) {
                    assert!(verbs.insert(verb.clone()), "{group}/{resource}: {verb} is given twice");
                }
            }
        }
    }
    rights
}

#[test]
fn operator_role_covers_exactly_its_requests() {
    let Some(program) = program() else { return };
    let mut asked = Rights::new();
    for (resource, verbs, file, code) in ASKED {
        let source = fs::read_to_string(root().join("operator/src").join(file)).unwrap();
        assert!(source.contains(code), "{resource}: {file} no longer has `{code}`");
        asked.entry((*resource).to_owned()).or_default().extend(verbs.split(' ').map(str::to_owned));
    }
    let operators = |role: &Value| !role["metadata"]["labels"].to_string().contains("aggregate-to");
    let whole = rendered(program, "");
    let roles: Vec<_> = objects(&whole)
        .into_iter()
        .filter(|object| object["kind"] == "ClusterRole" || object["kind"] == "Role")
        .filter(operators)
        .collect();
    assert_eq!(rights(&roles), asked);
    assert!(!whole.contains("'*'") && !whole.contains("\"*\""));

    // In one namespace all of it but the nodes, which are in none.
    let namespaced = rendered(program, "{watchNamespace: vision, rbac: {userRoles: false}}");
    let roles = of_kind(&namespaced, "Role");
    assert_eq!(of_kind(&namespaced, "ClusterRole").len(), 0);
    let places: BTreeSet<_> = roles.iter().map(|role| role["metadata"]["namespace"].as_str().unwrap()).collect();
    assert_eq!(places, ["simsiam-system", "vision"].into());
    asked.remove("/nodes");
    assert_eq!(rights(&roles), asked);
}

/// Compares the requests in the code with the table above, so that a new request must be added to it.
#[test]
fn request_table_covers_the_operator_sources() {
    let source = |file: &str| fs::read_to_string(root().join("operator/src").join(file)).unwrap();
    let (apply, controller) = (source("apply.rs"), source("controller.rs"));
    for (text, what, expected) in [
        (&apply, "self.create::<", 2),
        (&apply, "self.apply::<", 2),
        (&apply, "self.delete::<", 4),
        (&apply, "api.list(", 1),
        (&apply, "api.patch_status(", 1),
        (&apply, "let api: Api<", 2),
        (&apply, "let events: Api<", 1),
        (&controller, "spawn(&mut tasks, &context, namespace, &wake, ", 5),
        (&controller, "watch_runs(api::<", 1),
    ] {
        assert_eq!(text.matches(what).count(), expected, "{what}: has the table of rights the new one?");
    }
}

/// The operator's command line is checked by the operator.
#[test]
fn operator_accepts_the_flags_of_the_deployment() {
    let Some(program) = program() else { return };
    let operator = build_program("simsiam-operator", "simsiam-operator");
    for values in ["", "{watchNamespace: vision}", EVERYTHING] {
        let deployment = only(&rendered(program, values), "Deployment");
        let container = &deployment["spec"]["template"]["spec"]["containers"][0];
        let arguments = container["args"].as_array().unwrap().iter().map(|argument| argument.as_str().unwrap());
        let (code, _, err) = output_of(Command::new(&operator).args(arguments).arg("crd").output().unwrap());
        assert_eq!(code, 0, "{err}");
        let labels = &deployment["spec"]["template"]["metadata"]["labels"];
        let selector = deployment["spec"]["selector"]["matchLabels"].as_object().unwrap();
        assert!(selector.iter().all(|(key, value)| labels[key] == *value), "{labels}");
        // The NetworkPolicies of runs find the operator by these.
        let given = container["args"].to_string();
        for (key, value) in selector {
            assert!(given.contains(&format!("{key}={}", value.as_str().unwrap())), "{given}");
        }
    }
}

#[test]
fn image_digest_wins_over_tag() {
    let Some(program) = program() else { return };
    let digest = format!("sha256:{}", "0a".repeat(32));
    let values = json!({
        "image": {"repository": "registry.example.com/operator", "tag": "1", "digest": digest},
        "trainerImage": {"repository": "registry.example.com/trainer", "digest": digest},
    });
    let deployment = only(&rendered(program, &values.to_string()), "Deployment");
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["image"], format!("registry.example.com/operator@{digest}"));
    assert_eq!(container["args"][0], format!("--trainer-image=registry.example.com/trainer@{digest}"));
}

/// The definition is kept when its release goes, and is the one in `crds/`.
#[test]
fn crd_of_the_chart_matches_crds_and_is_kept() {
    let Some(program) = program() else { return };
    let file = fs::read_to_string(root().join("crds/simsiamruns.simsiam.dev.yaml")).unwrap();
    let expected: Value = serde_saphyr::from_str(&file).unwrap();
    let alone = template(program, &chart("simsiam-crds"), "").unwrap();
    for rendered in [rendered(program, ""), alone] {
        let definition = only(&rendered, "CustomResourceDefinition");
        assert_eq!(definition["spec"], expected["spec"]);
        assert_eq!(definition["metadata"]["name"], expected["metadata"]["name"]);
        assert_eq!(definition["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
    }
    let without = rendered(program, "{crds: {enabled: false}}");
    assert_eq!(of_kind(&without, "CustomResourceDefinition").len(), 0);
}

/// Names of the files of a folder of a chart, by their ends.
fn files(chart: &Path, folder: &str, end: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(chart.join(folder)) else { return Vec::new() };
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|there| there == end));
    files.sort();
    files
}

/// The files reach the API server unchanged, including the braces of Prometheus and Grafana.
fn rules_and_dashboards_are_those_of_the_files(program: &Path, chart: &Path) -> (usize, usize) {
    let rendered = template(program, chart, EVERYTHING).unwrap();
    let rules = files(chart, "rules", "yaml");
    let given: Vec<_> = of_kind(&rendered, "PrometheusRule").into_iter().map(|mut rule| rule["spec"].take()).collect();
    let expected: Vec<Value> = rules
        .iter()
        .map(|path| serde_saphyr::from_str(&fs::read_to_string(path).unwrap()).unwrap())
        .map(|file: Value| json!({"groups": file["groups"]}))
        .collect();
    assert_eq!(given, expected);
    let dashboards = files(chart, "dashboards", "json");
    let maps = of_kind(&rendered, "ConfigMap");
    assert_eq!(maps.len(), dashboards.len());
    for path in &dashboards {
        let name = path.file_name().unwrap().to_str().unwrap();
        let map = maps.iter().find(|map| map["data"][name].is_string()).unwrap_or_else(|| panic!("{name}"));
        assert_eq!(map["data"][name].as_str().unwrap(), fs::read_to_string(path).unwrap());
        assert_eq!(map["metadata"]["labels"]["grafana_dashboard"], "1");
        assert_eq!(map["metadata"]["annotations"]["grafana_folder"], "SimSiam");
    }
    (rules.len(), dashboards.len())
}

/// A copy of the charts, with the link between them.
fn copied(to: &Path) -> PathBuf {
    let copied = Command::new("cp").arg("-a").arg(root().join("charts")).arg(to).status().unwrap();
    assert!(copied.success());
    to.join("charts/simsiam-operator")
}

#[test]
fn rules_and_dashboards_are_rendered_unchanged() {
    let Some(program) = program() else { return };
    let (rules, dashboards) = rules_and_dashboards_are_those_of_the_files(program, &chart("simsiam-operator"));
    println!("{rules} files of rules, {dashboards} dashboards");

    let folder = tempfile::tempdir().unwrap();
    let chart = copied(folder.path());
    for part in ["rules", "dashboards"] {
        let _ = fs::remove_dir_all(chart.join(part));
    }
    assert_eq!(rules_and_dashboards_are_those_of_the_files(program, &chart), (0, 0));
    for part in ["rules", "dashboards"] {
        fs::create_dir(chart.join(part)).unwrap();
    }
    let rule = "# A comment.\ngroups:\n  - name: runs\n    rules:\n      - alert: Stalled\n        expr: x{phase=\"Stalled\"} > 0\n        \
        for: 10m\n        annotations:\n          summary: 'Run {{ $labels.run }}: {{ $value | humanize }}, {{ \"{{\" }}'\n";
    fs::write(chart.join("rules/Some_Alerts.yaml"), rule).unwrap();
    fs::write(chart.join("rules/other.yaml"), rule.replace("Stalled", "Other")).unwrap();
    let dashboard = "{\n  \"title\": \"Runs: {{run}} of ${namespace}\",\n  \"note\": \"back\\\\slash, 'quotes', <tags> & more\"\n}\n";
    fs::write(chart.join("dashboards/runs.json"), dashboard).unwrap();
    assert_eq!(rules_and_dashboards_are_those_of_the_files(program, &chart), (2, 1));
    let rendered = template(program, &chart, EVERYTHING).unwrap();
    let named = |name: &str| rendered.contains(&format!("\n  name: {name}\n"));
    assert!(named("simsiam-rules-some-alerts") && named("simsiam-rules-other") && named("simsiam-dashboard-runs"));

    fs::write(chart.join("rules/bad.yaml"), "group: []\n").unwrap();
    let said = template(program, &chart, EVERYTHING).unwrap_err();
    assert!(said.contains("rules/bad.yaml: no groups of rules"), "{said}");
}

/// A package, as one would push it somewhere, has the definition in it; making one needs no network either.
#[test]
fn packaged_chart_renders_like_its_folder() {
    let Some(program) = program() else { return };
    let folder = tempfile::tempdir().unwrap();
    let chart = chart("simsiam-operator");
    let (code, out, err) = helm(program, &["package", text(&chart), "--destination", text(folder.path())]);
    assert_eq!(code, 0, "{out}{err}");
    let package = fs::read_dir(folder.path()).unwrap().flatten().next().unwrap().path();
    assert_eq!(template(program, &package, EVERYTHING).unwrap(), rendered(program, EVERYTHING));
}
