//! What a rule says about a run.

/// How a figure looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As in a healthy run.
    Ok,
    /// Unusual: look at its curve.
    Look,
    /// Not as in any healthy run.
    Wrong,
}

impl Verdict {
    /// The verdict in one word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Look => "look",
            Self::Wrong => "wrong",
        }
    }
}

/// What one rule says about a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// What was checked.
    pub title: &'static str,
    /// How it looks.
    pub verdict: Verdict,
    /// One sentence with the figures and the threshold.
    pub says: String,
    /// What to do if it is not ok.
    pub advice: &'static str,
    /// Where the threshold comes from.
    pub source: &'static str,
}
