//! `simsiam bench-step`, for `cargo xtask bench train`.

use simsiam_recipe::{Arch, Augment, Precision, Pretrain, Stem};

use crate::error::Error;
use crate::training::bench::{self, Bench};

/// Arguments of `simsiam bench-step`.
#[derive(clap::Args)]
pub struct Args {
    /// Name of the backbone in torchvision
    #[arg(long, default_value = "resnet18", value_parser = parse::<Arch>)]
    arch: Arch,
    /// Stem of the backbone
    #[arg(long, default_value = "cifar", value_parser = parse::<Stem>)]
    stem: Stem,
    /// Channels of the backbone's first stage
    #[arg(long, default_value_t = 64)]
    base_width: u32,
    /// Channels of the images
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=32))]
    channels: u8,
    /// Images per step
    #[arg(long, default_value_t = 64)]
    batch: u32,
    /// Width and height of the views in pixels
    #[arg(long, default_value_t = 32)]
    crop: u32,
    /// Steps to time
    #[arg(long, default_value_t = 10)]
    steps: u32,
    /// Warm-up steps before the timed ones
    #[arg(long, default_value_t = 2)]
    warmup: u32,
    /// libtorch threads
    #[arg(long, default_value_t = 2)]
    threads: u32,
    /// Precision of the forward pass
    #[arg(long, default_value = "fp32", value_parser = parse::<Precision>)]
    precision: Precision,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn parse<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_value(serde_json::Value::String(text.to_owned())).map_err(|e| e.to_string())
}

/// Runs `simsiam bench-step`.
pub fn execute(args: &Args) -> Result<(), Error> {
    let channels = usize::from(args.channels);
    let augment = Augment { mean: vec![0.5; channels], std: vec![0.25; channels], ..Augment::default() };
    let recipe = Pretrain {
        augment,
        arch: args.arch,
        stem: args.stem,
        base_width: args.base_width,
        batch_size: args.batch,
        precision: args.precision,
        ..Pretrain::default()
    };
    let Args { crop, steps, warmup, threads, .. } = *args;
    let measured = bench::run(&Bench { recipe, crop, steps, warmup, threads })?;
    if args.json {
        println!("{}", serde_json::json!(measured));
    } else {
        let bench::Measured { images_per_second, step_seconds, peak_rss_mb, loss } = measured;
        println!(
            "{images_per_second:.1} images/s, {step_seconds:.4} s/step, {peak_rss_mb:.0} MB at most, loss {loss:.4}"
        );
    }
    Ok(())
}
