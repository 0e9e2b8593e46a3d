//! Whether a JPEG file may be decoded in part.

/// Whether every error that a decode of the whole file would find is also found when rows at its end are skipped.
///
/// A progressive file is read to its end before the first row comes out. Of a sequential one the compressed rows must be
/// one piece, up to the mark of the file's end: no other mark may stand among them, which would be damage, or more
/// scans. This takes microseconds, since it only looks for bytes of 255.
pub(super) fn may_be_partial(bytes: &[u8]) -> bool {
    scan(bytes).unwrap_or(false)
}

const START_OF_SCAN: u8 = 0xDA;
const END_OF_IMAGE: u8 = 0xD9;

/// None where the file ends too early.
fn scan(bytes: &[u8]) -> Option<bool> {
    // Segments follow the file's first two bytes: a mark, then a length that counts itself.
    let mut at = 2;
    let mut is_progressive = false;
    loop {
        let mark = match bytes.get(at..at + 2)? {
            // Any number of these may stand before a mark.
            [0xFF, 0xFF] => {
                at += 1;
                continue;
            }
            [0xFF, mark] => *mark,
            _ => return Some(false),
        };
        let length = usize::from(u16::from_be_bytes(*bytes.get(at + 2..at + 4)?.first_chunk()?));
        is_progressive |= mark == 0xC2;
        at += 2 + length;
        if mark == START_OF_SCAN {
            break;
        }
    }
    if is_progressive {
        return Some(true);
    }
    loop {
        at += memchr::memchr(0xFF, bytes.get(at..)?)? + 1;
        match *bytes.get(at)? {
            // A byte of 255 among the data, a restart, or filling.
            0 | 0xD0..=0xD7 | 0xFF => {}
            mark => return Some(mark == END_OF_IMAGE),
        }
    }
}

/// Whether the file has an end mark where a decoder looks for it: outside of segments, with junk between them allowed.
pub(super) fn has_end(bytes: &[u8]) -> bool {
    marks(bytes).any(|mark| mark == END_OF_IMAGE)
}

/// Whether the frame is a progressive one.
pub(super) fn is_progressive(bytes: &[u8]) -> bool {
    marks(bytes).take_while(|mark| *mark != START_OF_SCAN).any(|mark| matches!(mark, 0xC2 | 0xCA))
}

/// The marks of a file in order, up to the end mark; restarts and escaped bytes among compressed rows are none.
fn marks(bytes: &[u8]) -> impl Iterator<Item = u8> {
    let mut at = Some(2);
    std::iter::from_fn(move || {
        loop {
            let start = at?;
            at = None;
            let found = start + memchr::memchr(0xFF, bytes.get(start..)?)? + 1;
            match *bytes.get(found)? {
                0 | 0x01 | 0xD0..=0xD8 => at = Some(found + 1),
                0xFF => at = Some(found),
                END_OF_IMAGE => return Some(END_OF_IMAGE),
                mark => {
                    let length = bytes.get(found + 1..found + 3)?.first_chunk().map(|two| u16::from_be_bytes(*two))?;
                    at = Some(found + 1 + usize::from(length));
                    return Some(mark);
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partial_decode_needs_complete_scan() {
        let head = [0xFF, 0xD8, 0xFF, 0xC0, 0, 4, 1, 2, 0xFF, 0xFF, 0xDA, 0, 3, 9];
        let file = |tail: &[u8]| may_be_partial(&[&head[..], tail].concat());
        assert!(file(&[1, 2, 0xFF, 0, 3, 0xFF, 0xD3, 4, 0xFF, 0xFF, 0xD9]));
        assert!(file(&[1, 0xFF, 0xD9, 7, 7]));
        // Cut short; another mark; cut between a mark's bytes.
        assert!(!file(&[1, 2, 3]));
        assert!(!file(&[1, 0xFF, 0x51, 2, 0xFF, 0xD9]));
        assert!(!file(&[1, 0xFF]));
        for end in 0..head.len() {
            assert!(!may_be_partial(&head[..end]));
        }
    }
}
