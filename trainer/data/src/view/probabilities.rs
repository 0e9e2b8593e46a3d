//! How likely the random operations of a view are.

/// How likely each operation is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Probabilities {
    /// Of the colour jitter.
    pub jitter: f64,
    /// Of grayscale.
    pub grayscale: f64,
    /// Of the blur.
    pub blur: f64,
    /// Of solarisation.
    pub solarize: f64,
    /// Of the horizontal flip.
    pub flip: f64,
    /// Of the vertical flip.
    pub vertical_flip: f64,
    /// Of a turn by 90°, 180° or 270°, one as likely as the other.
    pub quarter_turn: f64,
}

impl Default for Probabilities {
    fn default() -> Self {
        Self { jitter: 0.8, grayscale: 0.2, blur: 0.5, flip: 0.5, ..Self::NONE }
    }
}

impl Probabilities {
    /// Of views that are only cropped.
    pub const NONE: Self = Self {
        jitter: 0.0,
        grayscale: 0.0,
        blur: 0.0,
        solarize: 0.0,
        flip: 0.0,
        vertical_flip: 0.0,
        quarter_turn: 0.0,
    };

    /// Each with its name in errors.
    pub(super) fn named(&self) -> [(&'static str, f64); 7] {
        let Self { jitter, grayscale, blur, solarize, flip, vertical_flip, quarter_turn } = *self;
        [
            ("jitter_prob", jitter),
            ("grayscale_prob", grayscale),
            ("blur_prob", blur),
            ("solarize_prob", solarize),
            ("flip_prob", flip),
            ("vertical_flip_prob", vertical_flip),
            ("quarter_turn_prob", quarter_turn),
        ]
    }
}
