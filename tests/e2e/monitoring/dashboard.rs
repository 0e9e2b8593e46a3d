//! The dashboards' files: their queries, and what they need beyond Grafana's schema, in which most fields may be
//! missing. `schema.rs` checks them against that.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::Value;
use simsiam_tests::root;

/// What a query returns is shown so.
#[derive(Debug, Clone)]
pub struct Target {
    /// The query.
    pub expr: String,
    /// How a series is called.
    pub legend: String,
}

/// A panel with queries.
#[derive(Debug, Clone)]
pub struct Panel {
    /// Its title, unlike any other's on the dashboard.
    pub title: String,
    /// Grafana's name of its kind.
    pub kind: String,
    /// x, y, width, height: 24 columns are a page's width.
    pub place: [u64; 4],
    /// Grafana's name of its unit.
    pub unit: String,
    /// Its number of decimals, if set.
    pub decimals: Option<usize>,
    /// Its queries; none in a row.
    pub targets: Vec<Target>,
}

/// The names of the dashboards.
pub const NAMES: [&str; 2] = ["run", "fleet"];

/// A dashboard's file.
pub fn path(name: &str) -> PathBuf {
    root().join(format!("charts/simsiam-operator/dashboards/{name}.json"))
}

/// A dashboard's document.
pub fn read(name: &str) -> Value {
    let path = path(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Its panels, rows too.
pub fn panels(dashboard: &Value) -> Vec<Panel> {
    let of = |panel: &Value| {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let targets = panel["targets"].as_array().into_iter().flatten();
        Panel {
            title: text(&panel["title"]),
            kind: text(&panel["type"]),
            place: ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap_or(0)),
            unit: text(&panel["fieldConfig"]["defaults"]["unit"]),
            decimals: panel["fieldConfig"]["defaults"]["decimals"].as_u64().map(|n| n as usize),
            targets: targets
                .map(|target| Target { expr: text(&target["expr"]), legend: text(&target["legendFormat"]) })
                .collect(),
        }
    };
    dashboard["panels"].as_array().into_iter().flatten().map(of).collect()
}

/// Puts values for the dashboard's variables and Grafana's own.
pub fn filled(expr: &str, variables: &[(&str, &str)]) -> String {
    let own = [("__rate_interval", "15s"), ("__range", "5m")];
    let all = variables.iter().chain(&own);
    let filled = all.fold(expr.to_owned(), |expr, (name, value)| expr.replace(&format!("${name}"), value));
    // "$1" is of label_replace.
    let left = filled.replace("\"$1\"", "");
    assert!(!left.contains('$'), "a variable that is never set: {filled}");
    filled
}

/// Everything that is wrong with a dashboard, in words.
pub fn complaints(dashboard: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut check = |holds: bool, what: String| {
        if !holds {
            wrong.push(what);
        }
    };
    for field in ["uid", "title", "description", "refresh"] {
        check(dashboard[field].as_str().is_some_and(|text| !text.is_empty()), format!("no {field}"));
    }
    check(dashboard["schemaVersion"].as_u64().is_some_and(|version| version >= 39), "an old schemaVersion".into());
    check(dashboard["time"]["from"].is_string() && dashboard["time"]["to"].is_string(), "no time".into());
    for list in ["tags", "panels", "links"] {
        check(dashboard[list].is_array(), format!("{list} is no list"));
    }
    let variables = dashboard["templating"]["list"].as_array().cloned().unwrap_or_default();
    let source = variables.iter().find(|variable| variable["type"] == "datasource");
    check(source.is_some_and(|v| v["name"] == "datasource" && v["query"] == "prometheus"), "no data source".into());
    for variable in variables.iter().filter(|variable| variable["type"] == "query") {
        let name = &variable["name"];
        check(is_ours(&variable["datasource"]), format!("variable {name} has a data source of its own"));
        check(variable["query"]["query"].is_string(), format!("variable {name}: no query"));
    }
    let names: BTreeSet<_> = variables.iter().filter_map(|variable| variable["name"].as_str()).collect();
    let (mut ids, mut titles) = (BTreeSet::new(), BTreeSet::new());
    let mut places: Vec<(String, [u64; 4])> = Vec::new();
    for (panel, json) in panels(dashboard).iter().zip(dashboard["panels"].as_array().into_iter().flatten()) {
        let title = &panel.title;
        check(!title.is_empty() && titles.insert(title.clone()), format!("{title:?}: the title is not its own"));
        check(
            json["id"].as_u64().is_some_and(|id| id > 0 && ids.insert(id)),
            format!("{title}: the id is not its own"),
        );
        let [x, y, w, h] = panel.place;
        check(w > 0 && h > 0 && x + w <= 24, format!("{title}: beyond the grid"));
        let meets = |[a, b, c, d]: [u64; 4]| x < a + c && a < x + w && y < b + d && b < y + h;
        for (other, _) in places.iter().filter(|(_, place)| meets(*place)) {
            check(false, format!("{title} overlaps {other}"));
        }
        places.push((title.clone(), panel.place));
        if panel.kind == "row" {
            check(
                json["collapsed"] == false && json["panels"] == serde_json::json!([]),
                format!("{title}: a full row"),
            );
            continue;
        }
        let known = ["timeseries", "stat", "table"];
        check(known.contains(&panel.kind.as_str()), format!("{title}: a panel of kind {:?}", panel.kind));
        check(json["description"].as_str().is_some_and(|text| text.len() > 5), format!("{title}: no description"));
        check(is_ours(&json["datasource"]), format!("{title}: has a data source of its own"));
        check(!panel.unit.is_empty() && json["fieldConfig"]["overrides"].is_array(), format!("{title}: no unit"));
        check(json["options"].is_object(), format!("{title}: no options"));
        check(!panel.targets.is_empty(), format!("{title}: no query"));
        let mut references = BTreeSet::new();
        for target in json["targets"].as_array().into_iter().flatten() {
            let reference = target["refId"].as_str().unwrap_or_default();
            check(!reference.is_empty() && references.insert(reference), format!("{title}: refId {reference:?}"));
            check(is_ours(&target["datasource"]), format!("{title} {reference}: has a data source of its own"));
            let expr = target["expr"].as_str().unwrap_or_default();
            check(!expr.is_empty(), format!("{title} {reference}: no query"));
            check(
                target["legendFormat"].as_str().is_some_and(|l| !l.is_empty()),
                format!("{title} {reference}: no legend"),
            );
            let kinds = [target["instant"] == true, target["range"] == true];
            check(kinds == [panel.kind != "timeseries", panel.kind == "timeseries"], format!("{title}: instant?"));
            for variable in expr.split('$').skip(1) {
                let name: String = variable.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                let known = names.contains(name.as_str()) || name.starts_with("__") || name == "1";
                check(known, format!("{title} {reference}: {name} is a variable that is never set"));
            }
        }
    }
    wrong
}

fn is_ours(source: &Value) -> bool {
    *source == serde_json::json!({"type": "prometheus", "uid": "${datasource}"})
}
