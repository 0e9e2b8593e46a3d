//! Some of a source's images, spread evenly over it.

use std::sync::Arc;

use simsiam_data::{Error, Source};

/// A source of some of another's samples, under ids of their own.
pub struct Sample {
    source: Arc<dyn Source>,
    ids: Vec<u64>,
}

impl Sample {
    /// At most `count` of those that `wanted` takes: sources are sorted by class, so an even spread has every class.
    pub fn spread(source: &Arc<dyn Source>, count: usize, wanted: impl Fn(u64) -> bool) -> Self {
        let all: Vec<u64> = (0..source.len() as u64).filter(|id| wanted(*id)).collect();
        let count = count.min(all.len());
        // The middle of each share, so that no end is favoured.
        let ids = (0..count).map(|i| all[(2 * i + 1) * all.len() / (2 * count)]).collect();
        Self { source: source.clone(), ids }
    }

    /// The ids in the whole source.
    pub fn ids(&self) -> &[u64] {
        &self.ids
    }

    fn outer(&self, id: u64) -> Result<u64, Error> {
        let known = usize::try_from(id).ok().and_then(|id| self.ids.get(id)).copied();
        known.ok_or(Error::NoSuchSample { id, len: self.ids.len() })
    }
}

impl Source for Sample {
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
}
