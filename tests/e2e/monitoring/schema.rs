//! The dashboards against Grafana's own schema, by the Go program in `tests/monitoring/schema`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use simsiam_tests::{output_of, root};

use super::dashboard::{NAMES, path, read};

/// Runs the program on files and returns its exit code, a line per fault, and its own errors.
fn checked(go: &Path, sources: &Path, files: &[PathBuf]) -> (i32, String, String) {
    let mut program = Command::new(go);
    program.args(["run", "-mod=readonly", "."]).args(files).current_dir(sources).env("CGO_ENABLED", "0");
    output_of(program.output().unwrap())
}

/// The first panel of a kind.
fn panel<'a>(dashboard: &'a mut Value, kind: &str) -> &'a mut Value {
    let mut panels = dashboard["panels"].as_array_mut().unwrap().iter_mut();
    panels.find(|panel| panel["type"] == kind).unwrap()
}

#[test]
fn dashboards_follow_grafanas_schema() {
    let sources = root().join("tests/monitoring/schema");
    let go = match simsiam_cluster::go(&sources) {
        Ok(go) => go,
        Err(why) => return println!("skipped: {why}"),
    };
    let (code, faults, problem) = checked(&go, &sources, &NAMES.map(path));
    assert_eq!((code, faults.as_str()), (0, ""), "{problem}");

    // What does not follow it is refused, by name.
    type Break = fn(&mut Value);
    let breaks: [(&str, Break); 15] = [
        ("Dashboard: unexpected field 'refesh'", |d| d["refesh"] = "30s".into()),
        ("refresh: json: cannot unmarshal number", |d| d["refresh"] = 30.into()),
        ("graphTooltip: 3 is none of", |d| d["graphTooltip"] = 3.into()),
        ("templating.list[0].refresh: 4 is none of", |d| d["templating"]["list"][0]["refresh"] = 4.into()),
        ("Panel: unexpected field 'grid'", |d| panel(d, "stat")["grid"] = 1.into()),
        ("gridPos.w: json: cannot unmarshal string", |d| panel(d, "stat")["gridPos"]["w"] = "4".into()),
        ("options.Options: unexpected field 'colourMode'", |d| {
            panel(d, "stat")["options"]["colourMode"] = "none".into()
        }),
        ("displayMode: \"lst\" is none of", |d| {
            panel(d, "timeseries")["options"]["legend"]["displayMode"] = "lst".into()
        }),
        ("options.legend.calcs: required field is missing", |d| {
            panel(d, "timeseries")["options"]["legend"].as_object_mut().unwrap().remove("calcs").unwrap();
        }),
        ("unexpected field 'lineWdth'", |d| {
            panel(d, "timeseries")["fieldConfig"]["defaults"]["custom"]["lineWdth"] = 1.into();
        }),
        // The package's own decoding of a panel lets these pass.
        ("FieldConfig: unexpected field 'unti'", |d| panel(d, "stat")["fieldConfig"]["defaults"]["unti"] = "s".into()),
        ("unexpected field 'lineStlye'", |d| {
            let overrides = serde_json::json!([{"matcher": {"id": "byName", "options": "loss"},
                "properties": [{"id": "custom.lineStlye", "value": {"fill": "dash"}}]}]);
            panel(d, "timeseries")["fieldConfig"]["overrides"] = overrides;
        }),
        ("Dataquery: unexpected field 'exprs'", |d| panel(d, "stat")["targets"][0]["exprs"] = "up".into()),
        ("targets[0].datasource: main.go has to register its type", |d| {
            panel(d, "stat")["targets"][0].as_object_mut().unwrap().remove("datasource").unwrap();
        }),
        ("type: main.go has to register \"graph\"", |d| panel(d, "timeseries")["type"] = "graph".into()),
    ];
    let folder = tempfile::tempdir().unwrap();
    let broken = |(number, (_, what)): (usize, &(&str, Break))| {
        let mut dashboard = read("run");
        what(&mut dashboard);
        let path = folder.path().join(format!("{number}.json"));
        fs::write(&path, dashboard.to_string()).unwrap();
        path
    };
    let files: Vec<_> = breaks.iter().enumerate().map(broken).collect();
    let (code, faults, problem) = checked(&go, &sources, &files);
    assert_eq!(code, 1, "{faults}{problem}");
    for ((complaint, _), file) in breaks.iter().zip(&files) {
        let begin = format!("{}: ", file.display());
        let said: Vec<_> = faults.lines().filter_map(|line| line.strip_prefix(&begin)).collect();
        assert!(said.iter().any(|line| line.contains(complaint)), "{complaint}: {said:#?}");
    }
}
