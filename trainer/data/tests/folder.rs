//! What counts as a data set on disk, and what is said of a folder that is none.

#![allow(clippy::unwrap_used)] // The helpers here are tests too.

use std::fs;
use std::path::{Path, PathBuf};

use simsiam_data::{Error, ImageFolder, Source};
use tempfile::TempDir;

/// A folder with these files, each holding its own name.
fn folder(files: &[&str]) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for file in files {
        let path = root.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, file).unwrap();
    }
    root
}

fn names(source: &ImageFolder) -> Vec<&str> {
    (0..source.len() as u64).map(|id| source.name(id)).collect()
}

#[test]
fn folder_ids_follow_class_then_file_by_bytes() {
    // '-' sorts before '/': by whole paths, "a-b/…" would come before "a/…".
    let root = folder(&[
        "a-b/1.jpg",
        "a/2.PNG",
        "a/10.jpeg",
        "B/z.JPG",
        "a/note.txt",
        "é/x.jpg",
        "a/.hidden.jpg",
        "empty/n.txt",
    ]);
    let source = ImageFolder::open(root.path()).unwrap();
    assert_eq!(names(&source), ["B/z.JPG", "a/10.jpeg", "a/2.PNG", "a-b/1.jpg", "é/x.jpg"]);
    assert_eq!(source.classes(), ["B", "a", "a-b", "é"]);
    let labels: Vec<_> = (0..5).map(|id| source.label(id)).collect();
    assert_eq!(labels, [Some(0), Some(1), Some(1), Some(2), Some(3)]);
    assert_eq!(source.read(2).unwrap(), b"a/2.PNG");
    assert!(matches!(source.read(5), Err(Error::NoSuchSample { id: 5, len: 5 })));
    assert_eq!((source.name(5), source.label(5)), ("", None));
}

#[test]
fn flat_folder_has_no_labels() {
    let root = folder(&["2.jpg", "1.png", "readme.md"]);
    let source = ImageFolder::open(root.path()).unwrap();
    assert_eq!(names(&source), ["1.png", "2.jpg"]);
    assert_eq!((source.label(0), source.classes().len()), (None, 0));
}

#[test]
fn nested_folder_belongs_to_its_class() {
    let root = folder(&["cat/b/1.jpg", "cat/a.jpg", "dog/1.jpg"]);
    let source = ImageFolder::open(root.path()).unwrap();
    assert_eq!(names(&source), ["cat/a.jpg", "cat/b/1.jpg", "dog/1.jpg"]);
    assert_eq!(source.label(1), Some(0));
}

#[test]
fn symbolic_link_counts_as_its_target() {
    let root = folder(&["store/1.jpg", "data/cat/2.jpg"]);
    let link = |from: &str, to: &str| std::os::unix::fs::symlink(root.path().join(from), root.path().join(to)).unwrap();
    link("store/1.jpg", "data/cat/1.jpg");
    link("store", "data/dog");
    link("data", "data/cat/circle");
    link("nowhere", "data/cat/3.jpg");
    let source = ImageFolder::open(&root.path().join("data")).unwrap();
    assert_eq!(source.classes(), ["cat", "dog"]);
    assert_eq!(source.read(0).unwrap(), b"store/1.jpg");
    // A broken link is an image that cannot be read, and the circle has an end.
    let broken = (0..source.len() as u64).find(|id| source.name(*id) == "cat/3.jpg").unwrap();
    assert!(source.read(broken).unwrap_err().is_bad_image());
}

#[test]
fn file_url_is_a_path() {
    let root = folder(&["1.jpg"]);
    let url = PathBuf::from(format!("file://{}", root.path().display()));
    assert_eq!(ImageFolder::open(&url).unwrap().len(), 1);
    let other = ImageFolder::open(Path::new("s3://bucket/train")).unwrap_err();
    assert_eq!(
        other.to_string(),
        "s3://bucket/train: scheme \"s3\" is not supported; expected a local path or file://<absolute path>"
    );
    assert!(matches!(ImageFolder::open(Path::new("file://host/x")), Err(Error::Scheme { .. })));
}

#[test]
fn val_uses_classes_of_train() {
    let train = folder(&["a/1.jpg", "b/1.jpg", "c/1.jpg"]);
    let classes = ImageFolder::open(train.path()).unwrap().classes().to_vec();
    let val = folder(&["c/1.jpg", "a/1.jpg"]);
    let source = ImageFolder::open_with_classes(val.path(), &classes).unwrap();
    assert_eq!(source.classes(), classes);
    assert_eq!((source.label(0), source.label(1)), (Some(0), Some(2)));
    let stranger = folder(&["a/1.jpg", "d/1.jpg"]);
    let error = ImageFolder::open_with_classes(stranger.path(), &classes).unwrap_err();
    assert!(error.to_string().contains("class folder \"d\" is not among the 3 classes"), "{error}");
}

#[test]
fn folder_without_usable_images_is_refused_by_name() {
    let message = |files: &[&str], below: &str| {
        let root = folder(files);
        let error =
            ImageFolder::open(&if below.is_empty() { root.path().to_path_buf() } else { root.path().join(below) })
                .unwrap_err()
                .to_string();
        error.replace(&root.path().display().to_string(), "ROOT")
    };
    for (files, below, expected) in [
        (&[][..], "", "ROOT: the folder is empty; expected <class>/<name>.jpg|png|…, or images without class folders"),
        (
            &["a/x.txt", "y.csv"],
            "",
            "ROOT: no images among 2 files (1 .csv, 1 .txt); expected names ending in .jpg, .jpeg, .jfif, .jpe, .png, .tif, .tiff, .bmp, .webp, .dcm or .npy, at the top or one folder deep",
        ),
        (&["a.jpg"], "none", "cannot open ROOT/none: No such file or directory (os error 2)"),
        (
            &["a.jpg"],
            "a.jpg",
            "ROOT/a.jpg: not a folder; expected a folder of class folders, or a flat folder, of images",
        ),
        (
            &["a/1.jpg", "b/1.jpg", "3.jpg"],
            "",
            "ROOT: found 1 images next to 2 class folders (first: 3.jpg); move them into a class folder or remove the folders",
        ),
    ] {
        assert_eq!(message(files, below), expected);
    }
}
