//! Looks into data sets: what is in them, and what is broken.

use std::collections::BTreeMap;

use serde::Serialize;
use simsiam_data::pack::{self, Fault};
use simsiam_data::storage::{Storage, local_folder};
use simsiam_data::{Access, Decoder, ListingReport, Part, Source};

use crate::error::Error;

/// Images whose size is inspected: enough for a mean, and quick.
const SAMPLE: usize = 1000;

/// Called with what is done and what there is in all.
pub type OnProgress<'a> = &'a mut dyn FnMut(usize, usize);

/// The result of reading a whole data set.
#[derive(Debug)]
pub struct Verified {
    /// Images and shards that cannot be used.
    pub faults: Vec<Fault>,
    /// Images in all; 0 if the set cannot be opened.
    pub images: usize,
    /// What was skipped.
    pub listing_report: ListingReport,
}

/// Reads and decodes every image at `uri`, and compares the shards of a packed set with its manifest.
///
/// # Errors
/// If the set cannot be opened, and that is not explained by a faulty shard.
pub fn verify(uri: &str, access: &Access, threads: usize, progress: OnProgress) -> Result<Verified, Error> {
    let mut faults = Vec::new();
    // A set with missing or truncated shards does not open, but its manifest says which they are. A file has no manifest.
    let is_file = local_folder(uri).is_some_and(|path| path.is_file());
    if let (false, Ok(storage)) = (is_file, Storage::open(uri, &access.storage, access.runtime.clone())) {
        faults.extend(pack::verify_shards(&storage, progress)?.unwrap_or_default());
    }
    let (images, listing_report) = match simsiam_data::open(uri, None, access) {
        Ok(source) => {
            faults.extend(pack::verify(&*source, threads, progress)?);
            (source.len(), source.listing_report())
        }
        Err(_) if !faults.is_empty() => (0, ListingReport::default()),
        Err(e) => return Err(e.into()),
    };
    Ok(Verified { faults, images, listing_report })
}

/// What is in a data set; means are over a sample of the images.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Statistics {
    /// Images in all.
    pub images: usize,
    /// Classes with images.
    pub classes: usize,
    /// Images of the smallest class.
    pub fewest_in_a_class: Option<usize>,
    /// Images of the largest class.
    pub most_in_a_class: Option<usize>,
    /// Images in the sample.
    pub inspected: usize,
    /// Images of the sample that cannot be decoded.
    pub unreadable: usize,
    /// Mean size of a file in bytes.
    pub mean_bytes: f64,
    /// Mean width in pixels.
    pub mean_width: f64,
    /// Mean height in pixels.
    pub mean_height: f64,
    /// Mean number of pixels.
    pub mean_pixels: f64,
    /// Images of each class.
    pub images_by_class: BTreeMap<String, usize>,
    /// Files that are no samples, by ending or kind.
    pub skipped: BTreeMap<String, usize>,
    /// Class folders whose files were all skipped.
    pub empty_classes: Vec<String>,
}

/// Counts images and classes, and decodes a sample of the images.
///
/// # Errors
/// If an image of the sample cannot be read.
pub fn statistics(source: &dyn Source, progress: OnProgress) -> Result<Statistics, Error> {
    let mut images_by_class: BTreeMap<String, usize> = BTreeMap::new();
    for id in 0..source.len() as u64 {
        if let Some(class) = source.label(id).and_then(|label| source.classes().get(label as usize)) {
            match images_by_class.get_mut(class) {
                Some(count) => *count += 1,
                None => drop(images_by_class.insert(class.clone(), 1)),
            }
        }
    }
    let (mut decoder, mut part, mut bytes) = (Decoder::with(source.decode_options()), Part::default(), Vec::new());
    let (mut sizes, mut total, mut unreadable) = (Vec::new(), 0, 0);
    let step = source.len().div_ceil(SAMPLE).max(1);
    let ids: Vec<u64> = (0..source.len() as u64).step_by(step).collect();
    for (done, id) in ids.iter().enumerate() {
        source.read_into(*id, &mut bytes)?;
        match decoder.decode_whole(source.name(*id), &bytes, &mut part) {
            Ok(()) => {
                total += bytes.len();
                sizes.push((part.image.width, part.image.height));
            }
            Err(_) => unreadable += 1,
        }
        progress(done + 1, ids.len());
    }
    let listing_report = source.listing_report();
    let decoded = sizes.len().max(1) as f64;
    let mean = |value: fn(&(usize, usize)) -> usize| sizes.iter().map(|s| value(s) as f64).sum::<f64>() / decoded;
    Ok(Statistics {
        images: source.len(),
        classes: images_by_class.len(),
        fewest_in_a_class: images_by_class.values().min().copied(),
        most_in_a_class: images_by_class.values().max().copied(),
        inspected: ids.len(),
        unreadable,
        mean_bytes: total as f64 / decoded,
        mean_width: mean(|s| s.0),
        mean_height: mean(|s| s.1),
        mean_pixels: mean(|s| s.0 * s.1),
        images_by_class,
        skipped: listing_report.skipped,
        empty_classes: listing_report.empty_classes,
    })
}
