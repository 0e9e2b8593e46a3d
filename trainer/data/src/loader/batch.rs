//! What the loaders deliver.

use crate::ViewParams;

/// One rank's share of a global batch: two views of each sample, or the first alone ([`crate::Loader::one_view`]).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    /// The global batch's index within the epoch.
    pub index: usize,
    /// The samples' ids; where one was unreadable, its replacement's.
    pub ids: Vec<u64>,
    /// The samples' labels, where the source has them.
    pub labels: Vec<Option<u32>>,
    /// View 1 and view 2, each `[N, C, S, S]`, normalised; empty with [`crate::ViewFormat::Crops`].
    pub views: [Vec<f32>; 2],
    /// The resized crops of RGB images, for view 1 and view 2, each `[N, S, S, 3]`; empty with [`crate::ViewFormat::Planes`].
    pub crops: [Vec<u8>; 2],
    /// What was drawn for view 1 and view 2 of each sample.
    pub params: [Vec<ViewParams>; 2],
    /// `[N, C, S, S]`, whichever of the two the batch holds.
    pub shape: [usize; 4],
    /// Which samples of this share were unreadable.
    pub replaced: Vec<Replaced>,
}

/// An unreadable sample and its replacement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replaced {
    /// Position within the rank's share of the batch.
    pub position: usize,
    /// The unreadable sample.
    pub id: u64,
    /// The sample's name.
    pub name: String,
    /// What is wrong with it.
    pub reason: String,
    /// The sample that replaces it.
    pub by: u64,
}

/// Samples for evaluation, in order of their ids.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EvalBatch {
    /// The samples' ids.
    pub ids: Vec<u64>,
    /// The samples' labels, where the source has them.
    pub labels: Vec<Option<u32>>,
    /// `[N, C, S, S]`, normalised.
    pub images: Vec<f32>,
    /// `[N, C, S, S]`; N may be smaller than asked for, even 0, at the end and where samples were unreadable.
    pub shape: [usize; 4],
    /// Samples left out because they are unreadable.
    pub skipped: Vec<Skipped>,
}

/// An unreadable sample that an evaluation batch leaves out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// The sample.
    pub id: u64,
    /// The sample's name.
    pub name: String,
    /// What is wrong with it.
    pub reason: String,
}
