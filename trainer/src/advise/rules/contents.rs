//! Rules about what is in the sets: labels, copies, blank images.

use serde_json::{Value, json};

use super::rule::{Advice, Case, Rule, percent};

const PURGE: &str = "Barz and Denzler 2020 (arXiv 1902.00423): 3.3 % of CIFAR-10's test images are in its training set";

/// The rules of this file.
pub const RULES: &[Rule] = &[
    Rule { name: "knn", source: "docs/data.md, Labelled images beside unlabelled ones", check: knn },
    Rule { name: "leak", source: PURGE, check: leak },
    Rule { name: "copies", source: PURGE, check: copies },
    Rule { name: "blank", source: "paper, section 3: the loss compares the views of one image", check: blank },
];

fn knn(case: &Case) -> Option<Advice> {
    let (dataset, train) = (&case.recipe.dataset, case.facts.train());
    if case.recipe.knn.is_some() {
        return None;
    }
    if dataset.probe.is_some() || (dataset.val.is_some() && train.classes > 1) {
        let reason = "there are labelled images to evaluate on, and kNN needs no training".to_owned();
        return Advice::one("knn", json!({}), reason);
    }
    match &case.facts.sibling_val {
        Some(val) if train.classes > 1 && dataset.val.is_none() => Advice::several(
            vec![("dataset.val", Value::from(val.as_str())), ("knn", json!({}))],
            format!("{val} is beside dataset.train, and kNN evaluates the features on it without training"),
        ),
        _ => Advice::note(
            "nothing says how good the features are: name labelled images in dataset.probe (or class folders in \
             dataset.train and dataset.val) and set knn: {}"
                .into(),
        ),
    }
}

fn leak(case: &Case) -> Option<Advice> {
    let leaks = case.facts.leaks.iter().filter(|leak| leak.copies.count + leak.near_copies.count > 0);
    let lines: Vec<String> = leaks
        .map(|leak| {
            let first = leak.copies.first.first().or(leak.near_copies.first.first());
            let first = first.map_or_else(String::new, |copy| format!(", for example {} as {}", copy.name, copy.of));
            format!(
                "{} of {} images of {} are in {} too ({} with the same bytes){first}",
                leak.copies.count + leak.near_copies.count,
                leak.compared,
                leak.field,
                leak.train,
                leak.copies.count
            )
        })
        .collect();
    if lines.is_empty() {
        return None;
    }
    Advice::note(format!("{}: kNN finds the copy, and its accuracy is too high; remove them", lines.join("; ")))
}

/// Share of copies from which on it matters.
const COPIES: f64 = 0.01;

fn copies(case: &Case) -> Option<Advice> {
    let train = case.facts.train();
    let count = train.copies.count + train.near_copies.count;
    let share = count as f64 / train.read.max(1) as f64;
    if share < COPIES {
        return None;
    }
    Advice::note(format!(
        "{count} of {} images are copies of others ({}; {} with the same bytes): an epoch trains on them as often as they \
         occur; remove them unless that is meant",
        train.read,
        percent(share),
        train.copies.count
    ))
}

fn blank(case: &Case) -> Option<Advice> {
    let train = case.facts.train();
    let first = train.blank.first.first()?;
    Advice::note(format!(
        "{} of {} images have one colour (first: {first}): their views are alike whatever the network does; remove them",
        train.blank.count, train.read
    ))
}
