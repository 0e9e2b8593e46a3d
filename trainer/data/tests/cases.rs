//! Files that users of image trainers really have, and what must be read from each.

#![allow(clippy::unwrap_used)] // The helpers here are tests too.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use simsiam_data::{Access, Decoder, Error, ImageFolder, RgbImage, Source, listing_digest, open};

fn case(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases")).join(name)
}

fn opened(path: &Path, image_key: Option<&str>) -> Result<Arc<dyn Source>, Error> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let access = Access { image_key: image_key.map(str::to_owned), ..Access::new(runtime.handle().clone()) };
    open(&path.display().to_string(), None, &access)
}

fn message(path: &Path) -> String {
    opened(path, None).err().unwrap().to_string()
}

fn decode(bytes: &[u8]) -> Result<RgbImage, Error> {
    let mut image = RgbImage::default();
    Decoder::new().decode("x", bytes, &mut image).map(|()| image)
}

#[test]
fn images_with_harmless_faults_decode() {
    for name in ["jfif_rev_0_00.jpg", "bad_idat_crc.png"] {
        decode(&std::fs::read(case(name)).unwrap()).unwrap();
    }
    let large = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/cases/junk_jpeg_header.jpg"));
    match std::fs::read(large) {
        Ok(bytes) => drop(decode(&bytes).unwrap()),
        Err(_) => println!("skipped: {} is not here", large.display()),
    }
}

#[test]
fn other_format_named_like_a_jpeg_is_named_by_its_content() {
    let message = decode(b"GIF89a\x10\0\x10\0").unwrap_err().to_string();
    assert!(message.contains("it is a GIF image, whatever its name says"), "{message}");
    // One that is read is read under any name.
    assert!(decode(&std::fs::read(case("formatsmix/a/0.webp")).unwrap()).is_ok());
}

#[test]
fn folder_of_mixed_formats_is_read_whole() {
    let source = opened(&case("formatsmix"), None).unwrap();
    assert_eq!((source.len(), source.classes()), (11, &["a", "b"].map(String::from)[..]));
    assert_eq!(source.listing_report().lines(), [""; 0]);
    for id in 0..11 {
        let image = decode(&source.read(id).unwrap()).unwrap();
        assert!(image.width > 1 && image.pixels.iter().any(|value| *value != image.pixels[0]), "{}", source.name(id));
    }
}

#[test]
fn two_tars_in_one_file_are_read_whole() {
    let source = opened(&case("concat.tar"), None).unwrap();
    assert_eq!((source.len(), source.classes()), (16, &["xa", "xb", "ya", "yb"].map(String::from)[..]));
    for id in 0..16 {
        decode(&source.read(id).unwrap()).unwrap();
    }
}

#[test]
fn compressed_tar_says_so() {
    let message = message(&case("gzip_named.tar"));
    assert!(message.contains("is compressed by gzip") && message.contains("gunzip"), "{message}");
}

#[test]
fn sample_without_a_class_is_named() {
    let message = message(&case("missingcls.tar"));
    assert!(message.contains("000003.jpg has no class: 000003.cls is missing or empty, while 5 samples"), "{message}");
}

#[test]
fn several_images_of_a_key_are_named_and_chosen() {
    let all = opened(&case("multi.tar"), None).unwrap();
    let listing_report = all.listing_report();
    assert_eq!(listing_report.image_keys, ["left.jpg", "right.png"]);
    assert!(listing_report.lines().concat().contains("each of them is a sample"), "{listing_report:?}");
    let left = opened(&case("multi.tar"), Some("left.jpg")).unwrap();
    assert_eq!(left.len() * 2, all.len());
    assert!((0..left.len() as u64).all(|id| left.name(id).ends_with(".left.jpg")));
    let error = opened(&case("multi.tar"), Some("jpg")).err().unwrap().to_string();
    assert!(error.contains("no image has the chosen ending jpg; there are 6 left.jpg, 6 right.png"), "{error}");
}

#[test]
fn classes_of_a_tar_with_a_root_folder_are_below_it() {
    for path in [case("rooted/train.tar"), case("rooted")] {
        let source = opened(&path, None).unwrap();
        assert_eq!((source.len(), source.classes()), (4, &["bars", "discs"].map(String::from)[..]));
        assert_eq!(source.listing_report().wrapper.as_deref(), Some("train"));
    }
}

#[test]
fn files_that_are_no_samples_are_counted() {
    let root = tempfile::tempdir().unwrap();
    for file in ["a/1.JPE", "a/2.jfif", "a/3.heic", "b/1.avif", "b/2.avif", "b/notes.txt", "c/1.png"] {
        std::fs::create_dir_all(root.path().join(file).parent().unwrap()).unwrap();
        std::fs::write(root.path().join(file), "x").unwrap();
    }
    let source = ImageFolder::open(root.path()).unwrap();
    assert_eq!((source.len(), source.classes()), (3, &["a", "c"].map(String::from)[..]));
    let listing_report = source.listing_report();
    assert_eq!(listing_report.kinds(), "2 .avif, 1 .heic, 1 .txt");
    assert_eq!(listing_report.empty_classes, ["b"]);
    assert_eq!(listing_report.lines()[1], "class folder b contains no readable images and is ignored");
    std::fs::remove_dir_all(root.path().join("a")).unwrap();
    std::fs::remove_dir_all(root.path().join("c")).unwrap();
    let error = ImageFolder::open(root.path()).unwrap_err().to_string();
    assert!(error.contains("no images among 3 files (2 .avif, 1 .txt)"), "{error}");
}

#[test]
fn link_loop_and_pipe_are_skipped() {
    let root = tempfile::tempdir().unwrap();
    let path = |name: &str| root.path().join(name);
    for class in ["a", "b"] {
        std::fs::create_dir_all(path(class)).unwrap();
        std::fs::write(path(class).join("1.jpg"), "x").unwrap();
    }
    std::os::unix::fs::symlink(root.path(), path("a/loop")).unwrap();
    std::os::unix::fs::symlink(root.path(), path("again")).unwrap();

    let pipe = std::process::Command::new("mkfifo").arg(path("b/2.jpg")).status().unwrap();
    assert!(pipe.success());
    let source = ImageFolder::open(root.path()).unwrap();
    let names: Vec<_> = (0..source.len() as u64).map(|id| source.name(id).to_owned()).collect();
    assert_eq!(names, ["a/1.jpg", "b/1.jpg"]);
    assert_eq!(source.listing_report().kinds(), "2 link to a folder above it, 1 pipe, socket or device");
}

#[test]
fn digest_of_a_listing_changes_with_names_and_classes() {
    let root = tempfile::tempdir().unwrap();
    let write = |file: &str| {
        std::fs::create_dir_all(root.path().join(file).parent().unwrap()).unwrap();
        std::fs::write(root.path().join(file), "x").unwrap();
    };
    write("a/1.jpg");
    write("b/1.jpg");
    let digest = || listing_digest(&ImageFolder::open(root.path()).unwrap());
    let before = digest();
    assert_eq!(digest(), before);
    std::fs::rename(root.path().join("a/1.jpg"), root.path().join("a/2.jpg")).unwrap();
    let renamed = digest();
    assert_ne!(renamed, before);
    std::fs::rename(root.path().join("a/2.jpg"), root.path().join("b/2.jpg")).unwrap();
    assert_ne!(digest(), renamed);
}
