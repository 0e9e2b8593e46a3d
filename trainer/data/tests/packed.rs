//! Packed sets and tar shards on a local disk: the same samples as their source, and no fault passes unseen.

#![allow(clippy::unwrap_used)] // The helpers here are tests too.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use simsiam_data::pack::{PackOptions, pack, verify, verify_shards};
use simsiam_data::storage::{Storage, StorageErrorKind};
use simsiam_data::synth::{self, SynthOptions};
use simsiam_data::{Access, DecodeOptions, Decoder, Error, ImageFolder, RgbImage, Source, TargetSize, open};
use tokio::runtime::Runtime;

struct Fixture {
    folder: tempfile::TempDir,
    runtime: Runtime,
}

impl Fixture {
    /// `train/<class>/…`: ten classes of three drawn images each.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = SynthOptions { train_per_class: 3, val_per_class: 1, size: 48, seed: 0 };
        synth::write(folder.path(), &options, &mut |_, _| {}).unwrap();
        Self { folder, runtime: Runtime::new().unwrap() }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn access(&self) -> Access {
        Access::new(self.runtime.handle().clone())
    }

    fn store(&self, name: &str) -> Storage {
        let uri = self.path(name).display().to_string();
        Storage::create(&uri, &self.access().storage, self.runtime.handle().clone()).unwrap()
    }

    fn open(&self, name: &str) -> Result<Arc<dyn Source>, Error> {
        open(&self.path(name).display().to_string(), None, &self.access())
    }

    fn pack(&self, to: &str, options: &PackOptions) -> Result<simsiam_data::pack::Packed, Error> {
        pack(&*self.open("train").unwrap(), &self.store(to), options, &mut |_, _| {})
    }
}

fn small_shards() -> PackOptions {
    PackOptions { samples_per_shard: 7, threads: 2, ..PackOptions::default() }
}

fn assert_same(a: &dyn Source, b: &dyn Source) {
    assert_eq!((a.len(), a.classes()), (b.len(), b.classes()));
    for id in 0..a.len() as u64 {
        assert_eq!((a.name(id), a.label(id)), (b.name(id), b.label(id)), "sample {id}");
        assert_eq!(a.read(id).unwrap(), b.read(id).unwrap(), "{}", a.name(id));
    }
}

#[test]
fn packed_set_has_samples_of_its_source() {
    let fixture = Fixture::new();
    let packed = fixture.pack("packed", &small_shards()).unwrap();
    assert_eq!((packed.manifest.samples, packed.manifest.shards.len(), packed.reused), (30, 5, 0));
    let (folder, set) = (fixture.open("train").unwrap(), fixture.open("packed").unwrap());
    assert_same(&*folder, &*set);
    assert!(matches!(set.read(30), Err(Error::NoSuchSample { id: 30, len: 30 })));
    // Any tar reads it.
    let listed =
        std::process::Command::new("tar").arg("-tf").arg(fixture.path("packed/shard-00000.tar")).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&listed.stdout).lines().next(), Some(folder.name(0)));
    // With the classes of another set, labels follow those.
    let more: Vec<String> = ["a-first".to_owned()].into_iter().chain(folder.classes().to_vec()).collect();
    let set = open(&fixture.path("packed").display().to_string(), Some(&more), &fixture.access()).unwrap();
    assert_eq!((set.label(0), set.classes().len()), (Some(1), 11));
}

#[test]
fn interrupted_packing_resumes_and_complete_set_is_reused() {
    let fixture = Fixture::new();
    fixture.pack("packed", &small_shards()).unwrap();
    let stamp = |name: &str| fs::metadata(fixture.path("packed").join(name)).unwrap().modified().unwrap();
    let before = (stamp("packed.json"), stamp("shard-00000.tar"));
    let again = fixture.pack("packed", &small_shards()).unwrap();
    assert_eq!((again.reused, again.bytes_in), (5, 0));
    assert_eq!((stamp("packed.json"), stamp("shard-00000.tar")), before);

    // Killed after three shards: no manifest; one of the three was cut, one has no index yet.
    let whole = fs::read(fixture.path("packed/packed.json")).unwrap();
    for name in
        ["packed.json", "shard-00002.idx", "shard-00003.idx", "shard-00003.tar", "shard-00004.tar", "shard-00004.idx"]
    {
        fs::remove_file(fixture.path("packed").join(name)).unwrap();
    }
    let cut = fixture.path("packed/shard-00001.tar");
    let bytes = fs::read(&cut).unwrap();
    fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    assert!(fixture.open("packed").is_err(), "without its manifest it is no packed set");
    let resumed = fixture.pack("packed", &small_shards()).unwrap();
    assert_eq!(resumed.reused, 1);
    assert_eq!(fs::read(fixture.path("packed/packed.json")).unwrap(), whole, "the same bytes as without the kill");
    assert_same(&*fixture.open("train").unwrap(), &*fixture.open("packed").unwrap());
}

#[test]
fn other_packed_set_is_not_overwritten() {
    let fixture = Fixture::new();
    fixture.pack("packed", &small_shards()).unwrap();
    let other = PackOptions { size: TargetSize::MaxSide(32), ..small_shards() };
    let error = fixture.pack("packed", &other).unwrap_err().to_string();
    assert!(error.contains("packed.json") && error.contains("choose another folder"), "{error}");
}

#[test]
fn packed_images_are_downscaled_never_enlarged() {
    let fixture = Fixture::new();
    for (size, to, expected) in [
        (TargetSize::MaxSide(32), "max", (32, 32)),
        (TargetSize::ShortSide(24), "short", (24, 24)),
        (TargetSize::MaxSide(4000), "large", (48, 48)),
    ] {
        fixture.pack(to, &PackOptions { size, ..small_shards() }).unwrap();
        let set = fixture.open(to).unwrap();
        let mut image = RgbImage::default();
        Decoder::new().decode("x", &set.read(3).unwrap(), &mut image).unwrap();
        assert_eq!((image.width, image.height), expected);
        assert_eq!(set.name(3), fixture.open("train").unwrap().name(3));
    }
}

#[test]
fn unreadable_images_are_left_out_up_to_limit() {
    let fixture = Fixture::new();
    let bad = ImageFolder::open(&fixture.path("train")).unwrap().name(8).to_owned();
    fs::write(fixture.path("train").join(&bad), "no image").unwrap();
    let error = fixture.pack("strict", &small_shards()).unwrap_err();
    assert!(matches!(&error, Error::TooManyCorrupt { limit: 0, .. }), "{error}");
    assert!(error.to_string().contains(&bad), "{error}");
    let packed = fixture.pack("lenient", &PackOptions { max_corrupt: 1, ..small_shards() }).unwrap();
    assert_eq!((packed.manifest.samples, packed.manifest.left_out), (29, vec![bad.clone()]));
    let set = fixture.open("lenient").unwrap();
    assert!((0..29).all(|id| set.name(id) != bad));
    // A second attempt that finds the shards there knows it too.
    fs::remove_file(fixture.path("lenient/packed.json")).unwrap();
    let again = fixture.pack("lenient", &PackOptions { max_corrupt: 1, ..small_shards() }).unwrap();
    assert_eq!((again.reused, again.manifest.left_out), (5, vec![bad]));
}

/// One bit of one sample of the second shard.
fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    bytes[512 + 100] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn damaged_shard_is_reported_by_verify() {
    let fixture = Fixture::new();
    fixture.pack("packed", &small_shards()).unwrap();
    flip(&fixture.path("packed/shard-00001.tar"));
    let set = fixture.open("packed").unwrap();
    let error = set.read(7).unwrap_err();
    assert!(error.is_bad_image() && error.to_string().contains("shard-00001.tar"), "{error}");
    assert!(set.read(6).is_ok() && set.read(8).is_ok());
    let faults = verify(&*set, 2, &mut |_, _| {}).unwrap();
    assert_eq!(faults.iter().map(|f| f.name.as_str()).collect::<Vec<_>>(), [set.name(7)]);
    let shards = verify_shards(&fixture.store("packed"), &mut |_, _| {}).unwrap().unwrap();
    assert_eq!(shards.iter().map(|f| f.name.as_str()).collect::<Vec<_>>(), ["shard-00001.tar"]);
    assert_eq!(verify_shards(&fixture.store("train"), &mut |_, _| {}).unwrap(), None);
}

#[test]
fn index_that_disagrees_with_shard_is_refused() {
    let fixture = Fixture::new();
    fixture.pack("packed", &small_shards()).unwrap();
    let (tar, idx) = (fixture.path("packed/shard-00002.tar"), fixture.path("packed/shard-00002.idx"));
    let (tar_bytes, idx_bytes) = (fs::read(&tar).unwrap(), fs::read(&idx).unwrap());
    let refused = |words: &[&str]| {
        let error = fixture.open("packed").map(|_| ()).unwrap_err().to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{words:?}: {error}");
    };
    fs::write(&tar, &tar_bytes[..tar_bytes.len() - 512]).unwrap();
    refused(&["shard-00002.tar", "truncated", "pack the data again"]);
    fs::remove_file(&tar).unwrap();
    refused(&["shard-00002.tar", "missing"]);
    fs::write(&tar, &tar_bytes).unwrap();
    fs::write(&idx, fs::read(fixture.path("packed/shard-00001.idx")).unwrap()).unwrap();
    refused(&["shard-00002.idx", "disagrees with the manifest"]);
    fs::write(&idx, &idx_bytes[..idx_bytes.len() - 5]).unwrap();
    refused(&["shard-00002.idx"]);
    fs::remove_file(&idx).unwrap();
    refused(&["shard-00002.idx", "missing"]);
    fs::write(fixture.path("packed/packed.json"), "{}").unwrap();
    refused(&["packed.json", "manifest"]);
}

fn tar_of(path: &Path, files: &[(&str, &[u8])]) {
    let mut builder = tar::Builder::new(fs::File::create(path).unwrap());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, *bytes).unwrap();
    }
    builder.finish().unwrap();
}

#[test]
fn webdataset_shards_are_read_with_labels() {
    let fixture = Fixture::new();
    fs::create_dir(fixture.path("shards")).unwrap();
    tar_of(&fixture.path("shards/b.tar"), &[("0003.jpg", b"three"), ("0003.cls", b"1"), ("0003.json", b"{}")]);
    tar_of(
        &fixture.path("shards/a.tar"),
        &[("0002.cls", b"0"), ("0002.jpg", b"two"), ("0001.png", b"one"), ("0001.cls", b"1")],
    );
    let set = fixture.open("shards").unwrap();
    let all: Vec<_> = (0..3).map(|id| (set.name(id), set.label(id), set.read(id).unwrap())).collect();
    assert_eq!(
        all,
        [
            ("0002.jpg", Some(0), b"two".to_vec()),
            ("0001.png", Some(1), b"one".to_vec()),
            ("0003.jpg", Some(1), b"three".to_vec())
        ]
    );
    // One tar by its own path.
    assert_eq!(fixture.open("shards/b.tar").unwrap().len(), 1);
    assert!(matches!(
        fixture.open("shards/c.tar"),
        Err(Error::Io { .. } | Error::Storage { kind: StorageErrorKind::Missing, .. })
    ));
    let bytes = fs::read(fixture.path("shards/a.tar")).unwrap();
    fs::write(fixture.path("shards/a.tar"), &bytes[..bytes.len() - 1500]).unwrap();
    let error = fixture.open("shards").map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("a.tar") && error.contains("truncated"), "{error}");
    fs::write(fixture.path("shards/a.tar"), [0; 4096]).unwrap();
    fs::write(fixture.path("shards/b.tar"), [0; 1024]).unwrap();
    assert!(matches!(fixture.open("shards"), Err(Error::EmptyFolder { .. })));
}

#[test]
fn flat_folder_is_packed_without_labels() {
    let fixture = Fixture::new();
    fs::create_dir(fixture.path("flat")).unwrap();
    let train = fixture.open("train").unwrap();
    for id in 0..5 {
        fs::write(fixture.path("flat").join(format!("{id}.jpg")), train.read(id).unwrap()).unwrap();
    }
    let flat = fixture.open("flat").unwrap();
    assert_eq!((flat.len(), flat.classes().len(), flat.label(0)), (5, 0, None));
    pack(&*flat, &fixture.store("flat-packed"), &small_shards(), &mut |_, _| {}).unwrap();
    assert_same(&*flat, &*fixture.open("flat-packed").unwrap());
}

/// Arrays of five channels keep their bytes, and are found whole or damaged as such.
#[test]
fn images_of_other_channels_are_packed_as_they_are() {
    let fixture = Fixture::new();
    let header = "{'descr': '|u1', 'fortran_order': False, 'shape': (4, 3, 5), }\n";
    let array = |value: u8| {
        let begin = [&b"\x93NUMPY\x01\0"[..], &(header.len() as u16).to_le_bytes(), header.as_bytes()].concat();
        [&begin[..], &[value; 60]].concat()
    };
    for class in ["a", "b"] {
        fs::create_dir_all(fixture.path("arrays").join(class)).unwrap();
        for number in 0..5 {
            fs::write(fixture.path("arrays").join(class).join(format!("{number}.npy")), array(number)).unwrap();
        }
    }
    let open_as = |name: &str, channels: usize| {
        let decode = DecodeOptions { channels, ..DecodeOptions::default() };
        let access = Access { decode, ..fixture.access() };
        open(&fixture.path(name).display().to_string(), None, &access).unwrap()
    };
    let source = open_as("arrays", 5);
    let pack_to = |source: &Arc<dyn Source>, to: &str, size: TargetSize| {
        pack(&**source, &fixture.store(to), &PackOptions { size, ..small_shards() }, &mut |_, _| {})
    };
    let packed = pack_to(&source, "five", TargetSize::Keep).unwrap();
    assert_eq!((packed.manifest.samples, packed.manifest.left_out.len()), (10, 0));
    assert_same(&*source, &*open_as("five", 5));
    assert!(verify(&*open_as("five", 5), 2, &mut |_, _| {}).unwrap().is_empty());
    let faults = verify(&*open_as("five", 4), 2, &mut |_, _| {}).unwrap();
    assert!(faults.len() == 10 && faults[0].reason.contains("it has 5 channels, expected 4"), "{faults:?}");
    // As images of four channels they are none, and not what is packed there.
    let four = open_as("arrays", 4);
    assert!(matches!(pack_to(&four, "four", TargetSize::Keep), Err(Error::TooManyCorrupt { .. })));
    assert!(matches!(pack_to(&four, "five", TargetSize::Keep), Err(Error::Shard { .. })));
    let smaller = pack_to(&source, "smaller", TargetSize::MaxSide(32)).unwrap_err();
    assert!(smaller.to_string().contains("keep, for images of other than three channels"), "{smaller}");
}
