//! What can be wrong with a run file.

use std::fmt;
use std::path::PathBuf;

use serde_json::Value;

/// Why a run file was rejected. Each of these is a bad configuration: exit code 78.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file could not be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// The file is far larger than a run file can be.
    #[error("{origin}: has {bytes} bytes; a run file has at most {limit}: is this the right file?")]
    TooLarge {
        /// The file.
        origin: String,
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// The file is not one YAML document.
    #[error("{origin}{}: YAML: {message}", Position::suffix(*place))]
    Yaml {
        /// The file.
        origin: String,
        /// Where, if known.
        place: Option<Position>,
        /// The parser's message.
        message: String,
    },
    /// A field given by `--set` cannot be applied.
    #[error("--set {text}: {message}")]
    Override {
        /// What was given.
        text: String,
        /// What is wrong, and what was expected.
        message: String,
    },
    /// The file is YAML but not a valid run: every violation, one per line.
    #[error("{}", Lines { origin, violations })]
    Invalid {
        /// The file.
        origin: String,
        /// What is wrong, in the order of the file's fields; never empty.
        violations: Vec<Violation>,
    },
}

/// A position in a file, both counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The line.
    pub line: u64,
    /// The column, in characters.
    pub column: u64,
}

impl Position {
    fn suffix(place: Option<Self>) -> String {
        place.map_or_else(String::new, |Self { line, column }| format!(":{line}:{column}"))
    }
}

/// One thing that is wrong, in the words of an API server: `spec.pretrain.batchSize: Invalid value: 0: must
/// be between 2 and 1048576`.
#[derive(Debug, Clone, PartialEq)]
pub struct Violation {
    /// The field, as `spec.knn.protocols[0].k`.
    pub path: String,
    /// In what way it is wrong.
    pub kind: ViolationKind,
    /// What is expected; may be empty.
    pub detail: String,
    /// Its position in the file; `None` for a missing field and for a value from a preset or a default.
    pub place: Option<Position>,
}

/// In what way a field is wrong.
#[derive(Debug, Clone, PartialEq)]
pub enum ViolationKind {
    /// The value is not allowed here.
    Invalid(Value),
    /// The value is none of a fixed list.
    Unsupported(Value),
    /// There is no such field.
    Unknown,
    /// The field is missing.
    Required,
    /// The list has an entry twice.
    Duplicate(Value),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.path)?;
        match &self.kind {
            ViolationKind::Invalid(value) => write!(f, "Invalid value: {}", shown(value))?,
            ViolationKind::Unsupported(value) => write!(f, "Unsupported value: {}", shown(value))?,
            ViolationKind::Unknown => f.write_str("Unknown field")?,
            ViolationKind::Required => f.write_str("Required value")?,
            ViolationKind::Duplicate(value) => write!(f, "Duplicate value: {}", shown(value))?,
        }
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        Ok(())
    }
}

/// A value as JSON, truncated to a line's length.
fn shown(value: &Value) -> String {
    const LIMIT: usize = 80;
    let text = value.to_string();
    if text.chars().count() <= LIMIT {
        return text;
    }
    let head: String = text.chars().take(LIMIT).collect();
    format!("{head}…")
}

struct Lines<'a> {
    origin: &'a str,
    violations: &'a [Violation],
}

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, violation) in self.violations.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}{}: {violation}", self.origin, Position::suffix(violation.place))?;
        }
        Ok(())
    }
}
