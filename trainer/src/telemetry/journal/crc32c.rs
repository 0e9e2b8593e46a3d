//! CRC-32C (Castagnoli), as TFRecord frames carry it.

/// The reversed polynomial 0x1EDC6F41.
const POLYNOMIAL: u32 = 0x82F6_3B78;

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

/// The checksum of `bytes`.
pub fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| crc >> 8 ^ TABLE[usize::from(crc as u8 ^ byte)])
}

/// The checksum as TFRecord stores it: rotated and offset, so that data with checksums in it does not match its own.
pub fn masked(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xA282_EAD8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc32c_matches_published_values() {
        // RFC 3720, B.4.
        let ascending: Vec<u8> = (0..32).collect();
        for (bytes, crc) in
            [(vec![0; 32], 0x8A91_36AA), (vec![0xFF; 32], 0x62A8_AB43), (ascending, 0x46DD_794E), (vec![], 0)]
        {
            assert_eq!(crc32c(&bytes), crc, "{bytes:?}");
        }
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
        // As every event file of TensorFlow's begins: a frame of 24 bytes.
        assert_eq!(masked(&24u64.to_le_bytes()), 0x224B_7FA3);
    }
}
