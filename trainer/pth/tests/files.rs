//! Files that PyTorch and NumPy wrote (`tests/parity/make_checkpoints.py`), read.

#![allow(clippy::unwrap_used)] // The helpers here are tests too.

use std::path::Path;

use simsiam_pth::{Dtype, Error, Tensor, Value, read};

fn bytes(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/parity/checkpoints");
    std::fs::read(folder.join(name)).unwrap()
}

#[track_caller]
fn file(name: &str) -> Value {
    read(&bytes(name)).unwrap_or_else(|e| panic!("{name} {e}"))
}

fn floats(shape: &[usize], values: &[f32]) -> Value {
    let data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    Value::Tensor(Tensor { dtype: Dtype::F32, shape: shape.to_vec(), data })
}

fn one(dtype: Dtype, data: &[u8]) -> Value {
    Value::Tensor(Tensor { dtype, shape: vec![data.len() / dtype.size()], data: data.to_vec() })
}

#[test]
fn every_kind_of_value_reads_in_both_formats() {
    for name in ["values.pth", "values-legacy.pth"] {
        let file = file(name);
        let get = |key| file.get(key).unwrap_or_else(|| panic!("{name} has no {key}"));
        assert_eq!(*get("dense"), floats(&[2, 3], &[0., 1., 2., 3., 4., 5.]), "{name}");
        assert_eq!(*get("transposed"), floats(&[3, 2], &[0., 3., 1., 4., 2., 5.]));
        let numbers: Vec<u8> = [1i64, 4, 7].iter().flat_map(|v| v.to_le_bytes()).collect();
        assert_eq!(*get("strided"), one(Dtype::I64, &numbers));
        let base: Vec<f32> = (0..12u8).map(f32::from).collect();
        let shared = vec![floats(&[12], &base), floats(&[2, 2], &base[4..8]), floats(&[3], &[1., 5., 9.])];
        assert_eq!(*get("shared"), Value::List(shared));
        assert_eq!(*get("expanded"), floats(&[2, 3], &[2.; 6]));
        assert_eq!(*get("parameter"), floats(&[2], &[1.5, -2.5]));
        let scalar = Tensor { dtype: Dtype::F64, shape: vec![], data: 3.25f64.to_le_bytes().to_vec() };
        assert_eq!(*get("scalar"), Value::Tensor(scalar));
        assert_eq!(*get("empty"), floats(&[0, 3], &[]));
        let types = vec![
            one(Dtype::F16, &[0x00, 0x3e]),
            one(Dtype::BF16, &[0xc0, 0x3f]),
            one(Dtype::U8, &[200]),
            one(Dtype::I8, &(-3i8).to_le_bytes()),
            one(Dtype::I16, &(-300i16).to_le_bytes()),
            one(Dtype::I32, &(-70000i32).to_le_bytes()),
            one(Dtype::Bool, &[1, 0]),
        ];
        assert_eq!(*get("types"), Value::List(types));
        assert_eq!(*get("size"), Value::Tuple(vec![2.into(), 3.into()]));
        let plain = vec![
            Value::None,
            true.into(),
            false.into(),
            0.into(),
            255.into(),
            256.into(),
            (-1).into(),
            70000.into(),
            (1i64 << 40).into(),
            (-(1i64 << 40)).into(),
            0.1.into(),
            "ä".into(),
            "".into(),
            Value::List(vec![]),
            Value::Tuple(vec![]),
            Value::Dict(vec![]),
            Value::Dict(vec![(1.into(), "a".into())]),
        ];
        assert_eq!(*get("plain"), Value::Tuple(plain));
        assert_eq!(*get("numpy"), Value::List(vec![76.25.into(), 0.5.into(), (-7).into(), true.into()]));
    }
}

#[test]
fn arrays_of_numpy_1_and_2_are_read() {
    for name in ["numpy1.pkl", "numpy2.pkl", "numpy2-protocol5.pkl"] {
        let file = file(name);
        let model = file.get("model").unwrap();
        let weight: Vec<f32> = (0..24u8).map(f32::from).collect();
        assert_eq!(model.get("stem.conv1.weight"), Some(&floats(&[2, 3, 2, 2], &weight)), "{name}");
        let columns = (0..6u8).flat_map(|v| f64::from(v).to_le_bytes()).collect();
        let columns = Tensor { dtype: Dtype::F64, shape: vec![2, 3], data: columns };
        assert_eq!(model.get("columns"), Some(&Value::Tensor(columns)), "{name}");
        let counter = Tensor { dtype: Dtype::I64, shape: vec![], data: 7i64.to_le_bytes().to_vec() };
        assert_eq!(model.get("stem.conv1.norm.num_batches_tracked"), Some(&Value::Tensor(counter)), "{name}");
        assert_eq!(file.get("matching_heuristics"), Some(&true.into()));
        assert_eq!(file.get("score"), Some(&76.25.into()));
    }
}

#[test]
fn training_checkpoint_reads_in_both_formats() {
    for (name, width) in [("reference.pth.tar", 4), ("legacy.pth.tar", 2)] {
        let file = file(name);
        assert_eq!(file.get("epoch").and_then(Value::as_int), Some(3));
        assert_eq!(file.get("arch").and_then(Value::as_str), Some("resnet18"));
        let state = file.get("state_dict").unwrap();
        let conv = state.get("module.encoder.conv1.weight").and_then(Value::as_tensor).unwrap();
        assert_eq!(conv.shape, [width, 3, 3, 3]);
        let counter = state.get("module.encoder.bn1.num_batches_tracked").and_then(Value::as_tensor).unwrap();
        assert_eq!((&counter.shape[..], &counter.data[..]), (&[][..], &5i64.to_le_bytes()[..]));
        let groups = file.get("optimizer").and_then(|o| o.get("param_groups")).and_then(Value::items).unwrap();
        let fixed: Vec<_> = groups.iter().map(|g| g.get("fix_lr").and_then(Value::as_bool)).collect();
        assert_eq!(fixed, [Some(false), Some(true)]);
    }
    let accuracy = file("legacy.pth.tar").get("best_acc1").cloned();
    let data = 68.125f32.to_le_bytes().to_vec();
    assert_eq!(accuracy, Some(Value::Tensor(Tensor { dtype: Dtype::F32, shape: vec![], data })));
    assert_eq!(file("linear.pth.tar").get("best_acc1"), Some(&68.125.into()));
}

#[test]
fn read_value_round_trips_through_write() {
    for name in ["values.pth", "legacy.pth.tar", "moco.pth.tar", "numpy1.pkl"] {
        let value = file(name);
        let again = read(&simsiam_pth::write(&value).unwrap()).unwrap();
        assert_eq!(again, value, "{name}");
    }
    let value = file("numpy2.pkl");
    assert_eq!(read(&simsiam_pth::write_pickle(&value).unwrap()).unwrap(), value);
    let torch_only = simsiam_pth::write_pickle(&file("values.pth"));
    assert!(matches!(torch_only, Err(Error::Unwritable(_))), "NumPy has no bfloat16: {torch_only:?}");
}

#[test]
fn archive_entries_are_stored_and_aligned() {
    let written = simsiam_pth::write(&file("values.pth")).unwrap();
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(&written)).unwrap();
    let mut names = Vec::new();
    for index in 0..archive.len() {
        let entry = archive.by_index(index).unwrap();
        assert_eq!(entry.data_start().unwrap() % 64, 0, "{:?}", entry.name());
        assert_eq!(entry.compression(), zip::CompressionMethod::Stored);
        names.push(entry.name().unwrap().into_owned());
    }
    assert!(names.contains(&"archive/data.pkl".to_owned()) && names.contains(&"archive/version".to_owned()));
}

/// It would run a command in Python; here the name alone is enough to refuse it.
#[test]
fn pickled_code_is_never_executed() {
    let error = read(&bytes("command.pth")).unwrap_err();
    assert_eq!(error, Error::Global { module: "posix".into(), name: "system".into() });
    assert!(error.to_string().contains("posix.system"), "{error}");
    assert!(!Path::new("/tmp/a-checkpoint-was-executed").exists());
}

/// Cut anywhere, or with any bit wrong, a file ends in an error or in a value, quickly.
#[test]
fn damaged_file_does_not_crash() {
    for name in ["values.pth", "values-legacy.pth", "numpy2.pkl"] {
        let whole = bytes(name);
        for length in 0..whole.len() {
            assert!(read(&whole[..length]).is_err(), "{name} of {length} bytes");
        }
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << (at % 8);
            simsiam_pth::fuzzing::file(&flipped);
        }
    }
}

#[test]
fn changed_tensor_in_archive_is_detected() {
    let mut file = bytes("reference.pth.tar");
    let middle = file.len() / 2;
    file[middle] ^= 1;
    let error = read(&file).unwrap_err();
    assert!(error.to_string().contains("checksum"), "{error}");
}
