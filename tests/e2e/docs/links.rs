//! Links: whether they resolve, and whether each page is linked.

use std::collections::{BTreeMap, BTreeSet};

use simsiam_tests::root;

use crate::page::Page;

/// Resolves a link target of a page: a path from the repository root, and the anchor. `None` is another site.
fn destination(page: &Page, target: &str) -> Option<Result<(String, Option<String>), String>> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (path, anchor) =
        target.split_once('#').map_or((target, None), |(path, anchor)| (path, Some(anchor.to_owned())));
    if path.is_empty() {
        return Some(Ok((page.name.clone(), anchor)));
    }
    let mut parts: Vec<_> = page.name.split('/').collect();
    parts.pop();
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if part != ".." {
            parts.push(part);
        } else if parts.pop().is_none() {
            return Some(Err("leads out of the repository".to_owned()));
        }
    }
    Some(Ok((parts.join("/"), anchor)))
}

/// What is wrong with a page's links.
pub fn faults(page: &Page, pages: &BTreeMap<String, Page>) -> Vec<String> {
    let wrong = page.links.iter().filter_map(|link| {
        let said = match destination(page, &link.text)? {
            Ok((path, anchor)) => wrong(&path, anchor.as_deref(), pages)?,
            Err(said) => said,
        };
        Some(page.fault(link.line, &format!("the link to `{}`: {said}", link.text)))
    });
    wrong.collect()
}

fn wrong(path: &str, anchor: Option<&str>, pages: &BTreeMap<String, Page>) -> Option<String> {
    if !pages.contains_key(path) && !root().join(path).exists() {
        return Some(format!("there is no `{path}`"));
    }
    let anchor = anchor?;
    let Some(page) = pages.get(path) else { return Some(format!("`{path}` is no page and has no headings")) };
    let there = page.anchors.iter().any(|there| there == anchor);
    (!there).then(|| format!("`{path}` has no heading of this anchor, but {}", page.anchors.join(", ")))
}

/// The pages of docs/ that no index links: each must be linked from docs/README.md, and that from README.md; runbooks from
/// docs/monitoring.md, design decisions from docs/adr/README.md.
pub fn unreached(pages: &BTreeMap<String, Page>) -> Vec<String> {
    let linked = |from: &str| -> BTreeSet<String> {
        let page = pages.get(from).unwrap_or_else(|| panic!("{from}"));
        let targets = page.links.iter().filter_map(|link| destination(page, &link.text)?.ok());
        targets.map(|(path, _)| if path == "docs" { "docs/README.md".to_owned() } else { path }).collect()
    };
    let (front, table, runbooks) = (linked("README.md"), linked("docs/README.md"), linked("docs/monitoring.md"));
    let decisions = linked("docs/adr/README.md");
    let places = pages.keys().filter(|name| name.starts_with("docs/")).map(|name| match name.as_str() {
        "docs/README.md" => (name, "README.md", &front),
        name_of if name_of.starts_with("docs/runbooks/") => (name, "docs/monitoring.md", &runbooks),
        "docs/adr/README.md" => (name, "docs/README.md", &table),
        name_of if name_of.starts_with("docs/adr/") => (name, "docs/adr/README.md", &decisions),
        _ => (name, "docs/README.md", &table),
    });
    let lost = places.filter(|(name, _, linked)| !linked.contains(*name));
    lost.map(|(name, from, _)| format!("{name}: no link from {from}, expected one")).collect()
}
