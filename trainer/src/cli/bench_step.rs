//! `simsiam bench-step`: the bare optimiser step on random images, for `cargo xtask bench train`.

use std::time::Instant;

use simsiam_recipe::{Arch, Precision, Pretrain, Stem};
use tch::{Device, Kind, Tensor};

use crate::dist::device;
use crate::error::Error;
use crate::model::{Pass, SimSiam};
use crate::training::schedule::LearningRate;
use crate::training::sgd::Sgd;

/// Arguments of `simsiam bench-step`.
#[derive(clap::Args)]
pub struct Args {
    /// torchvision's name
    #[arg(long, default_value = "resnet18", value_parser = parse::<Arch>)]
    arch: Arch,
    #[arg(long, default_value = "cifar", value_parser = parse::<Stem>)]
    stem: Stem,
    #[arg(long, default_value_t = 64)]
    base_width: u32,
    #[arg(long, default_value_t = 64)]
    batch: u32,
    #[arg(long, default_value_t = 32)]
    crop: u32,
    #[arg(long, default_value_t = 10)]
    steps: u32,
    #[arg(long, default_value_t = 2)]
    warmup: u32,
    #[arg(long, default_value_t = 2)]
    threads: u32,
    #[arg(long, default_value = "fp32", value_parser = parse::<Precision>)]
    precision: Precision,
    #[arg(long)]
    json: bool,
}

fn parse<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_value(serde_json::Value::String(text.to_owned())).map_err(|e| e.to_string())
}

/// `simsiam bench-step`.
pub fn execute(args: &Args) -> Result<(), Error> {
    tch_ext::tune_allocator();
    tch_ext::set_intraop_threads(args.threads as usize)?;
    let device = device::pick(0)?;
    let recipe = Pretrain {
        arch: args.arch,
        stem: args.stem,
        base_width: args.base_width,
        batch_size: args.batch,
        precision: args.precision,
        ..Pretrain::default()
    };
    let model = SimSiam::new(&recipe, Kind::Float, device)?;
    let mut sgd = Sgd::simsiam(model.params(), recipe.momentum, recipe.weight_decay)?;
    let rates = LearningRate::new(&recipe, 1).at(0);
    let (n, s) = (i64::from(args.batch), i64::from(args.crop));
    let image = || Tensor::f_randn([n, 3, s, s], (Kind::Float, device));
    let views = [image()?, image()?];
    let mut loss = f64::NAN;
    let mut times = Vec::new();
    for step in 0..args.warmup + args.steps {
        let start = Instant::now();
        sgd.zero_grad()?;
        let forward = || model.forward([&views[0], &views[1]], Pass::train(None));
        let outputs = device::in_precision(device, args.precision, forward)?;
        tch_ext::backward(&outputs.loss)?;
        sgd.step(&rates.groups())?;
        // Reading the loss waits for a GPU to be done.
        loss = outputs.loss.f_to_device(Device::Cpu)?.f_double_value(&[])?;
        if step >= args.warmup {
            times.push(start.elapsed().as_secs_f64());
        }
    }
    times.sort_by(f64::total_cmp);
    let median = times.get(times.len() / 2).copied().unwrap_or(f64::NAN);
    let rate = f64::from(args.batch) / median;
    let rss = peak_rss_mb();
    if args.json {
        println!(
            "{}",
            serde_json::json!({"imagesPerSecond": rate, "peakRssMb": rss, "stepSeconds": median, "loss": loss})
        );
    } else {
        println!("{rate:.1} images/s, {median:.4} s a step, {rss:.0} MB at most, loss {loss:.4}");
    }
    Ok(())
}

/// The most memory this process has held, in megabytes.
fn peak_rss_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    line.and_then(|l| l.split_whitespace().next()?.parse::<f64>().ok()).map_or(f64::NAN, |kb| kb / 1024.0)
}
