//! A picture of a dashboard from its panels and what their queries returned: an SVG, not Grafana's own look.

use std::fmt::Write;

use serde_json::Value;

use super::dashboard::Panel;
use super::prometheus::Series;

/// A panel and, for each of its queries, the series.
pub struct Shown {
    /// The panel.
    pub panel: Panel,
    /// What it shows, in the order of its queries.
    pub series: Vec<Vec<Series>>,
    /// The note about the origin of its values.
    pub note: Option<&'static str>,
}

const COLUMN: f64 = 58.0;
const ROW: f64 = 30.0;
const HEAD: f64 = 64.0;
const COLOURS: [&str; 10] =
    ["#2563a8", "#d9730d", "#2f855a", "#b83280", "#6b46c1", "#c0392b", "#0e7490", "#8a6d00", "#5b6470", "#94387d"];

/// The picture.
pub fn svg(title: &str, subtitle: &str, shown: &[Shown], span: (f64, f64)) -> String {
    let width = 24.0 * COLUMN;
    let rows = shown.iter().map(|s| s.panel.place[1] + s.panel.place[3]).max().unwrap_or(0);
    let height = HEAD + rows as f64 * ROW + 10.0;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"DejaVu Sans, Liberation Sans, sans-serif\" font-size=\"11\" fill=\"#1f2933\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#f4f5f7\"/>\n\
         <text x=\"14\" y=\"28\" font-size=\"19\" font-weight=\"bold\">{}</text>\n\
         <text x=\"14\" y=\"48\" fill=\"#5b6470\">{}</text>\n",
        escaped(title),
        escaped(subtitle)
    );
    for one in shown {
        let [x, y, w, h] = one.panel.place.map(|side| side as f64);
        let (x, y, w, h) = (x * COLUMN + 5.0, HEAD + y * ROW + 3.0, w * COLUMN - 10.0, h * ROW - 6.0);
        let _ = writeln!(out, "<g transform=\"translate({x} {y})\">");
        if one.panel.kind == "row" {
            let title = escaped(&one.panel.title);
            let _ = writeln!(out, "<text x=\"8\" y=\"17\" font-size=\"14\" font-weight=\"bold\">{title}</text>");
        } else {
            let _ = writeln!(out, "<rect width=\"{w}\" height=\"{h}\" rx=\"3\" fill=\"#fff\" stroke=\"#d5d9de\"/>");
            let title = escaped(&one.panel.title);
            let _ = writeln!(out, "<text x=\"9\" y=\"18\" font-weight=\"bold\">{title}</text>");
            if let Some(note) = one.note {
                let across = w - 8.0;
                let _ = writeln!(
                    out,
                    "<text x=\"{across}\" y=\"18\" text-anchor=\"end\" font-size=\"9\" fill=\"#b7791f\">{note}</text>"
                );
            }
            match one.panel.kind.as_str() {
                "stat" => stat(&mut out, one, w, h),
                "table" => table(&mut out, one, w, h),
                _ => chart(&mut out, one, w, h, span),
            }
        }
        out.push_str("</g>\n");
    }
    out.push_str("</svg>\n");
    out
}

fn last(series: &Series) -> f64 {
    series.points.last().map_or(0.0, |(_, value)| *value)
}

/// The series that was there last.
fn newest(series: &[Series]) -> Option<&Series> {
    let at = |s: &Series| s.points.last().map_or(0.0, |(at, _)| *at);
    series.iter().max_by(|a, b| at(a).total_cmp(&at(b)))
}

fn stat(out: &mut String, one: &Shown, w: f64, h: f64) {
    let Some(series) = one.series.first().and_then(|series| newest(series)) else { return };
    let legend = &one.panel.targets[0].legend;
    // A panel that shows a label shows it as its name.
    let value = match (one.panel.unit.as_str(), one.panel.decimals) {
        _ if legend.starts_with("{{") => named(legend, &series.labels),
        ("short", Some(decimals)) => format!("{:.decimals$}", last(series)),
        (unit, _) => shown(last(series), unit),
    };
    let (x, y) = (w / 2.0, h / 2.0 + 18.0);
    let value = escaped(&value);
    let _ = writeln!(out, "<text x=\"{x}\" y=\"{y}\" text-anchor=\"middle\" font-size=\"26\">{value}</text>");
}

/// A table of runs: one line a run, one column a query.
fn table(out: &mut String, one: &Shown, w: f64, h: f64) {
    let width = w / (one.series.len() as f64 + 2.0);
    let mut line = |row: usize, cells: &[String], weight: &str| {
        let y = 40.0 + 20.0 * row as f64;
        if y > h - 4.0 {
            return;
        }
        for (column, cell) in cells.iter().enumerate() {
            let x = 9.0 + width * column as f64;
            let cell = escaped(cell);
            let _ = writeln!(out, "<text x=\"{x}\" y=\"{y}\" font-weight=\"{weight}\">{cell}</text>");
        }
    };
    let heads = one.panel.targets.iter().map(|target| target.legend.clone());
    line(0, &["namespace".to_owned(), "run".to_owned()].into_iter().chain(heads).collect::<Vec<_>>(), "bold");
    // Only those that are there at the end; an instant query would return no others.
    let end = one.series.iter().flatten().filter_map(|s| s.points.last()).map(|(at, _)| *at).fold(0.0, f64::max);
    let there = |s: &&Series| s.points.last().is_some_and(|(at, _)| *at >= end - 2.0);
    let phases: Vec<_> = one.series.first().into_iter().flatten().filter(there).collect();
    for (row, run) in phases.iter().enumerate() {
        let of = |label: &str| run.labels[label].as_str().unwrap_or_default().to_owned();
        let mut cells = vec![of("namespace"), of("run"), of("phase")];
        for (series, target) in one.series.iter().zip(&one.panel.targets).skip(1) {
            let same = |s: &&Series| ["namespace", "run"].iter().all(|label| s.labels[label] == run.labels[label]);
            let found = series.iter().filter(there).find(same);
            cells.push(found.map_or("–".into(), |s| match target.legend.as_str() {
                "progress" | "budget" => shown(last(s), "percentunit"),
                "eta" => clock(last(s) / 1000.0),
                _ => shown(last(s), "short"),
            }));
        }
        line(row + 1, &cells, "normal");
    }
}

fn chart(out: &mut String, one: &Shown, w: f64, h: f64, (start, end): (f64, f64)) {
    let (left, top, right, bottom) = (58.0, 30.0, w - 12.0, h - 40.0);
    let lines: Vec<(String, &Series)> = one
        .series
        .iter()
        .zip(&one.panel.targets)
        .flat_map(|(series, target)| series.iter().map(|s| (named(&target.legend, &s.labels), s)))
        .collect();
    let values = || lines.iter().flat_map(|(_, s)| s.points.iter().map(|(_, value)| *value));
    let (mut low, mut high) = (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
    if low >= 0.0 {
        low = 0.0;
    }
    if high - low < 1e-12 {
        high = low + 1.0;
    }
    high += (high - low) * 0.05;
    let y = |value: f64| bottom - (value - low) / (high - low) * (bottom - top);
    let x = |at: f64| left + (at - start) / (end - start).max(1.0) * (right - left);
    for i in 0..5 {
        let value = low + (high - low) * f64::from(i) / 4.0;
        let (at, label) = (y(value), shown(value, &one.panel.unit));
        let _ = writeln!(out, "<path d=\"M{left} {at:.1}H{right}\" stroke=\"#e7eaee\"/>");
        let _ = writeln!(
            out,
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\" font-size=\"9\" fill=\"#5b6470\">{label}</text>",
            left - 5.0,
            at + 3.0
        );
    }
    for i in 0..4 {
        let at = start + (end - start) * f64::from(i) / 3.0;
        let anchor = ["start", "middle", "middle", "end"][i as usize];
        let label = format!("{:.0} s", at - start);
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"{anchor}\" font-size=\"9\" fill=\"#5b6470\">{label}</text>",
            x(at),
            bottom + 13.0
        );
    }
    // The legend, on two lines if it must be.
    let (mut across, mut down) = (left, h - 15.0);
    for (i, (name, series)) in lines.iter().enumerate() {
        let colour = COLOURS[i % COLOURS.len()];
        let dash = if name.starts_with("healthy") { " stroke-dasharray=\"6 4\"" } else { "" };
        let mut path = String::new();
        let mut before = f64::NEG_INFINITY;
        for (at, value) in &series.points {
            // A gap is a gap.
            let pen = if at - before > 3.0 { 'M' } else { 'L' };
            before = *at;
            let _ = write!(path, "{pen}{:.1} {:.1}", x(*at), y(*value));
        }
        if series.points.len() == 1 {
            path += "h2";
        }
        let _ = writeln!(out, "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\"{dash}/>");
        let needs = 20.0 + 5.9 * name.chars().count() as f64;
        if across > left && across + needs > w {
            (across, down) = (left, down + 12.0);
        }
        if down < h {
            let name = escaped(name);
            let _ =
                writeln!(out, "<rect x=\"{across}\" y=\"{}\" width=\"9\" height=\"3\" fill=\"{colour}\"/>", down - 5.0);
            let _ = writeln!(out, "<text x=\"{}\" y=\"{down}\" font-size=\"10\">{name}</text>", across + 13.0);
        }
        across += needs;
    }
}

/// A legend with its labels' values.
fn named(legend: &str, labels: &Value) -> String {
    let mut parts = legend.split("{{");
    let mut name = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (label, rest) = part.split_once("}}").unwrap_or((part, ""));
        name += labels[label].as_str().unwrap_or_default();
        name += rest;
    }
    name.trim().to_owned()
}

/// A value in its unit, as Grafana would round it.
fn shown(value: f64, unit: &str) -> String {
    let short = |value: f64| {
        let size = value.abs();
        match size {
            _ if size >= 1e9 => format!("{:.1} G", value / 1e9),
            _ if size >= 1e6 => format!("{:.1} M", value / 1e6),
            _ if size >= 1e4 => format!("{:.1} k", value / 1e3),
            _ if size >= 100.0 || value.fract() == 0.0 => format!("{value:.0}"),
            _ if size >= 1.0 => format!("{value:.2}"),
            _ => format!("{value:.3}"),
        }
    };
    match unit {
        "percentunit" => format!("{:.1} %", value * 100.0),
        "percent" => format!("{value:.1} %"),
        "bytes" => format!("{:.1} GiB", value / f64::from(1 << 30)),
        "ops" => format!("{}/s", short(value)),
        "s" => match value.abs() {
            0.0 => "0 s".into(),
            size if size < 1e-3 => format!("{:.0} µs", value * 1e6),
            size if size < 1.0 => format!("{:.1} ms", value * 1e3),
            size if size < 120.0 => format!("{value:.1} s"),
            size if size < 7200.0 => format!("{:.1} min", value / 60.0),
            _ => format!("{:.1} h", value / 3600.0),
        },
        _ => short(value),
    }
}

fn clock(seconds: f64) -> String {
    jiff::Timestamp::from_second(seconds as i64).map_or(String::new(), |at| at.strftime("%H:%M:%S UTC").to_string())
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
