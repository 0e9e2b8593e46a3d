//! Which Parquet files an address names.

use std::collections::BTreeSet;
use std::path::Path;

use crate::Error;

/// Whether a name is that of a Parquet file, and not hidden.
pub(crate) fn is_parquet(name: &str) -> bool {
    !name.starts_with('.')
        && Path::new(name).extension().is_some_and(|extension| extension.eq_ignore_ascii_case("parquet"))
}

/// Whether the beginning of a name selects the file, as `train` selects `train.parquet` and `train-00000-of-00002.parquet`.
pub(crate) fn selected_by(beginning: &str, name: &str) -> bool {
    let rest = name.strip_prefix(beginning).filter(|_| is_parquet(name) && !beginning.is_empty());
    rest.is_some_and(|rest| beginning.ends_with('-') || rest.starts_with('-') || rest.eq_ignore_ascii_case(".parquet"))
}

/// Words that begin the names of a split's files, as `datasets` recognises them.
const SPLITS: [&str; 10] =
    ["train", "training", "validation", "valid", "val", "dev", "test", "testing", "eval", "evaluation"];

/// The split that a file belongs to, by its name: `train-00000-of-00002.parquet`, or a word for a split at its beginning.
fn split(name: &str) -> Option<&str> {
    let stem = Path::new(name).file_stem()?.to_str()?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if let Some((before, after)) = stem.split_once("-of-")
        && let Some((split, number)) = before.rsplit_once('-')
        && is_number(number)
        && is_number(after.split('-').next().unwrap_or_default())
    {
        return Some(split);
    }
    let word = stem.split(|c: char| !c.is_ascii_alphabetic()).next()?;
    SPLITS.iter().any(|known| word.eq_ignore_ascii_case(known)).then_some(word)
}

/// Refuses files of several splits: training on a test set must not be the result of a short address.
///
/// # Errors
/// [`Error::Selection`].
pub(super) fn one_split<'a>(uri: &str, names: impl Iterator<Item = &'a str>) -> Result<(), Error> {
    let splits: BTreeSet<Option<&str>> = names.map(split).collect();
    let named: Vec<&str> = splits.iter().copied().flatten().collect();
    let Some(first) = named.first().filter(|_| splits.len() > 1) else { return Ok(()) };
    let others = if splits.contains(&None) { " and others" } else { "" };
    Err(Error::Selection {
        uri: uri.to_owned(),
        reason: format!(
            "has Parquet files of several splits ({}{others}); name one of them, such as {uri}/{first}",
            named.join(", ")
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beginning_of_a_name_selects_the_files_of_a_split() {
        for (beginning, name, expected) in [
            ("train", "train.parquet", true),
            ("train", "train-00000-of-00002.parquet", true),
            ("train-", "train-00000-of-00002.parquet", true),
            ("train-00000", "train-00000-of-00002.parquet", true),
            ("train", "train-00000-of-00002.csv", false),
            ("train", "training-00000-of-00002.parquet", false),
            ("train", "test.parquet", false),
            ("", "-x.parquet", false),
        ] {
            assert_eq!(selected_by(beginning, name), expected, "{beginning} {name}");
        }
    }

    #[test]
    fn files_of_several_splits_are_refused() {
        let message = |names: &[&str]| one_split("/data", names.iter().copied()).err().map(|e| e.to_string());
        for one in [
            &["train-00000-of-00002.parquet", "train-00001-of-00002-0a1b.parquet"][..],
            &["0000.parquet", "0001.parquet"],
            &["part-00000-3f.parquet", "part-00001-3f.parquet"],
            &["fine-art.parquet", "photos.parquet"],
            &["test.parquet"],
            &[],
        ] {
            assert_eq!(message(one), None, "{one:?}");
        }
        let two = message(&["test-00000-of-00001.parquet", "train.parquet"]).unwrap();
        assert!(two.contains("several splits (test, train)") && two.contains("/data/test"), "{two}");
        assert!(message(&["Train_1.parquet", "more.parquet"]).unwrap().contains("(Train and others)"));
    }
}
