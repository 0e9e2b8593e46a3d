//! Formats other than JPEG and 8-bit PNG: every pixel as `formats/make.py` says, in every range, and no file that crashes.

#![allow(clippy::unwrap_used)] // The helpers here are tests too.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use simsiam_data::pack::{PackOptions, pack, verify};
use simsiam_data::rng::CounterRng;
use simsiam_data::storage::Storage;
use simsiam_data::{
    Access, DecodeOptions, Decoder, Error, EvalLoader, EvalView, Loader, LoaderOptions, Pages, RgbImage, Source,
    TargetSize, TwoViews, ValueRange, open,
};
use tokio::runtime::Runtime;

fn folder(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests")).join(name)
}

fn file(name: &str) -> Vec<u8> {
    let found = std::fs::read(folder("formats").join(name));
    found.unwrap_or_else(|_| std::fs::read(folder("fixtures").join(name)).unwrap())
}

/// The names of the images that decode, without those that hold the expected pixels of others.
fn names() -> BTreeSet<String> {
    let files = std::fs::read_dir(folder("formats")).unwrap().map(|entry| entry.unwrap().file_name());
    let names = files.map(|name| name.into_string().unwrap());
    let kinds = [".tif", ".bmp", ".webp", ".dcm"];
    let refused = ["bands5.tif", "jpeg2000.dcm"];
    names.filter(|name| kinds.iter().any(|kind| name.ends_with(kind)) && !refused.contains(&name.as_str())).collect()
}

fn decode(bytes: &[u8], range: ValueRange) -> Result<RgbImage, Error> {
    let mut image = RgbImage::default();
    Decoder::with(DecodeOptions { range, ..DecodeOptions::default() }).decode("a/b", bytes, &mut image).map(|()| image)
}

fn digest(image: &RgbImage) -> String {
    let mut sum = Sha256::new();
    sum.update(format!("{}x{}", image.width, image.height));
    sum.update(&image.pixels);
    sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn pixels_are_those_of_the_reference_in_every_range() {
    let cases = std::fs::read_to_string(folder("formats/cases.txt")).unwrap();
    let (mut wrong, mut tried) = (Vec::new(), BTreeSet::new());
    for line in cases.lines().filter(|line| !line.starts_with('#')) {
        let [name, range, expected] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        tried.insert(name.to_owned());
        match decode(&file(name), range.parse().unwrap()) {
            Ok(image) if digest(&image) == expected => {}
            Ok(image) => wrong.push(format!("{name} {range}: other pixels, {}x{}", image.width, image.height)),
            Err(error) => wrong.push(format!("{name} {range}: {error}")),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let lossy = ["lossy.webp", "lossy-alpha.webp", "jpeg.tif", "rgb555.bmp"].map(str::to_owned);
    let untried: Vec<_> = names().difference(&tried).filter(|name| !lossy.contains(name)).cloned().collect();
    assert!(untried.is_empty(), "no case of {untried:?}");
}

/// Against Pillow, in levels of 255: the largest difference, and the mean.
#[test]
fn lossy_images_are_close_to_pillow() {
    for (name, largest, mean) in
        [("lossy.webp", 0, 0.0), ("lossy-alpha.webp", 0, 0.0), ("jpeg.tif", 1, 0.05), ("rgb555.bmp", 1, 0.6)]
    {
        let ours = decode(&file(name), ValueRange::Auto).unwrap();
        let theirs = decode(&file(&format!("{name}.png")), ValueRange::Auto).unwrap();
        assert_eq!((ours.width, ours.height), (theirs.width, theirs.height), "{name}");
        let differences = ours.pixels.iter().zip(&theirs.pixels).map(|(a, b)| a.abs_diff(*b));
        let most = differences.clone().max().unwrap();
        let average = differences.map(f64::from).sum::<f64>() / ours.pixels.len() as f64;
        println!("{name}: largest difference {most}, mean {average:.4}");
        assert!(most <= largest && average <= mean, "{name}: largest difference {most}, mean {average:.4}");
    }
}

#[test]
fn image_that_is_not_read_is_named_by_its_content() {
    let mut other_compression = file("gray8-lzw.tif");
    let lzw = other_compression.windows(4).position(|entry| entry == [3, 1, 3, 0]).unwrap();
    other_compression[lzw + 8..lzw + 10].copy_from_slice(&50_000u16.to_le_bytes());
    let mut twelve_bits = file("u16.tif");
    let bits = twelve_bits.windows(4).position(|entry| entry == [2, 1, 3, 0]).unwrap();
    twelve_bits[bits + 8] = 12;
    for (bytes, expected) in [
        (
            &b"GIF89a"[..],
            "it is a GIF image, whatever its name says; only JPEG, PNG, TIFF, BMP, WebP, DICOM and NumPy are read",
        ),
        (b"\0\0\0\x18ftypheic", "it is a HEIC image, whatever its name says"),
        (&file("bands5.tif"), "it has 5 channels, which are neither gray nor RGB"),
        (&other_compression, "it is a TIFF image with compression ZSTD, which is not read"),
        (&twelve_bits, "it is a TIFF image with samples of 12 bits, which is not read"),
        (&file("jpeg2000.dcm"), "it is a DICOM file with JPEG 2000 pixels, which is not read"),
    ] {
        let error = decode(bytes, ValueRange::Auto).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert!(error.is_bad_image(), "it is replaced, and counted");
    }
}

/// A file cut short is refused, or has all its pixels; whatever is in a file, nothing crashes.
#[test]
fn truncated_or_damaged_image_is_refused_or_whole() {
    let mut rng = CounterRng::named(3, "damaged formats");
    let mut refused = 0;
    for name in names() {
        let whole = file(&name);
        let image = decode(&whole, ValueRange::Auto).unwrap();
        for length in (0..whole.len()).step_by(31) {
            match decode(&whole[..length], ValueRange::Auto) {
                Ok(cut) => assert!(cut == image, "{name} cut to {length} of {} bytes", whole.len()),
                Err(error) => assert!(error.is_bad_image(), "{name}: {error}"),
            }
        }
        for _ in 0..60 {
            let mut bytes = whole.clone();
            for _ in 0..1 + rng.below(6) {
                // Headers are near the beginning and, in TIFF, near the end.
                let near = rng.below(bytes.len().min(400) as u64) as usize;
                let place = if rng.below(2) == 0 { near } else { bytes.len() - 1 - near };
                bytes[place] = rng.next_u32() as u8;
            }
            match decode(&bytes, ValueRange::Percentiles { low: 1.0, high: 99.0 }) {
                Ok(image) => assert_eq!(image.pixels.len(), image.width * image.height * 3),
                Err(error) => {
                    assert!(error.is_bad_image(), "{name}: {error}");
                    assert!(!error.to_string().contains("decoder failed"), "{name}: {error}");
                    refused += 1;
                }
            }
        }
    }
    assert!(refused > 500, "{refused}");
}

#[test]
fn size_in_a_header_is_refused_before_memory_is_taken() {
    let large = 30_000u32.to_le_bytes();
    let with = |name: &str, places: &[(usize, &[u8])]| {
        let mut bytes = file(name);
        places.iter().for_each(|(at, value)| bytes[*at..at + value.len()].copy_from_slice(value));
        bytes
    };
    // The directory follows the header; entries 256 and 257 are width and height, here as 32-bit numbers.
    let whole = file("u16.tif");
    let entry = |tag: u16| (10..200).step_by(12).find(|at| whole[*at..at + 2] == tag.to_le_bytes()).unwrap();
    // Entry 278 is the number of rows in a strip.
    let places = [256, 257, 278].map(entry);
    let changes: Vec<(usize, &[u8])> = places.iter().flat_map(|at| [(at + 2, &[4, 0][..]), (at + 8, &large)]).collect();
    let tiff = with("u16.tif", &changes);
    let bmp = with("rgb24.bmp", &[(18, &large), (22, &large)]);
    let webp = with("lossless.webp", &[(21, &[0xFE, 0xBF, 0xFF, 0x0F])]);
    let dicom = file("u12.dcm");
    // Further elements with these tags are those of an icon.
    let element = |tag: [u8; 4]| dicom.windows(4).position(|bytes| bytes == tag).unwrap();
    let (rows, columns) = (element([0x28, 0, 0x10, 0]) + 8, element([0x28, 0, 0x11, 0]) + 8);
    let rows = with("u12.dcm", &[(rows, &[0xFF, 0xFF]), (columns, &[0xFF, 0xFF])]);
    let pixels = with("u12.dcm", &[(element([0xE0, 0x7F, 0x10, 0]) + 8, &[0xF0, 0xFF, 0xFF, 0xFF])]);
    for (bytes, expected) in [
        (tiff, "30000x30000 pixels exceed the limit of 178956970"),
        (bmp, "30000x30000 pixels exceed the limit of 178956970"),
        (webp, "16383x16383 pixels exceed the limit of 178956970"),
        (rows, "65535x65535 pixels exceed the limit of 178956970"),
        (pixels, "an element has 4294967280 bytes, beyond the file's end"),
    ] {
        let error = decode(&bytes, ValueRange::Auto).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

/// A data set in a folder, by its options.
struct Fixture {
    folder: tempfile::TempDir,
    runtime: Runtime,
}

impl Fixture {
    /// Class `a` has a TIFF file of three pages, one of one page and a WebP; class `b` a 16-bit PNG and a JPEG.
    fn new() -> Self {
        let fixture = Self { folder: tempfile::tempdir().unwrap(), runtime: Runtime::new().unwrap() };
        for (name, from) in [
            ("train/a/many.tif", "pages.tif"),
            ("train/a/one.tif", "u16.tif"),
            ("train/a/x.webp", "lossless.webp"),
            ("train/b/g.png", "gray16.png"),
            ("train/b/y.jpg", "420.jpg"),
        ] {
            let path = fixture.folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, file(from)).unwrap();
        }
        fixture
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn open(&self, name: &str, pages: Pages, range: ValueRange) -> Arc<dyn Source> {
        let access = Access {
            pages,
            decode: DecodeOptions { range, ..DecodeOptions::default() },
            ..Access::new(self.runtime.handle().clone())
        };
        open(&self.path(name), None, &access).unwrap()
    }

    fn pack(&self, source: &dyn Source, to: &str, size: TargetSize) {
        let access = Access::new(self.runtime.handle().clone());
        let to = Storage::create(&self.path(to), &access.storage, access.runtime).unwrap();
        pack(source, &to, &PackOptions { size, threads: 2, ..PackOptions::default() }, &mut |_, _| {}).unwrap();
    }
}

fn images(source: &dyn Source) -> Vec<(String, RgbImage)> {
    let mut decoder = Decoder::with(source.decode_options());
    let image = |id| {
        let mut image = RgbImage::default();
        decoder.decode(source.name(id), &source.read(id).unwrap(), &mut image).unwrap();
        (source.name(id).to_owned(), image)
    };
    (0..source.len() as u64).map(image).collect()
}

const STRETCH: ValueRange = ValueRange::Percentiles { low: 5.0, high: 95.0 };

#[test]
fn each_page_is_a_sample_in_folder_and_tar() {
    let fixture = Fixture::new();
    let first = fixture.open("train", Pages::First, ValueRange::Auto);
    assert_eq!(first.len(), 5);
    let all = fixture.open("train", Pages::All, ValueRange::Auto);
    let mut tar = std::process::Command::new("tar");
    tar.args(["-cf", "t.tar", "-C", "train", "a", "b"]).current_dir(fixture.folder.path());
    assert!(tar.status().unwrap().success());
    for source in [all, fixture.open("t.tar", Pages::All, ValueRange::Auto)] {
        let found = images(&*source);
        let names: Vec<_> = found.iter().map(|(name, _)| name.as_str()).collect();
        let pages = ["a/many.tif#1", "a/many.tif#2", "a/many.tif#3"];
        assert_eq!(names, [&pages[..], &["a/one.tif", "a/x.webp", "b/g.png", "b/y.jpg"]].concat());
        assert_eq!((source.classes().len(), source.label(2), source.label(5)), (2, Some(0), Some(1)));
        // Pages 2 and 3 have a half and a third of the values.
        let bright = |index: usize| found[index].1.pixels.iter().map(|value| f64::from(*value)).sum::<f64>();
        assert!((bright(0) / bright(1) - 2.0).abs() < 0.02 && (bright(0) / bright(2) - 3.0).abs() < 0.03);
        assert_eq!(found[0].1, images(&*first)[0].1);
        assert_eq!(source.listing_report().lines(), ["3 samples are the pages of 1 TIFF files"]);
    }
}

#[test]
fn damaged_list_of_pages_is_a_bad_image() {
    let fixture = Fixture::new();
    let whole = file("pages.tif");
    // Cut within its last directory.
    std::fs::write(fixture.path("train/a/cut.tif"), &whole[..whole.len() - 270]).unwrap();
    std::fs::write(fixture.path("train/a/jpeg.tif"), file("420.jpg")).unwrap();
    let source = fixture.open("train", Pages::All, ValueRange::Auto);
    let names: Vec<_> = (0..source.len() as u64).map(|id| source.name(id)).collect();
    assert_eq!(names[..2], ["a/cut.tif#1", "a/jpeg.tif"], "{names:?}");
    let error = source.read(0).unwrap_err();
    assert!(error.is_bad_image() && error.to_string().contains("its list of pages is damaged"), "{error}");
    let faults = verify(&*source, 1, &mut |_, _| {}).unwrap();
    assert_eq!(faults.iter().map(|fault| fault.name.as_str()).collect::<Vec<_>>(), ["a/cut.tif#1"]);
}

#[test]
fn packed_set_has_pixels_of_its_source_in_every_range() {
    let fixture = Fixture::new();
    for (number, range) in [ValueRange::Auto, ValueRange::Pillow, STRETCH].into_iter().enumerate() {
        let source = fixture.open("train", Pages::All, range);
        let to = format!("packed-{number}");
        fixture.pack(&*source, &to, TargetSize::Keep);
        let set = fixture.open(&to, Pages::All, range);
        assert_eq!(images(&*set), images(&*source), "{range}");
        assert_eq!(set.read(3).unwrap(), source.read(3).unwrap(), "a file of one page keeps its bytes");
        // A page does not bring the other pages along.
        assert!(set.read(1).unwrap().starts_with(b"\x89PNG"));
        assert_eq!(verify(&*set, 2, &mut |_, _| {}).unwrap(), []);
        // Packed again, nothing changes.
        fixture.pack(&*set, &format!("{to}-again"), TargetSize::Keep);
        assert_eq!(images(&*fixture.open(&format!("{to}-again"), Pages::First, range)), images(&*source), "{range}");
    }
    // The same folder by another range is another set.
    let source = fixture.open("train", Pages::All, ValueRange::Fixed { low: 0.0, high: 9.0 });
    let access = Access::new(fixture.runtime.handle().clone());
    let to = Storage::create(&fixture.path("packed-0"), &access.storage, access.runtime).unwrap();
    let options = PackOptions { threads: 2, ..PackOptions::default() };
    let error = pack(&*source, &to, &options, &mut |_, _| {}).unwrap_err().to_string();
    assert!(error.contains("with other settings"), "{error}");
}

#[test]
fn smaller_packed_images_follow_range() {
    let fixture = Fixture::new();
    let mean = |range| {
        let source = fixture.open("train", Pages::First, range);
        let to = format!("small-{range}");
        fixture.pack(&*source, &to, TargetSize::MaxSide(16));
        let set = fixture.open(&to, Pages::First, ValueRange::Auto);
        assert!(set.read(0).unwrap().starts_with(&[0xFF, 0xD8]));
        let image = &images(&*set)[0].1;
        image.pixels.iter().map(|value| f64::from(*value)).sum::<f64>() / image.pixels.len() as f64
    };
    let (auto, bright) = (mean(ValueRange::Auto), mean(ValueRange::Fixed { low: 0.0, high: 9000.0 }));
    assert!(bright > auto + 50.0, "{auto} {bright}");
}

#[test]
fn range_reaches_both_loaders() {
    let fixture = Fixture::new();
    let load = |range| {
        let source = fixture.open("train", Pages::First, range);
        let view = EvalView { resize: 16, crop: 16, mean: vec![0.0; 3], std: vec![1.0; 3] };
        let eval = EvalLoader::new(source.clone(), view, 0..2, 2, 1).unwrap().next().unwrap().unwrap();
        assert_eq!((eval.ids.len(), eval.skipped.len()), (2, 0));
        let views = TwoViews { crop_size: 16, ..TwoViews::default() };
        let options = LoaderOptions { batch: 5, ..LoaderOptions::default() };
        let train = Loader::two_views(source, views, options).unwrap().next().unwrap().unwrap();
        (eval.images, train.views)
    };
    let (auto, stretched) = (load(ValueRange::Auto), load(STRETCH));
    assert!(auto.0 != stretched.0 && auto.1 != stretched.1);
}
