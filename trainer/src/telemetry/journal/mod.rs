//! The journal: what rank 0 measured, kept next to the checkpoints for the report and for TensorBoard.
//!
//! `<output>/logs/metrics-<stage>-a<attempt>.jsonl` holds one [`Record`] per line, and
//! `<output>/logs/events.out.tfevents.…` the same numbers as TensorBoard reads them. A thread writes both, so
//! training does not wait: at every checkpoint, at the end of the stage, and at intervals between. Objects are written
//! whole: the lines in one object that grows, the events in a new file each time, since TensorBoard expects files that
//! do not change. A failed write is a warning; the run continues, and the next write includes what is missing.

mod crc32c;
pub mod record;
pub mod scalars;
pub mod tensorboard;

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

pub use record::{Measurement, Record, Training};

use super::event::Event;
use crate::error::Error;
use crate::storage::Storage;
use record::RecordBuilder;
use tensorboard::EventFile;

/// The folder of all journals in a run's output.
pub const FOLDER: &str = "logs";

/// Shortest time between two writes without a checkpoint.
const EVERY: Duration = Duration::from_secs(30);
/// An attempt is written at most this often in its duration, since all its lines are rewritten each time.
const SHARE_OF_AGE: u32 = 50;

/// A message to the thread.
#[derive(Debug)]
enum Message {
    Event(SystemTime, Box<Event>),
    Close,
}

/// Sends events to a journal. Cheap to clone; never blocks, never fails.
#[derive(Clone, Debug)]
pub struct JournalSender(Sender<Message>);

impl JournalSender {
    /// Sends an event, if it is a measurement.
    pub fn send(&self, event: &Event) {
        if record::is_measurement(event) {
            // A journal that is already closed takes no more.
            let _ = self.0.send(Message::Event(SystemTime::now(), Box::new(event.clone())));
        }
    }
}

/// A journal that is being written. Dropping it writes the rest and waits until that is done.
#[derive(Debug)]
pub struct Journal {
    sender: JournalSender,
    thread: Option<JoinHandle<()>>,
}

impl Journal {
    /// Starts the journal of an attempt of a stage, or continues it.
    ///
    /// # Errors
    /// If the journal of an attempt with the same number cannot be read.
    pub fn start(storage: Storage, stage: &str, attempt: u32) -> Result<Self, Error> {
        let name = format!("{FOLDER}/{}", file_name(stage, attempt));
        let lines = storage.get(&name)?.unwrap_or_default();
        let now = Instant::now();
        let work = Work {
            storage,
            name,
            lines,
            events: EventFile::new(),
            builder: RecordBuilder::new(stage, attempt),
            begun: now,
            written: now,
            dirty: false,
        };
        let (sender, queue) = channel();
        let thread = std::thread::Builder::new()
            .name("journal".into())
            .spawn(move || work.run(&queue))
            .map_err(Error::system("start the journal thread"))?;
        Ok(Self { sender: JournalSender(sender), thread: Some(thread) })
    }

    /// A sender of events to this journal.
    pub fn sender(&self) -> JournalSender {
        self.sender.clone()
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        let _ = self.sender.0.send(Message::Close);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Name of the JSON lines of a stage's attempt in [`FOLDER`].
pub fn file_name(stage: &str, attempt: u32) -> String {
    format!("metrics-{stage}-a{attempt}.jsonl")
}

/// Stage and attempt of a file of JSON lines.
pub fn parse_name(name: &str) -> Option<(&str, u32)> {
    let (stage, attempt) = name.strip_prefix("metrics-")?.strip_suffix(".jsonl")?.rsplit_once("-a")?;
    Some((stage, attempt.parse().ok()?))
}

/// The number of the next attempt: one more than that of any journal of this stage.
///
/// # Errors
/// If the output cannot be listed.
pub fn next_attempt(storage: &Storage, stage: &str) -> Result<u32, Error> {
    let names = storage.files(FOLDER)?;
    let attempts = names.iter().filter_map(|name| parse_name(name)).filter(|(of, _)| *of == stage);
    Ok(attempts.map(|(_, attempt)| attempt).max().unwrap_or(0) + 1)
}

/// The records of all attempts of a run, by stage and attempt. Lines that cannot be read are skipped with a warning.
///
/// # Errors
/// If the output cannot be listed or read.
pub fn read(storage: &Storage) -> Result<Vec<Record>, Error> {
    let mut names = storage.files(FOLDER)?;
    names.retain(|name| parse_name(name).is_some());
    names.sort_by(|a, b| parse_name(a).cmp(&parse_name(b)));
    let mut records = Vec::new();
    for name in names {
        let lines = storage.get(&format!("{FOLDER}/{name}"))?.unwrap_or_default();
        let before = records.len();
        let (mut all, text) = (0, String::from_utf8_lossy(&lines));
        for line in text.lines() {
            all += 1;
            records.extend(serde_json::from_str::<Record>(line).ok());
        }
        let lost = all - (records.len() - before);
        if lost > 0 {
            tracing::warn!("{}: {lost} of {all} lines cannot be read", storage.uri(&format!("{FOLDER}/{name}")));
        }
    }
    Ok(records)
}

/// The thread's state.
struct Work {
    storage: Storage,
    name: String,
    lines: Vec<u8>,
    events: EventFile,
    builder: RecordBuilder,
    begun: Instant,
    written: Instant,
    dirty: bool,
}

impl Work {
    fn run(mut self, queue: &Receiver<Message>) {
        loop {
            match queue.recv_timeout(self.flush_interval()) {
                Ok(Message::Event(time, event)) => {
                    for record in self.builder.records(time, &event) {
                        self.note(time, &record);
                    }
                    if matches!(*event, Event::Checkpoint { .. }) {
                        self.write();
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.write(),
                Ok(Message::Close) | Err(RecvTimeoutError::Disconnected) => return self.write(),
            }
        }
    }

    /// How long to wait for another event before writing.
    fn flush_interval(&self) -> Duration {
        let interval = EVERY.max(self.begun.elapsed() / SHARE_OF_AGE);
        interval.saturating_sub(self.written.elapsed())
    }

    fn note(&mut self, time: SystemTime, record: &Record) {
        let Ok(line) = serde_json::to_vec(record) else { return };
        self.lines.extend(line);
        self.lines.push(b'\n');
        self.events.add(time, record);
        self.dirty = true;
    }

    fn write(&mut self) {
        self.written = Instant::now();
        if !self.dirty {
            return;
        }
        match self.put() {
            Ok(()) => {
                self.dirty = false;
                self.events = EventFile::new();
            }
            Err(e) => tracing::warn!("the journal could not be written, the run continues: {e}"),
        }
    }

    fn put(&self) -> Result<(), Error> {
        self.storage.put(&self.name, self.lines.clone())?;
        let name = tensorboard::file_name(SystemTime::now());
        self.storage.put(&format!("{FOLDER}/{name}"), self.events.bytes().to_vec())
    }
}

#[cfg(test)]
mod tests;
