//! Reads the table of contents of a tar without its members.

use std::collections::hash_map::Entry::{Occupied, Vacant};
use std::collections::{BTreeSet, HashMap};
use std::io::{Read, Seek, SeekFrom};

use super::index::{Entry, is_plain};
use super::listing::is_image;
use super::listing_report::ListingReport;
use crate::Error;
use crate::storage::Storage;

/// Labels are a number or a word; anything longer is no label.
const MAX_LABEL: u64 = 256;
/// A tar ends with blocks of zeros.
const BLOCK: u64 = 512;

/// The images in a tar, and what else is in it.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    /// The samples.
    pub(crate) entries: Vec<Entry>,
    /// Members that are none.
    pub(crate) listing_report: ListingReport,
}

/// The images in a tar of `bytes` bytes. `uri` names it in errors.
///
/// A sample's class is the content of the `.cls` (WebDataset) of the same key, which is its path up to the first dot of
/// the file name, or else its folder. A hard link is the image that it points to. Archives put end to end are read as one.
/// Of several images under one key, `image_key` chooses the one with that ending.
///
/// # Errors
/// [`Error::Shard`] if the tar is truncated or not a tar, or only some images have a `.cls`; the reader's errors.
pub(crate) fn images(
    uri: &str,
    bytes: u64,
    image_key: Option<&str>,
    mut reader: impl Read + Seek,
) -> Result<Contents, Error> {
    let bad = |what: String| Error::Shard { uri: uri.to_owned(), reason: format!("{what}; create the tar again") };
    let broken = |e: std::io::Error| match e.downcast::<Error>() {
        Ok(ours) => ours,
        Err(e) => bad(format!("not a readable tar: {e}")),
    };
    let mut first = [0; 6];
    if bytes >= first.len() as u64 {
        reader.rewind().and_then(|()| reader.read_exact(&mut first)).map_err(broken)?;
    }
    if let Some((name, tool)) = compression(&first) {
        let reason = format!(
            "is compressed by {name}, and samples are read from any place in a tar; decompress it with {tool} first"
        );
        return Err(Error::Shard { uri: uri.to_owned(), reason });
    }
    let mut last = [1; BLOCK as usize];
    if bytes >= BLOCK {
        reader.seek(SeekFrom::Start(bytes - BLOCK)).and_then(|_| reader.read_exact(&mut last)).map_err(broken)?;
    }
    if last.iter().any(|byte| *byte != 0) {
        return Err(bad(format!("truncated: its {bytes} bytes have no end-of-archive marker")));
    }
    reader.rewind().map_err(broken)?;
    let mut archive = tar::Archive::new(reader);
    // After one archive's end another may follow, as `cat a.tar b.tar` makes it.
    archive.set_ignore_zeros(true);
    let (mut entries, mut labels, mut listing_report) = (Vec::new(), HashMap::new(), ListingReport::default());
    let mut links = Vec::new();
    for member in archive.entries_with_seek().map_err(broken)? {
        let mut member = member.map_err(broken)?;
        let kind = member.header().entry_type();
        if kind.is_dir() || kind.is_pax_global_extensions() {
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
        let file = name.rsplit('/').next().unwrap_or_default();
        if file.starts_with('.') {
            continue;
        }
        if kind.is_hard_link() && is_image(file) {
            let target = member.link_name_bytes().map(|target| String::from_utf8_lossy(&target).into_owned());
            links.push((name, target.unwrap_or_default().trim_start_matches("./").to_owned()));
            continue;
        }
        if !kind.is_file() {
            listing_report.count(if kind.is_symlink() { "symbolic link" } else { "special member" }.to_owned(), 1);
            continue;
        }
        let (offset, size) = (member.raw_file_position(), member.size());
        if offset.checked_add(size).is_none_or(|end| end > bytes) {
            return Err(bad(format!("truncated: {name} needs {size} bytes from byte {offset}, the tar has {bytes}")));
        }
        if is_image(file) {
            let size = u32::try_from(size).map_err(|_| bad(format!("{name} has {size} bytes, more than any image")))?;
            entries.push(Entry { offset, size, crc: None, class: folder(&name), name });
        } else if file.ends_with(".cls") && size <= MAX_LABEL {
            let mut label = String::new();
            member.read_to_string(&mut label).map_err(broken)?;
            labels.insert(key(&name).to_owned(), label.trim().to_owned());
        } else {
            listing_report.skip(file);
        }
    }
    let mut by_name: HashMap<String, usize> = match links.is_empty() {
        true => HashMap::new(),
        false => entries.iter().enumerate().map(|(i, entry): (_, &Entry)| (entry.name.clone(), i)).collect(),
    };
    for (name, target) in links {
        let original = by_name.get(&target).map(|i| entries[*i].clone());
        match original.map(|entry| Entry { class: folder(&name), name, ..entry }) {
            Some(entry) => {
                by_name.insert(entry.name.clone(), entries.len());
                entries.push(entry);
            }
            None => listing_report.count("hard link".to_owned(), 1),
        }
    }
    choose(&mut entries, image_key, &mut listing_report);
    for entry in &mut entries {
        let label = labels.get(key(&entry.name)).filter(|label| !label.is_empty() && is_plain(label));
        match label {
            Some(label) => entry.class = Some(label.clone()),
            None if labels.is_empty() => {}
            None => {
                let reason = format!(
                    "{} has no class: {}.cls is missing or empty, while {} samples have one; add it, or remove the sample",
                    entry.name,
                    key(&entry.name),
                    labels.len()
                );
                return Err(Error::Shard { uri: uri.to_owned(), reason });
            }
        }
    }
    Ok(Contents { entries, listing_report })
}

/// The compressor that made a file, by its first bytes, and the command that undoes it.
fn compression(first: &[u8; 6]) -> Option<(&'static str, &'static str)> {
    match first {
        [0x1F, 0x8B, ..] => Some(("gzip", "gunzip")),
        [b'B', b'Z', b'h', ..] => Some(("bzip2", "bunzip2")),
        [0xFD, b'7', b'z', b'X', b'Z', 0] => Some(("xz", "unxz")),
        [0x28, 0xB5, 0x2F, 0xFD, ..] => Some(("zstd", "unzstd")),
        _ => None,
    }
}

/// Keeps the images whose ending is `image_key`; without one, names the endings of images that share a key.
fn choose(entries: &mut Vec<Entry>, image_key: Option<&str>, listing_report: &mut ListingReport) {
    if let Some(wanted) = image_key {
        entries.retain(|entry| {
            let found = key_ending(&entry.name);
            let keep = found.eq_ignore_ascii_case(wanted);
            if !keep {
                *listing_report.other_keys.entry(found.to_owned()).or_default() += 1;
            }
            keep
        });
        return;
    }
    let mut first: HashMap<&str, &str> = HashMap::new();
    let mut shared: BTreeSet<&str> = BTreeSet::new();
    for entry in entries.iter() {
        let ending = key_ending(&entry.name);
        match first.entry(key(&entry.name)) {
            Occupied(other) if shared.len() < MAX_NAMED => shared.extend([*other.get(), ending]),
            Occupied(_) => {}
            Vacant(place) => drop(place.insert(ending)),
        }
    }
    listing_report.image_keys = shared.into_iter().map(str::to_owned).collect();
}

/// Endings named in the warning; names with dots in them can have any number.
const MAX_NAMED: usize = 8;

/// What follows the first dot of the file name.
fn key_ending(name: &str) -> &str {
    name[key(name).len()..].trim_start_matches('.')
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
            ("0001.png", b"two"),
            ("0001.cls", b"7\n"),
            ("0001.json", b"{}"),
            (&long, b"three"),
            (&long.replace("JPEG", "cls"), b"n"),
        ]);
        let Contents { entries, listing_report } = images("t.tar", tar.len() as u64, None, Cursor::new(&tar)).unwrap();
        assert_eq!(listing_report.kinds(), "1 .json");
        let found: Vec<_> = entries
            .iter()
            .map(|e| (e.name.as_str(), e.class.as_deref(), &tar[e.offset as usize..][..e.size as usize]))
            .collect();
        assert_eq!(found, [("0001.png", Some("7"), &b"two"[..]), (&long, Some("n"), b"three")]);
        let tar = tar_of(&[("a/1.jpg", b"one"), (&long, b"three")]);
        let entries = images("t.tar", tar.len() as u64, None, Cursor::new(&tar)).unwrap().entries;
        let class = "n".repeat(150);
        let found: Vec<_> = entries.iter().map(|e| (e.name.as_str(), e.class.as_deref())).collect();
        assert_eq!(found, [("a/1.jpg", Some("a")), (&long, Some(class.as_str()))]);
    }

    #[test]
    fn truncated_tar_is_refused_at_any_offset() {
        let tar = tar_of(&[("a/1.jpg", &[1; 700]), ("b/2.jpg", &[2; 700])]);
        for cut in (0..tar.len() - 1024).step_by(64) {
            let error = images("t.tar", cut as u64, None, Cursor::new(&tar[..cut])).unwrap_err();
            assert!(matches!(error, Error::Shard { .. }), "cut at {cut}: {error}");
            assert!(error.to_string().contains("t.tar"), "{error}");
        }
    }

    fn read(tar: &[u8], image_key: Option<&str>) -> Result<Contents, Error> {
        images("t.tar", tar.len() as u64, image_key, Cursor::new(tar))
    }

    fn names(contents: &Contents) -> Vec<&str> {
        contents.entries.iter().map(|entry| entry.name.as_str()).collect()
    }

    #[test]
    fn tars_put_end_to_end_are_read_whole() {
        let two = [tar_of(&[("a/1.jpg", b"one")]), tar_of(&[("b/2.jpg", b"two")])].concat();
        let contents = read(&two, None).unwrap();
        assert_eq!(names(&contents), ["a/1.jpg", "b/2.jpg"]);
        assert_eq!(&two[contents.entries[1].offset as usize..][..3], b"two");
    }

    #[test]
    fn compressed_tar_is_refused_with_its_compressor() {
        for (first, name) in
            [(&b"\x1f\x8b\x08\0\0\0"[..], "gzip"), (b"\x28\xb5\x2f\xfd\0\0", "zstd"), (b"BZh91A", "bzip2")]
        {
            let error = read(&[first, &[1; 2000]].concat(), None).unwrap_err().to_string();
            assert!(error.contains(&format!("compressed by {name}")), "{error}");
        }
    }

    #[test]
    fn sample_without_its_class_is_named() {
        let tar = tar_of(&[("1.jpg", b"x"), ("1.cls", b"0"), ("2.jpg", b"x")]);
        let error = read(&tar, None).unwrap_err().to_string();
        assert!(error.contains("2.jpg has no class: 2.cls is missing"), "{error}");
    }

    #[test]
    fn image_key_chooses_among_images_of_one_key() {
        let tar = tar_of(&[("1.left.jpg", b"x"), ("1.right.png", b"x"), ("2.left.jpg", b"x"), ("2.right.png", b"x")]);
        let all = read(&tar, None).unwrap();
        assert_eq!(
            (all.entries.len(), &all.listing_report.image_keys[..]),
            (4, &["left.jpg".into(), "right.png".into()][..])
        );
        let left = read(&tar, Some("left.jpg")).unwrap();
        assert_eq!(names(&left), ["1.left.jpg", "2.left.jpg"]);
        assert_eq!(left.listing_report.other_keys, [("right.png".to_owned(), 2)].into());
    }

    #[test]
    fn hard_link_is_the_image_that_it_points_to() {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(3);
        builder.append_data(&mut header, "a/1.jpg", &b"one"[..]).unwrap();
        for (kind, name, target) in [
            (tar::EntryType::Link, "b/2.jpg", "a/1.jpg"),
            (tar::EntryType::Link, "b/3.jpg", "gone.jpg"),
            (tar::EntryType::Symlink, "b/4.jpg", "../a/1.jpg"),
        ] {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_size(0);
            builder.append_link(&mut header, name, target).unwrap();
        }
        let tar = builder.into_inner().unwrap();
        let contents = read(&tar, None).unwrap();
        assert_eq!(names(&contents), ["a/1.jpg", "b/2.jpg"]);
        assert_eq!(contents.entries[0].offset, contents.entries[1].offset);
        assert_eq!(contents.entries[1].class.as_deref(), Some("b"));
        assert_eq!(contents.listing_report.kinds(), "1 hard link, 1 symbolic link");
    }
}
