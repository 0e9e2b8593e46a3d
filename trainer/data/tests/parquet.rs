//! Images in Parquet files: the same samples as in a folder, in every form of the format, and no fault passes unseen.

#![allow(clippy::unwrap_used)] // The helpers here are tests too.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use simsiam_data::pack::{PackOptions, pack, verify};
use simsiam_data::storage::Storage;
use simsiam_data::{Access, Columns, Error, Source, open};
use tokio::runtime::Runtime;

fn fixture(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/parquet")).join(name)
}

fn open_with(path: &Path, classes: Option<&[String]>, columns: Columns) -> Result<Arc<dyn Source>, Error> {
    let runtime = Runtime::new().unwrap();
    let access = Access { columns, ..Access::new(runtime.handle().clone()) };
    open(&path.display().to_string(), classes, &access)
}

fn opened(name: &str) -> Result<Arc<dyn Source>, Error> {
    open_with(&fixture(name), None, Columns::default())
}

fn refusal(path: &Path) -> Error {
    open_with(path, None, Columns::default()).err().unwrap()
}

fn assert_same(a: &dyn Source, b: &dyn Source) {
    assert_eq!((a.len(), a.classes()), (b.len(), b.classes()));
    // In no order of the file.
    let len = a.len() as u64;
    for id in (0..len).map(|id| id * 7 % len) {
        assert_eq!((a.name(id), a.label(id)), (b.name(id), b.label(id)), "sample {id}");
        assert_eq!(a.read(id).unwrap(), b.read(id).unwrap(), "{}", a.name(id));
    }
}

#[test]
fn files_of_datasets_have_the_samples_of_their_folder() {
    let folder = opened("images/train").unwrap();
    assert_eq!(folder.len(), 24);
    for address in ["data/train", "data/train-"] {
        let parquet = opened(address).unwrap();
        assert_same(&*folder, &*parquet);
        assert_eq!(parquet.listing_report().lines(), [""; 0]);
    }
    let (classes, columns) = (folder.classes().to_vec(), Columns::default());
    let val = open_with(&fixture("data/test-00000-of-00001.parquet"), Some(&classes), columns.clone()).unwrap();
    assert_same(&*open_with(&fixture("images/test"), Some(&classes), columns.clone()).unwrap(), &*val);
    let error = open_with(&fixture("data/test"), Some(&classes[1..]), columns).err().unwrap();
    assert!(matches!(&error, Error::UnknownClass { class, .. } if class == "bird"), "{error}");
    assert!(matches!(val.read(6), Err(Error::NoSuchSample { id: 6, len: 6 })));
}

#[test]
fn every_form_of_the_format_has_the_same_samples() {
    let folder = opened("images/train").unwrap();
    for form in ["indexed", "scanned", "dictionary", "fallback", "pages2"] {
        assert_same(&*folder, &*opened(&format!("forms/{form}.parquet")).unwrap());
    }
}

#[test]
fn images_without_paths_are_named_by_file_and_row() {
    let folder = opened("images/train").unwrap();
    let by_name = |name: &str| (0..folder.len() as u64).find(|id| folder.name(*id).starts_with(name)).unwrap();
    for form in ["plain", "delta"] {
        let parquet = opened(&format!("forms/{form}.parquet")).unwrap();
        assert_eq!((parquet.len(), parquet.classes()), (24, folder.classes()));
        for id in 0..24 {
            let (class, rest) = parquet.name(id).split_once('/').unwrap();
            let row: usize = rest.strip_prefix(&format!("{form}.parquet#")).unwrap().parse().unwrap();
            assert_eq!(class, ["dog", "cat", "bird"][row % 3]);
            let same = by_name(&format!("{class}/{:02}.", row / 3));
            assert_eq!(
                (parquet.label(id), parquet.read(id).unwrap()),
                (folder.label(same), folder.read(same).unwrap())
            );
        }
    }
}

#[test]
fn columns_can_be_chosen() {
    let several = fixture("bad/several.parquet");
    let choose = |image: &str, label: &str| {
        let columns = Columns { image: Some(image.into()), label: Some(label.into()) };
        open_with(&several, None, columns)
    };
    let chosen = choose("right", "b_label").unwrap();
    assert_eq!((chosen.len(), chosen.classes()), (6, &["0", "1", "2"].map(str::to_owned)[..]));
    let missing = choose("right", "c_label").err().unwrap();
    assert!(matches!(missing, Error::Selection { .. }), "{missing}");
    assert!(missing.to_string().contains("several.parquet: has no column \"c_label\""), "{missing}");
}

#[test]
fn file_that_cannot_be_used_is_refused_by_name() {
    for (name, expected, is_selection) in [
        ("bad/several.parquet", "several columns may be the image column (left, right); set dataset.imageColumn", true),
        ("bad/no-images.parquet", "has no column with images", true),
        ("bad/paths-only.parquet", "none of its 6 rows has an image in column \"image.bytes\"", false),
        ("bad/brotli.parquet", "is compressed by BROTLI", false),
        ("bad/no-rows.parquet", "there are no rows", false),
        ("data", "several splits (test, train); name one of them", true),
    ] {
        let error = refusal(&fixture(name));
        assert_eq!(matches!(error, Error::Selection { .. }), is_selection, "{error}");
        assert!(is_selection || matches!(error, Error::Shard { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(expected) && text.contains(name), "{text}");
    }
    assert!(matches!(refusal(&fixture("data/trai")), Error::Io { .. }));
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("data")).unwrap();
    fs::copy(fixture("forms/plain.parquet"), root.path().join("data/0000.parquet")).unwrap();
    let error = refusal(root.path());
    assert!(error.to_string().contains("name the folder that they are directly in"), "{error}");
    let folder = tempfile::tempdir().unwrap();
    fs::copy(fixture("forms/plain.parquet"), folder.path().join("0000.parquet")).unwrap();
    fs::write(folder.path().join("README.md"), "x").unwrap();
    let alone = open_with(folder.path(), None, Columns::default()).unwrap();
    assert_eq!((alone.len(), alone.listing_report().kinds()), (24, "1 .md".to_owned()));
    fs::copy(fixture("images/train/cat/01.png"), folder.path().join("1.png")).unwrap();
    let error = refusal(folder.path());
    assert!(error.to_string().contains("beside images or tars (0000.parquet, 1.png)"), "{error}");
    // Numbers beside names.
    fs::remove_file(folder.path().join("1.png")).unwrap();
    fs::copy(fixture("data/test-00000-of-00001.parquet"), folder.path().join("0001.parquet")).unwrap();
    let error = refusal(folder.path());
    assert!(error.to_string().contains("0001.parquet has names for its classes and 0000.parquet has none"), "{error}");
}

#[test]
fn rows_without_label_or_image_are_counted() {
    let unlabelled = opened("bad/unlabelled.parquet").unwrap();
    assert_eq!((unlabelled.len(), unlabelled.classes().len(), unlabelled.label(0)), (6, 0, None));
    let mixed = opened("bad/mixed.parquet").unwrap();
    let labels: Vec<_> = (0..6).map(|id| mixed.label(id)).collect();
    assert_eq!(labels, [None, None, Some(0), Some(0), Some(1), Some(1)]);
    let line = "2 of 6 images have no label (null or -1; the first is row 1 of mixed.parquet)";
    assert_eq!(mixed.listing_report().lines(), [line]);
    assert!(unlabelled.listing_report().lines()[0].starts_with("6 of 6 images have no label"));
    let lists = opened("bad/lists.parquet").unwrap();
    assert!(lists.listing_report().lines()[0].contains("\"labels\" is a list"), "{:?}", lists.listing_report());
    // A row without an image is a bad image like any other.
    let nulls = opened("bad/nulls.parquet").unwrap();
    let faults = verify(&*nulls, 2, &mut |_, _| {}).unwrap();
    assert_eq!((nulls.len(), faults.len()), (8, 2));
    assert!(faults.iter().all(|fault| fault.reason.contains("the image is null")), "{faults:?}");
}

#[test]
fn packed_parquet_keeps_ids_names_and_labels() {
    let (folder, runtime) = (tempfile::tempdir().unwrap(), Runtime::new().unwrap());
    let access = Access::new(runtime.handle().clone());
    for name in ["data/train", "bad/mixed.parquet", "forms/plain.parquet"] {
        let from = opened(name).unwrap();
        let to = folder.path().join(name.replace('/', "-")).display().to_string();
        let store = Storage::create(&to, &access.storage, runtime.handle().clone()).unwrap();
        let options = PackOptions { samples_per_shard: 7, threads: 2, ..PackOptions::default() };
        pack(&*from, &store, &options, &mut |_, _| {}).unwrap();
        let packed = open(&to, None, &access).unwrap();
        assert_eq!((from.len(), from.classes()), (packed.len(), packed.classes()));
        for id in 0..from.len() as u64 {
            assert_eq!((from.name(id), from.label(id)), (packed.name(id), packed.label(id)), "{name} {id}");
        }
    }
}

/// Opens a file and reads all of it; the number of samples that differ from those of `whole`, or are refused.
fn differing(path: &Path, whole: &dyn Source) -> Result<usize, Error> {
    let source = open_with(path, None, Columns::default())?;
    let mut differing = usize::from(source.len() != whole.len());
    for id in 0..source.len() as u64 {
        match source.read(id) {
            Ok(bytes) => differing += usize::from(whole.read(id).ok() != Some(bytes)),
            Err(error) => {
                assert!(error.is_bad_image(), "{error}");
                differing += 1;
            }
        }
    }
    Ok(differing)
}

#[test]
fn truncated_file_is_refused_at_any_offset() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut.parquet");
    let whole = fs::read(fixture("forms/dictionary.parquet")).unwrap();
    for cut in (0..whole.len()).step_by(97).chain(whole.len() - 12..whole.len()) {
        fs::write(&path, &whole[..cut]).unwrap();
        let error = refusal(&path);
        assert!(matches!(error, Error::Shard { .. }) && error.to_string().contains("cut.parquet"), "{cut}: {error}");
    }
}

#[test]
fn damaged_file_does_not_crash() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged.parquet");
    for (form, mask, step) in
        [("pages2", 0xFF, 23), ("dictionary", 0x80, 31), ("scanned", 0x55, 61), ("delta", 0xFF, 67)]
    {
        let whole = fs::read(fixture(&format!("forms/{form}.parquet"))).unwrap();
        let source = opened(&format!("forms/{form}.parquet")).unwrap();
        let (mut refused, mut differ) = (0, 0);
        for at in (0..whole.len()).step_by(step) {
            let mut bytes = whole.clone();
            bytes[at] ^= mask;
            fs::write(&path, &bytes).unwrap();
            match differing(&path, &*source) {
                Ok(count) => differ += usize::from(count > 0),
                Err(error) => {
                    assert!(matches!(error, Error::Shard { .. } | Error::Selection { .. }), "{form} {at}: {error}");
                    refused += 1;
                }
            }
        }
        assert!(refused > 0 && differ > 0, "{form}: {refused} refused, {differ} differ");
    }
}

#[test]
fn checksum_of_a_page_is_verified() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("changed.parquet");
    // The pixels of an image, which nothing but the checksum covers.
    let mut bytes = fs::read(fixture("forms/pages2.parquet")).unwrap();
    let image = fs::read(fixture("images/train/dog/00.jpg")).unwrap();
    let at = bytes.windows(40).position(|part| part == &image[600..640]).unwrap();
    bytes[at] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let source = open_with(&path, None, Columns::default()).unwrap();
    let faults = verify(&*source, 1, &mut |_, _| {}).unwrap();
    assert!(!faults.is_empty() && faults.iter().all(|fault| fault.reason.contains("checksum mismatch")), "{faults:?}");
}
