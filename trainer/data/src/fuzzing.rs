//! The readers of files that come from outside, for the fuzz targets and the replay of their corpora: any bytes at all
//! end in a value or an error, and what a reader accepts holds together.

use std::io::Cursor;

use crate::source::index::Index;
use crate::source::{Manifest, tar};

/// A shard's index, or a packed set's manifest.
///
/// # Panics
/// When an accepted index does not survive being written and read again.
pub fn index(bytes: &[u8]) {
    if let Ok(index) = Index::parse("fuzz", bytes) {
        let again = Index::parse("fuzz", index.to_text().as_bytes());
        assert!(again.is_ok_and(|again| again == index), "an index changed by being written");
    }
    let _ = Manifest::parse("fuzz", bytes);
}

/// A tar's table.
///
/// # Panics
/// If an accepted sample is beyond the end of the tar.
pub fn shard(bytes: &[u8]) {
    let size = bytes.len() as u64;
    let Ok(tar::Contents { entries, .. }) = tar::images("fuzz", size, None, Cursor::new(bytes)) else { return };
    for entry in entries {
        assert!(entry.offset + u64::from(entry.size) <= size, "{entry:?} of {size} bytes");
    }
}
