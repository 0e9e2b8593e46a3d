//! A run's conversation with the server: finds or creates the server's run, learns what that has, and sends the rest.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use simsiam_recipe::Mlflow;

use super::failure::Failure;
use super::http::{Credentials, Http};
use super::params::shortened;
use super::points::{Known, Point, points};
use super::rest::{Batch, METRICS_PER_BATCH, PARAMS_PER_BATCH, RemoteRun, Server, proxied_path};
use super::state::{Ending, State, Status};
use crate::storage::Storage;
use crate::telemetry::journal;

/// Tag by which a run is found again.
const ID: &str = "simsiam.id";
/// Tags of a run that failed.
const REASON: &str = "simsiam.reason";
const MESSAGE: &str = "simsiam.message";
/// The longest tag that MLflow before 2.10 takes, in characters.
const LONGEST_TAG: usize = 500;

/// What is tracked.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The server.
    pub mlflow: Mlflow,
    /// Name of the run.
    pub run: String,
    /// Its parameters.
    pub params: BTreeMap<String, String>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// Text of the run's file, which becomes the artifact `run.yaml`.
    pub text: String,
    /// Whether stages run: the server's run is then running. Otherwise only what is left is sent.
    pub is_live: bool,
}

/// The conversation. Calls block; they must not come from a thread of the async runtime.
pub struct Session {
    setup: Setup,
    storage: Storage,
    server: Server,
    state: Option<State>,
    remote: Option<RemoteRun>,
    known: Known,
    /// Values to send, in the order in which they were measured.
    pending: VecDeque<Point>,
    /// Whether `pending` includes what the journals of before this command have.
    has_backlog: bool,
    has_text: bool,
    /// Values that the server has taken.
    pub sent: u64,
    /// Values that the server will not take.
    pub refused: u64,
}

impl Session {
    /// A conversation that has not begun.
    ///
    /// # Errors
    /// If the server's address cannot be used.
    pub fn new(setup: Setup, storage: Storage) -> Result<Self, Failure> {
        let http = Http::new(&setup.mlflow.uri, Credentials::of_environment(), storage.runtime().clone())?;
        Ok(Self {
            setup,
            storage,
            server: Server(http),
            state: None,
            remote: None,
            known: Known::default(),
            pending: VecDeque::new(),
            has_backlog: false,
            has_text: false,
            sent: 0,
            refused: 0,
        })
    }

    /// Takes values to send.
    pub fn add(&mut self, points: impl IntoIterator<Item = Point>) {
        self.pending.extend(points);
    }

    /// Sets a tag.
    pub fn tag(&mut self, name: &str, value: impl Into<String>) {
        self.setup.tags.insert(name.to_owned(), value.into());
    }

    /// Number of values to send.
    pub fn pending(&self) -> u64 {
        self.pending.len() as u64
    }

    /// The server's address.
    pub fn uri(&self) -> String {
        self.server.0.uri().to_owned()
    }

    /// The page of the run, once it is known.
    pub fn page(&self) -> Option<String> {
        let run = self.remote.as_ref()?;
        Some(format!("{}/#/experiments/{}/runs/{}", self.server.0.uri(), run.experiment, run.id))
    }

    /// Set from any thread: requests that begin from then on do not outlast it.
    pub fn deadline(&self) -> Arc<OnceLock<Instant>> {
        self.server.0.deadline()
    }

    /// Sends everything that the server does not have.
    ///
    /// # Errors
    /// [`Failure::Unreachable`] if some of it remains to be sent; [`Failure::Refused`] if the server takes nothing.
    pub fn send(&mut self) -> Result<(), Failure> {
        let sent = self.connected().and_then(|run| {
            self.send_tags(&run)?;
            self.send_metrics(&run)
        });
        // The server may have taken what it did not confirm: it is asked again.
        sent.inspect_err(|_| self.remote = None)
    }

    /// Keeps how the command ended, for a later one if the server cannot be reached now.
    ///
    /// # Errors
    /// If the output cannot be written.
    pub fn keep_ending(&mut self, ending: Ending) -> Result<(), Failure> {
        let (storage, tags) = (self.storage.clone(), self.setup.tags.clone());
        let state = self.state()?;
        state.ending = Some(Ending { tags, ..ending });
        state.save(&storage)
    }

    /// Sends everything, the named files of the output, and how the last command ended.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn finish(&mut self, artifacts: &[&str]) -> Result<(), Failure> {
        if let Some(ending) = self.state()?.ending.clone() {
            for (name, value) in ending.tags {
                self.setup.tags.entry(name).or_insert(value);
            }
        }
        self.send()?;
        for name in artifacts {
            if let Some(bytes) = self.storage.get(name)? {
                self.put_artifact(name, bytes)?;
            }
        }
        let Some(ending) = self.state()?.ending.clone() else { return Ok(()) };
        let run = self.connected()?;
        let reasons = [(REASON, &ending.reason), (MESSAGE, &ending.message)];
        let tags: Vec<_> = reasons
            .into_iter()
            .filter_map(|(tag, text)| Some((tag.to_owned(), shortened(text.as_deref()?, LONGEST_TAG))))
            .collect();
        if !tags.is_empty() {
            self.server.log(&run.id, Batch { tags: &tags, ..Batch::default() })?;
        }
        if let Some(status) = ending.status {
            self.server.update(&run.id, status, Some(ending.time))?;
        }
        let storage = self.storage.clone();
        let state = self.state()?;
        state.ending = None;
        state.save(&storage)
    }

    fn state(&mut self) -> Result<&mut State, Failure> {
        let state = match self.state.take() {
            Some(state) => state,
            None => State::open(&self.storage)?,
        };
        Ok(self.state.insert(state))
    }

    /// The server's run, after asking what it has, unless that is known.
    fn connected(&mut self) -> Result<RemoteRun, Failure> {
        if let Some(run) = &self.remote {
            return Ok(run.clone());
        }
        self.read_backlog()?;
        let run = self.find_or_create()?;
        if run.is_deleted {
            return Err(Failure::refused(format!(
                "the run {} was deleted in MLflow; restore it there, or remove {} to start another one",
                run.id,
                self.storage.uri("track.json")
            )));
        }
        self.learn(&run)?;
        if self.setup.is_live {
            self.begin(&run)?;
        }
        self.send_params(&run)?;
        self.remote = Some(run.clone());
        if !std::mem::replace(&mut self.has_text, true) {
            let text = self.setup.text.clone().into_bytes();
            self.put_artifact("run.yaml", text).inspect_err(|_| self.has_text = false)?;
        }
        Ok(run)
    }

    /// Puts what the journals have before what was measured since.
    fn read_backlog(&mut self) -> Result<(), Failure> {
        if self.has_backlog {
            return Ok(());
        }
        let records = journal::read(&self.storage)?;
        let live = std::mem::replace(&mut self.pending, records.iter().flat_map(points).collect());
        self.pending.extend(live);
        self.has_backlog = true;
        Ok(())
    }

    fn find_or_create(&mut self) -> Result<RemoteRun, Failure> {
        let State { id, run_id, .. } = self.state()?.clone();
        if let Some(run_id) = run_id
            && let Some(run) = self.server.run(&run_id)?
        {
            return Ok(run);
        }
        let experiment = self.server.experiment(&self.setup.mlflow.experiment)?;
        let run = match self.server.run_with_tag(&experiment, ID, &id)? {
            Some(run) => run,
            None => {
                let started = self.pending.iter().map(|point| point.timestamp).min().unwrap_or_else(now).min(now());
                self.server.create_run(&experiment, &self.setup.run, started, &[(ID.to_owned(), id)])?
            }
        };
        let storage = self.storage.clone();
        let state = self.state()?;
        state.run_id = Some(run.id.clone());
        state.save(&storage)?;
        Ok(run)
    }

    /// Learns what the server has: of training's metrics the last step, of evaluations all values.
    fn learn(&mut self, run: &RemoteRun) -> Result<(), Failure> {
        let mut known = Known::default();
        for (key, step) in &run.last_steps {
            if Known::is_training(key) {
                known.add(key, *step, 0.0);
                continue;
            }
            for (step, value) in self.server.history(&run.id, key)? {
                known.add(key, step, value);
            }
        }
        self.known = known;
        Ok(())
    }

    /// The run is running, and what was said of an earlier end is void.
    fn begin(&mut self, run: &RemoteRun) -> Result<(), Failure> {
        if run.status != "RUNNING" {
            self.server.update(&run.id, Status::Running, None)?;
        }
        for tag in [REASON, MESSAGE] {
            if run.tags.contains_key(tag) {
                self.server.delete_tag(&run.id, tag)?;
            }
        }
        Ok(())
    }

    /// Logs the parameters that the server lacks: those that it has cannot be changed.
    fn send_params(&mut self, run: &RemoteRun) -> Result<(), Failure> {
        let missing = |(key, _): &(&String, &String)| !run.params.contains_key(*key);
        let missing: Vec<_> =
            self.setup.params.iter().filter(missing).map(|(key, value)| (key.clone(), value.clone())).collect();
        for params in missing.chunks(PARAMS_PER_BATCH) {
            self.server.log(&run.id, Batch { params, ..Batch::default() })?;
        }
        Ok(())
    }

    fn send_tags(&mut self, run: &RemoteRun) -> Result<(), Failure> {
        let changed = |(key, value): &(&String, &String)| run.tags.get(*key) != Some(value);
        let tags: Vec<_> = self.setup.tags.iter().filter(changed).map(|(k, v)| (k.clone(), v.clone())).collect();
        for tags in tags.chunks(PARAMS_PER_BATCH) {
            self.server.log(&run.id, Batch { tags, ..Batch::default() })?;
        }
        if let Some(remote) = &mut self.remote {
            remote.tags.extend(tags);
        }
        Ok(())
    }

    fn send_metrics(&mut self, run: &RemoteRun) -> Result<(), Failure> {
        loop {
            let mut metrics = Vec::new();
            while metrics.len() < METRICS_PER_BATCH
                && let Some(point) = self.pending.pop_front()
            {
                if self.known.add(&point.key, point.step, point.value) {
                    metrics.push(point);
                }
            }
            if metrics.is_empty() {
                return Ok(());
            }
            match self.server.log(&run.id, Batch { metrics: &metrics, ..Batch::default() }) {
                Ok(()) => self.sent += metrics.len() as u64,
                // What is wrong with these values is not wrong with others, unless the run was deleted.
                Err(Failure::Refused { status: 400 | 413, message, .. }) if self.still_exists(run)? => {
                    self.refused += metrics.len() as u64;
                    tracing::warn!("MLflow does not take {} values: {message}", metrics.len());
                }
                Err(failure) => {
                    metrics.into_iter().rev().for_each(|point| self.pending.push_front(point));
                    return Err(failure);
                }
            }
        }
    }

    fn still_exists(&self, run: &RemoteRun) -> Result<bool, Failure> {
        Ok(self.server.run(&run.id)?.is_some_and(|run| !run.is_deleted))
    }

    /// Stores a file with the run. That a server has no place for files is said, and is no failure.
    fn put_artifact(&mut self, name: &str, bytes: Vec<u8>) -> Result<(), Failure> {
        let Some(run) = &self.remote else { return Ok(()) };
        let Some(folder) = proxied_path(&run.artifact_uri) else {
            if name == "run.yaml" {
                tracing::info!(
                    "the MLflow server does not proxy artifacts ({}), so files stay in the run's output only",
                    run.artifact_uri
                );
            }
            return Ok(());
        };
        match self.server.put_artifact(folder, name, bytes) {
            Err(Failure::Refused { message, .. }) => {
                tracing::warn!("MLflow does not take the file {name}: {message}");
                Ok(())
            }
            other => other,
        }
    }
}

/// Milliseconds since 1970.
pub fn now() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}
