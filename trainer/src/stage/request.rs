//! What a rank is asked to do, as its agent hands it over.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use simsiam_recipe::{Recipe, Stage};

use crate::dist::BucketSizes;
use crate::error::Error;

/// One stage of a run, complete: a rank reads no other description of it.
///
/// The agent writes it as a JSON file that only its own user can read; `simsiam rank --request FILE` reads it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StageRequest {
    /// The stage.
    pub stage: Stage,
    /// Name of the run.
    pub run: String,
    /// The run, with paths in place of mounted claims and overridden fields applied.
    pub recipe: Recipe,
    /// Text of the run's file, for the report.
    pub text: String,
    /// Number of this attempt, from 1; `None` is one more than that of any earlier one.
    pub attempt: Option<u32>,
    /// Sizes of DDP's gradient buckets.
    pub bucket_sizes: BucketSizes,
    /// Address of weights to use instead of the run's latest checkpoint.
    pub weights: Option<String>,
}

impl StageRequest {
    /// Writes the request to a new file with mode 0600.
    ///
    /// # Errors
    /// If the file exists or cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let json = serde_json::to_vec(self).map_err(|e| Error::Internal(format!("a stage request: {e}")))?;
        let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        file.and_then(|mut file| file.write_all(&json)).map_err(Error::io("write", path))
    }

    /// Reads a request that [`write`](Self::write) wrote.
    ///
    /// # Errors
    /// If the file cannot be read; [`Error::Internal`] if it is not a request, since this program's agent wrote it.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let json = std::fs::read(path).map_err(Error::io("read", path))?;
        serde_json::from_slice(&json)
            .map_err(|e| Error::Internal(format!("{} is not a stage request: {e}", path.display())))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use simsiam_recipe::RunFile;

    use super::*;

    #[test]
    fn stage_request_round_trips_through_a_private_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("request.json");
        for example in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples")).unwrap() {
            let example = example.unwrap().path();
            if example.extension().is_none_or(|extension| extension != "yaml") {
                continue;
            }
            let run = RunFile::load(&example).unwrap();
            let request = StageRequest {
                stage: Stage::Linear,
                run: run.name,
                recipe: run.recipe,
                text: std::fs::read_to_string(&example).unwrap(),
                attempt: Some(3),
                bucket_sizes: BucketSizes { first: 1, other: 2 },
                weights: Some("s3://b/w.pth".into()),
            };
            request.write(&path).unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            assert_eq!(StageRequest::read(&path).unwrap(), request, "{}", example.display());
            assert!(request.write(&path).is_err(), "an existing file is not overwritten");
            std::fs::remove_file(&path).unwrap();
        }
        std::fs::write(&path, "{}").unwrap();
        assert_eq!(StageRequest::read(&path).unwrap_err().exit_code().code(), 1);
    }
}
