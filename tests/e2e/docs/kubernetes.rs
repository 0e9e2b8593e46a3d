//! Commands of `kubectl` and `helm`, as far as they refer to our resources and charts.

use serde_json::Value;

use crate::schema;
use crate::shell::is_placeholder;

/// The types of a run's conditions.
pub const CONDITIONS: [&str; 8] =
    ["Succeeded", "Failed", "Suspended", "PodsReady", "Reconciled", "Ready", "Reconciling", "Stalled"];

/// What may follow a flag, as `--flag value` or `--flag=value`.
fn values<'a>(words: &'a [String], flags: &'a [&str]) -> impl Iterator<Item = &'a str> {
    let behind = words.windows(2).filter(|pair| flags.contains(&pair[0].as_str())).map(|pair| pair[1].as_str());
    let within = words.iter().filter_map(|word| word.split_once('=')).filter(|(flag, _)| flags.contains(flag));
    behind.chain(within.map(|(_, value)| value))
}

/// What is wrong with the words after `kubectl`: names, fields and conditions of runs.
pub fn kubectl_faults(words: &[String]) -> Vec<String> {
    let names = &schema::definition()["spec"]["names"];
    let short = names["shortNames"].as_array().into_iter().flatten();
    let names: Vec<_> =
        [&names["plural"], &names["singular"]].into_iter().chain(short).filter_map(Value::as_str).collect();
    let (mut found, mut ours) = (Vec::new(), false);
    for word in words.iter().flat_map(|word| word.split(',')) {
        let name = word.split(['/', '.']).next().unwrap_or_default();
        if !name.starts_with("ssr") && !name.to_lowercase().starts_with("simsiamr") {
            continue;
        }
        ours = true;
        if !names.contains(&name.to_lowercase().as_str()) {
            found.push(format!("found the resource `{name}`, expected one of {}", names.join(", ")));
        } else if words.first().is_some_and(|verb| verb == "explain") {
            found.extend(schema::at(schema::run(), &word[name.len()..]).err());
        }
    }
    if !ours {
        return found;
    }
    let conditions = words.iter().filter_map(|word| word.split_once("condition="));
    for kind in conditions.map(|(_, kind)| kind.split('=').next().unwrap_or_default()) {
        if !CONDITIONS.contains(&kind) && !is_placeholder(kind) {
            found.push(format!("found the condition `{kind}`, expected one of {}", CONDITIONS.join(", ")));
        }
    }
    for word in words.iter().filter_map(|word| word.split_once("jsonpath=")) {
        found.extend(json_paths(word.1).filter_map(|path| schema::at(schema::run(), path).err()));
    }
    for patch in values(words, &["-p", "--patch"]) {
        match serde_json::from_str(patch) {
            Ok(patch) => found.extend(schema::faults(schema::run(), &patch, "")),
            Err(error) => found.push(format!("found the patch `{patch}`, expected JSON: {error}")),
        }
    }
    found
}

/// The fields in `{.a.b[0]}`, also of each run in a list of them.
fn json_paths(template: &str) -> impl Iterator<Item = &str> {
    let paths =
        template.split('{').skip(1).filter_map(|part| part.split('}').next()).filter(|path| path.starts_with('.'));
    paths.map(|path| path.strip_prefix(".items[*]").unwrap_or(path))
}

/// What is wrong with the words after `helm`: values that its chart has not.
pub fn helm_faults(words: &[String]) -> Vec<String> {
    let charts = words.iter().filter_map(|word| word.strip_prefix("charts/"));
    let schemas = charts.filter_map(|chart| schema::values(chart.trim_end_matches('/')));
    schemas.flat_map(|schema| settings(words).flat_map(move |one| schema::setting_faults(&schema, one))).collect()
}

/// Returns what is wrong with a `--set` alone: it must be a value of the chart or, as for `simsiam`, a field of a run.
pub fn setting_faults(words: &[String]) -> Vec<String> {
    let schema = schema::values("simsiam-operator").unwrap();
    let found = settings(words).map(|setting| (schema::setting_faults(&schema, setting), setting));
    found.flat_map(|(found, setting)| if run_setting_faults(setting).is_empty() { Vec::new() } else { found }).collect()
}

/// What is wrong with each `--set` of `simsiam`.
pub fn run_settings_faults(words: &[String]) -> Vec<String> {
    values(words, &["--set"]).flat_map(run_setting_faults).collect()
}

fn run_setting_faults(setting: &str) -> Vec<String> {
    schema::setting_faults(schema::spec(), setting.strip_prefix("spec.").unwrap_or(setting))
}

/// Each `key=value` of `--set a=b,c={d,e}`.
fn settings(words: &[String]) -> impl Iterator<Item = &str> {
    values(words, &["--set", "--set-string"]).flat_map(|all| {
        let mut depth = 0;
        all.split(move |c| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            depth == 0 && c == ','
        })
    })
}
