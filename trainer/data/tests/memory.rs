//! In its steady state, a loader allocates nothing for a sample, and holds no more at an epoch's end than at its start.
//!
//! A process of its own, since the count is of the whole process. Memory that libjpeg-turbo takes and gives back within
//! one decode is C's and not counted.

#![allow(clippy::unwrap_used)] // The helpers here are tests too.

use std::path::PathBuf;
use std::sync::Arc;

use simsiam_data::{Error, Loader, LoaderOptions, Source, TwoViews, ViewFormat};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<std::alloc::System> = &INSTRUMENTED_SYSTEM;

/// JPEG files in memory, again and again.
struct Memory(Vec<Vec<u8>>);

impl Source for Memory {
    fn len(&self) -> usize {
        100_000
    }

    fn read(&self, id: u64) -> Result<Vec<u8>, Error> {
        Ok(self.0[id as usize % self.0.len()].clone())
    }

    fn read_into(&self, id: u64, buffer: &mut Vec<u8>) -> Result<(), Error> {
        buffer.clear();
        buffer.extend_from_slice(&self.0[id as usize % self.0.len()]);
        Ok(())
    }

    fn name(&self, _: u64) -> &str {
        "image"
    }

    fn label(&self, _: u64) -> Option<u32> {
        None
    }

    fn classes(&self) -> &[String] {
        &[]
    }
}

#[test]
fn sample_needs_no_allocation_and_epoch_no_memory() {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures"));
    let files = ["420.jpg", "422.jpg", "444.jpg", "gray.jpg", "progressive.JPEG"];
    let files: Vec<_> = files.iter().map(|name| std::fs::read(folder.join(name)).unwrap()).collect();
    for output in [ViewFormat::Planes, ViewFormat::Crops] {
        let options = LoaderOptions { batch: 100, threads: 2, output, ..LoaderOptions::default() };
        let views = TwoViews { crop_size: 32, ..TwoViews::default() };
        let mut loader = Loader::two_views(Arc::new(Memory(files.clone())), views, options).unwrap();
        let mut run = |batches: usize| {
            for _ in 0..batches {
                let batch = loader.next().unwrap().unwrap();
                loader.recycle(batch);
            }
        };
        // Until every buffer has met the largest crop.
        run(100);
        let region = Region::new(ALLOCATOR);
        run(200);
        let change = region.change();
        // What a batch costs: the list of its samples and the workers' tasks.
        let per_sample = (change.allocations + change.reallocations) as f64 / 20_000.0;
        assert!(per_sample < 0.2, "{output:?}: {per_sample} allocations a sample");
        let grown = change.bytes_allocated as i64 - change.bytes_deallocated as i64;
        // The batches under way when counting began and ended need not be the same number.
        assert!(grown.abs() < 300_000, "{output:?}: {grown} bytes more than before");
    }
}
