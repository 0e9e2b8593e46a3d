//! Where a loader's time goes.

use std::time::{Duration, Instant};

/// A stage of a sample's way from its source to its views.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadStage {
    /// Reading the encoded bytes.
    Read,
    /// Decoding them.
    Decode,
    /// Cropping and resizing.
    Resize,
    /// Brightness, contrast, saturation, grayscale and solarisation.
    Jitter,
    /// The turn of the hue. Unmeasured, it shares its pass with the rest of the jitter, which is a little faster.
    Hue,
    /// Blurring.
    Blur,
    /// Flipping, turning, normalising and laying out.
    Normalize,
}

impl LoadStage {
    /// All stages, in their order.
    pub const ALL: [Self; 7] =
        [Self::Read, Self::Decode, Self::Resize, Self::Jitter, Self::Hue, Self::Blur, Self::Normalize];

    /// The stage's name, in small letters.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Decode => "decode",
            Self::Resize => "resize",
            Self::Jitter => "jitter",
            Self::Hue => "hue",
            Self::Blur => "blur",
            Self::Normalize => "normalize",
        }
    }
}

/// Time spent in each stage, summed over a loader's workers, and the number of samples.
///
/// Measuring takes two readings of the clock a stage, some 50 ns, and happens only when asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LoadTimes {
    on: bool,
    spent: [Duration; LoadStage::ALL.len()],
    samples: u64,
}

impl LoadTimes {
    pub(crate) fn new(on: bool) -> Self {
        Self { on, ..Self::default() }
    }

    /// Time spent in one stage.
    #[must_use]
    pub fn of(&self, stage: LoadStage) -> Duration {
        self.spent[stage as usize]
    }

    /// Time spent in all stages.
    #[must_use]
    pub fn total(&self) -> Duration {
        self.spent.iter().sum()
    }

    /// How many samples that was for.
    #[must_use]
    pub fn samples(&self) -> u64 {
        self.samples
    }

    #[inline]
    pub(crate) fn measure<T>(&mut self, stage: LoadStage, work: impl FnOnce() -> T) -> T {
        if !self.on {
            return work();
        }
        let start = Instant::now();
        let done = work();
        self.spent[stage as usize] += start.elapsed();
        done
    }

    /// Whether anything is measured.
    pub(crate) fn on(&self) -> bool {
        self.on
    }

    pub(crate) fn count_sample(&mut self) {
        self.samples += u64::from(self.on);
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.spent.iter_mut().zip(other.spent).for_each(|(sum, more)| *sum += more);
        self.samples += other.samples;
    }
}
