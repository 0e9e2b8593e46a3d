//! Facts and proposals as text.

use std::fmt::Write;

use serde_json::Value;

use super::expected::Expected;
use super::facts::{CopyOf, Facts, Found, Quantiles, SetFacts};
use super::rules::Proposal;

/// Names of each kind that are shown.
const SHOWN: usize = 3;

/// Everything, for a terminal.
pub fn text(facts: &Facts, proposals: &[Proposal], expected: &Expected) -> String {
    let mut text = String::new();
    for set in &facts.sets {
        of_set(&mut text, set);
    }
    for leak in &facts.leaks {
        let (copies, near) = (names(&leak.copies, copy), names(&leak.near_copies, copy));
        let _ = writeln!(text, "{} in {}, of {} images compared", leak.field, leak.train, leak.compared);
        row(&mut text, "copies", &format!("{} with the same bytes{copies}", leak.copies.count));
        row(&mut text, "", &format!("{} that look alike{near}", leak.near_copies.count));
    }
    of_machine(&mut text, facts);
    of_proposals(&mut text, proposals);
    of_expected(&mut text, facts, expected);
    text
}

fn row(text: &mut String, name: &str, value: &str) {
    let _ = writeln!(text, "  {name:<10} {value}");
}

fn of_set(text: &mut String, set: &SetFacts) {
    let _ = writeln!(text, "{}", set.field);
    let read = if set.read < set.images { format!("; {} were read, drawn at random", set.read) } else { String::new() };
    row(text, "images", &format!("{}{read}", set.images));
    let classes = match set.classes {
        0 => "none".to_owned(),
        classes => format!("{classes}, of {} to {} images", set.fewest_in_a_class, set.most_in_a_class),
    };
    row(text, "classes", &classes);
    let broken = names(&set.broken, |one| one.reason.clone());
    row(text, "broken", &format!("{}{broken}", set.broken.count));
    row(text, "blank", &format!("{}{}", set.blank.count, names(&set.blank, Clone::clone)));
    row(text, "copies", &format!("{} with the same bytes{}", set.copies.count, names(&set.copies, copy)));
    row(text, "", &format!("{} that look alike{}", set.near_copies.count, names(&set.near_copies, copy)));
    row(text, "sides", &format!("shorter {}; longer {} pixels", sides(&set.short_side), sides(&set.long_side)));
    let Quantiles { p5, median, p95, .. } = set.aspect;
    row(text, "aspect", &format!("{median:.2} (90 %: {p5:.2} to {p95:.2}), width to height"));
    row(text, "file", &format!("{:.1} kB on average", set.mean_bytes / 1e3));
    let [mean, std] = [set.mean, set.std].map(|values| values.map(|value| format!("{value:.3}")).join(" "));
    row(text, "colours", &format!("mean {mean}, standard deviation {std}; {:.1} % gray", 100.0 * set.gray_share));
    let sparse: Vec<_> = set.sparse_crops.iter().map(|c| format!("{} {:.0} %", c.min_scale, 100.0 * c.share)).collect();
    row(text, "sparse", &format!("crops with little detail, by minScale: {}", sparse.join(", ")));
}

fn sides(of: &Quantiles) -> String {
    format!("{:.0} (90 %: {:.0} to {:.0})", of.median, of.p5, of.p95)
}

fn copy(copy: &CopyOf) -> String {
    format!("{} is {}", copy.name, copy.of)
}

/// The first names, as `: a, b, …`.
fn names<T>(found: &Found<T>, name: impl Fn(&T) -> String) -> String {
    let shown: Vec<_> = found.first.iter().take(SHOWN).map(name).collect();
    match shown.len() {
        0 => String::new(),
        shown_number => format!(": {}{}", shown.join(", "), if found.count > shown_number { ", …" } else { "" }),
    }
}

fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}

fn of_machine(text: &mut String, facts: &Facts) {
    let machine = &facts.machine;
    let _ = writeln!(text, "this machine");
    row(text, "CPU", &format!("{} cores, {}", machine.cores, machine.cpu));
    row(text, "memory", &format!("{} free", gib(machine.free_memory)));
    match machine.gpus.as_slice() {
        [] => row(text, "GPUs", "none"),
        gpus @ [first, ..] => {
            row(text, "GPUs", &format!("{} × {}, {} free", gpus.len(), first.name, gib(first.free_memory)))
        }
    }
    if let Some(free) = machine.cache_free {
        row(text, "cache", &format!("{} free", gib(free)));
    }
    if let Some(rates) = facts.rates {
        let loading = format!("{:.0} images/s with {} threads, measured just now", rates.loading, rates.loader_threads);
        row(text, "loading", &loading);
        let training =
            format!("{:.1} images/s with {} images per step, measured just now", rates.training, rates.step_images);
        row(text, "training", &training);
    }
}

fn of_proposals(text: &mut String, proposals: &[Proposal]) {
    let _ = writeln!(
        text,
        "proposals{}",
        if proposals.is_empty() { ": none, the file fits images and machine" } else { "" }
    );
    for proposal in proposals {
        if proposal.changes.is_empty() {
            let _ = writeln!(text, "  for you to do");
        }
        for change in &proposal.changes {
            let _ = writeln!(text, "  {}: {} → {}", change.field, value(&change.present), value(&change.proposed));
        }
        let _ = writeln!(text, "      {}", proposal.reason);
        let _ = writeln!(text, "      [{}] {}", proposal.rule, proposal.source);
    }
}

fn value(value: &Value) -> String {
    match value {
        Value::Null => "not set".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn of_expected(text: &mut String, facts: &Facts, expected: &Expected) {
    let _ = writeln!(text, "pre-training as proposed");
    row(
        text,
        "steps",
        &format!(
            "{} ({} per epoch), peak learning rate {:.4}",
            expected.steps, expected.steps_per_epoch, expected.peak_lr
        ),
    );
    row(text, "memory", &format!("about {:.1} GB per rank, estimated", expected.bytes_per_rank / 1e9));
    match expected.time {
        None => row(text, "time", "not measured (--no-measure)"),
        Some(time) => {
            let ranks = facts.ranks();
            let scaled =
                if ranks > 1 { format!(", if {ranks} GPUs are {ranks} times as fast as one") } else { String::new() };
            let rate = format!("{:.1} images/s, without evaluations{scaled}", time.images_per_second);
            row(text, "time", &format!("{} at {rate}", duration(time.seconds)));
            if !facts.machine.gpus.is_empty() {
                row(text, "cores", &format!("{:.1} load as fast as the run trains", time.cores_for_loading));
            }
        }
    }
}

/// A duration in the two units that fit it.
fn duration(seconds: f64) -> String {
    let minutes = (seconds / 60.0).round() as u64;
    match minutes {
        0 => format!("{seconds:.0} s"),
        1..60 => format!("{minutes} min"),
        60..2880 => format!("{} h {} min", minutes / 60, minutes % 60),
        _ => format!("{} days {} h", minutes / 1440, minutes % 1440 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duration_has_the_units_that_fit_it() {
        for (seconds, expected) in [
            (20.0, "20 s"),
            (600.0, "10 min"),
            (3600.0 * 30.5, "30 h 30 min"),
            (86400.0 * 10.0 + 3600.0 * 5.0, "10 days 5 h"),
        ] {
            assert_eq!(duration(seconds), expected);
        }
    }

    #[test]
    fn names_are_cut_after_three() {
        let mut found = Found::default();
        assert_eq!(names(&found, |n: &i32| n.to_string()), "");
        (1..=4).for_each(|n| found.add(n));
        assert_eq!(names(&found, |n| n.to_string()), ": 1, 2, 3, …");
    }
}
