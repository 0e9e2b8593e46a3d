//! Copying the files of a set into the cache, one after another, on a thread of its own.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::Error;
use crate::cache::{Cache, Filled};

/// How often to check for a file that another process is fetching.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Fills the cache with `files` until all are there, there is no more room, or `stop` is set.
///
/// `key` is a file's key in the cache, `adopt` uses a cached file and says whether it is sound, and `fill` writes the file.
pub(super) fn fill_all<'a, T: 'a>(
    files: impl Iterator<Item = &'a T>,
    cache: &Cache,
    stop: &AtomicBool,
    key: impl Fn(&T) -> &str,
    adopt: impl Fn(&T, PathBuf) -> bool,
    fill: impl Fn(&T) -> Result<Filled, Error>,
) {
    let mut left: Vec<&T> = files.collect();
    // What is there already helps at once.
    left.retain(|file| match cache.find(key(file)) {
        Some(path) if adopt(file, path.clone()) => false,
        Some(path) => {
            cache.drop_damaged(&path);
            true
        }
        None => true,
    });
    while !left.is_empty() && !stop.load(Ordering::Relaxed) {
        let mut busy = Vec::new();
        for file in left {
            match fill(file) {
                Ok(Filled::There(path)) => drop(adopt(file, path)),
                Ok(Filled::Busy) => busy.push(file),
                Ok(Filled::NoRoom) => return,
                // Samples are still read from the original, where a lasting fault shows itself to the reader.
                Err(_) if stop.load(Ordering::Relaxed) => return,
                Err(_) => {}
            }
        }
        left = busy;
        if !left.is_empty() {
            std::thread::sleep(LOOK_AGAIN);
        }
    }
}
