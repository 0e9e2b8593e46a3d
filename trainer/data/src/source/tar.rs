//! Reads the table of contents of a tar without its members.

use std::collections::HashMap;
use std::io::{Read, Seek, SeekFrom};

use super::index::{Entry, is_plain};
use super::listing::is_image;
use crate::Error;
use crate::storage::Storage;

/// Labels are a number or a word; anything longer is no label.
const MAX_LABEL: u64 = 256;
/// A tar ends with blocks of zeros.
const BLOCK: u64 = 512;

/// The images in a tar of `bytes` bytes. `uri` names it in errors.
///
/// A sample's class is the content of the `.cls` (WebDataset) of the same key, which is its path up to the first dot of
/// the file name, or else its folder. Other members are skipped; their number is returned with the entries.
///
/// # Errors
/// [`Error::Shard`] if the tar is truncated or not a tar; the reader's errors.
pub(crate) fn images(uri: &str, bytes: u64, mut reader: impl Read + Seek) -> Result<(Vec<Entry>, usize), Error> {
    let bad = |what: String| Error::Shard { uri: uri.to_owned(), reason: format!("{what}; create the tar again") };
    let broken = |e: std::io::Error| match e.downcast::<Error>() {
        Ok(ours) => ours,
        Err(e) => bad(format!("not a readable tar: {e}")),
    };
    let mut last = [1; BLOCK as usize];
    if bytes >= BLOCK {
        reader.seek(SeekFrom::Start(bytes - BLOCK)).and_then(|_| reader.read_exact(&mut last)).map_err(broken)?;
    }
    if last.iter().any(|byte| *byte != 0) {
        return Err(bad(format!("cut short: its {bytes} bytes have no end-of-archive marker")));
    }
    reader.rewind().map_err(broken)?;
    let mut archive = tar::Archive::new(reader);
    let (mut entries, mut labels, mut others) = (Vec::new(), HashMap::new(), 0);
    for member in archive.entries_with_seek().map_err(broken)? {
        let mut member = member.map_err(broken)?;
        if !member.header().entry_type().is_file() {
            continue;
        }
        let path = member.path_bytes().into_owned();
        let name = String::from_utf8(path).ok().filter(|name| is_plain(name));
        let Some(name) = name else {
            return Err(bad(format!(
                "the name {:?} is not plain UTF-8",
                String::from_utf8_lossy(&member.path_bytes())
            )));
        };
        let name = name.trim_start_matches("./").to_owned();
        let (offset, size) = (member.raw_file_position(), member.size());
        if offset.checked_add(size).is_none_or(|end| end > bytes) {
            return Err(bad(format!("cut short: {name} needs {size} bytes from byte {offset}, the tar has {bytes}")));
        }
        let file = name.rsplit('/').next().unwrap_or_default();
        if file.starts_with('.') {
            continue;
        }
        if is_image(file) {
            let size = u32::try_from(size).map_err(|_| bad(format!("{name} has {size} bytes, more than any image")))?;
            entries.push(Entry { offset, size, crc: None, class: folder(&name), name });
        } else if file.ends_with(".cls") && size <= MAX_LABEL {
            let mut label = String::new();
            member.read_to_string(&mut label).map_err(broken)?;
            labels.insert(key(&name).to_owned(), label.trim().to_owned());
        } else {
            others += 1;
        }
    }
    for entry in &mut entries {
        if let Some(label) = labels.get(key(&entry.name)).filter(|label| !label.is_empty() && is_plain(label)) {
            entry.class = Some(label.clone());
        }
    }
    Ok((entries, others))
}

fn folder(name: &str) -> Option<String> {
    name.split_once('/').map(|(class, _)| class.to_owned())
}

/// The path up to the first dot of the file name.
fn key(name: &str) -> &str {
    let file = name.rfind('/').map_or(0, |slash| slash + 1);
    name[file..].find('.').map_or(name, |dot| &name[..file + dot])
}

/// A seekable reader of an object that fetches a few blocks at a time: a tar's headers are far apart.
pub(super) struct RangeReader<'a> {
    store: &'a Storage,
    name: &'a str,
    bytes: u64,
    at: u64,
    held: Vec<u8>,
    held_from: u64,
}

const PIECE: u64 = 8 * BLOCK;

impl<'a> RangeReader<'a> {
    pub(super) fn new(store: &'a Storage, name: &'a str, bytes: u64) -> Self {
        Self { store, name, bytes, at: 0, held: Vec::new(), held_from: 0 }
    }
}

impl Read for RangeReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.at >= self.bytes || buffer.is_empty() {
            return Ok(0);
        }
        let held = self.held_from..self.held_from + self.held.len() as u64;
        if !held.contains(&self.at) {
            let end = (self.at + PIECE).min(self.bytes);
            self.held = self.store.get_range(self.name, self.at..end).map_err(std::io::Error::other)?;
            self.held_from = self.at;
        }
        let rest = self.held.get((self.at - self.held_from) as usize..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for RangeReader<'_> {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.bytes.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, bytes) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, *bytes).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn tar_members_become_labelled_images() {
        let long = format!("{}/x.JPEG", "n".repeat(150));
        let tar = tar_of(&[
            ("a/1.jpg", b"one"),
            ("0001.png", b"two"),
            ("0001.cls", b"7\n"),
            ("0001.json", b"{}"),
            (&long, b"three"),
        ]);
        let (entries, others) = images("t.tar", tar.len() as u64, Cursor::new(&tar)).unwrap();
        assert_eq!(others, 1);
        let found: Vec<_> = entries
            .iter()
            .map(|e| (e.name.as_str(), e.class.as_deref(), &tar[e.offset as usize..][..e.size as usize]))
            .collect();
        let class = "n".repeat(150);
        assert_eq!(
            found,
            [
                ("a/1.jpg", Some("a"), &b"one"[..]),
                ("0001.png", Some("7"), b"two"),
                (&long, Some(class.as_str()), b"three")
            ]
        );
    }

    #[test]
    fn truncated_tar_is_refused_at_any_offset() {
        let tar = tar_of(&[("a/1.jpg", &[1; 700]), ("b/2.jpg", &[2; 700])]);
        for cut in (0..tar.len() - 1024).step_by(64) {
            let error = images("t.tar", cut as u64, Cursor::new(&tar[..cut])).unwrap_err();
            assert!(matches!(error, Error::Shard { .. }), "cut at {cut}: {error}");
            assert!(error.to_string().contains("t.tar"), "{error}");
        }
    }
}
