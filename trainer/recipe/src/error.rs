//! What can be wrong with a file.

use std::fmt;
use std::path::PathBuf;

use serde_json::Value;

/// Why a run's file was not taken. All of these are a bad configuration: exit code 78.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file could not be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is far larger than a run's file can be.
    #[error("{origin}: is {bytes} bytes; a run's file has at most {limit}: is this the right file?")]
    TooLarge {
        /// The file.
        origin: String,
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// The file is not one YAML document.
    #[error("{origin}{}: YAML: {message}", Place::suffix(*place))]
    Yaml {
        /// The file.
        origin: String,
        /// Where, if known.
        place: Option<Place>,
        /// What the parser said.
        message: String,
    },
    /// A field given beside the file cannot be put into it.
    #[error("--set {text}: {message}")]
    Override {
        /// What was given.
        text: String,
        /// What is wrong, and what was expected.
        message: String,
    },
    /// The file is YAML but not a valid run: everything that is wrong, one a line.
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
pub struct Place {
    /// The line.
    pub line: u64,
    /// The column, in characters.
    pub column: u64,
}

impl Place {
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
    pub kind: Kind,
    /// What is expected; may be empty.
    pub detail: String,
    /// Where it stands in the file; none for what a preset or a default brought, or for what is missing.
    pub place: Option<Place>,
}

/// In what way a field is wrong.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
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
            Kind::Invalid(value) => write!(f, "Invalid value: {}", shown(value))?,
            Kind::Unsupported(value) => write!(f, "Unsupported value: {}", shown(value))?,
            Kind::Unknown => f.write_str("Unknown field")?,
            Kind::Required => f.write_str("Required value")?,
            Kind::Duplicate(value) => write!(f, "Duplicate value: {}", shown(value))?,
        }
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        Ok(())
    }
}

/// A value as JSON, cut where it would fill the screen.
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
            write!(f, "{}{}: {violation}", self.origin, Place::suffix(violation.place))?;
        }
        Ok(())
    }
}
