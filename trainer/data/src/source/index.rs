//! The index beside a shard: the position of each sample in the tar.
//!
//! Text, one line per sample with tab-separated fields, so that `cut` and `awk` can read it:
//!
//! ```text
//! #simsiam-index 1 <bytes of the tar> <SHA-256 of the tar> <samples> <digest of what it was made of>
//! <offset> <size> <CRC-32 in hex> <class, empty without classes> <name>
//! ```

use std::fmt::Write as _;

use crate::Error;

/// One sample in a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// First byte of its content in the tar.
    pub(crate) offset: u64,
    /// Bytes of its content.
    pub(crate) size: u32,
    /// CRC-32 (IEEE) of its content, where known.
    pub(crate) crc: Option<u32>,
    /// Its class.
    pub(crate) class: Option<String>,
    /// Its path within the data set.
    pub(crate) name: String,
}

/// An index with the properties of its tar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Index {
    /// Size of the tar in bytes.
    pub(crate) bytes: u64,
    /// SHA-256 of the tar in hex; `-` where nobody computed it.
    pub(crate) sha256: String,
    /// What the tar was made of, as its maker digests it; `-` for a tar that was not packed here.
    pub(crate) of: String,
    /// Its samples.
    pub(crate) entries: Vec<Entry>,
}

const MAGIC: &str = "#simsiam-index 1";

/// Bytes that a name or class may not have: they would break the lines of the index.
pub(crate) fn is_plain(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

impl Index {
    /// The text of the file.
    pub(crate) fn to_text(&self) -> String {
        let mut text = format!("{MAGIC} {} {} {} {}\n", self.bytes, self.sha256, self.entries.len(), self.of);
        for Entry { offset, size, crc, class, name } in &self.entries {
            let crc = crc.map_or_else(|| "-".to_owned(), |crc| format!("{crc:08x}"));
            let _ = writeln!(text, "{offset}\t{size}\t{crc}\t{}\t{name}", class.as_deref().unwrap_or(""));
        }
        text
    }

    /// Reads the file; `uri` names it in errors.
    ///
    /// # Errors
    /// [`Error::Shard`] for anything but a whole index whose samples are within its tar.
    pub(crate) fn parse(uri: &str, bytes: &[u8]) -> Result<Self, Error> {
        let bad = |line: usize, what: &str| Error::Shard {
            uri: uri.to_owned(),
            reason: format!("line {line} of this index {what}; delete the index, or pack the data again"),
        };
        let text = std::str::from_utf8(bytes).map_err(|_| bad(1, "is not UTF-8"))?;
        let (head, rest) = text.split_once('\n').ok_or_else(|| bad(1, "has no end"))?;
        let fields: Vec<_> =
            head.strip_prefix(MAGIC).ok_or_else(|| bad(1, "is not the header of an index"))?.split(' ').collect();
        let ["", bytes, sha256, samples, of] = fields[..] else { return Err(bad(1, "does not have six fields")) };
        let bytes: u64 = bytes.parse().map_err(|_| bad(1, "has no size"))?;
        let samples: usize = samples.parse().map_err(|_| bad(1, "has no count"))?;
        // A count is not to be trusted with memory: each line has at least this many bytes.
        let mut entries = Vec::with_capacity(samples.min(rest.len() / 8));
        for (number, line) in (2..).zip(rest.lines()) {
            let entry = entry(line).ok_or_else(|| bad(number, "is not a sample"))?;
            if entry.offset.checked_add(u64::from(entry.size)).is_none_or(|end| end > bytes) {
                return Err(bad(number, "points beyond the end of the shard"));
            }
            entries.push(entry);
        }
        if entries.len() != samples || !rest.is_empty() && !rest.ends_with('\n') {
            let found = entries.len();
            return Err(bad(found + 1, &format!("is its last, after {found} of {samples} samples")));
        }
        Ok(Self { bytes, sha256: sha256.to_owned(), of: of.to_owned(), entries })
    }
}

fn entry(line: &str) -> Option<Entry> {
    let mut fields = line.splitn(5, '\t');
    let (offset, size) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    let crc = match fields.next()? {
        "-" => None,
        hex => Some(u32::from_str_radix(hex, 16).ok()?),
    };
    let class = fields.next().map(|class| (!class.is_empty()).then(|| class.to_owned()))?;
    let name = fields.next().filter(|name| !name.is_empty() && is_plain(name))?;
    Some(Entry { offset, size, crc, class, name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> Index {
        let entry = |offset, name: &str, class: Option<&str>, crc| Entry {
            offset,
            size: 10,
            crc,
            class: class.map(str::to_owned),
            name: name.to_owned(),
        };
        let entries = vec![entry(512, "a/1 2.jpg", Some("a"), Some(0xdead_beef)), entry(1536, "ü.png", None, None)];
        Index { bytes: 4096, sha256: "ab".into(), of: "-".into(), entries }
    }

    #[test]
    fn index_round_trips() {
        assert_eq!(Index::parse("x", index().to_text().as_bytes()).unwrap(), index());
    }

    #[test]
    fn truncated_or_foreign_index_is_refused() {
        let text = index().to_text();
        for cut in 0..text.len() {
            assert!(Index::parse("x", &text.as_bytes()[..cut]).is_err(), "cut at {cut}");
        }
        for (from, to) in [
            ("#simsiam-index 1", "#simsiam-index 2"),
            ("4096", "100"),
            (" 2 -", " 99999999999 -"),
            ("512\t", "-1\t"),
            ("\t10\t", "\t18446744073709551615\t"),
        ] {
            assert!(Index::parse("x", text.replacen(from, to, 1).as_bytes()).is_err(), "{from} for {to}");
        }
        let error = Index::parse("shard-00001.idx", b"\xff\xfe").unwrap_err().to_string();
        assert!(error.contains("shard-00001.idx") && error.contains("pack the data again"), "{error}");
    }
}
