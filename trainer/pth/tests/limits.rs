//! Small pickles that would be large, deep or endless.

#![allow(clippy::unwrap_used)] // The helpers here are tests too.

use std::time::{Duration, Instant};

use simsiam_pth::{Error, limits, read};

fn pickle(program: &[u8]) -> Vec<u8> {
    [b"\x80\x02", program, b"."].concat()
}

#[track_caller]
fn refused(program: &[u8]) -> Error {
    let begun = Instant::now();
    let error = read(&pickle(program)).unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(5), "{error} after {:?}", begun.elapsed());
    error
}

#[test]
fn doubling_list_is_refused() {
    // [[…[], []…], […]]: 64 levels of two references each are 2^64 lists.
    let mut program = b"]q\x00".to_vec();
    for level in 1..60u8 {
        program.extend([b']', b'(', b'h', level - 1, b'h', level - 1, b'e', b'q', level]);
    }
    assert_eq!(refused(&program), Error::Limit { what: "more values", limit: limits::VALUES as u64 });
}

#[test]
fn repeated_text_is_refused() {
    let mut program = b"X\x00\x00\x01\x00".to_vec();
    program.extend([b'a'; 1 << 16]);
    program.extend(b"q\x00](");
    program.extend(b"h\x00".repeat(10_000));
    program.push(b'e');
    assert!(matches!(refused(&program), Error::Limit { what: "more bytes of tensors", .. }));
}

#[test]
fn nesting_beyond_limit_is_refused() {
    let nested = |levels: usize| [b"]".repeat(levels), b"a".repeat(levels - 1)].concat();
    assert!(read(&pickle(&nested(limits::DEPTH))).is_ok());
    for levels in [limits::DEPTH + 2, 1_000_000] {
        assert!(matches!(refused(&nested(levels)), Error::Limit { what: "values nested deeper", .. }), "{levels}");
    }
}

#[test]
fn list_that_contains_itself_is_refused() {
    assert!(matches!(refused(b"]q\x00h\x00a"), Error::Limit { .. }));
}

#[test]
fn too_many_values_are_refused() {
    assert!(matches!(refused(&b"N".repeat(2_000_000)), Error::Limit { what: "more values", .. }));
    let puts: Vec<u8> = (0..2_000_000u32).flat_map(|n| [&b"r"[..], &n.to_le_bytes()].concat()).collect();
    assert!(matches!(refused(&[b"N", &puts[..]].concat()), Error::Limit { what: "more values", .. }));
}

/// A text whose length is said to be 4 GiB, and an array as large as no memory.
#[test]
fn length_beyond_file_is_refused_without_allocation() {
    assert!(matches!(refused(b"X\xff\xff\xff\xffab"), Error::Truncated { .. }));
    assert!(matches!(refused(b"\x8d\xff\xff\xff\xff\xff\xff\xff\xffab"), Error::Truncated { .. }));
    let array = |size: &[u8]| {
        let dtype = &b"cnumpy\ndtype\nX\x02\x00\x00\x00f4\x85R"[..];
        let shape = [&b"("[..], size, size, size, size, b"t"].concat();
        [b"cnumpy\nndarray\n(K\x00\x85tR(K\x01", &shape[..], dtype, b"\x89B\x04\x00\x00\x00abcdtb"].concat()
    };
    assert!(matches!(refused(&array(b"J\xff\xff\xff\x7f")), Error::Limit { .. }));
    assert!(matches!(refused(&array(b"K\x02")), Error::Storage { .. }));
    assert!(read(&pickle(&array(b"K\x01"))).is_ok());
}

#[test]
fn unknown_global_is_refused_by_name() {
    for (module, name) in [
        ("builtins", "eval"),
        ("os", "system"),
        ("torch", "load"),
        ("numpy", "load"),
        ("torch.storage", "_load_from_bytes"),
    ] {
        let error = refused(format!("c{module}\n{name}\n)R").as_bytes());
        assert_eq!(error, Error::Global { module: module.into(), name: name.into() });
    }
    assert!(matches!(refused(b"X\x02\x00\x00\x00osX\x06\x00\x00\x00system\x93)R"), Error::Global { .. }));
}

#[test]
fn unknown_opcode_is_refused() {
    // INST, OBJ, PERSID, EXT1, NEWOBJ_EX, protocol 0's text.
    for opcode in [b'i', b'o', b'P', 0x82, 0x92, b'I', b'V'] {
        assert_eq!(refused(&[b'N', opcode]), Error::Opcode { opcode, at: 3 });
    }
}

#[test]
fn malformed_pickle_is_refused() {
    for program in [&b""[..], b"0", b"(", b"t", b"Na", b"}Ns", b"}(Nu", b"h\x00", b"NNR", b"NNb", b"NQ", b"K\x01\x85Q"]
    {
        assert!(matches!(refused(program), Error::Malformed { .. }), "{program:?}");
    }
    assert_eq!(read(b"\x80\x02"), Err(Error::Truncated { at: 2 }));
    assert_eq!(read(b""), Err(Error::Unrecognised));
    assert_eq!(read(b"no checkpoint"), Err(Error::Unrecognised));
    assert!(matches!(read(b"PK\x03\x04 and no more"), Err(Error::Archive(_))));
}
