//! TensorBoard's event files: TFRecord frames around protobuf `Event` messages.
//!
//! The few messages are written by hand, after TensorFlow's `event.proto` and `summary.proto`:
//! `Event {1: wall_time double, 2: step int64, 3: file_version string, 5: Summary, 7: SessionLog}`,
//! `Summary {1: repeated Value {1: tag string, 2: simple_value float}}`, `SessionLog {1: status enum}`.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use super::crc32c::masked;
use super::record::{Measurement, Record};
use super::scalars::{scalars, step};

/// What every reader expects first; from version 2 on, a start in the log voids later steps that precede it.
const VERSION: &[u8] = b"brain.Event:2";
/// `SessionLog.START`.
const START: u64 = 1;

/// The name of an event file, `events.out.tfevents.<seconds>.<host>.<pid>.<n>`. TensorBoard reads a folder's files in
/// the order of their names, so `n`, which counts this process's files, has zeros before it.
pub fn file_name(time: SystemTime) -> String {
    static FILES: AtomicU32 = AtomicU32::new(0);
    let n = FILES.fetch_add(1, Ordering::Relaxed);
    let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    let host: String = host.unwrap_or_default().chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
    let host = if host.is_empty() { "localhost" } else { &host };
    format!("events.out.tfevents.{:010}.{host}.{}.{n:05}", seconds(time) as u64, std::process::id())
}

/// The bytes of one event file.
#[derive(Debug)]
pub struct EventFile(Vec<u8>);

impl EventFile {
    /// A file that contains only its version.
    pub fn new() -> Self {
        let mut file = Self(Vec::new());
        let mut event = Message::default();
        event.double(1, seconds(SystemTime::now()));
        event.bytes(3, VERSION);
        file.frame(&event.0);
        file
    }

    /// Adds a record's scalars; a start is logged so that it voids what was logged beyond it.
    pub fn add(&mut self, time: SystemTime, record: &Record) {
        let mut event = Message::default();
        event.double(1, seconds(time));
        // A start voids every tag beyond its step, so a classifier's start is not written.
        if record.what == Measurement::Start && record.stage == "pretrain" {
            event.varint(2, record.step + 1);
            let mut log = Message::default();
            log.varint(1, START);
            event.bytes(7, &log.0);
        } else {
            let scalars = scalars(record);
            if scalars.is_empty() {
                return;
            }
            event.varint(2, step(record));
            let mut summary = Message::default();
            for (tag, value) in scalars {
                let mut scalar = Message::default();
                scalar.bytes(1, tag.as_bytes());
                scalar.float(2, value as f32);
                summary.bytes(1, &scalar.0);
            }
            event.bytes(5, &summary.0);
        }
        self.frame(&event.0);
    }

    /// The content of the file.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// A TFRecord frame: length, its checksum, the data, its checksum.
    fn frame(&mut self, data: &[u8]) {
        let length = (data.len() as u64).to_le_bytes();
        self.0.extend(length);
        self.0.extend(masked(&length).to_le_bytes());
        self.0.extend(data);
        self.0.extend(masked(data).to_le_bytes());
    }
}

impl Default for EventFile {
    fn default() -> Self {
        Self::new()
    }
}

fn seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}

/// A protobuf message that is being built.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn raw(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// A field's number and wire type.
    fn key(&mut self, field: u64, wire_type: u64) {
        self.raw(field << 3 | wire_type);
    }

    fn varint(&mut self, field: u64, value: u64) {
        self.key(field, 0);
        self.raw(value);
    }

    fn double(&mut self, field: u64, value: f64) {
        self.key(field, 1);
        self.0.extend(value.to_le_bytes());
    }

    fn float(&mut self, field: u64, value: f32) {
        self.key(field, 5);
        self.0.extend(value.to_le_bytes());
    }

    fn bytes(&mut self, field: u64, value: &[u8]) {
        self.key(field, 2);
        self.raw(value.len() as u64);
        self.0.extend(value);
    }
}
