//! A part of another source's samples: labels for a fraction of the images.

use std::sync::Arc;

use super::access::Source;
use super::listing_report::ListingReport;
use crate::rng::CounterRng;
use crate::{DecodeOptions, Error};

/// Some of a source's samples, under ids of their own.
pub struct Subset {
    source: Arc<dyn Source>,
    /// Ids within the source.
    ids: Vec<u64>,
}

impl Subset {
    /// These samples of a source; ids that it does not have are left out.
    #[must_use]
    pub fn of(source: Arc<dyn Source>, mut ids: Vec<u64>) -> Self {
        ids.retain(|id| *id < source.len() as u64);
        Self { source, ids }
    }

    /// The samples' ids within the source, in the order of ids here.
    #[must_use]
    pub fn ids(&self) -> &[u64] {
        &self.ids
    }

    /// The same `fraction` of each class, drawn by `seed` alone: at least one image, and all of them for 1.
    ///
    /// # Errors
    /// [`Error::Option`] for a fraction that is not above 0 and at most 1.
    pub fn of_each_class(source: Arc<dyn Source>, fraction: f64, seed: u64) -> Result<Self, Error> {
        if !(fraction > 0.0 && fraction <= 1.0) {
            return Err(Error::option("fraction", fraction, "above 0 and at most 1"));
        }
        // Samples without a class form a class of their own here; callers that need labels check for them.
        let mut classes = vec![Vec::new(); source.classes().len() + 1];
        for id in 0..source.len() as u64 {
            let class = source.label(id).map_or(source.classes().len(), |label| label as usize);
            if let Some(members) = classes.get_mut(class) {
                members.push(id);
            }
        }
        let mut ids = Vec::new();
        for (class, mut members) in classes.into_iter().enumerate() {
            let keep = ((members.len() as f64 * fraction).round() as usize).clamp(members.len().min(1), members.len());
            let mut rng = CounterRng::named(seed, &format!("subset of class {class}"));
            for place in 0..keep {
                let other = place + rng.below((members.len() - place) as u64) as usize;
                members.swap(place, other);
            }
            ids.extend_from_slice(&members[..keep]);
        }
        ids.sort_unstable();
        Ok(Self { source, ids })
    }

    fn outer(&self, id: u64) -> Result<u64, Error> {
        let known = usize::try_from(id).ok().and_then(|id| self.ids.get(id)).copied();
        known.ok_or(Error::NoSuchSample { id, len: self.ids.len() })
    }
}

impl Source for Subset {
    fn len(&self) -> usize {
        self.ids.len()
    }

    fn read(&self, id: u64) -> Result<Vec<u8>, Error> {
        self.source.read(self.outer(id)?)
    }

    fn read_into(&self, id: u64, buffer: &mut Vec<u8>) -> Result<(), Error> {
        self.source.read_into(self.outer(id)?, buffer)
    }

    fn prefetch(&self, ids: &[u64]) {
        let outer: Vec<u64> = ids.iter().filter_map(|id| self.outer(*id).ok()).collect();
        self.source.prefetch(&outer);
    }

    fn name(&self, id: u64) -> &str {
        self.outer(id).map_or("", |id| self.source.name(id))
    }

    fn label(&self, id: u64) -> Option<u32> {
        self.source.label(self.outer(id).ok()?)
    }

    fn classes(&self) -> &[String] {
        self.source.classes()
    }

    fn decode_options(&self) -> DecodeOptions {
        self.source.decode_options()
    }

    fn listing_report(&self) -> ListingReport {
        self.source.listing_report()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sample i is of class i % 3, but for class 2, which has one sample only.
    struct Fake(Vec<u32>, Vec<String>);

    impl Source for Fake {
        fn len(&self) -> usize {
            self.0.len()
        }

        fn read(&self, id: u64) -> Result<Vec<u8>, Error> {
            Ok(vec![id as u8])
        }

        fn name(&self, _: u64) -> &str {
            "x"
        }

        fn label(&self, id: u64) -> Option<u32> {
            self.0.get(id as usize).copied()
        }

        fn classes(&self) -> &[String] {
            &self.1
        }
    }

    fn fake() -> Arc<dyn Source> {
        let labels: Vec<u32> = (0..200).map(|i| i % 2).chain([2]).collect();
        Arc::new(Fake(labels, ["a", "b", "c"].map(String::from).into()))
    }

    fn members(fraction: f64, seed: u64) -> Vec<u64> {
        Subset::of_each_class(fake(), fraction, seed).unwrap().ids
    }

    #[test]
    fn subset_keeps_fraction_of_every_class() {
        let subset = Subset::of_each_class(fake(), 0.1, 4).unwrap();
        let mut counts = [0; 3];
        (0..subset.len() as u64).for_each(|id| counts[subset.label(id).unwrap() as usize] += 1);
        assert_eq!(counts, [10, 10, 1]);
        assert_eq!(subset.read(20).unwrap(), [200], "the id within the source");
        assert!(matches!(subset.read(21), Err(Error::NoSuchSample { id: 21, len: 21 })));
    }

    #[test]
    fn subset_depends_on_seed_alone() {
        assert_eq!(members(0.1, 4), members(0.1, 4));
        assert_ne!(members(0.1, 4), members(0.1, 5));
        assert_eq!(members(1.0, 4), (0..201).collect::<Vec<_>>());
        assert!(Subset::of_each_class(fake(), 0.0, 0).is_err());
    }
}
