//! Whose features an evaluation measured.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Whose features an evaluation measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EncoderKind {
    /// Those of the trained encoder.
    Trained,
    /// Those of the encoder as it was initialised.
    Untrained,
    /// The pixels themselves, without an encoder.
    Pixels,
}

/// What follows the stage's name where it trains a classifier on the untrained encoder.
const UNTRAINED: &str = " untrained";

impl EncoderKind {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Trained => "trained",
            Self::Untrained => "untrained",
            Self::Pixels => "pixels",
        }
    }

    /// The name under which a stage reports the classifier that it trains on this encoder: `linear untrained`.
    pub fn stage_name(self, stage: &str) -> String {
        match self {
            Self::Untrained => format!("{stage}{UNTRAINED}"),
            Self::Trained | Self::Pixels => stage.to_owned(),
        }
    }

    /// The stage and the encoder of such a name.
    pub fn of_stage_name(name: &str) -> (&str, Self) {
        name.strip_suffix(UNTRAINED).map_or((name, Self::Trained), |stage| (stage, Self::Untrained))
    }
}

impl fmt::Display for EncoderKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoder_kind_has_the_same_name_in_json_and_text() {
        for kind in [EncoderKind::Trained, EncoderKind::Untrained, EncoderKind::Pixels] {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.to_string());
        }
    }

    #[test]
    fn stage_name_of_an_untrained_encoder_round_trips() {
        for kind in [EncoderKind::Trained, EncoderKind::Untrained] {
            assert_eq!(EncoderKind::of_stage_name(&kind.stage_name("linear")), ("linear", kind));
        }
        assert_eq!(EncoderKind::Untrained.stage_name("linear"), "linear untrained");
    }
}
