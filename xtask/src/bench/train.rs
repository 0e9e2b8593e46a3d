//! `cargo xtask bench train`: our training step and eager PyTorch's, measured alternately in one run.

use std::process::Command;

use serde_json::{Value, json};

use super::python;
use crate::build::{program, release};
use crate::error::{Error, Result};
use crate::pins::{Flavour, LIBTORCH_VERSION};
use crate::process::{output, repo};
use crate::setup::setup;
use crate::table;

const SCRIPT: &str = "tests/parity/bench_train.py";

/// What to measure.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Rounds; each measures ours and PyTorch's, and the medians are compared
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Measured steps per round, after two warm-up steps
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    steps: u32,
    /// Number of threads for both [default: all cores]
    #[arg(long)]
    threads: Option<u32>,
    /// Precision for both: fp32 or bf16
    #[arg(long, default_value = "fp32")]
    precision: String,
    /// Measure only this model: resnet18-cifar or resnet50-imagenet
    #[arg(long)]
    only: Option<String>,
    /// Use channels-last memory for PyTorch too; its default is contiguous
    #[arg(long)]
    pytorch_channels_last: bool,
    /// Print JSON only
    #[arg(long)]
    json: bool,
}

/// A model and its input.
struct Config {
    name: &'static str,
    arch: &'static str,
    stem: &'static str,
    batch: u32,
    crop: u32,
}

const CONFIGS: &[Config] = &[
    Config { name: "resnet18-cifar", arch: "resnet18", stem: "cifar", batch: 64, crop: 32 },
    Config { name: "resnet50-imagenet", arch: "resnet50", stem: "imagenet", batch: 8, crop: 224 },
];

/// Result of one measurement.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Measurement {
    images_per_second: f64,
    peak_rss_mb: f64,
}

/// Measures and prints.
///
/// # Errors
/// If the build, PyTorch's environment or a measurement fails.
pub fn train(options: &Options) -> Result<()> {
    let configs: Vec<_> = CONFIGS.iter().filter(|c| options.only.as_ref().is_none_or(|name| name == c.name)).collect();
    if configs.is_empty() {
        let names: Vec<_> = CONFIGS.iter().map(|c| c.name).collect();
        return Err(Error::Refused(format!("--only: expected one of {}", names.join(", "))));
    }
    setup(Flavour::Cpu)?;
    let python = python::with_torch()?;
    let built = release(false)?;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = options.threads.map_or_else(|| cores.to_string(), |n| n.to_string());

    let mut results = Vec::new();
    for config in configs {
        let arguments = arguments(config, options, &threads);
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for round in 1..=options.rounds {
            eprintln!("{}: round {round} of {}", config.name, options.rounds);
            ours.push(measure(program(&built).arg("bench-step").args(&arguments))?);
            let mut pytorch = Command::new(&python);
            // Cargo's library path is not part of PyTorch's defaults.
            pytorch.arg(repo().join(SCRIPT)).args(&arguments).env_remove("LD_LIBRARY_PATH");
            if options.pytorch_channels_last {
                pytorch.arg("--channels-last");
            }
            theirs.push(measure(&mut pytorch)?);
        }
        results.push((config, median(&ours), median(&theirs)));
    }
    if options.json {
        println!("{:#}", report(&results, options, &threads));
    } else {
        println!("{}", show(&results, options, &threads));
    }
    Ok(())
}

fn arguments(config: &Config, options: &Options, threads: &str) -> Vec<String> {
    let pairs = [
        ("--arch", config.arch.to_owned()),
        ("--stem", config.stem.to_owned()),
        ("--batch", config.batch.to_string()),
        ("--crop", config.crop.to_string()),
        ("--steps", options.steps.to_string()),
        ("--threads", threads.to_owned()),
        ("--precision", options.precision.clone()),
    ];
    let mut list: Vec<_> = pairs.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect();
    list.push("--json".into());
    list
}

/// Runs one measurement and reads its result.
fn measure(command: &mut Command) -> Result<Measurement> {
    let text = output(command)?;
    read_measurement(&text).ok_or_else(|| Error::Refused(format!("no result in the output of {command:?}:\n{text}")))
}

fn read_measurement(text: &str) -> Option<Measurement> {
    let value: Value = text.lines().rev().find_map(|line| serde_json::from_str(line).ok())?;
    Some(Measurement {
        images_per_second: value.get("imagesPerSecond")?.as_f64()?,
        peak_rss_mb: value.get("peakRssMb")?.as_f64()?,
    })
}

/// Returns the median of each value.
fn median(rounds: &[Measurement]) -> Measurement {
    let of = |value: fn(&Measurement) -> f64| super::median(rounds.iter().map(value).collect());
    Measurement { images_per_second: of(|t| t.images_per_second), peak_rss_mb: of(|t| t.peak_rss_mb) }
}

fn report(results: &[(&Config, Measurement, Measurement)], options: &Options, threads: &str) -> Value {
    let values = |m: &Measurement| json!({"imagesPerSecond": m.images_per_second, "peakRssMb": m.peak_rss_mb});
    let models: Vec<_> = results
        .iter()
        .map(|(config, ours, theirs)| {
            json!({
                "name": config.name, "batch": config.batch, "crop": config.crop,
                "simsiam": values(ours), "pytorch": values(theirs),
                "ratio": ours.images_per_second / theirs.images_per_second,
            })
        })
        .collect();
    json!({
        "threads": threads, "precision": options.precision, "rounds": options.rounds, "steps": options.steps,
        "pytorchChannelsLast": options.pytorch_channels_last, "torch": LIBTORCH_VERSION, "models": models,
    })
}

fn show(results: &[(&Config, Measurement, Measurement)], options: &Options, threads: &str) -> String {
    let mut rows = vec![
        ["model", "batch", "crop", "ours img/s", "PyTorch img/s", "ratio", "ours MB", "PyTorch MB"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for (config, ours, theirs) in results {
        rows.push(vec![
            config.name.to_owned(),
            config.batch.to_string(),
            config.crop.to_string(),
            format!("{:.2}", ours.images_per_second),
            format!("{:.2}", theirs.images_per_second),
            format!("{:.3}", ours.images_per_second / theirs.images_per_second),
            format!("{:.0}", ours.peak_rss_mb),
            format!("{:.0}", theirs.peak_rss_mb),
        ]);
    }
    format!(
        "{}\n{} on {threads} threads, medians of {} alternating rounds; an image is two views; a ratio above 1 means that ours is faster",
        table::columns(&rows),
        options.precision,
        options.rounds
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measurement(images_per_second: f64) -> Measurement {
        Measurement { images_per_second, peak_rss_mb: 100.0 }
    }

    #[test]
    fn median_ignores_one_slow_round() {
        assert_eq!(median(&[measurement(10.0), measurement(2.0), measurement(11.0)]), measurement(10.0));
        assert_eq!(median(&[measurement(10.0), measurement(12.0)]), measurement(11.0));
    }

    #[test]
    fn rates_are_read_from_the_last_json_line() {
        let text = "warming up\n{\"imagesPerSecond\": 41.5, \"peakRssMb\": 900.0, \"loss\": -0.1}\n";
        assert_eq!(read_measurement(text), Some(Measurement { images_per_second: 41.5, peak_rss_mb: 900.0 }));
        assert_eq!(read_measurement("nothing"), None);
    }

    #[test]
    fn ratio_is_ours_over_theirs() {
        let options = Options {
            rounds: 3,
            steps: 5,
            threads: None,
            precision: "fp32".into(),
            only: None,
            pytorch_channels_last: false,
            json: true,
        };
        let results = [(&CONFIGS[0], measurement(12.0), measurement(10.0))];
        assert_eq!(report(&results, &options, "2").pointer("/models/0/ratio"), Some(&json!(1.2)));
        assert!(show(&results, &options, "2").contains("1.200"));
        assert!(arguments(&CONFIGS[1], &options, "2").join(" ").contains("--arch resnet50 --stem imagenet --batch 8"));
    }
}
