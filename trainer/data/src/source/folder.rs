//! A folder of class folders, or a flat folder of images.

use std::fs;
use std::io::{BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::access::Source;
use super::listing::{Item, Listing, is_image, source_of_listing};
use super::listing_report::ListingReport;
use super::pages::{self, Pages};
use crate::{DecodeOptions, Error};

/// Images on a local disk: `<root>/<class>/<name>.jpg|png|tif|…`, or `<root>/<name>…` without classes.
///
/// Upper and lower case of the extension do not matter; hidden files and folders are skipped silently, other files and
/// whatever is neither a file nor a folder are counted in [`Source::listing_report`]; a symbolic link counts as what it
/// points to. Folders within a class folder are searched too, as torchvision does.
#[derive(Debug)]
pub struct ImageFolder {
    root: PathBuf,
    listing: Listing,
    pages: Pages,
    decode: DecodeOptions,
}

impl ImageFolder {
    /// Lists the folder at `root`, a path or `file://` followed by an absolute path. Its class folders are the classes.
    ///
    /// # Errors
    /// [`Error::NotAFolder`], [`Error::EmptyFolder`], [`Error::NoImages`], [`Error::MixedLayout`], [`Error::Scheme`],
    /// [`Error::Io`].
    pub fn open(root: &Path) -> Result<Self, Error> {
        Self::list(root, None, Pages::default(), DecodeOptions::default())
    }

    /// As [`Self::open`] with another set's classes, as `val` uses those of `train`; a class may be missing here.
    ///
    /// # Errors
    /// As [`Self::open`], and [`Error::UnknownClass`] for a class folder that is not among `classes`.
    pub fn open_with_classes(root: &Path, classes: &[String]) -> Result<Self, Error> {
        Self::list(root, Some(classes), Pages::default(), DecodeOptions::default())
    }

    /// The folder's path.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// As [`Self::open`], with another set's classes, with pages as samples, and to be decoded as the caller chooses.
    pub(super) fn list(
        location: &Path,
        known: Option<&[String]>,
        pages: Pages,
        decode: DecodeOptions,
    ) -> Result<Self, Error> {
        let root = local_path(location)?;
        let kind = fs::metadata(&root).map_err(|source| Error::Io { path: root.clone(), action: "open", source })?;
        if !kind.is_dir() {
            return Err(Error::NotAFolder { path: root });
        }
        let mut walk = Walk { root: &root, items: Vec::new(), listing_report: ListingReport::default() };
        let folders = walk.top()?;
        let Walk { mut items, mut listing_report, .. } = walk;
        if items.is_empty() && folders > 0 {
            return Err(Error::NoImages {
                location: root.display().to_string(),
                files: listing_report.total(),
                kinds: listing_report.kinds(),
            });
        }
        if pages == Pages::All {
            items = pages::expand(items, &mut listing_report, |item| {
                // A file that cannot be opened is a sample that cannot be read.
                fs::File::open(root.join(&item.name)).map_or(Ok(1), |file| pages::count(&mut BufReader::new(file)))
            })?;
        }
        let (listing, _) = Listing::new(&root.display().to_string(), items, known, listing_report)?;
        Ok(Self { root, listing, pages, decode })
    }
}

impl Source for ImageFolder {
    source_of_listing!();

    fn read(&self, id: u64) -> Result<Vec<u8>, Error> {
        let mut buffer = Vec::new();
        self.read_into(id, &mut buffer)?;
        Ok(buffer)
    }

    fn read_into(&self, id: u64, buffer: &mut Vec<u8>) -> Result<(), Error> {
        let len = self.listing.len();
        let name = (id < len as u64).then(|| self.listing.name(id)).ok_or(Error::NoSuchSample { id, len })?;
        let path = self.root.join(if self.pages == Pages::All { pages::file_of(name) } else { name });
        buffer.clear();
        fs::File::open(&path).and_then(|mut file| file.read_to_end(buffer)).map_err(|source| Error::Io {
            path,
            action: "read",
            source,
        })?;
        if self.pages == Pages::All { pages::select(name, buffer) } else { Ok(()) }
    }
}

/// What an entry of a folder is, links followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A file, or a link whose target is missing: that is reported as an unreadable image, not skipped silently.
    File,
    /// A folder, by device and inode.
    Folder((u64, u64)),
    /// A pipe, socket or device; opening one could wait for ever.
    Other,
}

struct Entry {
    name: String,
    kind: Kind,
}

/// What a folder holds, sorted by bytes.
fn entries(folder: &Path) -> Result<Vec<Entry>, Error> {
    let fail = |source| Error::Io { path: folder.to_path_buf(), action: "list", source };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let kind = match fs::metadata(entry.path()) {
            Ok(target) if target.is_dir() => Kind::Folder((target.dev(), target.ino())),
            Ok(target) if !target.is_file() => Kind::Other,
            _ => Kind::File,
        };
        // A name that is not UTF-8 would be ambiguous as a label and in messages.
        let name = entry.file_name().into_string().map_err(|name| Error::Io {
            path: folder.join(name),
            action: "use the name of",
            source: std::io::Error::new(std::io::ErrorKind::InvalidData, "it is not UTF-8; rename it"),
        })?;
        if !name.starts_with('.') {
            found.push(Entry { name, kind });
        }
    }
    found.sort_unstable_by(|a, b| a.name.as_bytes().cmp(b.name.as_bytes()));
    Ok(found)
}

/// No real data set nests class folders this deep.
const MAX_DEPTH: usize = 16;

/// A walk through the folders below a root.
struct Walk<'a> {
    root: &'a Path,
    items: Vec<Item<()>>,
    listing_report: ListingReport,
}

impl Walk<'_> {
    /// Lists everything; returns the number of folders at the top.
    fn top(&mut self) -> Result<usize, Error> {
        let root = fs::metadata(self.root).map_err(|source| Error::Io {
            path: self.root.to_path_buf(),
            action: "open",
            source,
        })?;
        let mut above = vec![(root.dev(), root.ino())];
        let mut folders = 0;
        for entry in entries(self.root)? {
            let Kind::Folder(_) = entry.kind else {
                self.take(entry, String::new(), &mut above)?;
                continue;
            };
            folders += 1;
            let (images, others, name) = (self.items.len(), self.listing_report.total(), entry.name.clone());
            self.take(entry, String::new(), &mut above)?;
            if self.items.len() == images && self.listing_report.total() > others {
                self.listing_report.empty_classes.push(name);
            }
        }
        Ok(folders)
    }

    /// `above` are the folders that the entry is in: a link to one of them is a loop, and would list its images again
    /// under another class.
    fn take(&mut self, entry: Entry, below: String, above: &mut Vec<(u64, u64)>) -> Result<(), Error> {
        let name = format!("{below}{}", entry.name);
        match entry.kind {
            Kind::File if is_image(&entry.name) => self.items.push(Item::by_path(name, ())),
            Kind::File => self.listing_report.skip(&entry.name),
            Kind::Other => self.listing_report.count("pipe, socket or device".into(), 1),
            Kind::Folder(id) if above.contains(&id) => self.listing_report.count("link to a folder above it".into(), 1),
            Kind::Folder(_) if above.len() > MAX_DEPTH => self.listing_report.count("folder nested too deep".into(), 1),
            Kind::Folder(id) => {
                above.push(id);
                for entry in entries(&self.root.join(&name))? {
                    self.take(entry, format!("{name}/"), above)?;
                }
                above.pop();
            }
        }
        Ok(())
    }
}

/// A location as a path on this machine.
fn local_path(location: &Path) -> Result<PathBuf, Error> {
    let Some((scheme, rest)) = location.to_str().and_then(|text| text.split_once("://")) else {
        return Ok(location.to_path_buf());
    };
    if scheme == "file" && rest.starts_with('/') {
        return Ok(PathBuf::from(rest));
    }
    Err(Error::Scheme {
        location: location.display().to_string(),
        scheme: scheme.to_owned(),
        expected: "a local path or file://<absolute path>",
    })
}
