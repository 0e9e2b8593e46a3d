//! Names, classes and labels of a source's samples, in the order of their ids.

use std::collections::BTreeSet;

use super::listing_report::ListingReport;
use crate::Error;

/// A sample as it was found.
#[derive(Debug)]
pub(super) struct Item<T> {
    /// Its path within the source.
    pub(super) name: String,
    /// Its class, if it has one.
    pub(super) class: Option<String>,
    /// Where its bytes are.
    pub(super) entry: T,
}

impl<T> Item<T> {
    /// An item whose class is the first folder of its name.
    pub(super) fn by_path(name: String, entry: T) -> Self {
        let class = name.split_once('/').map(|(class, _)| class.to_owned());
        Self { name, class, entry }
    }
}

/// Many names in one allocation: a set of a million images has a million of them in every rank.
#[derive(Debug, Default)]
struct Names {
    text: String,
    ends: Vec<usize>,
}

impl Names {
    fn push(&mut self, name: &str) {
        self.text.push_str(name);
        self.ends.push(self.text.len());
    }

    fn get(&self, id: usize) -> Option<&str> {
        let start = if id == 0 { 0 } else { *self.ends.get(id - 1)? };
        self.text.get(start..*self.ends.get(id)?)
    }
}

/// The methods of a [`Source`](super::Source) that its fields `listing` and `decode` answer.
macro_rules! source_of_listing {
    () => {
        fn len(&self) -> usize {
            self.listing.len()
        }

        fn name(&self, id: u64) -> &str {
            self.listing.name(id)
        }

        fn label(&self, id: u64) -> Option<u32> {
            self.listing.label(id)
        }

        fn classes(&self) -> &[String] {
            self.listing.classes()
        }

        fn decode_options(&self) -> $crate::DecodeOptions {
            self.decode
        }

        fn listing_report(&self) -> $crate::ListingReport {
            self.listing.listing_report().clone()
        }
    };
}
pub(super) use source_of_listing;

/// In place of a label, for a sample without one among others with one.
const UNLABELLED: u32 = u32::MAX;

/// The names and labels of a source's samples.
#[derive(Debug)]
pub(super) struct Listing {
    names: Names,
    classes: Vec<String>,
    /// By id; empty if no sample has a label.
    labels: Vec<u32>,
    listing_report: ListingReport,
}

impl Listing {
    /// Puts `items` in the order of (class, name) by bytes and labels them: with `known` classes, or with their own.
    /// A folder around all class folders is no class: the folders in it are, unless it is one of `known`. All items must
    /// have a class, or none.
    ///
    /// # Errors
    /// [`Error::EmptyFolder`], [`Error::NoImages`], [`Error::MixedLayout`], [`Error::UnknownClass`].
    pub(super) fn new<T>(
        uri: &str,
        mut items: Vec<Item<T>>,
        known: Option<&[String]>,
        mut listing_report: ListingReport,
    ) -> Result<(Self, Vec<T>), Error> {
        listing_report.wrapper = listing_report.wrapper.take().or(unwrap(&mut items, known));
        let flat = || items.iter().filter(|item| item.class.is_none());
        let own: BTreeSet<&String> = items.iter().filter_map(|item| item.class.as_ref()).collect();
        match flat().map(|item| &item.name).min() {
            Some(first) if !own.is_empty() => Err(Error::MixedLayout {
                location: uri.to_owned(),
                flat: flat().count(),
                classes: own.len(),
                first: first.clone(),
            }),
            _ => Self::with_given_classes(uri, items, known, listing_report),
        }
    }

    /// As [`Self::new`] for items whose classes are given by labels: they are as they say, and some may have none.
    ///
    /// # Errors
    /// [`Error::EmptyFolder`], [`Error::NoImages`], [`Error::UnknownClass`].
    pub(super) fn with_given_classes<T>(
        uri: &str,
        mut items: Vec<Item<T>>,
        known: Option<&[String]>,
        mut listing_report: ListingReport,
    ) -> Result<(Self, Vec<T>), Error> {
        let location = || uri.to_owned();
        items.sort_by(|a, b| (&a.class, &a.name).cmp(&(&b.class, &b.name)));
        if items.is_empty() {
            return Err(match listing_report.total() {
                0 => Error::EmptyFolder { location: location() },
                files => Error::NoImages { location: location(), files, kinds: listing_report.kinds() },
            });
        }
        let mut own: Vec<String> = items.iter().filter_map(|item| item.class.clone()).collect();
        own.dedup();
        let classes = if own.is_empty() { Vec::new() } else { known.map_or_else(|| own.clone(), <[String]>::to_vec) };
        let mut numbers = Vec::with_capacity(own.len());
        for class in &own {
            let number = classes.iter().position(|known| known == class).ok_or_else(|| Error::UnknownClass {
                location: location(),
                class: class.clone(),
                known: classes.len(),
            })?;
            numbers.push(number as u32);
        }
        let (mut names, mut labels, mut entries) = (Names::default(), Vec::new(), Vec::with_capacity(items.len()));
        let mut at = 0;
        for item in items {
            names.push(&item.name);
            entries.push(item.entry);
            match item.class {
                Some(class) => {
                    while own[at] != class {
                        at += 1;
                    }
                    labels.push(numbers[at]);
                }
                None if own.is_empty() => {}
                None => labels.push(UNLABELLED),
            }
        }
        listing_report.empty_classes.retain(|folder| !own.contains(folder));
        if own.is_empty() || listing_report.wrapper.is_some() {
            // Folders beside flat images, or beside a wrapper, are no classes.
            listing_report.empty_classes.clear();
        }
        Ok((Self { names, classes, labels, listing_report }, entries))
    }

    pub(super) fn len(&self) -> usize {
        self.names.ends.len()
    }

    pub(super) fn name(&self, id: u64) -> &str {
        self.names.get(id as usize).unwrap_or("")
    }

    pub(super) fn label(&self, id: u64) -> Option<u32> {
        self.labels.get(id as usize).copied().filter(|label| *label != UNLABELLED)
    }

    pub(super) fn classes(&self) -> &[String] {
        &self.classes
    }

    pub(super) fn listing_report(&self) -> &ListingReport {
        &self.listing_report
    }
}

/// Takes the classes from below the one folder that all items are in, where there are folders below it; returns that
/// folder. An archive made by `tar cf train.tar train` has one, and so has a folder that was extracted from it.
fn unwrap<T>(items: &mut [Item<T>], known: Option<&[String]>) -> Option<String> {
    let mut wrapper: Option<String> = None;
    loop {
        let first = items.first()?.class.clone()?;
        let prefix = wrapper.as_ref().map_or_else(|| format!("{first}/"), |outer| format!("{outer}/{first}/"));
        let below = |item: &Item<T>| {
            let rest = item.name.trim_start_matches("./").strip_prefix(&prefix)?;
            Some(rest.split_once('/')?.0.to_owned())
        };
        let is_class = known.is_some_and(|known| known.contains(&first));
        let all = items.iter().all(|item| item.class.as_ref() == Some(&first) && below(item).is_some());
        if is_class || !all {
            return wrapper;
        }
        for item in items.iter_mut() {
            item.class = below(item);
        }
        wrapper = Some(prefix.trim_end_matches('/').to_owned());
    }
}

/// Endings of the names of images; [`Error::NoImages`] lists them.
const ENDINGS: [&str; 11] = ["jpg", "jpeg", "jfif", "jpe", "png", "tif", "tiff", "bmp", "webp", "dcm", "npy"];

/// Whether a name is that of an image, by its ending.
pub(super) fn is_image(name: &str) -> bool {
    name.rsplit_once('.')
        .is_some_and(|(_, extension)| ENDINGS.iter().any(|known| extension.eq_ignore_ascii_case(known)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(names: &[&str], known: Option<&[String]>) -> Result<(Listing, Vec<usize>), Error> {
        let items = names.iter().enumerate().map(|(i, name)| Item::by_path((*name).to_owned(), i)).collect();
        let mut listing_report = ListingReport::default();
        listing_report.count(".txt".into(), 3);
        Listing::new("s3://b/x", items, known, listing_report)
    }

    #[test]
    fn error_lists_every_ending_of_an_image() {
        let error = Error::NoImages { location: "x".into(), files: 1, kinds: String::new() }.to_string();
        let listed: Vec<_> = error.split([' ', ',']).filter_map(|word| word.strip_prefix('.')).collect();
        assert_eq!(listed, ENDINGS, "{error}");
        assert!(is_image("a/b.TIFF") && is_image("x.dcm") && !is_image("x.gif") && !is_image("tif"));
    }

    #[test]
    fn samples_are_ordered_by_class_then_name() {
        // By the whole path's bytes `a-b/…` would come before `a/…`.
        let (listing, entries) = listing(&["a-b/1.jpg", "b/0.jpg", "a/2.jpg", "a/1.jpg"], None).unwrap();
        assert_eq!(listing.classes(), ["a", "a-b", "b"]);
        let all: Vec<_> = (0..4).map(|id| (listing.name(id), listing.label(id).unwrap())).collect();
        assert_eq!(all, [("a/1.jpg", 0), ("a/2.jpg", 0), ("a-b/1.jpg", 1), ("b/0.jpg", 2)]);
        assert_eq!(entries, [3, 2, 0, 1]);
        assert_eq!((listing.name(4), listing.label(4), listing.len()), ("", None, 4));
    }

    #[test]
    fn labels_with_known_classes_index_them() {
        let known = ["a", "b", "c"].map(str::to_owned);
        let (listing, _) = listing(&["c/1.jpg", "a/1.jpg"], Some(&known)).unwrap();
        assert_eq!((listing.label(0), listing.label(1)), (Some(0), Some(2)));
        assert_eq!(listing.classes(), known);
    }

    #[test]
    fn samples_with_given_classes_may_lack_one() {
        let item =
            |name: &str, class: Option<&str>| Item { name: name.into(), class: class.map(str::to_owned), entry: () };
        let items = vec![item("b/y/1", Some("b")), item("2", None), item("b/x/0", Some("b"))];
        let (listing, _) = Listing::with_given_classes("x", items, None, ListingReport::default()).unwrap();
        let all: Vec<_> = (0..4).map(|id| (listing.name(id), listing.label(id))).collect();
        assert_eq!(all, [("2", None), ("b/x/0", Some(0)), ("b/y/1", Some(0)), ("", None)]);
        assert_eq!((listing.classes(), &listing.listing_report().wrapper), (&["b".to_owned()][..], &None));
    }

    #[test]
    fn listing_without_consistent_images_is_refused() {
        assert!(matches!(listing(&[], None), Err(Error::NoImages { files: 3, .. })));
        assert!(matches!(listing(&["a/1.jpg", "2.jpg"], None), Err(Error::MixedLayout { flat: 1, classes: 1, .. })));
        let known = ["a".to_owned()];
        assert!(matches!(listing(&["b/1.jpg"], Some(&known)), Err(Error::UnknownClass { .. })));
        let (flat, _) = listing(&["2.jpg", "1.jpg"], Some(&known)).unwrap();
        assert_eq!((flat.name(0), flat.label(0), flat.classes().len()), ("1.jpg", None, 0));
    }

    #[test]
    fn classes_are_found_below_a_folder_around_all_of_them() {
        let classes = |names: &[&str], known: Option<&[String]>| {
            let (listing, _) = listing(names, known).unwrap();
            (listing.classes().to_vec(), listing.listing_report().wrapper.clone())
        };
        let owned = |classes: &[&str]| classes.iter().map(|class| (*class).to_owned()).collect::<Vec<_>>();
        let wrapped = ["train/a/1.jpg", "train/b/x/2.jpg"];
        assert_eq!(classes(&wrapped, None), (owned(&["a", "b"]), Some("train".into())));
        assert_eq!(classes(&["x/y/a/1.jpg", "x/y/b/2.jpg"], None), (owned(&["a", "b"]), Some("x/y".into())));
        // No wrapper: images directly in it, or beside it, or a class of the training set.
        assert_eq!(classes(&["a/1.jpg", "a/x/2.jpg"], None), (owned(&["a"]), None));
        assert_eq!(classes(&["a/x/1.jpg", "b/x/2.jpg"], None), (owned(&["a", "b"]), None));
        let known = owned(&["train", "val"]);
        assert_eq!(classes(&wrapped, Some(&known)), (known.clone(), None));
    }
}
