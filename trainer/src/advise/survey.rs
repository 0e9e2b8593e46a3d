//! Reads images of a set and describes them: what is broken, blank or a copy, sizes and colours.

use std::collections::HashMap;

use rayon::prelude::*;
use sha2::{Digest, Sha256};
use simsiam_data::describe::{DetailMap, HashIndex, ImageStatistics, PerceptualHash, SPARSE};
use simsiam_data::ops::Resizer;
use simsiam_data::rng::CounterRng;
use simsiam_data::{Decoder, RgbImage, Source, TwoViews, permutation};

use super::facts::{Broken, CopyOf, Found, Leak, Quantiles, SetFacts, SparseCrops};
use crate::error::Error;

/// How to survey.
#[derive(Clone, Debug)]
pub struct SurveyOptions {
    /// Images to read of each set; 0 reads all.
    pub limit: usize,
    /// Which images those are.
    pub seed: u64,
    /// Threads.
    pub threads: usize,
}

/// Called with what is done and what there is in all.
pub type OnProgress<'a> = &'a mut dyn FnMut(usize, usize);

/// A set whose images were read.
pub struct Survey {
    field: &'static str,
    images: usize,
    /// Images by class.
    classes: Vec<usize>,
    read: usize,
    broken: Found<Broken>,
    looks: Vec<Look>,
}

/// One image.
struct Look {
    id: u64,
    name: String,
    sha256: [u8; 32],
    bytes: usize,
    size: (usize, usize),
    statistics: ImageStatistics,
    hash: PerceptualHash,
    /// Sparse crops of [`CROPS`], for each of [`scales`].
    sparse: Vec<u32>,
}

/// Random crops of each image and scale.
const CROPS: u32 = 8;

/// Minimum scales for which crops are drawn: the file's, and larger ones.
fn scales(views: &TwoViews) -> Vec<f64> {
    let larger = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9].into_iter();
    let larger = larger.filter(|scale| *scale > views.min_scale && *scale <= views.max_scale);
    std::iter::once(views.min_scale).chain(larger).collect()
}

/// Reads images of `source`, drawn by the seed over the whole listing; `views` draws the crops.
///
/// # Errors
/// If an image cannot be read for a reason that is not its own, or if none can be decoded.
pub fn survey(
    field: &'static str,
    source: &dyn Source,
    views: &TwoViews,
    options: &SurveyOptions,
    progress: OnProgress,
) -> Result<Survey, Error> {
    const CHUNK: usize = 256;
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(options.threads)
        .build()
        .map_err(|e| Error::system("start the threads that read images")(std::io::Error::other(e)))?;
    let ids = drawn(source.len(), options);
    let scales = scales(views);
    let (mut looks, mut broken, mut last) = (Vec::new(), Found::default(), None);
    for (number, chunk) in ids.chunks(CHUNK).enumerate() {
        source.prefetch(chunk);
        let start = || (Decoder::with(source.decode_options()), Resizer::default(), RgbImage::default(), Vec::new());
        let look = |(decoder, resizer, image, bytes): &mut (Decoder, Resizer, RgbImage, Vec<u8>), id: &u64| {
            let name = source.name(*id);
            match source.read_into(*id, bytes).and_then(|()| decoder.decode(name, bytes, image)) {
                Ok(()) => Ok(Ok(describe(*id, name, bytes, image, resizer, (views, &scales)))),
                Err(e) if e.is_bad_image() => Ok(Err(Broken { name: name.to_owned(), reason: e.to_string() })),
                Err(e) => Err(e),
            }
        };
        type Outcome = Result<Vec<Result<Look, Broken>>, simsiam_data::Error>;
        let outcome: Outcome = pool.install(|| chunk.par_iter().map_init(start, look).collect());
        for one in outcome? {
            match one {
                Ok(look) => looks.push(look),
                Err(one) => {
                    last = Some(one.clone());
                    broken.add(one);
                }
            }
        }
        progress((number * CHUNK + chunk.len()).min(ids.len()), ids.len());
    }
    match last {
        Some(Broken { name, reason }) if looks.is_empty() => {
            return Err(simsiam_data::Error::NothingReadable { samples: ids.len(), name, reason }.into());
        }
        _ => {}
    }
    let mut classes = vec![0; source.classes().len()];
    for label in (0..source.len() as u64).filter_map(|id| source.label(id)) {
        if let Some(count) = classes.get_mut(label as usize) {
            *count += 1;
        }
    }
    classes.retain(|count| *count > 0);
    Ok(Survey { field, images: source.len(), classes, read: ids.len(), broken, looks })
}

/// Ids of the images to read, ascending.
fn drawn(images: usize, options: &SurveyOptions) -> Vec<u64> {
    if options.limit == 0 || options.limit >= images {
        return (0..images as u64).collect();
    }
    let mut ids: Vec<u64> =
        permutation(options.seed, 0, images).into_iter().take(options.limit).map(u64::from).collect();
    ids.sort_unstable();
    ids
}

fn describe(
    id: u64,
    name: &str,
    bytes: &[u8],
    image: &RgbImage,
    resizer: &mut Resizer,
    (views, scales): (&TwoViews, &[f64]),
) -> Look {
    let detail = DetailMap::of(image, resizer);
    let sparse = |scale: &f64| {
        let views = TwoViews { min_scale: *scale, ..views.clone() };
        let is_sparse = |view: &u32| {
            let mut rng = CounterRng::view(0, u64::from(*view), id, 0);
            detail.density(views.draw(&mut rng, 0, image.width, image.height).crop) < SPARSE
        };
        (0..CROPS).filter(is_sparse).count() as u32
    };
    Look {
        id,
        name: name.to_owned(),
        sha256: Sha256::digest(bytes).into(),
        bytes: bytes.len(),
        size: (image.width, image.height),
        statistics: ImageStatistics::of(image),
        hash: PerceptualHash::of(image, resizer),
        sparse: scales.iter().map(sparse).collect(),
    }
}

impl Survey {
    /// Ids of the images that were decoded.
    pub fn readable(&self) -> Vec<u64> {
        self.looks.iter().map(|look| look.id).collect()
    }

    /// The set's figures; `views` are those of [`survey`].
    pub fn facts(&self, views: &TwoViews) -> SetFacts {
        let looks = &self.looks;
        let of = |value: fn(&Look) -> f64| Quantiles::of(looks.iter().map(value).collect());
        let seen: Vec<&Look> = looks.iter().filter(|look| !look.statistics.is_blank()).collect();
        let count = looks.len().max(1) as f64;
        let mean_of = |channels: fn(&Look) -> [f64; 3]| {
            let sums = seen.iter().map(|look| channels(look));
            let sums = sums.fold([0.0; 3], |sum, one| [sum[0] + one[0], sum[1] + one[1], sum[2] + one[2]]);
            sums.map(|sum| sum / seen.len().max(1) as f64)
        };
        let share = |at: usize| {
            let sparse = looks.iter().filter_map(|look| look.sparse.get(at)).sum::<u32>();
            f64::from(sparse) / (count * f64::from(CROPS))
        };
        let mut blank = Found::default();
        looks.iter().filter(|look| look.statistics.is_blank()).for_each(|look| blank.add(look.name.clone()));
        let (copies, near_copies) = self.copies();
        SetFacts {
            field: self.field.to_owned(),
            images: self.images,
            classes: self.classes.len(),
            fewest_in_a_class: self.classes.iter().min().copied().unwrap_or_default(),
            most_in_a_class: self.classes.iter().max().copied().unwrap_or_default(),
            read: self.read,
            broken: self.broken.clone(),
            blank,
            copies,
            near_copies,
            mean_bytes: looks.iter().map(|look| look.bytes as f64).sum::<f64>() / count,
            short_side: of(|look| look.size.0.min(look.size.1) as f64),
            long_side: of(|look| look.size.0.max(look.size.1) as f64),
            aspect: of(|look| look.size.0 as f64 / look.size.1 as f64),
            gray_share: looks.iter().filter(|look| look.statistics.is_gray()).count() as f64 / count,
            mean: mean_of(|look| look.statistics.mean),
            std: mean_of(|look| look.statistics.std),
            sparse_crops: scales(views)
                .into_iter()
                .enumerate()
                .map(|(at, min_scale)| SparseCrops { min_scale, share: share(at) })
                .collect(),
        }
    }

    /// Images with the bytes of an earlier one, and images that look like an earlier one.
    fn copies(&self) -> (Found<CopyOf>, Found<CopyOf>) {
        let (mut copies, mut near_copies) = (Found::default(), Found::default());
        let mut by_bytes: HashMap<[u8; 32], &Look> = HashMap::new();
        let mut distinct = Vec::new();
        for look in &self.looks {
            match by_bytes.get(&look.sha256) {
                Some(first) => copies.add(copy(look, first)),
                None => {
                    by_bytes.insert(look.sha256, look);
                    distinct.push(look);
                }
            }
        }
        distinct.retain(|look| !look.statistics.is_blank());
        let hashes: Vec<_> = distinct.iter().map(|look| look.hash).collect();
        let index = HashIndex::new(&hashes);
        for (at, look) in distinct.iter().enumerate() {
            if let Some(first) = index.first_near(&look.hash, at).and_then(|first| distinct.get(first)) {
                near_copies.add(copy(look, first));
            }
        }
        (copies, near_copies)
    }

    /// Images of this set that `train` has too.
    pub fn leak(&self, train: &Self) -> Leak {
        let by_bytes: HashMap<[u8; 32], &Look> = train.looks.iter().map(|look| (look.sha256, look)).collect();
        let seen: Vec<&Look> = train.looks.iter().filter(|look| !look.statistics.is_blank()).collect();
        let hashes: Vec<_> = seen.iter().map(|look| look.hash).collect();
        let index = HashIndex::new(&hashes);
        let (mut copies, mut near_copies) = (Found::default(), Found::default());
        for look in &self.looks {
            if let Some(same) = by_bytes.get(&look.sha256) {
                copies.add(copy(look, same));
            } else if !look.statistics.is_blank()
                && let Some(near) = index.first_near(&look.hash, hashes.len()).and_then(|near| seen.get(near))
            {
                near_copies.add(copy(look, near));
            }
        }
        let compared = self.looks.len();
        Leak { field: self.field.to_owned(), train: train.field.to_owned(), compared, copies, near_copies }
    }
}

fn copy(look: &Look, of: &Look) -> CopyOf {
    CopyOf { name: look.name.clone(), of: of.name.clone() }
}
