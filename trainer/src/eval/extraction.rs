//! Features of a whole data set: every image once, in its evaluation view, divided over the ranks.

use std::sync::Arc;

use simsiam_data::{EvalLoader, EvalView, Source};
use tch::Tensor;

use crate::dist::rank::Rank;
use crate::error::Error;
use crate::telemetry::event::Event;

/// One pass over a data set.
pub struct FeatureExtraction<'a> {
    /// The images.
    pub source: &'a Arc<dyn Source>,
    /// Their evaluation view.
    pub view: EvalView,
    /// Images of a forward pass, over all ranks together.
    pub batch: usize,
    /// Decoding threads of this rank.
    pub loader_threads: usize,
    /// Unreadable images that may be left out, over all ranks.
    pub max_corrupt: u64,
    /// What is extracted, as shown in progress and logs.
    pub what: &'a str,
}

/// Features of a batch of images.
pub struct FeatureBatch {
    /// Ids of the images.
    pub ids: Vec<u64>,
    /// Classes of the images, if labelled.
    pub labels: Vec<Option<u32>>,
    /// The computed values, one row per image.
    pub values: Tensor,
}

impl FeatureExtraction<'_> {
    /// Applies `of` to batches `[N, C, S, S]` of this rank's contiguous share of the images and passes the rows to `take`, in
    /// order of ids. An unreadable image is skipped with a warning that names it; returns how many were, over all ranks.
    ///
    /// # Errors
    /// [`simsiam_data::Error::TooManyCorrupt`] if those are more than `max_corrupt`; [`Error::Checkpoint`] if a value is
    /// not finite, since an accuracy of such features means nothing;
    /// [`Error::Terminated`] on every rank if one of them received SIGTERM; those of loading, `of` and `take`.
    pub fn run(
        &self,
        rank: &Rank,
        of: impl Fn(&Tensor) -> Result<Tensor, Error>,
        mut take: impl FnMut(FeatureBatch) -> Result<(), Error>,
    ) -> Result<u64, Error> {
        let world = rank.info.world;
        let share = |r: usize| (self.source.len() * r / world) as u64;
        let range = share(rank.info.rank)..share(rank.info.rank + 1);
        let (mut done, total) = (0, range.end - range.start);
        let batch = self.batch.div_ceil(world);
        let mut loader = EvalLoader::new(self.source.clone(), self.view.clone(), range, batch, self.loader_threads)?;
        let (mut skipped_here, mut last) = (0u64, None);
        while let Some(batch) = loader.next() {
            // The sum after this loop lets all ranks agree on the stop.
            if rank.stop_requested() {
                break;
            }
            let batch = batch?;
            for skipped in &batch.skipped {
                tracing::warn!("{}: skipped {}: {}", self.what, skipped.name, skipped.reason);
                last = Some(skipped.clone());
            }
            skipped_here += batch.skipped.len() as u64;
            done += (batch.ids.len() + batch.skipped.len()) as u64;
            if batch.ids.is_empty() {
                continue;
            }
            let shape = batch.shape.map(|n| n as i64);
            let images = Tensor::f_from_slice(&batch.images)?.f_reshape(shape)?.f_to_device(rank.device)?;
            let values = tch::no_grad(|| of(&images))?;
            if !all_finite(&values)? {
                let message = format!(
                    "{}: the network's values for {} are not finite; the weights are damaged, or the training diverged",
                    self.what,
                    self.source.name(batch.ids[0])
                );
                return Err(Error::Checkpoint { uri: "the evaluated weights".into(), message });
            }
            take(FeatureBatch { ids: batch.ids.clone(), labels: batch.labels.clone(), values })?;
            loader.recycle(batch);
            if rank.is_first() {
                rank.sink.send(&Event::Evaluated { done, of: total, what: self.what.to_owned() });
            }
        }
        let stop = f64::from(u8::from(rank.stop_requested()));
        let sums = rank.all_reduce_sum(&[stop, skipped_here as f64], self.what)?;
        let &[stop, skipped] = &sums[..] else {
            return Err(Error::Internal("all_reduce_sum returned another number of values".into()));
        };
        if stop > 0.0 {
            return Err(Error::Terminated);
        }
        let (skipped, images) = (skipped as u64, self.source.len() as u64);
        if skipped > 0 && rank.is_first() {
            tracing::warn!(
                "{}: {} of {images} images were evaluated, {skipped} are unreadable",
                self.what,
                images - skipped
            );
        }
        if skipped > self.max_corrupt && skipped < images {
            let (name, reason) = last.map_or_else(
                || ("on another rank".to_owned(), "see that rank's log".to_owned()),
                |last| (last.name, last.reason),
            );
            let limit = self.max_corrupt;
            return Err(Error::Data(simsiam_data::Error::TooManyCorrupt { count: skipped, limit, name, reason }));
        }
        Ok(skipped)
    }
}

/// Whether no value is infinite or NaN.
fn all_finite(values: &Tensor) -> Result<bool, Error> {
    Ok(values.f_isfinite()?.f_all()?.f_int64_value(&[])? != 0)
}

/// Refuses a set without classes, and one with a single class: whatever the features, every image is classified correctly.
pub fn needs_classes(source: &dyn Source, field: &str) -> Result<(), Error> {
    match source.classes() {
        [one] => Err(Error::config(
            field,
            format!(
                "all {} images have the one class {one:?}, so any features would reach 100 %; name the folder whose \
                 subfolders are the classes",
                source.len()
            ),
        )),
        [] => Err(unlabelled(source, 0, field)),
        _ => Ok(()),
    }
}

/// Returns the classes of a batch as a tensor's values; `field` is the part of the run that needs them.
pub fn classes_of(rows: &FeatureBatch, source: &dyn Source, field: &str) -> Result<Vec<i64>, Error> {
    let class = |(id, label): (&u64, &Option<u32>)| label.map(i64::from).ok_or_else(|| unlabelled(source, *id, field));
    rows.ids.iter().zip(&rows.labels).map(class).collect()
}

/// The error for an image without a class where one is needed.
pub fn unlabelled(source: &dyn Source, id: u64, field: &str) -> Error {
    let name = source.name(id);
    Error::config(
        field,
        format!("{name} has no class; it needs class folders in dataset.train and dataset.val, or in dataset.probe"),
    )
}

/// The error for a data set of which no image could be read.
pub fn unreadable(source: &dyn Source, purpose: &str) -> Error {
    Error::Data(simsiam_data::Error::NothingReadable {
        samples: source.len(),
        name: source.name(source.len().saturating_sub(1) as u64).to_owned(),
        reason: format!("no image is left to {purpose}; the warnings above give the reasons"),
    })
}

#[cfg(test)]
mod tests {
    use simsiam_data::ImageFolder;
    use simsiam_data::synth::{self, SynthOptions};

    use super::*;

    /// Two images of each of ten classes, of which the first cannot be read.
    fn images() -> (tempfile::TempDir, Arc<dyn Source>) {
        let folder = tempfile::tempdir().unwrap();
        let options = SynthOptions { train_per_class: 2, val_per_class: 1, size: 16, seed: 1 };
        synth::write(folder.path(), &options, &mut |_, _| {}).unwrap();
        let source = ImageFolder::open(&folder.path().join("train")).unwrap();
        std::fs::write(source.root().join(source.name(0)), "no image").unwrap();
        (folder, Arc::new(source))
    }

    fn extract(max_corrupt: u64, of: impl Fn(&Tensor) -> Tensor) -> Result<(u64, usize), Error> {
        let (_folder, source) = images();
        let view = EvalView { resize: 16, crop: 16, mean: vec![0.5; 3], std: vec![0.5; 3] };
        let extraction =
            FeatureExtraction { source: &source, view, batch: 8, loader_threads: 1, max_corrupt, what: "x" };
        let mut rows = 0;
        let skipped = extraction.run(
            &Rank::alone(1)?,
            |images| Ok(of(images)),
            |batch| {
                rows += batch.ids.len();
                Ok(())
            },
        )?;
        Ok((skipped, rows))
    }

    #[test]
    fn unreadable_images_of_an_evaluation_count_against_max_corrupt() {
        let features = |images: &Tensor| images.flatten(1, -1);
        assert_eq!(extract(1, features).unwrap(), (1, 19));
        let error = extract(0, features).unwrap_err();
        assert_eq!(error.exit_code().code(), 65);
        assert!(error.to_string().contains("spec.dataset.maxCorrupt"), "{error}");
    }

    #[test]
    fn features_that_are_not_finite_are_refused() {
        let error = extract(1, |images| images.flatten(1, -1) * f64::NAN).unwrap_err();
        assert_eq!(error.exit_code().code(), 65);
        assert!(error.to_string().contains("are not finite"), "{error}");
    }

    #[test]
    fn set_with_one_class_or_none_is_refused() {
        let (folder, all) = images();
        needs_classes(&*all, "spec.knn").unwrap();
        let one = folder.path().join("one");
        std::fs::create_dir_all(&one).unwrap();
        std::fs::rename(folder.path().join("val").join(&all.classes()[0]), one.join("only")).unwrap();
        let error = needs_classes(&ImageFolder::open(&one).unwrap(), "spec.knn").unwrap_err();
        assert_eq!(error.exit_code().code(), 78);
        assert!(error.to_string().contains("the one class \"only\""), "{error}");
        let flat = needs_classes(&ImageFolder::open(&one.join("only")).unwrap(), "spec.knn").unwrap_err();
        assert_eq!(flat.exit_code().code(), 78);
        assert!(flat.to_string().contains("has no class; ") && flat.to_string().contains("dataset.probe"), "{flat}");
    }
}
