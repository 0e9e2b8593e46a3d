//! What a listing skipped, and where it took the labels from.

use std::collections::BTreeMap;

/// What a source's listing skipped, and how it read the layout.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListingReport {
    /// Files that are not samples, by ending (`.webp`) or kind (`hard link`).
    pub skipped: BTreeMap<String, usize>,
    /// Class folders whose files were all skipped.
    pub empty_classes: Vec<String>,
    /// The folder that contains all others, below which the classes were found.
    pub wrapper: Option<String>,
    /// Endings of the images, where several share one WebDataset key.
    pub image_keys: Vec<String>,
    /// Endings of images that were skipped for another of the same key, as the caller chose.
    pub other_keys: BTreeMap<String, usize>,
    /// Keys in object storage that cannot be addressed; they are among [`Self::skipped`].
    pub unusable_keys: Vec<String>,
    /// What else to know of how the set was read, a sentence each.
    pub notes: Vec<String>,
    /// TIFF files whose pages are samples of their own.
    pub paged_files: usize,
    /// Samples that are such pages.
    pub pages: usize,
}

/// Most endings that are counted apart; a folder of millions of files has few kinds, or random names.
const MAX_KINDS: usize = 32;

impl ListingReport {
    /// Counts a file that is not a sample, by its name.
    pub(super) fn skip(&mut self, name: &str) {
        self.count(ending(name), 1);
    }

    /// Counts files of a kind.
    pub(super) fn count(&mut self, kind: String, number: usize) {
        let known = self.skipped.contains_key(&kind) || self.skipped.len() < MAX_KINDS;
        *self.skipped.entry(if known { kind } else { "other".into() }).or_default() += number;
    }

    /// Counts objects whose keys cannot be addressed.
    pub(super) fn unusable(&mut self, keys: Vec<String>) {
        if !keys.is_empty() {
            self.count("unusable key".into(), keys.len());
            self.unusable_keys = keys;
        }
    }

    /// Adds those of another part of the same set.
    pub(super) fn add(&mut self, other: Self) {
        for (kind, number) in other.skipped {
            self.count(kind, number);
        }
        for (kind, number) in other.other_keys {
            *self.other_keys.entry(kind).or_default() += number;
        }
        self.empty_classes.extend(other.empty_classes);
        self.image_keys.extend(other.image_keys);
        self.image_keys.sort_unstable();
        self.image_keys.dedup();
        self.unusable_keys.extend(other.unusable_keys);
        self.notes.extend(other.notes);
        self.wrapper = self.wrapper.take().or(other.wrapper);
        self.paged_files += other.paged_files;
        self.pages += other.pages;
    }

    /// Number of files that are not samples.
    #[must_use]
    pub fn total(&self) -> usize {
        self.skipped.values().sum()
    }

    /// The files that are not samples, as `10 .webp, 1 .txt`; empty if there are none.
    #[must_use]
    pub fn kinds(&self) -> String {
        kinds(&self.skipped)
    }

    /// One line for each thing to know of; none for a set without any.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(wrapper) = &self.wrapper {
            lines.push(format!("all images are under {wrapper}; its subfolders are the classes"));
        }
        if self.paged_files > 0 {
            lines.push(format!("{} samples are the pages of {} TIFF files", self.pages, self.paged_files));
        }
        if self.total() > 0 {
            lines.push(format!("{} files were skipped ({})", self.total(), self.kinds()));
        }
        if let Some(first) = self.unusable_keys.first() {
            lines.push(format!(
                "{} objects were skipped because of their keys, which have an empty, . or .. part or a control \
                 character (first: {first:?}); rename them",
                self.unusable_keys.len()
            ));
        }
        match &self.empty_classes[..] {
            [] => {}
            [one] => lines.push(format!("class folder {one} contains no readable images and is ignored")),
            [first, ..] => lines.push(format!(
                "{} class folders contain no readable images and are ignored (first: {first})",
                self.empty_classes.len()
            )),
        }
        if !self.image_keys.is_empty() {
            lines.push(format!(
                "several images share one WebDataset key (endings: {}), and each of them is a sample; an image key \
                 uses those of one ending alone",
                self.image_keys.join(", ")
            ));
        }
        if !self.other_keys.is_empty() {
            lines.push(format!(
                "images of other endings than the chosen one were skipped ({})",
                kinds(&self.other_keys)
            ));
        }
        lines.extend(self.notes.iter().cloned());
        lines
    }

    /// As one word, for a cached table of contents.
    pub(super) fn to_word(&self) -> String {
        let pairs = |mark: char, counts: &BTreeMap<String, usize>| {
            counts.iter().map(|(kind, number)| format!("{mark}{kind}={number}").replace(' ', "_")).collect::<Vec<_>>()
        };
        let mut parts = pairs('-', &self.skipped);
        parts.extend(pairs('+', &self.other_keys));
        parts.extend(self.image_keys.iter().map(|key| format!("*{key}")));
        if parts.is_empty() { "-".into() } else { parts.join(",") }
    }

    /// What [`Self::to_word`] wrote; nothing for any other word.
    pub(super) fn from_word(word: &str) -> Self {
        let mut listing_report = Self::default();
        for part in word.split(',') {
            let pair = |text: &str| {
                let (kind, number) = text.split_once('=')?;
                Some((kind.replace('_', " "), number.parse::<usize>().ok()?))
            };
            if let Some((kind, number)) = part.strip_prefix('-').and_then(pair) {
                listing_report.count(kind, number);
            } else if let Some((kind, number)) = part.strip_prefix('+').and_then(pair) {
                listing_report.other_keys.insert(kind, number);
            } else if let Some(key) = part.strip_prefix('*') {
                listing_report.image_keys.push(key.to_owned());
            }
        }
        listing_report
    }
}

/// Counts as `10 .webp, 1 .txt`.
pub(super) fn kinds(counts: &BTreeMap<String, usize>) -> String {
    counts.iter().map(|(kind, number)| format!("{number} {kind}")).collect::<Vec<_>>().join(", ")
}

/// A file's kind by its name, as `.webp`; endings that are none of a format's count as one kind.
fn ending(name: &str) -> String {
    let file = name.rsplit('/').next().unwrap_or(name);
    match file.rsplit_once('.') {
        Some((stem, end))
            if !stem.is_empty() && (1..=10).contains(&end.len()) && end.bytes().all(|b| b.is_ascii_alphanumeric()) =>
        {
            format!(".{}", end.to_ascii_lowercase())
        }
        _ => "without an ending".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_skipped_are_counted_by_ending() {
        let mut listing_report = ListingReport::default();
        ["a/1.webp", "a/2.WEBP", "b/x.txt", "LICENSE", "v1.0 of it"].iter().for_each(|name| listing_report.skip(name));
        listing_report.count("hard link".into(), 2);
        assert_eq!(listing_report.kinds(), "1 .txt, 2 .webp, 2 hard link, 2 without an ending");
        assert_eq!(listing_report.total(), 7);
        listing_report.other_keys.insert("mask.png".into(), 3);
        listing_report.image_keys = vec!["left.jpg".into(), "right.png".into()];
        assert_eq!(ListingReport::from_word(&listing_report.to_word()), listing_report);
        assert_eq!(ListingReport::from_word("-"), ListingReport::default());
        assert_eq!(listing_report.lines().len(), 3);
    }
}
