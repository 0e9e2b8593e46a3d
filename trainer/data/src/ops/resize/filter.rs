//! The filters' shapes.

/// How neighbours are weighed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Filter {
    /// A triangle: torchvision's and PIL's `BILINEAR`, for views.
    #[default]
    Bilinear,
    /// A windowed sinc with three lobes: PIL's `LANCZOS`, which keeps more of an image that is stored smaller.
    Lanczos,
}

impl Filter {
    /// How far it reaches at its own scale, in pixels.
    pub(super) fn support(self) -> f64 {
        match self {
            Self::Bilinear => 1.0,
            Self::Lanczos => 3.0,
        }
    }

    /// Its value at a distance of `x` pixels from the centre.
    #[inline]
    pub(super) fn at(self, x: f64) -> f64 {
        match self {
            Self::Bilinear => (1.0 - x.abs()).max(0.0),
            Self::Lanczos if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
            Self::Lanczos => 0.0,
        }
    }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 {
        return 1.0;
    }
    let x = x * std::f64::consts::PI;
    x.sin() / x
}
