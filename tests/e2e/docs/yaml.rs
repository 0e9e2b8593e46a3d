//! YAML in the pages: its keys decide what it is, and then it must match that schema.

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Map, Value, json};
use simsiam_tests::{run, text};

use crate::page::{Block, Page, Piece};
use crate::schema;

/// How many documents of a kind were looked at.
pub type Count = BTreeMap<&'static str, usize>;

/// What is wrong with a page's blocks of YAML.
pub fn faults(page: &Page, count: &mut Count) -> Vec<String> {
    let blocks = page.blocks.iter().filter(|block| is_yaml(block));
    let mut found = Vec::new();
    for document in blocks.flat_map(|block| documents(&block.code)) {
        let said = match serde_saphyr::from_str::<Value>(&document.text) {
            Ok(Value::Object(fields)) => checked(&fields, count),
            Ok(other) => vec![format!("found {other}, expected fields")],
            Err(error) => vec![format!("found no YAML: {error}")],
        };
        found.extend(said.iter().map(|said| page.fault(document.line, &format!("YAML: {said}"))));
    }
    found
}

fn is_yaml(block: &Block) -> bool {
    block.language.as_deref().is_some_and(|language| ["yaml", "yml"].contains(&language))
}

/// The documents between lines of `---`.
fn documents(code: &Piece) -> Vec<Piece> {
    let mut documents = vec![Piece { line: code.line, text: String::new() }];
    for (line, number) in code.text.lines().zip(code.line..) {
        if line.trim_end() == "---" {
            documents.push(Piece { line: number + 1, text: String::new() });
        } else if let Some(document) = documents.last_mut() {
            document.text.extend([line, "\n"]);
        }
    }
    documents.retain(|document| !document.text.trim().is_empty());
    documents
}

/// What is wrong with a document, by what it is.
fn checked(fields: &Map<String, Value>, count: &mut Count) -> Vec<String> {
    let all_in = |schema: &Value| fields.keys().all(|name| schema["properties"].get(name).is_some());
    let charts = schema::values("simsiam-operator").unwrap();
    let value = Value::Object(fields.clone());
    let (kind, said) = if fields.get("kind").is_some_and(|kind| kind == "SimSiamRun") {
        ("runs", run_faults(&value))
    } else if fields.contains_key("kind") && fields.contains_key("apiVersion") {
        ("other objects", object_faults(&value))
    } else if fields.contains_key("scrape_configs") {
        ("configurations of Prometheus", Vec::new())
    } else if fields.len() == 1 && fields.contains_key("spec") {
        ("fragments of runs", fragment_faults(&value["spec"]))
    } else if all_in(&charts) && !(all_in(schema::spec()) && fragment_faults(&value).is_empty()) {
        ("chart values", schema::faults(&charts, &value, ""))
    } else if all_in(schema::spec()) {
        ("fragments of runs", fragment_faults(&value))
    } else {
        let names = fields.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        let expected =
            "a SimSiamRun, fields of its spec, values of the chart, another Kubernetes object or scrape_configs";
        ("others", vec![format!("found the fields {names}, expected those of {expected}")])
    };
    *count.entry(kind).or_default() += 1;
    said
}

fn object_faults(object: &Value) -> Vec<String> {
    let named = object["metadata"]["name"].as_str().is_some_and(|name| !name.is_empty());
    if named { Vec::new() } else { vec![format!("found a {} without a name, expected metadata.name", object["kind"])] }
}

/// Fields of a run's `spec`: all that it takes, or some to be put into another.
fn fragment_faults(spec: &Value) -> Vec<String> {
    let has = |name: &str| spec.get(name).is_some();
    let stage = ["pretrain", "knn", "linear", "finetune"].into_iter().any(has);
    let mut whole = match has("dataset") && has("output") && stage {
        true => json!({}),
        false => json!({
            "dataset": {"train": "s3://bucket/train", "val": "s3://bucket/val"},
            "output": {"uri": "s3://bucket/out", "credentialsSecret": "s3-credentials"},
            "pretrain": {},
        }),
    };
    if let (true, Some(dataset)) = (spec["dataset"].get("probe").is_some(), whole["dataset"].as_object_mut()) {
        // A probe takes its place.
        dataset.remove("val");
    }
    merge(&mut whole, spec);
    run_faults(&json!({
        "apiVersion": "simsiam.dev/v1alpha1", "kind": "SimSiamRun", "metadata": {"name": "docs"}, "spec": whole,
    }))
}

fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (name, value) in from {
                merge(into.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}

/// What `simsiam validate` has against a run, and what the definition has, which knows the cluster's fields as well.
fn run_faults(run_file: &Value) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.yaml");
    fs::write(&path, run_file.to_string()).unwrap();
    let (code, _, said) = run(&["validate", "-f", text(&path)]);
    let mut found = schema::faults(schema::run(), run_file, "");
    if code != 0 {
        // `simsiam: <path>:1:20: spec.…`: the position is in our temporary file.
        let words =
            |line: &str| line.rsplit(text(&path)).next().unwrap_or(line).trim_start_matches(is_place).to_owned();
        found.extend(said.trim().lines().map(|line| format!("simsiam validate: {}", words(line))));
    }
    found
}

fn is_place(c: char) -> bool {
    c.is_ascii_digit() || ": ".contains(c)
}
