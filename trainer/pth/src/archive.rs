//! The zip format of `torch.save`: `<name>/data.pkl`, and each storage as `<name>/data/<key>`.

use std::collections::HashMap;
use std::io::{Cursor, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use crate::error::Error;
use crate::unpickle::{self, tree};
use crate::value::Value;
use crate::{limits, pickle};

/// Name of the folder in the archives that are written.
const NAME: &str = "archive";
/// Where entries begin, as `torch.save` has it: tensors can be used in place in a memory-mapped file.
const ALIGNMENT: u16 = 64;

pub(crate) fn is_zip(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PK\x03\x04")
}

/// An entry's bytes within the file.
struct Entry<'a> {
    bytes: &'a [u8],
    crc: u32,
}

impl<'a> Entry<'a> {
    fn checked(&self, name: &str) -> Result<&'a [u8], Error> {
        if crc32fast::hash(self.bytes) != self.crc {
            return Err(Error::Archive(format!("{name} does not match its checksum")));
        }
        Ok(self.bytes)
    }
}

pub(crate) fn read(bytes: &[u8]) -> Result<Value, Error> {
    let entries = entries(bytes)?;
    let Some(pickled) = entries.keys().find_map(|name| name.strip_suffix("data.pkl").filter(|p| p.ends_with('/')))
    else {
        return Err(Error::Archive("it has no data.pkl".into()));
    };
    let entry = |name: &str| {
        let name = format!("{pickled}{name}");
        entries.get(&name).map(|entry| entry.checked(&name)).transpose()
    };
    if entry("byteorder")?.is_some_and(|order| order != b"little") {
        return Err(Error::Unsupported("was written on a big-endian machine, which is not read"));
    }
    let object = unpickle::run(entry("data.pkl")?.unwrap_or_default(), 0)?;
    // Tensors may share a storage: its checksum is computed once.
    let mut checked: HashMap<String, &[u8]> = HashMap::new();
    tree::value(&object, bytes.len(), &mut |key| {
        if let Some(data) = checked.get(key) {
            return Ok(data);
        }
        let data = entry(&format!("data/{key}"))?.ok_or_else(|| tree::absent(key))?;
        checked.insert(key.to_owned(), data);
        Ok(data)
    })
}

/// Every entry by name. `torch.save` does not compress, so each is in the file verbatim.
fn entries(bytes: &[u8]) -> Result<HashMap<String, Entry<'_>>, Error> {
    let damaged = |e: zip::result::ZipError| Error::Archive(e.to_string());
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(damaged)?;
    if archive.len() > limits::ENTRIES {
        return Err(Error::Limit { what: "more entries", limit: limits::ENTRIES as u64 });
    }
    let mut entries = HashMap::new();
    for index in 0..archive.len() {
        let file = archive.by_index_raw(index).map_err(damaged)?;
        let name = file.name().map_err(damaged)?.into_owned();
        // Its code is compressed, which would be reported instead.
        if name.ends_with("/constants.pkl") || name.contains("/code/") {
            return Err(Error::Unsupported("is a TorchScript program, not a checkpoint: save the model's state_dict"));
        }
        if file.compression() != CompressionMethod::Stored || file.encrypted() {
            return Err(Error::Archive(format!("{name} is compressed or encrypted")));
        }
        let range = || {
            let start = usize::try_from(file.data_start()?).ok()?;
            bytes.get(start..)?.get(..usize::try_from(file.size()).ok()?)
        };
        let data = range().ok_or_else(|| Error::Archive(format!("{name} is beyond the end of the file")))?;
        entries.insert(name, Entry { bytes: data, crc: file.crc32() });
    }
    Ok(entries)
}

pub(crate) fn write(value: &Value) -> Result<Vec<u8>, Error> {
    let (pickle, storages) = pickle::with_storages(value)?;
    let unwritable = |e: zip::result::ZipError| Error::Unwritable(e.to_string());
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let mut entry = |name: &str, bytes: &[u8]| {
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .with_alignment(ALIGNMENT)
            .large_file(u32::try_from(bytes.len()).is_err());
        archive.start_file(format!("{NAME}/{name}"), options).map_err(unwritable)?;
        archive.write_all(bytes).map_err(|e| Error::Unwritable(e.to_string()))
    };
    entry("data.pkl", &pickle)?;
    entry("byteorder", b"little")?;
    for (key, bytes) in storages.iter().enumerate() {
        entry(&format!("data/{key}"), bytes)?;
    }
    entry("version", b"3\n")?;
    Ok(archive.finish().map_err(unwritable)?.into_inner())
}
