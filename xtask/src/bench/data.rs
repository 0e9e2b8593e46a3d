//! `cargo xtask bench data`: our two-view input pipeline and torchvision's, measured alternately in one run.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Map, Value, json};

use super::{median, python};
use crate::error::{Error, Result};
use crate::process::{output, repo};
use crate::{build, system, table};

const SCRIPT: &str = "tests/parity/bench_data.py";
const SAMPLE: &str = "../shared/data/imagenet-sample.tar";

/// What to measure.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// A folder of images, with or without class folders [default: the 250 photographs in
    /// ../shared/data/imagenet-sample.tar]
    #[arg(long)]
    data: Option<PathBuf>,
    /// Also measure the reference recipe in torchvision and PIL, in the same rounds
    #[arg(long)]
    compare: bool,
    /// Rounds; their medians are compared
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Seconds per pipeline and round, after a warm-up pass over all images
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Use the fast, inexact decoder for our pipeline
    #[arg(long)]
    fast: bool,
    /// Print one JSON object only
    #[arg(long)]
    json: bool,
}

/// A pipeline: its key in the JSON output, its data set, and the flags of the program that measures it.
struct Pipeline {
    key: &'static str,
    what: &'static str,
    data: Data,
    flags: &'static [&'static str],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Data {
    Originals,
    Packed(u32),
}

/// The stages of the pipeline in order.
const STAGES: &[&str] = &["read", "decode", "resize", "jitter", "hue", "blur", "normalize"];

/// JPEG quality of the packed data sets.
const QUALITY: &str = "90";

const OURS: &[Pipeline] = &[
    Pipeline { key: "originals", what: "originals", data: Data::Originals, flags: &[] },
    Pipeline { key: "packed400", what: "packed, longer side 400", data: Data::Packed(400), flags: &[] },
    Pipeline { key: "packed256", what: "packed, longer side 256", data: Data::Packed(256), flags: &[] },
    Pipeline { key: "cropsOnly400", what: "packed 400, crops only", data: Data::Packed(400), flags: &["--crops"] },
    Pipeline {
        key: "originalsTwoThreads",
        what: "originals, two threads",
        data: Data::Originals,
        flags: &["--threads", "2"],
    },
];

/// Measurements of one pipeline.
#[derive(Debug, Clone, Default)]
struct Rates {
    /// Images per second in each round.
    rounds: Vec<f64>,
    /// The fastest pass of all rounds.
    fastest: f64,
    /// Share of each stage in the workers' time.
    stages: Map<String, Value>,
}

impl Rates {
    fn add(&mut self, text: &str) -> Option<()> {
        let value: Value = text.lines().rev().find_map(|line| serde_json::from_str(line).ok())?;
        self.rounds.push(value.get("imagesPerSecond")?.as_f64()?);
        self.fastest = self.fastest.max(value.get("fastestPass")?.as_f64()?);
        Some(())
    }

    fn median(&self) -> f64 {
        median(self.rounds.clone())
    }
}

/// Measures and prints.
///
/// # Errors
/// If the data is missing, or the build, PyTorch's environment or a measurement fails.
pub fn data(options: &Options) -> Result<()> {
    system::ensure(system::BUILD)?;
    let scratch = TemporaryFolder::new()?;
    let originals = originals(options, &scratch)?;
    let python = if options.compare { Some(python::with_torch()?) } else { None };
    let program = build::example("simsiam-data", "rates")?;
    for side in [400, 256] {
        eprintln!("packing at {side} pixels, quality {QUALITY}");
        let arguments = [originals.as_os_str().to_owned(), scratch.packed(side).into()];
        output(Command::new(&program).arg("pack").args(arguments).args([&side.to_string(), QUALITY]))?;
    }
    let folder = |data| match data {
        Data::Originals => originals.clone(),
        Data::Packed(side) => scratch.packed(side),
    };
    let seconds = options.seconds.to_string();
    let ours = |pipeline: &Pipeline, more: &[&str]| {
        let mut command = Command::new(&program);
        command.arg("rate").arg(folder(pipeline.data)).args(pipeline.flags).args(["--seconds", &seconds]).args(more);
        command.args(options.fast.then_some("--fast"));
        command
    };

    let mut reference = Rates::default();
    let mut rates = vec![Rates::default(); OURS.len()];
    for round in 1..=options.rounds {
        eprintln!("round {round} of {}", options.rounds);
        if let Some(python) = &python {
            let mut command = Command::new(python);
            // Cargo's library path is not part of PyTorch's defaults.
            command.arg(repo().join(SCRIPT)).arg(&originals).args(["--seconds", &seconds]);
            measure(command.env_remove("LD_LIBRARY_PATH"), &mut reference)?;
        }
        for (pipeline, rates) in OURS.iter().zip(&mut rates) {
            measure(&mut ours(pipeline, &[]), rates)?;
        }
    }
    // Separately, because reading the clock takes time.
    for (pipeline, rates) in OURS.iter().zip(&mut rates) {
        let text = output(&mut ours(pipeline, &["--stages"]))?;
        let value: Value = text.lines().rev().find_map(|line| serde_json::from_str(line).ok()).unwrap_or_default();
        rates.stages = value.get("stages").and_then(Value::as_object).cloned().unwrap_or_default();
    }
    let reference = options.compare.then_some(reference);
    if options.json {
        println!("{:#}", report(reference.as_ref(), &rates));
    } else {
        println!("{}", show(reference.as_ref(), &rates, options));
    }
    Ok(())
}

fn measure(command: &mut Command, rates: &mut Rates) -> Result<()> {
    let text = output(command)?;
    rates.add(&text).ok_or_else(|| Error::Refused(format!("no result in the output of {command:?}:\n{text}")))
}

/// A temporary folder, removed on drop.
struct TemporaryFolder(PathBuf);

impl TemporaryFolder {
    fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("simsiam-bench-data-{}", std::process::id()));
        std::fs::create_dir_all(&path).map_err(Error::io("create", &path))?;
        Ok(Self(path))
    }

    fn packed(&self, side: u32) -> PathBuf {
        self.0.join(format!("packed{side}"))
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        // If this fails, the system cleans the temporary folder.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Returns the folder of images: the given one, or the unpacked sample.
fn originals(options: &Options, scratch: &TemporaryFolder) -> Result<PathBuf> {
    if let Some(folder) = &options.data {
        if folder.is_dir() {
            return Ok(folder.clone());
        }
        return Err(Error::Refused(format!("--data {}: not a folder", folder.display())));
    }
    let archive = repo().join(SAMPLE);
    if !archive.is_file() {
        return Err(Error::Refused(format!("{} is missing: pass a folder of images with --data", archive.display())));
    }
    output(Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(&scratch.0))?;
    Ok(with_classes(&scratch.0.join("train")))
}

/// Returns the folder itself, or its parent if the archive has no `train`.
fn with_classes(train: &Path) -> PathBuf {
    if train.is_dir() { train.to_path_buf() } else { train.parent().unwrap_or(train).to_path_buf() }
}

fn report(reference: Option<&Rates>, rates: &[Rates]) -> Value {
    let mut object = Map::new();
    object.insert("torchvision".into(), reference.map_or(Value::Null, |rates| json!(rates.median())));
    let (mut ratios, mut stages, mut fastest) = (Map::new(), Map::new(), Map::new());
    if let Some(reference) = reference {
        fastest.insert("torchvision".into(), json!(reference.fastest));
    }
    for (pipeline, rates) in OURS.iter().zip(rates) {
        object.insert(pipeline.key.into(), json!(rates.median()));
        if let Some(reference) = reference {
            ratios.insert(pipeline.key.into(), json!(rates.median() / reference.median()));
        }
        stages.insert(pipeline.key.into(), json!(rates.stages));
        fastest.insert(pipeline.key.into(), json!(rates.fastest));
    }
    ratios.insert("twoThreads".into(), json!(two_threads(rates)));
    object.insert("ratios".into(), ratios.into());
    object.insert("fastest".into(), fastest.into());
    object.insert("stages".into(), stages.into());
    object.into()
}

/// Returns the rate of the originals with two threads divided by that with one.
fn two_threads(rates: &[Rates]) -> f64 {
    let of = |key| OURS.iter().zip(rates).find(|(pipeline, _)| pipeline.key == key).map_or(0.0, |(_, r)| r.median());
    of("originalsTwoThreads") / of("originals")
}

fn show(reference: Option<&Rates>, rates: &[Rates], options: &Options) -> String {
    let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let mut rows = vec![words(&["pipeline", "images/s", "slowest", "fastest", "ratio"])];
    let named = reference.map(|rates| ("torchvision and PIL", rates));
    for (name, rates) in named.into_iter().chain(OURS.iter().map(|pipeline| pipeline.what).zip(rates)) {
        rows.push(vec![
            name.to_owned(),
            format!("{:.1}", rates.median()),
            format!("{:.1}", rates.rounds.iter().copied().fold(f64::INFINITY, f64::min)),
            format!("{:.1}", rates.fastest),
            reference.map_or_else(String::new, |reference| format!("{:.2}", rates.median() / reference.median())),
        ]);
    }
    let mut shares = vec![words(&[&["share of the time"], STAGES].concat())];
    for (pipeline, rates) in OURS.iter().zip(rates) {
        let share = |stage: &&str| rates.stages.get(*stage).and_then(Value::as_f64).unwrap_or_default();
        let cells = STAGES.iter().map(|stage| format!("{:.1} %", share(stage) * 100.0));
        shares.push([vec![pipeline.what.to_owned()], cells.collect()].concat());
    }
    format!(
        "{}\n\n{}\n\nOne core unless marked as two threads; decode: {}; medians of {} rounds, the slowest round and the fastest \
         pass; an image is two views. Two threads divided by one: {:.2}",
        table::columns(&rows),
        table::columns(&shares),
        if options.fast { "fast" } else { "exact" },
        options.rounds,
        two_threads(rates)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(rounds: &[f64]) -> Rates {
        Rates { rounds: rounds.to_vec(), fastest: 9.0, stages: Map::from_iter([("decode".to_owned(), json!(0.25))]) }
    }

    #[test]
    fn bench_report_has_every_rate_and_ratio() {
        let ours: Vec<_> = [10.0, 20.0, 30.0, 40.0, 19.0].map(|rate| rates(&[rate, rate, 1.0])).to_vec();
        let report = report(Some(&rates(&[2.0])), &ours);
        for (pointer, expected) in [
            ("/torchvision", 2.0),
            ("/originals", 10.0),
            ("/packed400", 20.0),
            ("/packed256", 30.0),
            ("/cropsOnly400", 40.0),
            ("/originalsTwoThreads", 19.0),
            ("/ratios/packed256", 15.0),
            ("/ratios/twoThreads", 1.9),
            ("/stages/originals/decode", 0.25),
        ] {
            assert_eq!(report.pointer(pointer).and_then(Value::as_f64), Some(expected), "{pointer}");
        }
    }

    #[test]
    fn bench_report_without_reference_has_null_rate() {
        let ours = vec![rates(&[1.0]); OURS.len()];
        let report = report(None, &ours);
        assert_eq!(report.get("torchvision"), Some(&Value::Null));
        assert_eq!(report.pointer("/ratios").and_then(Value::as_object).map(Map::len), Some(1));
    }

    #[test]
    fn rates_are_read_from_the_last_json_line() {
        let mut read = Rates::default();
        assert_eq!(read.add("hello\n{\"imagesPerSecond\": 3.5, \"fastestPass\": 4}\n"), Some(()));
        assert_eq!((read.median(), read.fastest), (3.5, 4.0));
        assert_eq!(read.add("nothing"), None);
    }

    #[test]
    fn bench_table_has_a_row_per_pipeline() {
        let options = Options { data: None, compare: true, rounds: 1, seconds: 1.0, fast: false, json: false };
        let text = show(Some(&rates(&[2.0])), &vec![rates(&[5.0]); OURS.len()], &options);
        assert!(OURS.iter().all(|pipeline| text.contains(pipeline.what)), "{text}");
        assert!(text.contains("2.50") && text.contains("25.0 %"), "{text}");
    }

    #[test]
    fn missing_data_scratchis_reported() {
        let options =
            Options { data: Some("/no/such".into()), compare: false, rounds: 1, seconds: 1.0, fast: false, json: true };
        let scratch = TemporaryFolder(std::env::temp_dir().join("simsiam-bench-data-test"));
        assert!(originals(&options, &scratch).is_err_and(|error| error.to_string().contains("/no/such")));
    }
}
