//! A journal is written and read back, by a reader that checks every frame.

use serde_json::Value;
use simsiam_contract::KnnScore;
use simsiam_recipe::Output;

use super::crc32c::masked;
use super::*;
use crate::telemetry::encoder_kind::EncoderKind;
use crate::telemetry::event::Step;
use crate::telemetry::metric_table;
use crate::telemetry::values::Values;

/// One event of a file: its step, whether it is a start, its scalars.
#[derive(Debug, PartialEq)]
struct Read {
    step: u64,
    start: bool,
    scalars: Vec<(String, f32)>,
}

/// The fields of a protobuf message: number and content; scalars as their bytes.
fn fields(mut data: &[u8]) -> Vec<(u64, Vec<u8>)> {
    fn varint(data: &mut &[u8]) -> u64 {
        let (mut value, mut shift) = (0, 0);
        loop {
            let byte = data[0];
            *data = &data[1..];
            value |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return value;
            }
            shift += 7;
        }
    }
    let mut fields = Vec::new();
    while !data.is_empty() {
        let key = varint(&mut data);
        let content = match key & 7 {
            0 => varint(&mut data).to_le_bytes().to_vec(),
            wire => {
                let length = match wire {
                    1 => 8,
                    5 => 4,
                    2 => varint(&mut data) as usize,
                    other => panic!("wire type {other}"),
                };
                let (content, rest) = data.split_at(length);
                data = rest;
                content.to_vec()
            }
        };
        fields.push((key >> 3, content));
    }
    fields
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().unwrap())
}

/// Reads a whole event file, checking frames, versions and times.
fn events(mut file: &[u8]) -> Vec<Read> {
    let mut read = Vec::new();
    let mut first = true;
    while !file.is_empty() {
        let length = number(&file[..8]) as usize;
        assert_eq!(masked(&file[..8]).to_le_bytes(), file[8..12], "the length's checksum");
        let data = &file[12..12 + length];
        assert_eq!(masked(data).to_le_bytes(), file[12 + length..16 + length], "the data's checksum");
        file = &file[16 + length..];
        let event = fields(data);
        let field = |n| event.iter().find(|(field, _)| *field == n).map(|(_, content)| content.as_slice());
        assert!(f64::from_le_bytes(field(1).unwrap().try_into().unwrap()) > 1.6e9, "a wall time");
        assert_eq!(field(3), first.then_some(b"brain.Event:2".as_slice()));
        if !std::mem::take(&mut first) {
            let mut scalars = Vec::new();
            for (_, value) in field(5).map(fields).unwrap_or_default() {
                let value = fields(&value);
                let tag = String::from_utf8(value[0].1.clone()).unwrap();
                scalars.push((tag, f32::from_le_bytes(value[1].1.clone().try_into().unwrap())));
            }
            let start = field(7).is_some_and(|log| number(&fields(log)[0].1) == 1);
            read.push(Read { step: field(2).map_or(0, number), start, scalars });
        }
    }
    read
}

fn step(step: u64) -> Event {
    let (steps, epochs, loss, images, seconds, data_wait) = (40, 4, -0.25, 100, 2.0, 0.5);
    let mut step = Step { step, steps, epochs, loss, images, seconds, data_wait, ..Step::default() };
    step.values.set(metric_table::OUTPUT_STD.key, 0.03);
    step.values.set(metric_table::OUTPUT_STD_HEALTHY.key, 0.0625);
    step.values.set(metric_table::LR_ENCODER.key, 0.125);
    Event::Step(step)
}

fn knn(step: u64, epoch: u64) -> Event {
    let scores = vec![KnnScore { k: 20, temperature: 0.07, top1: 51.5, caveat: None }];
    Event::Knn { step, epoch, features: EncoderKind::Trained, scores }
}

fn checkpoint(step: u64) -> Event {
    Event::Checkpoint { step, uri: "c".into(), seconds: 0.1, bytes: 7 }
}

struct Folder {
    folder: tempfile::TempDir,
    _runtime: tokio::runtime::Runtime,
    storage: Storage,
}

fn folder() -> Folder {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let uri = folder.path().join("out").display().to_string();
    let output = Output { uri, credentials_secret: None, endpoint: None, region: None };
    let storage = Storage::open(&output, runtime.handle().clone()).unwrap();
    Folder { folder, _runtime: runtime, storage }
}

/// All event files in the order in which TensorBoard reads them.
fn all_events(storage: &Storage) -> Vec<Read> {
    let mut names = storage.files(FOLDER).unwrap();
    names.retain(|name| name.starts_with("events.out.tfevents."));
    names.sort();
    names.iter().flat_map(|name| events(&storage.get(&format!("{FOLDER}/{name}")).unwrap().unwrap())).collect()
}

fn write(storage: &Storage, attempt: u32, events: &[Event]) {
    let journal = Journal::start(storage.clone(), "pretrain", attempt).unwrap();
    events.iter().for_each(|event| journal.sender().send(event));
}

/// Two attempts: the second resumes from step 10, which voids step 20.
fn two_attempts(storage: &Storage) {
    write(storage, 1, &[step(10), checkpoint(10), step(20), Event::Alive]);
    write(storage, 2, &[Event::Resumed { step: 10, uri: "c".into() }, step(20), knn(20, 2)]);
}

#[test]
fn journal_of_two_attempts_is_read_back() {
    let Folder { storage, .. } = &folder();
    assert_eq!(next_attempt(storage, "pretrain").unwrap(), 1);
    two_attempts(storage);
    assert_eq!(next_attempt(storage, "pretrain").unwrap(), 3);
    assert_eq!(next_attempt(storage, "knn").unwrap(), 1);

    let records = read(storage).unwrap();
    let kinds: Vec<_> = records.iter().map(|r| (r.attempt, r.step, r.epoch)).collect();
    assert_eq!(
        kinds,
        [(1, 0, 0.0), (1, 10, 1.0), (1, 10, 1.0), (1, 20, 2.0), (2, 10, 0.0), (2, 20, 2.0), (2, 20, 2.0)]
    );
    let Measurement::Training(t) = &records[1].what else { panic!("{records:?}") };
    let values = [
        metric_table::LOSS,
        metric_table::IMAGES_PER_SECOND,
        metric_table::DATA_WAIT,
        metric_table::EFFECTIVE_RANK,
        metric_table::MODEL_FLOPS_UTILIZATION,
    ];
    assert_eq!(values.map(|metric| t.get(&metric)), [Some(-0.25), Some(50.0), Some(0.25), None, None]);

    let line = storage.get("logs/metrics-pretrain-a1.jsonl").unwrap().unwrap();
    let line: Value = serde_json::from_slice(line.split(|b| *b == b'\n').nth(1).unwrap()).unwrap();
    assert_eq!(
        (&line["kind"], &line["stage"], &line["lrEncoder"]),
        (&"training".into(), &"pretrain".into(), &0.125.into())
    );
    assert!(line["time"].as_str().unwrap().ends_with('Z'), "{line}");

    let events = all_events(storage);
    let steps: Vec<_> = events.iter().map(|e| (e.step, e.start)).collect();
    assert_eq!(steps, [(1, true), (10, false), (20, false), (11, true), (20, false), (20, false)]);
    assert!(events[1].scalars.contains(&("pretrain/loss".into(), -0.25)), "{events:?}");
    assert_eq!(events[5].scalars[0], ("knn/top1".into(), 51.5));
}

#[test]
fn journal_is_written_at_a_checkpoint_and_continued_by_an_attempt_of_the_same_number() {
    let Folder { storage, .. } = &folder();
    let journal = Journal::start(storage.clone(), "pretrain", 1).unwrap();
    journal.sender().send(&step(10));
    journal.sender().send(&checkpoint(10));
    let start = Instant::now();
    while read(storage).unwrap().len() < 3 {
        assert!(start.elapsed() < Duration::from_secs(10), "no journal after a checkpoint");
        std::thread::sleep(Duration::from_millis(10));
    }
    drop(journal);
    write(storage, 1, &[Event::Resumed { step: 10, uri: "c".into() }, step(20)]);
    assert_eq!(read(storage).unwrap().len(), 5);
}

#[test]
fn journal_that_cannot_be_written_is_not_an_error() {
    let Folder { folder, storage, .. } = folder();
    // A file where the folder should be.
    std::fs::write(folder.path().join("out").join(FOLDER), "in the way").unwrap();
    let started = Journal::start(storage, "pretrain", 1);
    if let Ok(journal) = started {
        journal.sender().send(&step(10));
        journal.sender().send(&checkpoint(10));
    }
}

#[test]
fn journal_with_nan_and_a_torn_line_keeps_the_other_records() {
    let Folder { storage, .. } = &folder();
    let mut values = Values::default();
    values.set(metric_table::LINEAR_LOSS.key, f64::NAN);
    values.set(metric_table::LINEAR_LR.key, 1.6);
    let diverged = Event::Linear { stage: "linear".into(), epoch: 3, epochs: 9, caveat: None, values };
    write(storage, 1, &[diverged, step(10)]);
    let name = format!("{FOLDER}/{}", file_name("pretrain", 1));
    let mut lines = storage.get(&name).unwrap().unwrap();
    lines.extend(b"{\"time\": torn");
    storage.put(&name, lines).unwrap();
    let records = read(storage).unwrap();
    assert_eq!(records.len(), 3);
    let Measurement::Linear { epochs, values, .. } = &records[0].what else { panic!("{records:?}") };
    assert!(values.get(metric_table::LINEAR_LOSS.key).is_some_and(f64::is_nan), "{records:?}");
    assert_eq!((*epochs, values.get(metric_table::LINEAR_LR.key)), (9, Some(1.6)));
    assert_eq!(values.get("epochs"), None, "{records:?}");
}

/// Reads with TensorBoard's own reader, if there is a Python that has it.
#[test]
fn event_files_are_read_by_tensorboard() {
    let python = std::env::var("SIMSIAM_TEST_PYTHON").unwrap_or_else(|_| "python3".into());
    let has = |module: &str| {
        let found = std::process::Command::new(&python).args(["-c", &format!("import {module}")]).output();
        found.is_ok_and(|o| o.status.success())
    };
    if !has("tensorboard") {
        eprintln!("SKIPPED: {python} has no tensorboard (SIMSIAM_TEST_PYTHON names another Python)");
        return;
    }
    let Folder { folder, storage, .. } = &folder();
    two_attempts(storage);
    let script = "import json, sys\n\
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator\n\
        a = EventAccumulator(sys.argv[1]).Reload()\n\
        print(json.dumps({t: [(e.step, e.value) for e in a.Scalars(t)] for t in a.Tags()['scalars']}))";
    let logs = folder.path().join("out").join(FOLDER);
    let read = std::process::Command::new(&python).arg("-c").arg(script).arg(&logs).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&read.stdout), String::from_utf8_lossy(&read.stderr));
    let scalars: Value = serde_json::from_str(out.trim()).unwrap_or_else(|e| panic!("{e}: {out}\n{err}"));
    assert_eq!(scalars["pretrain/loss"], serde_json::json!([[10, -0.25], [20, -0.25]]), "{scalars}");
    assert_eq!(scalars["knn/top1"], serde_json::json!([[20, 51.5]]));
    assert_eq!(scalars["pretrain/lr/encoder"][0][1], 0.125);
}
