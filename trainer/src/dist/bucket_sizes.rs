//! Sizes of DDP's gradient buckets.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How many bytes of gradients are reduced together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BucketSizes {
    /// The first bucket, in bytes: small, so that reducing starts early.
    pub first: usize,
    /// Every other bucket, in bytes.
    pub other: usize,
}

impl Default for BucketSizes {
    /// PyTorch's sizes: 1 MiB and 25 MiB.
    fn default() -> Self {
        Self { first: 1 << 20, other: 25 << 20 }
    }
}

impl fmt::Display for BucketSizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.first, self.other)
    }
}

impl FromStr for BucketSizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Result<Vec<usize>, _> = text.split(',').map(str::parse).collect();
        match parts.as_deref() {
            Ok([first, other]) if *first > 0 && *other > 0 => Ok(Self { first: *first, other: *other }),
            _ => Err("expected two sizes in bytes, as in 1048576,26214400".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket_sizes_of_their_text_round_trip() {
        let sizes = BucketSizes::default();
        assert_eq!(sizes.to_string(), "1048576,26214400");
        assert_eq!(sizes.to_string().parse(), Ok(sizes));
        for text in ["", "1", "0,1", "1,0", "1,2,3", "a,b"] {
            assert!(text.parse::<BucketSizes>().is_err(), "{text}");
        }
    }
}
