//! The recipe's data sets as the loaders read them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use simsiam_contract::names::CACHE_FOLDER;
use simsiam_data::cache::Cache;
use simsiam_data::pack::{self, PackOptions};
use simsiam_data::storage::{Storage, StorageErrorKind, StorageOptions, local_folder};
use simsiam_data::{
    Access, Columns, DecodeMode, DecodeOptions, EvalView, Pages, Probabilities, Source, TargetSize, TwoViews,
    ValueRange,
};
use simsiam_recipe::{Augment, Dataset, Decode, Pack, RangeMode, Recipe};
use tokio::runtime::Handle;

use crate::error::Error;

/// Environment variable that overrides the default folder for a node's copies of remote images.
pub const CACHE_VARIABLE: &str = "SIMSIAM_CACHE";
/// Folder of the packed data sets in a run's output.
const PACKED: &str = "packed";

/// A field of the recipe, as in `dataset.train`, and the set that it names.
pub type NamedSource = (&'static str, Arc<dyn Source>);

/// The images of a run and how they are reached.
#[derive(Debug)]
pub struct Datasets<'a> {
    recipe: &'a Recipe,
    runtime: Handle,
}

impl<'a> Datasets<'a> {
    /// The data sets of `recipe`; requests run on `runtime`.
    pub fn new(recipe: &'a Recipe, runtime: Handle) -> Self {
        Self { recipe, runtime }
    }

    /// Where requests run.
    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// The training set: the packed one, where the recipe asks for packing.
    pub fn train(&self) -> Result<Arc<dyn Source>, Error> {
        self.open("spec.dataset.train", "train", &self.recipe.dataset.train, None)
    }

    /// The labelled images that classifiers are trained on: those of `dataset.probe`, or else the training set.
    pub fn labelled_train(&self) -> Result<Arc<dyn Source>, Error> {
        match &self.recipe.dataset.probe {
            Some(probe) => self.open_original("spec.dataset.probe.train", &probe.train, None),
            None => self.train(),
        }
    }

    /// The labelled images that are evaluated on, with the classes of [`Self::labelled_train`].
    pub fn val(&self, classes: &[String]) -> Result<Arc<dyn Source>, Error> {
        if let Some(probe) = &self.recipe.dataset.probe {
            return self.open_original("spec.dataset.probe.val", &probe.val, Some(classes));
        }
        let Some(val) = &self.recipe.dataset.val else {
            return Err(Error::missing("spec.dataset.val", "the evaluation"));
        };
        self.open("spec.dataset.val", "val", val, Some(classes))
    }

    /// The images of `dataset.val`, or of `dataset.probe.val`, with classes of their own: they need not be those of any
    /// other set.
    pub fn val_as_it_is(&self) -> Result<Arc<dyn Source>, Error> {
        match (&self.recipe.dataset.probe, &self.recipe.dataset.val) {
            (Some(probe), _) => self.open_original("spec.dataset.probe.val", &probe.val, None),
            (None, Some(val)) => self.open("spec.dataset.val", "val", val, None),
            (None, None) => Err(Error::missing("spec.dataset.val", "simsiam embed")),
        }
    }

    /// Every set that the recipe names, by its field, as it is before packing, with classes of its own.
    pub fn originals(&self) -> Result<Vec<NamedSource>, Error> {
        let dataset = &self.recipe.dataset;
        let probe = dataset.probe.as_ref();
        let named = [
            ("dataset.train", Some(&dataset.train)),
            ("dataset.val", dataset.val.as_ref()),
            ("dataset.probe.train", probe.map(|probe| &probe.train)),
            ("dataset.probe.val", probe.map(|probe| &probe.val)),
        ];
        let given = named.into_iter().filter_map(|(field, uri)| Some((field, uri?)));
        given.map(|(field, uri)| Ok((field, self.open_original(&format!("spec.{field}"), uri, None)?))).collect()
    }

    fn open(
        &self,
        field: &str,
        part: &str,
        original: &str,
        classes: Option<&[String]>,
    ) -> Result<Arc<dyn Source>, Error> {
        match self.recipe.dataset.pack {
            Some(_) => self.open_at(field, &self.packed_uri(part), self.output_store(), classes),
            None => self.open_original(field, original, classes),
        }
    }

    fn open_original(&self, field: &str, uri: &str, classes: Option<&[String]>) -> Result<Arc<dyn Source>, Error> {
        self.open_at(field, uri, self.dataset_store(), classes)
    }

    fn open_at(
        &self,
        field: &str,
        uri: &str,
        storage: StorageOptions,
        classes: Option<&[String]>,
    ) -> Result<Arc<dyn Source>, Error> {
        let cache = if local_folder(uri).is_some() { None } else { Some(Arc::new(self.cache()?)) };
        let access = self.access(storage, cache);
        let source = simsiam_data::open(uri, classes, &access).map_err(|e| in_field(field, e))?;
        warn_of_listing(field, &*source);
        Ok(source)
    }

    fn access(&self, storage: StorageOptions, cache: Option<Arc<Cache>>) -> Access {
        let dataset = &self.recipe.dataset;
        Access {
            storage,
            cache,
            image_key: dataset.image_key.clone(),
            columns: Columns { image: dataset.image_column.clone(), label: dataset.label_column.clone() },
            extracts: Some((cache_folder(), self.cache_limit())),
            pages: pages(dataset),
            decode: DecodeOptions { range: value_range(dataset), channels: dataset.channels() },
            runtime: self.runtime.clone(),
        }
    }

    fn cache_limit(&self) -> u64 {
        self.recipe.dataset.cache.clone().unwrap_or_default().size_limit_bytes()
    }

    fn packed_uri(&self, part: &str) -> String {
        format!("{}/{PACKED}/{part}", self.recipe.output.uri.trim_end_matches('/'))
    }

    fn output_store(&self) -> StorageOptions {
        let output = &self.recipe.output;
        StorageOptions { endpoint: output.endpoint.clone(), region: output.region.clone(), ..store_options() }
    }

    fn dataset_store(&self) -> StorageOptions {
        let (dataset, output) = (&self.recipe.dataset, self.output_store());
        StorageOptions {
            endpoint: dataset.endpoint.clone().or(output.endpoint),
            region: dataset.region.clone().or(output.region),
            ..store_options()
        }
    }

    fn cache(&self) -> Result<Cache, Error> {
        Ok(Cache::open(&cache_folder(), self.cache_limit())?)
    }

    /// Packs both sets into the output, if the recipe asks for it; `progress` receives the part, the number of images
    /// done and the total.
    pub fn prepare(&self, threads: usize, mut progress: impl FnMut(&str, usize, usize)) -> Result<(), Error> {
        let dataset = &self.recipe.dataset;
        let Some(settings) = &dataset.pack else {
            return Err(Error::missing("spec.dataset.pack", "the prepare stage"));
        };
        let options = PackOptions {
            size: target_size(settings),
            quality: settings.quality.min(100) as u8,
            threads,
            max_corrupt: dataset.max_corrupt,
            ..PackOptions::default()
        };
        let mut classes: Option<Vec<String>> = None;
        let parts =
            [("spec.dataset.train", "train", Some(&dataset.train)), ("spec.dataset.val", "val", dataset.val.as_ref())];
        for (field, part, uri) in parts {
            let Some(uri) = uri else { continue };
            // No cache: each image is read once.
            let access = self.access(self.dataset_store(), None);
            let source = simsiam_data::open(uri, classes.as_deref(), &access).map_err(|e| in_field(field, e))?;
            warn_of_listing(field, &*source);
            let to = Storage::create(&self.packed_uri(part), &self.output_store(), self.runtime.clone())
                .map_err(|e| in_field("spec.output.uri", e))?;
            let packed = pack::pack(&*source, &to, &options, &mut |done, of| progress(part, done, of))?;
            for name in &packed.manifest.left_out {
                tracing::warn!("{part}: skipped {name}: it cannot be decoded");
            }
            tracing::info!(
                "{part}: {} images in {} shards ({} reused), {} MB in {}",
                packed.manifest.samples,
                packed.manifest.shards.len(),
                packed.reused,
                packed.bytes_out / 1_000_000,
                to.uri(""),
            );
            classes = classes.or_else(|| Some(source.classes().to_vec()));
        }
        Ok(())
    }
}

/// Logs what the listing skipped.
fn warn_of_listing(field: &str, source: &dyn Source) {
    let listing_report = source.listing_report();
    for line in listing_report.lines() {
        tracing::warn!("{field}: {line}");
    }
    if !listing_report.image_keys.is_empty() {
        tracing::warn!("{field}: set spec.dataset.imageKey to one of these endings to use its images alone");
    }
}

/// The size that images are packed at.
fn target_size(pack: &Pack) -> TargetSize {
    match (pack.max_side, pack.short_side) {
        (Some(side), _) => TargetSize::MaxSide(side),
        (None, Some(side)) => TargetSize::ShortSide(side),
        (None, None) => TargetSize::Keep,
    }
}

/// Environment variable with the number of seconds for which failing requests to storage are retried.
pub const RETRY_TIMEOUT_VARIABLE: &str = "SIMSIAM_STORAGE_RETRY_TIMEOUT";
/// The variable's name in releases up to 0.1, still read.
const OLD_RETRY_TIMEOUT_VARIABLE: &str = "SIMSIAM_STORAGE_PATIENCE";

/// Returns the default options with the retry timeout of the environment, if set.
pub fn store_options() -> StorageOptions {
    let default = StorageOptions::default();
    let seconds = [RETRY_TIMEOUT_VARIABLE, OLD_RETRY_TIMEOUT_VARIABLE]
        .iter()
        .find_map(|name| std::env::var(name).ok())
        .and_then(|text| text.parse().ok());
    StorageOptions { retry_timeout: seconds.map_or(default.retry_timeout, std::time::Duration::from_secs), ..default }
}

/// Returns the folder where this machine keeps copies of remote images.
pub fn cache_folder() -> PathBuf {
    if let Some(folder) = std::env::var_os(CACHE_VARIABLE) {
        return folder.into();
    }
    if Path::new(CACHE_FOLDER).is_dir() {
        return Path::new(CACHE_FOLDER).join("data");
    }
    let home = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    home.unwrap_or_else(std::env::temp_dir).join("simsiam").join("data")
}

/// A refusal by the storage is reported as an error of the field.
fn in_field(field: &str, error: simsiam_data::Error) -> Error {
    match error {
        simsiam_data::Error::Storage { kind: StorageErrorKind::Denied, .. } => {
            Error::AccessDenied { field: field.into(), message: error.to_string() }
        }
        simsiam_data::Error::Storage { kind: StorageErrorKind::Refused | StorageErrorKind::ReadOnly, .. } => {
            Error::config(field, error.to_string())
        }
        error => error.into(),
    }
}

/// The recipe's augmentation as the data pipeline takes it.
pub fn two_views(augment: &Augment) -> TwoViews {
    TwoViews {
        crop_size: augment.crop_size,
        min_scale: augment.min_scale,
        max_scale: augment.max_scale,
        probabilities: probabilities(augment),
        brightness: augment.brightness,
        contrast: augment.contrast,
        saturation: augment.saturation,
        hue: augment.hue,
        blur_sigma: augment.blur_sigma,
        solarize_threshold: augment.solarize_threshold,
        mean: augment.mean.clone(),
        std: augment.std.clone(),
    }
}

/// Those of the first view, and of the second, where it has its own.
fn probabilities(augment: &Augment) -> [Probabilities; 2] {
    let first = Probabilities {
        jitter: augment.jitter_prob,
        grayscale: augment.grayscale_prob,
        blur: augment.blur_prob,
        solarize: augment.solarize_prob,
        flip: augment.flip_prob,
        vertical_flip: augment.vertical_flip_prob,
        quarter_turn: augment.quarter_turn_prob,
    };
    let own = &augment.second_view;
    let second = Probabilities {
        jitter: own.jitter_prob.unwrap_or(first.jitter),
        grayscale: own.grayscale_prob.unwrap_or(first.grayscale),
        blur: own.blur_prob.unwrap_or(first.blur),
        solarize: own.solarize_prob.unwrap_or(first.solarize),
        flip: own.flip_prob.unwrap_or(first.flip),
        vertical_flip: own.vertical_flip_prob.unwrap_or(first.vertical_flip),
        quarter_turn: own.quarter_turn_prob.unwrap_or(first.quarter_turn),
    };
    [first, second]
}

/// The recipe's evaluation view: resize, centre crop.
pub fn eval_view(augment: &Augment) -> EvalView {
    EvalView {
        resize: augment.eval_resize(),
        crop: augment.crop_size,
        mean: augment.mean.clone(),
        std: augment.std.clone(),
    }
}

/// The recipe's way of decoding.
pub fn decode_mode(dataset: &Dataset) -> DecodeMode {
    match dataset.decode {
        Decode::Exact => DecodeMode::Exact,
        Decode::Fast => DecodeMode::Fast,
    }
}

/// The recipe's values that are black and white.
fn value_range(dataset: &Dataset) -> ValueRange {
    let simsiam_recipe::ValueRange { mode, low, high } = dataset.range;
    // The recipe's rules require both limits where they are used.
    let (low, high) = (low.unwrap_or_default(), high.unwrap_or_default());
    match mode {
        RangeMode::Auto => ValueRange::Auto,
        RangeMode::Pillow => ValueRange::Pillow,
        RangeMode::Fixed => ValueRange::Fixed { low, high },
        RangeMode::Percentiles => ValueRange::Percentiles { low, high },
    }
}

/// The recipe's pages that are samples.
fn pages(dataset: &Dataset) -> Pages {
    match dataset.pages {
        simsiam_recipe::Pages::First => Pages::First,
        simsiam_recipe::Pages::All => Pages::All,
    }
}

/// Threads that decode and augment for one rank: `spec.dataset.loaderThreads`, or as many as libtorch uses.
pub fn loader_threads(dataset: &Dataset, threads_per_rank: u32) -> usize {
    dataset.loader_threads.unwrap_or(threads_per_rank).max(1) as usize
}

#[cfg(test)]
mod tests {
    use simsiam_recipe::SecondView;

    use super::*;

    #[test]
    fn two_views_of_the_default_recipe_are_those_of_the_paper() {
        assert_eq!(two_views(&Augment::default()), TwoViews::default());
    }

    /// Every probability different, so that none is mistaken for another.
    #[test]
    fn second_view_has_its_own_probabilities_or_those_of_the_first() {
        let augment = |second_view| Augment {
            jitter_prob: 0.1,
            grayscale_prob: 0.2,
            blur_prob: 0.3,
            solarize_prob: 0.4,
            flip_prob: 0.5,
            vertical_flip_prob: 0.6,
            quarter_turn_prob: 0.7,
            solarize_threshold: 99,
            second_view,
            ..Augment::default()
        };
        let first = Probabilities {
            jitter: 0.1,
            grayscale: 0.2,
            blur: 0.3,
            solarize: 0.4,
            flip: 0.5,
            vertical_flip: 0.6,
            quarter_turn: 0.7,
        };
        let views = two_views(&augment(SecondView::default()));
        assert_eq!((views.probabilities, views.solarize_threshold), ([first; 2], 99));
        let own = SecondView {
            jitter_prob: Some(0.11),
            grayscale_prob: Some(0.12),
            blur_prob: Some(0.13),
            solarize_prob: Some(0.14),
            flip_prob: Some(0.15),
            vertical_flip_prob: Some(0.16),
            quarter_turn_prob: Some(0.17),
        };
        let second = Probabilities {
            jitter: 0.11,
            grayscale: 0.12,
            blur: 0.13,
            solarize: 0.14,
            flip: 0.15,
            vertical_flip: 0.16,
            quarter_turn: 0.17,
        };
        assert_eq!(two_views(&augment(own)).probabilities, [first, second]);
    }
}
