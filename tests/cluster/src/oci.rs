//! Container images as OCI archives, without Docker or a registry.
//!
//! The same input gives the same bytes: entries are sorted, owned by root, and dated to the epoch's start.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// The metadata of an image.
#[derive(Debug, Clone, Default)]
pub struct Image {
    /// The name by which pods ask for it, with a tag: `simsiam.test/pod:1`.
    pub name: String,
    /// The program and its first arguments.
    pub entrypoint: Vec<String>,
    /// `NAME=value`.
    pub environment: Vec<String>,
    /// `uid` or `uid:gid`; empty for root.
    pub user: String,
    /// Labels, by name.
    pub labels: BTreeMap<String, String>,
}

/// A part of the file system: by path in the image, where the content comes from.
#[derive(Debug, Clone, Default)]
pub struct Layer(BTreeMap<PathBuf, Entry>);

#[derive(Debug, Clone)]
enum Entry {
    File { from: PathBuf, mode: u32 },
    Folder { mode: u32 },
    Link { to: PathBuf },
}

impl Layer {
    /// An executable file.
    pub fn program(mut self, path: &str, from: &Path) -> Self {
        self.0.insert(relative(Path::new(path)), Entry::File { from: from.to_path_buf(), mode: 0o755 });
        self
    }

    /// Adds everything below a folder whose relative path is `wanted`. Folders are added with their files.
    ///
    /// # Errors
    /// If the folder can't be read.
    pub fn folder(mut self, root: &Path, wanted: &dyn Fn(&Path) -> bool) -> Result<Self> {
        self.walk(root, Path::new(""), wanted)?;
        Ok(self)
    }

    fn walk(&mut self, root: &Path, below: &Path, wanted: &dyn Fn(&Path) -> bool) -> Result<()> {
        let folder = root.join(below);
        for entry in fs::read_dir(&folder).map_err(Error::io("read", &folder))? {
            let name = entry.map_err(Error::io("read", &folder))?.file_name();
            let (inside, from) = (below.join(&name), folder.join(&name));
            let data = fs::symlink_metadata(&from).map_err(Error::io("read", &from))?;
            let mode = data.permissions().mode() & 0o7777;
            if data.is_dir() {
                let before = self.0.len();
                self.walk(root, &inside, wanted)?;
                if self.0.len() > before || wanted(&inside) {
                    self.0.insert(inside, Entry::Folder { mode });
                }
            } else if wanted(&inside) {
                let entry = if data.is_symlink() {
                    Entry::Link { to: fs::read_link(&from).map_err(Error::io("read", &from))? }
                } else {
                    Entry::File { from, mode }
                };
                self.0.insert(inside, entry);
            }
        }
        Ok(())
    }

    fn write(&self, to: impl Write) -> io::Result<()> {
        let mut tar = tar::Builder::new(to);
        for (path, entry) in &self.0 {
            let mut header = header();
            match entry {
                Entry::Folder { mode } => {
                    header.set_entry_type(tar::EntryType::Directory);
                    header.set_mode(*mode);
                    header.set_size(0);
                    tar.append_data(&mut header, path, io::empty())?;
                }
                Entry::Link { to } => {
                    header.set_entry_type(tar::EntryType::Symlink);
                    header.set_mode(0o777);
                    header.set_size(0);
                    tar.append_link(&mut header, path, to)?;
                }
                Entry::File { from, mode } => {
                    let file = File::open(from)?;
                    header.set_mode(*mode);
                    header.set_size(file.metadata()?.len());
                    tar.append_data(&mut header, path, file)?;
                }
            }
        }
        tar.into_inner()?.flush()
    }
}

/// Writes an archive for `ctr images import` and `docker load`, replacing an existing file atomically.
///
/// # Errors
/// If a file can't be read or written.
pub fn write(archive: &Path, image: &Image, layers: &[Layer]) -> Result<()> {
    let failed = |source| Error::io("write", archive)(source);
    let folder = archive.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    let fresh = archive.with_extension("new");
    let blobs = archive.with_extension("blobs");
    let written = write_parts(&fresh, &blobs, image, layers);
    let _ = fs::remove_dir_all(&blobs);
    written.and_then(|()| fs::rename(&fresh, archive)).map_err(failed)
}

fn write_parts(archive: &Path, blobs: &Path, image: &Image, layers: &[Layer]) -> io::Result<()> {
    fs::create_dir_all(blobs)?;
    let layers: Vec<_> = layers
        .iter()
        .enumerate()
        .map(|(index, layer)| {
            let file = blobs.join(index.to_string());
            let mut hashing = Hashing { to: BufWriter::new(File::create(&file)?), hash: Sha256::new(), size: 0 };
            layer.write(&mut hashing)?;
            Ok((file, hashing.finish()))
        })
        .collect::<io::Result<_>>()?;
    let descriptors: Vec<_> = layers
        .iter()
        .map(|(_, (digest, size))| descriptor("application/vnd.oci.image.layer.v1.tar", digest, *size))
        .collect();
    let diffs: Vec<_> = layers.iter().map(|(_, (digest, _))| format!("sha256:{digest}")).collect();
    let config = json!({
        "architecture": architecture(), "os": "linux", "created": "1970-01-01T00:00:00Z",
        "config": {
            "Entrypoint": image.entrypoint, "Env": image.environment, "User": image.user, "Labels": image.labels,
        },
        "rootfs": {"type": "layers", "diff_ids": diffs},
    });
    let mut tar = tar::Builder::new(BufWriter::new(File::create(archive)?));
    put(&mut tar, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    for (file, (digest, size)) in &layers {
        let mut header = header();
        header.set_size(*size);
        tar.append_data(&mut header, format!("blobs/sha256/{digest}"), File::open(file)?)?;
    }
    let config = blob(&mut tar, "application/vnd.oci.image.config.v1+json", &config)?;
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config, "layers": descriptors,
    });
    let mut manifest = blob(&mut tar, "application/vnd.oci.image.manifest.v1+json", &manifest)?;
    let tag = image.name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
    manifest["annotations"] = json!({"io.containerd.image.name": image.name, "org.opencontainers.image.ref.name": tag});
    put(&mut tar, "index.json", json!({"schemaVersion": 2, "manifests": [manifest]}).to_string().as_bytes())?;
    tar.into_inner()?.flush()
}

fn blob(tar: &mut tar::Builder<impl Write>, kind: &str, content: &Value) -> io::Result<Value> {
    let bytes = content.to_string().into_bytes();
    let digest = hex(&Sha256::digest(&bytes));
    put(tar, &format!("blobs/sha256/{digest}"), &bytes)?;
    Ok(descriptor(kind, &digest, bytes.len() as u64))
}

fn descriptor(kind: &str, digest: &str, size: u64) -> Value {
    json!({"mediaType": kind, "digest": format!("sha256:{digest}"), "size": size})
}

fn put(tar: &mut tar::Builder<impl Write>, path: &str, bytes: &[u8]) -> io::Result<()> {
    let mut header = header();
    header.set_size(bytes.len() as u64);
    tar.append_data(&mut header, path, bytes)
}

fn header() -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

/// Go's name of this machine's kind, which images use.
fn architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}

fn relative(path: &Path) -> PathBuf {
    path.strip_prefix("/").unwrap_or(path).to_path_buf()
}

/// The bytes of a digest as text.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The SHA-256 of a reader's content, as text.
pub(crate) fn sha256(mut from: impl Read) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(hex(&hash.finalize())),
            count => hash.update(&buffer[..count]),
        }
    }
}

struct Hashing<W> {
    to: W,
    hash: Sha256,
    size: u64,
}

impl<W> Hashing<W> {
    fn finish(self) -> (String, u64) {
        (hex(&self.hash.finalize()), self.size)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.to.write(bytes)?;
        self.hash.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("usr/lib")).unwrap();
        fs::create_dir_all(dir.path().join("tmp")).unwrap();
        fs::write(dir.path().join("usr/lib/libb.so.1"), "b").unwrap();
        fs::write(dir.path().join("usr/lib/liba.so"), "a").unwrap();
        std::os::unix::fs::symlink("libb.so.1", dir.path().join("usr/lib/libb.so")).unwrap();
        dir
    }

    fn image() -> Image {
        Image {
            name: "simsiam.test/x:7".into(),
            entrypoint: vec!["/x".into()],
            user: "65532".into(),
            ..Image::default()
        }
    }

    #[test]
    fn archive_of_equal_input_is_bit_identical() {
        let (one, two, out) = (tree(), tree(), tempfile::tempdir().unwrap());
        let make = |root: &Path, name: &str| {
            let layer = Layer::default().folder(root, &|_| true).unwrap();
            let path = out.path().join(name);
            write(&path, &image(), &[layer]).unwrap();
            fs::read(path).unwrap()
        };
        assert_eq!(make(one.path(), "1.tar"), make(two.path(), "2.tar"));
        fs::write(two.path().join("usr/lib/liba.so"), "A").unwrap();
        assert_ne!(make(one.path(), "1.tar"), make(two.path(), "2.tar"));
        assert_eq!(fs::read_dir(out.path()).unwrap().count(), 2, "nothing but the archives");
    }

    #[test]
    fn archive_digests_match_their_blobs() {
        let (root, out) = (tree(), tempfile::tempdir().unwrap());
        let libraries = Layer::default().folder(root.path(), &|path| path.starts_with("usr")).unwrap();
        let rest = Layer::default().folder(root.path(), &|path| !path.starts_with("usr")).unwrap();
        let path = out.path().join("x.tar");
        write(&path, &image(), &[libraries, rest]).unwrap();
        let mut blobs = BTreeMap::new();
        for entry in tar::Archive::new(File::open(&path).unwrap()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            let mut bytes = vec![];
            entry.read_to_end(&mut bytes).unwrap();
            if let Some(digest) = name.strip_prefix("blobs/sha256/") {
                assert_eq!(digest, hex(&Sha256::digest(&bytes)));
            }
            blobs.insert(name, bytes);
        }
        let index: Value = serde_json::from_slice(&blobs["index.json"]).unwrap();
        let manifest = &index["manifests"][0];
        assert_eq!(manifest["annotations"]["io.containerd.image.name"], "simsiam.test/x:7");
        let blob = |descriptor: &Value| {
            let bytes = &blobs[&format!("blobs/sha256/{}", &descriptor["digest"].as_str().unwrap()[7..])];
            assert_eq!(descriptor["size"], bytes.len());
            bytes
        };
        let manifest: Value = serde_json::from_slice(blob(manifest)).unwrap();
        let config: Value = serde_json::from_slice(blob(&manifest["config"])).unwrap();
        assert_eq!(config["config"]["User"], "65532");
        let names = |index: usize| {
            let mut tar = tar::Archive::new(blob(&manifest["layers"][index]).as_slice());
            let entries = tar.entries().unwrap().map(|e| e.unwrap().path().unwrap().display().to_string());
            entries.collect::<Vec<_>>()
        };
        assert_eq!(names(0), ["usr", "usr/lib", "usr/lib/liba.so", "usr/lib/libb.so", "usr/lib/libb.so.1"]);
        assert_eq!(names(1), ["tmp"]);
        assert_eq!(sha256(&b"abc"[..]).unwrap(), hex(&Sha256::digest(b"abc")));
    }
}
