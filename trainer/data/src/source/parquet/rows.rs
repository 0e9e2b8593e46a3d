//! The rows of a set's files as samples: their names, and what to know of their labels.

use std::collections::HashSet;
use std::path::{Component, Path};

use super::super::index::is_plain;
use super::super::listing::Item;
use super::table::Table;
use crate::Error;

/// Where an image is.
#[derive(Debug, Clone, Copy)]
pub(super) struct RowAt {
    /// The number of its file.
    pub(super) file: u32,
    /// The number of its row in the file.
    pub(super) row: u32,
}

/// Refuses files of which only some say what their classes are called: the others' numbers would be classes of their own.
///
/// # Errors
/// [`Error::Selection`].
pub(super) fn same_labels(uri: &str, tables: &[(String, Table)]) -> Result<(), Error> {
    let labelled = |named| tables.iter().find(|(_, table)| !table.classes.is_empty() && table.named == named);
    let (Some((named, _)), Some((bare, _))) = (labelled(true), labelled(false)) else { return Ok(()) };
    let reason = format!(
        "{named} has names for its classes and {bare} has none, so they are not parts of one set; name one of them"
    );
    Err(Error::Selection { uri: uri.to_owned(), reason })
}

/// What to know of the files: rows without a label, files without rows, a column that is no label.
pub(super) fn notes(tables: &[(String, Table)]) -> Vec<String> {
    let mut notes: Vec<String> = tables.iter().find_map(|(_, table)| table.note.clone()).into_iter().collect();
    let empty = tables.iter().filter(|(_, table)| table.labels.is_empty()).count();
    if empty > 0 {
        notes.push(format!("{empty} Parquet files have no rows"));
    }
    let labels = || tables.iter().flat_map(|(_, table)| &table.labels);
    let bare = labels().filter(|label| label.is_none()).count();
    let first = tables.iter().filter(|(_, table)| table.has_labels).find_map(|(name, table)| {
        let row = table.labels.iter().position(Option::is_none)?;
        Some(format!("row {row} of {name}"))
    });
    if let Some(first) = first {
        notes.push(format!("{bare} of {} images have no label (null or -1; the first is {first})", labels().count()));
    }
    notes
}

/// The rows of all files as samples. They are named `<class>/<path>` if each image has a path of its own in its class, which
/// can be the path of a file; otherwise `<class>/<file>#<row>`.
pub(super) fn items(tables: &[(String, Table)]) -> Vec<Item<RowAt>> {
    let by_path = paths_are_names(tables);
    let mut items = Vec::with_capacity(tables.iter().map(|(_, table)| table.labels.len()).sum());
    for (file, (name, table)) in (0u32..).zip(tables) {
        for number in 0..table.labels.len() as u32 {
            let row = number as usize;
            let class = class(table, row).map(str::to_owned);
            let path = table.paths.get(row).and_then(Option::as_ref).filter(|_| by_path);
            let own = path.map_or_else(|| format!("{name}#{row}"), String::clone);
            let name = class.as_ref().map_or_else(|| own.clone(), |class| format!("{class}/{own}"));
            items.push(Item { name, class, entry: RowAt { file, row: number } });
        }
    }
    items
}

fn paths_are_names(tables: &[(String, Table)]) -> bool {
    let mut seen = HashSet::new();
    tables.iter().all(|(_, table)| {
        (0..table.labels.len()).all(|row| {
            let Some(Some(path)) = table.paths.get(row) else { return false };
            let is_path = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
            let usable = !path.is_empty() && is_path && is_plain(path);
            usable && seen.insert((class(table, row), path.as_str()))
        })
    })
}

fn class(table: &Table, row: usize) -> Option<&str> {
    let label = (*table.labels.get(row)?)?;
    table.classes.get(label as usize).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(labels: &[Option<u32>], paths: &[Option<&str>]) -> Table {
        Table {
            max_def: 1,
            groups: Vec::new(),
            pages: Vec::new(),
            image_bytes: 0,
            classes: vec!["a".into(), "b".into()],
            named: true,
            has_labels: true,
            labels: labels.to_vec(),
            paths: paths.iter().map(|path| path.map(str::to_owned)).collect(),
            note: None,
        }
    }

    fn names(tables: &[(String, Table)]) -> Vec<String> {
        items(tables).into_iter().map(|item| item.name).collect()
    }

    #[test]
    fn samples_are_named_by_path_only_if_all_can_be() {
        let labels = [Some(0), Some(1), None];
        let with = |paths: &[Option<&str>]| names(&[("x.parquet".to_owned(), table(&labels, paths))]);
        let by_row = ["a/x.parquet#0", "b/x.parquet#1", "x.parquet#2"];
        assert_eq!(with(&[Some("1.png"), Some("1.png"), Some("d/2.png")]), ["a/1.png", "b/1.png", "d/2.png"]);
        for bad in [Some("/1.png"), Some("../1.png"), Some(""), Some("a\tb"), None] {
            assert_eq!(with(&[Some("1.png"), bad, Some("2.png")]), by_row, "{bad:?}");
        }
        assert_eq!(with(&[]), by_row);
        let same = table(&[Some(0), Some(0)], &[Some("1.png"), Some("1.png")]);
        assert_eq!(names(&[("x.parquet".to_owned(), same)]), ["a/x.parquet#0", "a/x.parquet#1"]);
    }
}
