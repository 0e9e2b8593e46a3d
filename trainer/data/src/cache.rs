//! Copies of remote shards and images on a local disk, up to a size limit, shared by all processes of the machine.
//!
//! A copy appears under its key by a rename, whole or not at all. Its key names address, size and version, so an object
//! that changes at its source has another. The process that fills a shard holds its lock, so two processes do not fetch the
//! same one; if they did, both would write the same bytes.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use crate::Error;
use crate::hex::hex;

/// A folder of copies.
#[derive(Debug)]
pub struct Cache {
    folder: PathBuf,
    limit: u64,
    opened: SystemTime,
    /// Bytes in the folder, as last counted plus what this process has added since.
    used: AtomicU64,
    serial: AtomicU64,
}

/// The outcome of filling an entry.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Filled {
    /// The copy is there.
    There(PathBuf),
    /// Another process is filling it.
    Busy,
    /// The size limit leaves no room, or the disk is full.
    NoRoom,
}

const PART: &str = "part";
const LOCK: &str = "lock";

impl Cache {
    /// Opens or makes the cache in `folder`, which holds at most about `limit` bytes.
    ///
    /// # Errors
    /// [`Error::Io`] if the folder cannot be made or listed.
    pub fn open(folder: &Path, limit: u64) -> Result<Self, Error> {
        let fail = |source| Error::Io { path: folder.to_owned(), action: "open", source };
        fs::create_dir_all(folder).map_err(fail)?;
        let cache = Self {
            folder: folder.to_owned(),
            limit,
            opened: SystemTime::now(),
            used: AtomicU64::new(0),
            serial: AtomicU64::new(0),
        };
        let used = cache.files().map_err(fail)?.iter().map(|file| file.size).sum();
        cache.used.store(used, Ordering::Relaxed);
        Ok(cache)
    }

    /// The key of an object.
    pub(crate) fn key(uri: &str, size: u64, version: &str) -> String {
        hex(&Sha256::digest(format!("{uri}\n{size}\n{version}"))[..16])
    }

    fn path(&self, key: &str) -> PathBuf {
        self.folder.join(&key[..2]).join(key)
    }

    /// The copy under `key`, if there is one; it counts as used now.
    pub(crate) fn find(&self, key: &str) -> Option<PathBuf> {
        let path = self.path(key);
        let file = File::open(&path).ok()?;
        // Only the order of eviction depends on it.
        let _ = file.set_modified(SystemTime::now());
        Some(path)
    }

    /// Creates the copy under `key` from the `size` bytes that `write` writes; it also gets the copy's path, for its errors.
    /// An error of `write` leaves nothing behind.
    pub(crate) fn fill(
        &self,
        key: &str,
        size: u64,
        write: impl FnOnce(&mut dyn Write, &Path) -> Result<(), Error>,
    ) -> Result<Filled, Error> {
        let exactly = |written| {
            let reason = || format!("received {written} bytes instead of {size}");
            if written == size { Ok(()) } else { Err(reason()) }
        };
        self.fill_if(key, size, exactly, write)
    }

    /// As [`Self::fill`] for a number of bytes that is not known before; room is made for `size`.
    pub(crate) fn fill_about(
        &self,
        key: &str,
        size: u64,
        write: impl FnOnce(&mut dyn Write, &Path) -> Result<(), Error>,
    ) -> Result<Filled, Error> {
        self.fill_if(key, size, |_| Ok(()), write)
    }

    fn fill_if(
        &self,
        key: &str,
        size: u64,
        accept: impl FnOnce(u64) -> Result<(), String>,
        write: impl FnOnce(&mut dyn Write, &Path) -> Result<(), Error>,
    ) -> Result<Filled, Error> {
        let path = self.path(key);
        let fail = |source| Error::Io { path: path.clone(), action: "write", source };
        fs::create_dir_all(path.parent().unwrap_or(&self.folder)).map_err(fail)?;
        let lock = File::create(path.with_extension(LOCK)).map_err(fail)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Ok(Filled::Busy),
            Err(fs::TryLockError::Error(e)) => return Err(fail(e)),
        }
        let done = self.fill_locked(&path, size, accept, write);
        // Removed while it is held: a process that opened it before finds the copy, or fills it a second time to no effect.
        let _ = fs::remove_file(path.with_extension(LOCK));
        match done {
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::StorageFull => Ok(Filled::NoRoom),
            done => done,
        }
    }

    fn fill_locked(
        &self,
        path: &Path,
        size: u64,
        accept: impl FnOnce(u64) -> Result<(), String>,
        write: impl FnOnce(&mut dyn Write, &Path) -> Result<(), Error>,
    ) -> Result<Filled, Error> {
        let fail = |source| Error::Io { path: path.to_owned(), action: "write", source };
        if path.exists() {
            return Ok(Filled::There(path.to_owned()));
        }
        if !self.make_room(size).map_err(fail)? {
            return Ok(Filled::NoRoom);
        }
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let part = path.with_extension(format!("{}-{serial}.{PART}", std::process::id()));
        let result = (|| {
            let mut file = File::create(&part).map_err(fail)?;
            write(&mut file, path)?;
            let written = file.metadata().map_err(fail)?.len();
            accept(written).map_err(|reason| Error::Shard { uri: path.display().to_string(), reason })?;
            fs::rename(&part, path).map_err(fail)?;
            Ok(written)
        })();
        match result {
            Ok(written) => self.used.fetch_add(written, Ordering::Relaxed),
            Err(error) => {
                let _ = fs::remove_file(&part);
                return Err(error);
            }
        };
        Ok(Filled::There(path.to_owned()))
    }

    /// Throws away a copy that turned out to be damaged.
    pub(crate) fn drop_damaged(&self, path: &Path) {
        let _ = fs::remove_file(path);
    }

    /// Makes room for `size` more bytes, if necessary by deleting copies that were not used since this cache was opened.
    fn make_room(&self, size: u64) -> io::Result<bool> {
        if self.used.load(Ordering::Relaxed).saturating_add(size) <= self.limit {
            return Ok(true);
        }
        // Other processes may have deleted or filled: count again.
        let mut files = self.files()?;
        let mut used: u64 = files.iter().map(|file| file.size).sum();
        files.sort_by_key(|file| file.modified);
        for file in files.iter().take_while(|file| file.modified < self.opened) {
            if used.saturating_add(size) <= self.limit {
                break;
            }
            if fs::remove_file(&file.path).is_ok() {
                used -= file.size;
            }
        }
        self.used.store(used, Ordering::Relaxed);
        Ok(used.saturating_add(size) <= self.limit)
    }

    fn files(&self) -> io::Result<Vec<Copy>> {
        let mut found = Vec::new();
        for folder in fs::read_dir(&self.folder)? {
            let folder = folder?.path();
            if !folder.is_dir() {
                continue;
            }
            for entry in fs::read_dir(folder)? {
                let path = entry?.path();
                // Another process may delete or rename it at any time.
                let Ok(data) = fs::metadata(&path) else { continue };
                found.push(Copy { path, size: data.len(), modified: data.modified()? });
            }
        }
        Ok(found)
    }
}

struct Copy {
    path: PathBuf,
    size: u64,
    modified: SystemTime,
}

/// Bytes that a small copy ends with: its CRC-32.
const SEAL: usize = 4;

/// Bytes that a sealed copy of `size` bytes takes.
pub(crate) fn sealed_size(size: u64) -> u64 {
    size + SEAL as u64
}

/// Writes `bytes` and their checksum.
pub(crate) fn seal(bytes: &[u8], to: &mut dyn Write) -> io::Result<()> {
    to.write_all(bytes)?;
    to.write_all(&crc32fast::hash(bytes).to_le_bytes())
}

/// Reads a sealed copy; `false` where its checksum is wrong.
pub(crate) fn unseal(path: &Path, buffer: &mut Vec<u8>) -> io::Result<bool> {
    buffer.clear();
    File::open(path)?.read_to_end(buffer)?;
    let Some((content, seal)) = buffer.split_last_chunk::<SEAL>() else { return Ok(false) };
    let whole = crc32fast::hash(content).to_le_bytes() == *seal;
    buffer.truncate(buffer.len() - SEAL);
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::time::Duration;

    fn put(cache: &Cache, key: &str, bytes: &[u8]) -> Filled {
        let write = |to: &mut dyn Write, path: &Path| {
            to.write_all(bytes).map_err(|source| Error::Io { path: path.to_owned(), action: "write", source })
        };
        cache.fill(key, bytes.len() as u64, write).unwrap()
    }

    #[test]
    fn copy_appears_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path(), 1 << 20).unwrap();
        let key = Cache::key("s3://b/x", 3, "v1");
        assert_ne!(key, Cache::key("s3://b/x", 3, "v2"));
        assert_eq!(cache.find(&key), None);
        let failed = cache.fill(&key, 3, |to, _| {
            to.write_all(b"ab").unwrap();
            Err(Error::missing("x"))
        });
        assert!(failed.is_err());
        assert_eq!(cache.find(&key), None);
        assert!(matches!(cache.fill(&key, 3, |_, _| Ok(())), Err(Error::Shard { .. })), "fewer bytes than announced");
        assert_eq!(cache.files().unwrap().len(), 0, "nothing half-written stays");
        let Filled::There(path) = put(&cache, &key, b"abc") else { panic!("there is room") };
        assert_eq!(cache.find(&key), Some(path.clone()));
        assert_eq!(fs::read(path).unwrap(), b"abc");
    }

    #[test]
    fn full_cache_evicts_only_copies_unused_since_open() {
        let folder = tempfile::tempdir().unwrap();
        let old = Cache::open(folder.path(), 100).unwrap();
        let keys: Vec<_> = (0..4).map(|i| Cache::key("x", i, "")).collect();
        assert!(matches!(put(&old, &keys[0], &[0; 40]), Filled::There(_)));
        assert!(matches!(put(&old, &keys[1], &[1; 40]), Filled::There(_)));
        assert_eq!(put(&old, &keys[2], &[2; 40]), Filled::NoRoom, "what this process filled is in use");
        std::thread::sleep(Duration::from_millis(20));
        let new = Cache::open(folder.path(), 100).unwrap();
        assert!(new.find(&keys[0]).is_some(), "used now");
        assert!(matches!(put(&new, &keys[2], &[2; 40]), Filled::There(_)));
        assert!(new.find(&keys[0]).is_some() && new.find(&keys[1]).is_none(), "the one that nobody used went");
        assert_eq!(put(&new, &keys[3], &[3; 40]), Filled::NoRoom);
    }

    #[test]
    fn second_process_filling_same_copy_is_busy() {
        let folder = tempfile::tempdir().unwrap();
        let caches = [Cache::open(folder.path(), 100).unwrap(), Cache::open(folder.path(), 100).unwrap()];
        let (inside, tried) = (Barrier::new(2), Barrier::new(2));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let write = |to: &mut dyn Write, path: &Path| {
                    inside.wait();
                    tried.wait();
                    to.write_all(b"x").map_err(|source| Error::Io { path: path.to_owned(), action: "write", source })
                };
                assert!(matches!(caches[0].fill("0011", 1, write).unwrap(), Filled::There(_)));
            });
            inside.wait();
            assert_eq!(put(&caches[1], "0011", b"x"), Filled::Busy);
            tried.wait();
        });
        assert!(matches!(put(&caches[1], "0011", b"x"), Filled::There(_)));
    }

    #[test]
    fn sealed_copy_with_flipped_bit_is_rejected() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        seal(b"hello", &mut File::create(&path).unwrap()).unwrap();
        let mut buffer = vec![1, 2, 3];
        assert!(unseal(&path, &mut buffer).unwrap());
        assert_eq!(buffer, b"hello");
        let mut bytes = fs::read(&path).unwrap();
        assert_eq!(bytes.len() as u64, sealed_size(5));
        bytes[1] ^= 4;
        fs::write(&path, &bytes).unwrap();
        assert!(!unseal(&path, &mut buffer).unwrap());
        fs::write(&path, b"ab").unwrap();
        assert!(!unseal(&path, &mut buffer).unwrap());
    }
}
