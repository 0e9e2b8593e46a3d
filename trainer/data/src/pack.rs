//! Packing: any source into a few large tar shards with an index beside each, and checking what was packed.
//!
//! # The format
//! `shard-00000.tar`, `shard-00000.idx` (position, checksum and class of each sample: text, see the source), and
//! `packed.json` written last. A plain tar that every tool reads, plus what plain tars lack for training: random access
//! without reading the whole, a checksum for each sample, and one listing that is read in a moment.
//!
//! Samples keep their names and their order, so a packed set has the ids, the classes and, unless images were made
//! smaller, the very bytes of its source; but an 8-bit PNG is re-encoded as JPEG, and a page of a TIFF file becomes a PNG.
//! A member keeps its name all the same.

use std::collections::HashSet;

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::hex::hex;
use crate::image::RGB;
use crate::source::index::{Entry, Index, is_plain};
use crate::source::packed::{MANIFEST, Manifest, ShardInfo};
use crate::storage::Storage;
use crate::{DecodeOptions, Decoder, Error, Part, Source, TargetSize, Transcoder};

/// How to pack.
#[derive(Debug, Clone)]
pub struct PackOptions {
    /// The size that images are resized to.
    pub size: TargetSize,
    /// JPEG quality of re-encoded images, 1 to 100.
    pub quality: u8,
    /// Samples in a shard; all of a shard are held in memory at once.
    pub samples_per_shard: usize,
    /// Threads.
    pub threads: usize,
    /// Number of unreadable images that may be left out before packing fails.
    pub max_corrupt: u64,
}

impl Default for PackOptions {
    fn default() -> Self {
        Self { size: TargetSize::Keep, quality: 90, samples_per_shard: 2048, threads: 1, max_corrupt: 0 }
    }
}

impl PackOptions {
    fn check(&self) -> Result<(), Error> {
        let within = |field, value: u64, low: u64, high: u64| {
            if (low..=high).contains(&value) {
                return Ok(());
            }
            Err(Error::option(field, value, format!("{low} to {high}")))
        };
        within("quality", u64::from(self.quality), 1, 100)?;
        within("samples per shard", self.samples_per_shard as u64, 1, 1 << 20)?;
        within("threads", self.threads as u64, 1, 1024)?;
        match self.size {
            TargetSize::Keep => Ok(()),
            TargetSize::MaxSide(side) | TargetSize::ShortSide(side) => within("side", u64::from(side), 16, 65_500),
        }
    }

    /// What decides a packed set's bytes: the settings, and the names in their order.
    fn digest(&self, source: &dyn Source) -> String {
        let mut digest = Sha256::new();
        let settings = (MANIFEST, self.size, self.quality, self.samples_per_shard, source.classes());
        digest.update(format!("{settings:?}"));
        for id in 0..source.len() as u64 {
            digest.update(source.name(id));
            digest.update([0]);
        }
        // Named only where it differs from what it was before it could be chosen.
        if source.decode_options() != DecodeOptions::default() {
            digest.update(source.decode_options().range.to_string());
        }
        if source.decode_options().channels != RGB {
            digest.update(format!("{} channels", source.decode_options().channels));
        }
        hex(&digest.finalize())
    }
}

/// What packing did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// The set as it is now.
    pub manifest: Manifest,
    /// Shards that were there before, from an earlier attempt or run.
    pub reused: usize,
    /// Bytes read from the source for the other shards.
    pub bytes_in: u64,
    /// Bytes of all shards.
    pub bytes_out: u64,
}

/// Packs `source` into `to`, shard by shard; shards that an earlier attempt finished are kept, and a finished set is left
/// as it is. `progress` receives the number of samples done and the total.
///
/// # Errors
/// [`Error::Option`]; [`Error::TooManyCorrupt`]; [`Error::Shard`] where `to` holds another set; the errors of source and storage.
pub fn pack(
    source: &dyn Source,
    to: &Storage,
    options: &PackOptions,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Packed, Error> {
    options.check()?;
    if source.decode_options().channels != RGB && options.size != TargetSize::Keep {
        return Err(Error::option("size", options.size, "keep, for images of other than three channels"));
    }
    let of = options.digest(source);
    if let Some(done) = finished(to, &of)? {
        progress(source.len(), source.len());
        return Ok(done);
    }
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(options.threads)
        .thread_name(|n| format!("pack-{n}"))
        .build()
        .map_err(|e| Error::Worker { what: format!("could not be started: {e}") })?;
    let mut manifest = Manifest::new(source.classes().to_vec(), options.size.to_string(), options.quality, of.clone());
    let (mut reused, mut bytes_in) = (0, 0);
    let ids: Vec<u64> = (0..source.len() as u64).collect();
    for (number, ids) in ids.chunks(options.samples_per_shard).enumerate() {
        let stem = format!("shard-{number:05}");
        let of = format!("{of}:{number}");
        let index = match reusable(to, &stem, &of)? {
            Some(index) => {
                reused += 1;
                index
            }
            None => {
                let room = options.max_corrupt.saturating_sub(manifest.left_out.len() as u64);
                let samples = pool.install(|| transcoded(source, ids, options, room))?;
                bytes_in += samples.iter().flatten().map(|sample| sample.bytes_in).sum::<u64>();
                write(source, to, &stem, of, ids, samples)?
            }
        };
        let there: HashSet<&str> = index.entries.iter().map(|entry| entry.name.as_str()).collect();
        let missing = ids.iter().map(|id| source.name(*id)).filter(|name| !there.contains(name));
        manifest.left_out.extend(missing.map(str::to_owned));
        too_many(&manifest.left_out, options.max_corrupt)?;
        manifest.samples += index.entries.len();
        let samples = index.entries.len();
        manifest.shards.push(ShardInfo { stem, bytes: index.bytes, sha256: index.sha256, samples });
        progress((number * options.samples_per_shard + ids.len()).min(source.len()), source.len());
    }
    if manifest.samples == 0 {
        let (name, reason) = (manifest.left_out.pop().unwrap_or_default(), "it cannot be decoded".to_owned());
        return Err(Error::NothingReadable { samples: source.len(), name, reason });
    }
    let text = serde_json::to_vec_pretty(&manifest)
        .map_err(|e| Error::Shard { uri: to.uri(MANIFEST), reason: format!("cannot be written as JSON: {e}") })?;
    to.put(MANIFEST, text)?;
    let bytes_out = manifest.shards.iter().map(|shard| shard.bytes).sum();
    Ok(Packed { manifest, reused, bytes_in, bytes_out })
}

fn too_many(left_out: &[String], limit: u64) -> Result<(), Error> {
    match left_out.last() {
        Some(name) if left_out.len() as u64 > limit => Err(Error::TooManyCorrupt {
            count: left_out.len() as u64,
            limit,
            name: name.clone(),
            reason: "it cannot be decoded".into(),
        }),
        _ => Ok(()),
    }
}

/// The set in `to`, if it is whole and made of the same; another set is not overwritten.
fn finished(to: &Storage, of: &str) -> Result<Option<Packed>, Error> {
    let Some(bytes) = to.get(MANIFEST)? else { return Ok(None) };
    let uri = to.uri(MANIFEST);
    let manifest = Manifest::parse(&uri, &bytes)?;
    if manifest.of != of {
        let reason = "another data set, or the same one with other settings, is packed here; choose another folder or delete this one";
        return Err(Error::Shard { uri, reason: reason.into() });
    }
    let there: std::collections::HashMap<_, _> = to.list()?.into_iter().map(|found| (found.name, found.size)).collect();
    let whole = manifest.shards.iter().all(|shard| {
        there.get(&format!("{}.tar", shard.stem)) == Some(&shard.bytes)
            && there.contains_key(&format!("{}.idx", shard.stem))
    });
    let (reused, bytes_out) = (manifest.shards.len(), manifest.shards.iter().map(|shard| shard.bytes).sum());
    // A missing shard is packed again; the manifest comes out the same.
    Ok(whole.then_some(Packed { manifest, reused, bytes_in: 0, bytes_out }))
}

/// A shard of an earlier attempt: its index is written after it, so it was whole; its bytes are checked all the same.
fn reusable(to: &Storage, stem: &str, of: &str) -> Result<Option<Index>, Error> {
    let name = format!("{stem}.idx");
    let Some(text) = to.get(&name)? else { return Ok(None) };
    let Some(index) = Index::parse(&to.uri(&name), &text).ok().filter(|index| index.of == of) else { return Ok(None) };
    let tar = to.get(&format!("{stem}.tar"))?;
    Ok(tar.filter(|tar| hex(&Sha256::digest(tar)) == index.sha256).map(|_| index))
}

/// A sample as it goes into the shard.
struct Sample {
    bytes: Vec<u8>,
    bytes_in: u64,
}

/// The samples of one shard in order; none where the image cannot be decoded.
fn transcoded(
    source: &dyn Source,
    ids: &[u64],
    options: &PackOptions,
    room: u64,
) -> Result<Vec<Option<Sample>>, Error> {
    source.prefetch(ids);
    let bad = std::sync::atomic::AtomicU64::new(0);
    let make = |(transcoder, buffer): &mut (Result<Transcoder, Error>, Vec<u8>), id: &u64| {
        let transcoder = transcoder.as_mut().map_err(|e| Error::Worker { what: e.to_string() })?;
        let name = source.name(*id);
        let mut bytes = Vec::new();
        let done = source.read_into(*id, buffer).and_then(|()| transcoder.transcode(name, buffer, &mut bytes));
        match done {
            Ok(()) => Ok(Some(Sample { bytes, bytes_in: buffer.len() as u64 })),
            Err(error) if error.is_bad_image() => {
                let count = bad.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
                if count > room {
                    let (limit, name) = (options.max_corrupt, name.to_owned());
                    let count = limit + 1;
                    return Err(Error::TooManyCorrupt { count, limit, name, reason: error.to_string() });
                }
                Ok(None)
            }
            Err(error) => Err(error),
        }
    };
    let decode = source.decode_options();
    let start =
        || (Transcoder::new(options.size, options.quality).map(|transcoder| transcoder.decoding(decode)), Vec::new());
    ids.par_iter().map_init(start, make).collect()
}

/// Writes a shard, then its index.
fn write(
    source: &dyn Source,
    to: &Storage,
    stem: &str,
    of: String,
    ids: &[u64],
    samples: Vec<Option<Sample>>,
) -> Result<Index, Error> {
    let tar_name = format!("{stem}.tar");
    let broken = |e: std::io::Error| Error::Shard { uri: to.uri(&tar_name), reason: format!("cannot be written: {e}") };
    let mut builder = tar::Builder::new(Vec::new());
    let mut entries = Vec::new();
    for (id, sample) in ids.iter().zip(samples) {
        let Some(Sample { bytes, .. }) = sample else { continue };
        let name = source.name(*id);
        if !is_plain(name) {
            let reason = format!("the name {name:?} has control characters; rename it");
            return Err(Error::Shard { uri: to.uri(&tar_name), reason });
        }
        let size = u32::try_from(bytes.len())
            .map_err(|_| Error::Shard { uri: name.to_owned(), reason: "has over 4 GiB".into() })?;
        let mut header = tar::Header::new_gnu();
        header.set_size(u64::from(size));
        header.set_mode(0o644);
        builder.append_data(&mut header, name, &bytes[..]).map_err(broken)?;
        let padded = u64::from(size).next_multiple_of(512);
        let offset = builder.get_ref().len() as u64 - padded;
        let class = source.label(*id).and_then(|label| source.classes().get(label as usize)).cloned();
        entries.push(Entry { offset, size, crc: Some(crc32fast::hash(&bytes)), class, name: name.to_owned() });
    }
    let tar = builder.into_inner().map_err(broken)?;
    let index = Index { bytes: tar.len() as u64, sha256: hex(&Sha256::digest(&tar)), of, entries };
    to.put(&tar_name, tar)?;
    to.put(&format!("{stem}.idx"), index.to_text().into_bytes())?;
    Ok(index)
}

/// A damaged sample or shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The sample's or the shard's name.
    pub name: String,
    /// What is wrong with it.
    pub reason: String,
}

/// Reads and decodes every image of a source; returns the damaged ones, in order.
///
/// # Errors
/// The source's errors, and [`Error::Worker`].
pub fn verify(
    source: &dyn Source,
    threads: usize,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Vec<Fault>, Error> {
    const CHUNK: usize = 512;
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .map_err(|e| Error::Worker { what: format!("could not be started: {e}") })?;
    let ids: Vec<u64> = (0..source.len() as u64).collect();
    let mut faults = Vec::new();
    for (number, ids) in ids.chunks(CHUNK).enumerate() {
        source.prefetch(ids);
        let look = |(decoder, part, buffer): &mut (Decoder, Part, Vec<u8>), id: &u64| {
            let name = source.name(*id);
            match source.read_into(*id, buffer).and_then(|()| decoder.decode_whole(name, buffer, part)) {
                Ok(()) => Ok(None),
                Err(error) if error.is_bad_image() => {
                    Ok(Some(Fault { name: name.to_owned(), reason: error.to_string() }))
                }
                Err(error) => Err(error),
            }
        };
        let start = || (Decoder::with(source.decode_options()), Part::default(), Vec::new());
        let found: Result<Vec<Option<Fault>>, Error> = pool.install(|| ids.par_iter().map_init(start, look).collect());
        faults.extend(found?.into_iter().flatten());
        progress((number * CHUNK + ids.len()).min(source.len()), source.len());
    }
    Ok(faults)
}

/// Compares every shard of a packed set with its manifest's SHA-256. `None` if `at` is not a packed set.
///
/// # Errors
/// The storage's errors, and [`Error::Shard`] for a manifest that cannot be read.
pub fn verify_shards(at: &Storage, progress: &mut dyn FnMut(usize, usize)) -> Result<Option<Vec<Fault>>, Error> {
    let Some(bytes) = at.get(MANIFEST)? else { return Ok(None) };
    let manifest = Manifest::parse(&at.uri(MANIFEST), &bytes)?;
    let mut faults = Vec::new();
    for (number, shard) in manifest.shards.iter().enumerate() {
        let name = format!("{}.tar", shard.stem);
        let reason = match at.get(&name)? {
            None => Some("is missing".to_owned()),
            Some(tar) if tar.len() as u64 != shard.bytes => {
                Some(format!("has {} bytes, the manifest says {}", tar.len(), shard.bytes))
            }
            Some(tar) => match hex(&Sha256::digest(&tar)) {
                sum if sum == shard.sha256 => None,
                sum => Some(format!("has SHA-256 {sum}, the manifest says {}", shard.sha256)),
            },
        };
        faults.extend(reason.map(|reason| Fault { name, reason }));
        progress(number + 1, manifest.shards.len());
    }
    Ok(Some(faults))
}
