//! `docs/metrics.md` against the code: every metric, with its type, labels and help.

use std::collections::{BTreeMap, BTreeSet};

use simsiam_tests::root;

/// What is known of a metric.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metric {
    /// gauge, counter or histogram.
    pub kind: String,
    /// The names of its labels.
    pub labels: BTreeSet<String>,
    /// What it is.
    pub help: String,
}

/// Metrics by name.
pub type Metrics = BTreeMap<String, Metric>;

/// The metrics in an exposition.
pub fn exposed(text: &str) -> Metrics {
    let mut metrics = Metrics::new();
    for line in text.lines() {
        let words: Vec<_> = line.splitn(4, ' ').collect();
        match words[..] {
            ["#", "HELP", name, help] => metrics.entry(name.into()).or_default().help = help.into(),
            ["#", "TYPE", name, kind] => metrics.entry(name.into()).or_default().kind = kind.into(),
            _ => {
                let Some((series, labels)) = line.split_once('{') else { continue };
                let of = ["", "_bucket", "_sum", "_count"]
                    .iter()
                    .find_map(|end| series.strip_suffix(end).filter(|name| metrics.contains_key(*name)));
                let Some(metric) = of.and_then(|name| metrics.get_mut(name)) else { continue };
                let labels = labels.split("=\"").filter_map(|part| part.rsplit(['"', ',']).next());
                metric.labels.extend(
                    labels.filter(|l| !l.is_empty() && !l.contains(['}', ' ']) && *l != "le").map(str::to_owned),
                );
            }
        }
    }
    metrics
}

/// The metrics in the tables of a page: name, type, labels, meaning.
pub fn tabled(page: &str) -> Metrics {
    let rows = page.lines().filter(|line| line.starts_with("| `simsiam_"));
    rows.map(|row| {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        assert_eq!(cells.len(), 4, "{row}");
        let labels = cells[2].split(',').map(|label| label.trim().trim_matches('`').to_owned());
        let metric = Metric {
            kind: cells[1].into(),
            labels: labels.filter(|label| !label.is_empty()).collect(),
            help: cells[3].into(),
        };
        (cells[0].trim_matches('`').to_owned(), metric)
    })
    .collect()
}

/// The page of the repository.
pub fn page() -> String {
    std::fs::read_to_string(root().join("docs/metrics.md")).expect("docs/metrics.md")
}

/// The names of the trainer's metrics, with their help, as its source has them: not every machine shows every one.
pub fn in_source() -> BTreeMap<String, String> {
    let path = root().join("trainer/src/telemetry/metric_table.rs");
    let source = std::fs::read_to_string(&path).expect("the trainer's metrics");
    let code = source.split("#[cfg(test)]").next().unwrap_or_default();
    // The first text of a metric is its help, unless several share the constants.
    let constant = |name: &str| strings(code.split(&format!("const {name}:")).nth(1).unwrap_or_default()).remove(0);
    let (rates, rates_help) = (constant("RATES"), constant("RATES_HELP"));
    let metrics = code.split("= Metric {").skip(1).filter_map(|metric| {
        if metric.contains("series(RATES,") {
            assert!(metric.trim_start().starts_with("help: RATES_HELP"), "{metric}");
            return Some((rates.clone(), rates_help.clone()));
        }
        let strings = strings(metric);
        let name = strings.iter().find(|text| text.starts_with("simsiam_"))?;
        Some((name.clone(), strings[0].clone()))
    });
    metrics.collect()
}

/// The string literals of some code; a literal may be broken over lines.
fn strings(code: &str) -> Vec<String> {
    let literals = code.split('"').skip(1).step_by(2);
    let joined = literals.map(|text| {
        let lines: Vec<_> = text.split("\\\n").collect();
        let rest = lines[1..].iter().map(|line| line.trim_start());
        std::iter::once(lines[0]).chain(rest).collect()
    });
    joined.collect()
}
