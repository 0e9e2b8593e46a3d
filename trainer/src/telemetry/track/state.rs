//! `track.json` in the run's output: which of the server's runs is this one.
//!
//! It is not part of the checkpoints. The server's run exists before the first checkpoint, a run that only
//! evaluates has none, and one without a server creates its run long after the last. A checkpoint
//! also never changes, while this file says what remains to be sent.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::failure::Failure;
use crate::storage::Storage;

/// Name of the document in the run's output.
const FILE: &str = "track.json";

/// What is kept between commands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// A random name, which the server's run has as a tag. It is kept before the run is created, so that a process that
    /// was killed in between leaves no second run.
    pub id: String,
    /// The server's id of the run, once it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
    /// How the last command ended, while the server does not know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ending: Option<Ending>,
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ending {
    /// The run's status; `None` leaves it running, because another stage follows.
    pub status: Option<Status>,
    /// Why it failed, in one word.
    pub reason: Option<String>,
    /// Why it failed, in one line.
    pub message: Option<String>,
    /// When, in milliseconds since 1970.
    pub time: i64,
    /// The run's tags at that time.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

/// MLflow's status of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Status {
    /// A stage is running, or the next one is to start.
    Running,
    /// All stages are done.
    Finished,
    /// A stage failed.
    Failed,
    /// Stopped by SIGTERM after a checkpoint: suspended, pre-empted or interrupted.
    Killed,
}

impl State {
    /// Reads the state of a run, or makes one with a new id and keeps it.
    ///
    /// # Errors
    /// If the output cannot be read or written, or the file is not ours.
    pub fn open(storage: &Storage) -> Result<Self, Failure> {
        if let Some(json) = storage.get(FILE)? {
            return serde_json::from_slice(&json).map_err(|e| {
                Failure::refused(format!("{} cannot be read: {e}; remove it to start another run", storage.uri(FILE)))
            });
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let seed = format!("{} {} {}", storage.uri(""), since.as_nanos(), std::process::id());
        let id = simsiam_recipe::hex(&Sha256::digest(seed)).chars().take(32).collect();
        let state = Self { id, run_id: None, ending: None };
        state.save(storage)?;
        Ok(state)
    }

    /// Replaces the file.
    ///
    /// # Errors
    /// If the output cannot be written.
    pub fn save(&self, storage: &Storage) -> Result<(), Failure> {
        let json = serde_json::to_vec_pretty(self).unwrap_or_default();
        Ok(storage.put(FILE, json)?)
    }
}
