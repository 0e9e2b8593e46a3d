//! A folder of class folders, or a flat folder of images.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::access::Source;
use super::listing::is_image;
use crate::Error;

/// Images on a local disk: `<root>/<class>/<name>.jpg|jpeg|png`, or `<root>/<name>…` without classes.
///
/// Upper and lower case of the extension do not matter; hidden files and folders and other files are passed over; a
/// symbolic link counts as what it points to. Folders within a class folder are searched too, as torchvision does.
#[derive(Debug)]
pub struct ImageFolder {
    root: PathBuf,
    classes: Vec<String>,
    /// Paths below `root`, with `/` between parts.
    names: Vec<String>,
    /// One for each name, or none at all in a flat folder.
    labels: Vec<u32>,
}

impl ImageFolder {
    /// Lists the folder at `root`, a path or `file://` followed by an absolute path. Its class folders are the classes.
    ///
    /// # Errors
    /// [`Error::NotAFolder`], [`Error::EmptyFolder`], [`Error::NoImages`], [`Error::MixedLayout`], [`Error::Scheme`],
    /// [`Error::Io`].
    pub fn open(root: &Path) -> Result<Self, Error> {
        Self::list(root, None)
    }

    /// As [`Self::open`] with another set's classes, as `val` uses those of `train`; a class may be missing here.
    ///
    /// # Errors
    /// As [`Self::open`], and [`Error::UnknownClass`] for a class folder that is not among `classes`.
    pub fn open_with_classes(root: &Path, classes: &[String]) -> Result<Self, Error> {
        Self::list(root, Some(classes))
    }

    /// The folder's path.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn list(location: &Path, known: Option<&[String]>) -> Result<Self, Error> {
        let root = local_path(location)?;
        let kind = fs::metadata(&root).map_err(|source| Error::Io {
            path: root.clone(),
            action: "open this folder",
            source,
        })?;
        if !kind.is_dir() {
            return Err(Error::NotAFolder { path: root });
        }
        let top = entries(&root)?;
        let (folders, files): (Vec<_>, Vec<_>) = top.into_iter().partition(|entry| entry.is_folder);
        let mut other_files = 0;
        let mut flat: Vec<String> = Vec::new();
        for file in files {
            if is_image(&file.name) { flat.push(file.name) } else { other_files += 1 }
        }
        let mut names = Vec::new();
        let mut labels = Vec::new();
        let mut classes: Vec<String> = Vec::new();
        let mut class_folders = 0;
        for folder in &folders {
            let before = names.len();
            other_files += images_below(&root, &folder.name, &mut names, 0)?;
            if names.len() == before {
                continue;
            }
            class_folders += 1;
            let label = match known {
                None => {
                    classes.push(folder.name.clone());
                    classes.len() - 1
                }
                Some(known) => known.iter().position(|class| *class == folder.name).ok_or_else(|| {
                    Error::UnknownClass { path: root.clone(), class: folder.name.clone(), known: known.len() }
                })?,
            };
            labels.resize(names.len(), label as u32);
        }
        match (flat.first(), class_folders) {
            (Some(first), 1..) => {
                Err(Error::MixedLayout { first: first.clone(), flat: flat.len(), classes: class_folders, path: root })
            }
            (None, 0) if other_files == 0 && folders.is_empty() => Err(Error::EmptyFolder { path: root }),
            (None, 0) => Err(Error::NoImages { path: root, files: other_files }),
            (Some(_), 0) => Ok(Self { root, classes: Vec::new(), names: flat, labels: Vec::new() }),
            (None, 1..) => Ok(Self { root, classes: known.map_or(classes, <[String]>::to_vec), names, labels }),
        }
    }
}

impl Source for ImageFolder {
    fn len(&self) -> usize {
        self.names.len()
    }

    fn read(&self, id: u64) -> Result<Vec<u8>, Error> {
        let mut buffer = Vec::new();
        self.read_into(id, &mut buffer)?;
        Ok(buffer)
    }

    fn read_into(&self, id: u64, buffer: &mut Vec<u8>) -> Result<(), Error> {
        let name = self.names.get(id as usize).ok_or(Error::NoSuchSample { id, len: self.names.len() })?;
        let path = self.root.join(name);
        buffer.clear();
        fs::File::open(&path).and_then(|mut file| file.read_to_end(buffer)).map_err(|source| Error::Io {
            path,
            action: "read this image",
            source,
        })?;
        Ok(())
    }

    fn name(&self, id: u64) -> &str {
        self.names.get(id as usize).map_or("", String::as_str)
    }

    fn label(&self, id: u64) -> Option<u32> {
        self.labels.get(id as usize).copied()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }
}

struct Entry {
    name: String,
    is_folder: bool,
}

/// What a folder holds, sorted by bytes; links are followed, and a dangling one is kept as a file, so that it is
/// reported as an unreadable image instead of being skipped silently.
fn entries(folder: &Path) -> Result<Vec<Entry>, Error> {
    let fail = |source| Error::Io { path: folder.to_path_buf(), action: "list this folder", source };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let kind = entry.file_type().map_err(fail)?;
        let is_folder = if kind.is_symlink() {
            fs::metadata(entry.path()).is_ok_and(|target| target.is_dir())
        } else {
            kind.is_dir()
        };
        // A name that is not UTF-8 would be ambiguous as a label and in messages.
        let name = entry.file_name().into_string().map_err(|name| Error::Io {
            path: folder.join(name),
            action: "use this name",
            source: std::io::Error::new(std::io::ErrorKind::InvalidData, "it is not UTF-8; rename it"),
        })?;
        if !name.starts_with('.') {
            found.push(Entry { name, is_folder });
        }
    }
    found.sort_unstable_by(|a, b| a.name.as_bytes().cmp(b.name.as_bytes()));
    Ok(found)
}

/// Symbolic links can form a loop; no real data set nests class folders this deep.
const MAX_DEPTH: usize = 16;

/// Adds the images below `root/below` in order of their paths' bytes; returns how many other files were seen.
fn images_below(root: &Path, below: &str, names: &mut Vec<String>, depth: usize) -> Result<usize, Error> {
    if depth == MAX_DEPTH {
        return Ok(0);
    }
    let start = names.len();
    let mut others = 0;
    for entry in entries(&root.join(below))? {
        let name = format!("{below}/{}", entry.name);
        if entry.is_folder {
            others += images_below(root, &name, names, depth + 1)?;
        } else if is_image(&entry.name) {
            names.push(name);
        } else {
            others += 1;
        }
    }
    names[start..].sort_unstable();
    Ok(others)
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
