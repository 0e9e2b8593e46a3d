//! `simsiam data`: making, packing and looking into data sets.

use std::collections::BTreeMap;
use std::path::PathBuf;

use simsiam_data::pack::{self, PackOptions};
use simsiam_data::store::{Store, StoreOptions};
use simsiam_data::synth::{self, SynthOptions};
use simsiam_data::{Access, Decoder, RgbImage, Source, TargetSize};
use tokio::runtime::Runtime;

use super::bar::Bar;
use super::worker::default_threads;
use crate::data::datasets::store_options;
use crate::error::{Error, ExitCode};

/// Subcommands of `simsiam data`.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Draw a small labelled data set: ten classes of shapes and textures, as JPEG files
    Synth {
        /// The folder to make train/ and val/ in
        out: PathBuf,
        /// Training images of each class
        #[arg(long, default_value_t = 500)]
        train_per_class: usize,
        /// Validation images of each class
        #[arg(long, default_value_t = 100)]
        val_per_class: usize,
        /// Width and height in pixels
        #[arg(long, default_value_t = 48)]
        size: usize,
        /// Another seed draws other images
        #[arg(long, default_value_t = 0)]
        seed: u64,
    },
    /// Pack images into a few large shards, which load faster and cost few requests
    Pack(PackArgs),
    /// Read and decode every image; name those that cannot be used (exit code 65 if there are any)
    Verify {
        /// The images: a path or an address
        at: String,
        #[command(flatten)]
        reach: Reach,
    },
    /// Count images, classes and sizes
    Stat {
        /// The images: a path or an address
        at: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        reach: Reach,
    },
}

/// `simsiam data pack`.
#[derive(clap::Args)]
pub struct PackArgs {
    /// The images: a folder, tar shards or a packed set, by path or s3://, gs:// or az:// address
    from: String,
    /// Where the shards go, by path or address; what an interrupted packing left there is used
    to: String,
    /// Shrink images whose longer side has more pixels than this
    #[arg(long, conflicts_with = "short_side", value_parser = clap::value_parser!(u32).range(16..=65500))]
    max_side: Option<u32>,
    /// Shrink images whose shorter side has more pixels than this
    #[arg(long, value_parser = clap::value_parser!(u32).range(16..=65500))]
    short_side: Option<u32>,
    /// JPEG quality of images that are shrunk, and of those that were PNG
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u8).range(1..=100))]
    quality: u8,
    /// Images in a shard
    #[arg(long, default_value_t = 2048, value_parser = parse_count)]
    shard_samples: usize,
    /// Unreadable images that are left out before packing gives up
    #[arg(long, default_value_t = 0)]
    max_corrupt: u64,
    #[command(flatten)]
    reach: Reach,
}

/// How addresses are reached, and with how many threads.
#[derive(clap::Args)]
pub struct Reach {
    /// Address of an S3 service that is not Amazon's, as https://host:port
    #[arg(long)]
    endpoint: Option<String>,
    /// Region of the bucket
    #[arg(long)]
    region: Option<String>,
    /// Threads; by default the machine's cores
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: Option<u32>,
}

fn parse_count(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| (1..=1 << 20).contains(n)).ok_or_else(|| "expected 1 to 1048576".to_owned())
}

impl Reach {
    fn store(&self) -> StoreOptions {
        StoreOptions { endpoint: self.endpoint.clone(), region: self.region.clone(), ..store_options() }
    }

    fn threads(&self) -> usize {
        self.threads.unwrap_or_else(|| default_threads(1)) as usize
    }

    fn open(&self, uri: &str, runtime: &Runtime) -> Result<std::sync::Arc<dyn Source>, Error> {
        let access = Access { store: self.store(), cache: None, runtime: runtime.handle().clone() };
        Ok(simsiam_data::open(uri, None, &access)?)
    }
}

fn runtime() -> Result<Runtime, Error> {
    Runtime::new().map_err(Error::io("the async runtime"))
}

/// `simsiam data …`.
pub fn execute(command: &Command) -> Result<(), Error> {
    match command {
        Command::Synth { out, train_per_class, val_per_class, size, seed } => {
            let options = SynthOptions {
                train_per_class: *train_per_class,
                val_per_class: *val_per_class,
                size: *size,
                seed: *seed,
            };
            let mut bar = Bar::new("drawn");
            synth::write(out, &options, &mut |done, of| bar.show(done, of))?;
            bar.finish();
            println!("{}: ten classes, {train_per_class} + {val_per_class} images each", out.display());
            Ok(())
        }
        Command::Pack(args) => pack(args),
        Command::Verify { at, reach } => verify(at, reach),
        Command::Stat { at, json, reach } => stat(at, *json, reach),
    }
}

fn pack(args: &PackArgs) -> Result<(), Error> {
    let runtime = runtime()?;
    let source = args.reach.open(&args.from, &runtime)?;
    let to = Store::create(&args.to, &args.reach.store(), runtime.handle().clone())?;
    let size = match (args.max_side, args.short_side) {
        (Some(side), _) => TargetSize::MaxSide(side),
        (None, Some(side)) => TargetSize::ShortSide(side),
        (None, None) => TargetSize::Keep,
    };
    let options = PackOptions {
        size,
        quality: args.quality,
        samples_per_shard: args.shard_samples,
        threads: args.reach.threads(),
        max_corrupt: args.max_corrupt,
    };
    let mut bar = Bar::new("packed");
    let packed = pack::pack(&*source, &to, &options, &mut |done, of| bar.show(done, of))?;
    bar.finish();
    for name in &packed.manifest.left_out {
        eprintln!("left out {name}: it cannot be decoded");
    }
    println!(
        "{}: {} images in {} shards ({} were there), {}",
        to.uri(""),
        packed.manifest.samples,
        packed.manifest.shards.len(),
        packed.reused,
        megabytes(packed.bytes_out),
    );
    Ok(())
}

fn verify(at: &str, reach: &Reach) -> Result<(), Error> {
    let runtime = runtime()?;
    let mut faults = Vec::new();
    let mut bar = Bar::new("shards compared");
    // A set whose shards are cut or gone does not open; its manifest still says which.
    if let Ok(store) = Store::open(at, &reach.store(), runtime.handle().clone()) {
        faults.extend(pack::verify_shards(&store, &mut |done, of| bar.show(done, of))?.unwrap_or_default());
    }
    bar.finish();
    let samples = match reach.open(at, &runtime) {
        Ok(source) => {
            let mut bar = Bar::new("images read");
            faults.extend(pack::verify(&*source, reach.threads(), &mut |done, of| bar.show(done, of))?);
            bar.finish();
            source.len()
        }
        Err(_) if !faults.is_empty() => 0,
        Err(e) => return Err(e),
    };
    for fault in &faults {
        println!("{}: {}", fault.name, fault.reason);
    }
    if faults.is_empty() {
        println!("{at}: {samples} images, all readable");
        return Ok(());
    }
    let message = format!("{at}: {} faults among {samples} images; they are listed above", faults.len());
    Err(Error::Rank { code: ExitCode::Data, message })
}

/// Images whose size is looked at: enough for a mean, and quick.
const LOOKED_AT: usize = 1000;

fn stat(at: &str, json: bool, reach: &Reach) -> Result<(), Error> {
    let runtime = runtime()?;
    let source = reach.open(at, &runtime)?;
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for id in 0..source.len() as u64 {
        if let Some(class) = source.label(id).and_then(|label| source.classes().get(label as usize)) {
            *counts.entry(class).or_default() += 1;
        }
    }
    let (mut decoder, mut image, mut bytes) = (Decoder::new(), RgbImage::default(), Vec::new());
    let (mut sizes, mut total, mut unreadable) = (Vec::new(), 0, 0);
    let step = source.len().div_ceil(LOOKED_AT).max(1);
    let ids: Vec<u64> = (0..source.len() as u64).step_by(step).collect();
    let mut bar = Bar::new("images looked at");
    for (done, id) in ids.iter().enumerate() {
        source.read_into(*id, &mut bytes)?;
        match decoder.decode(source.name(*id), &bytes, &mut image) {
            Ok(()) => {
                total += bytes.len();
                sizes.push((image.width, image.height));
            }
            Err(_) => unreadable += 1,
        }
        bar.show(done + 1, ids.len());
    }
    bar.finish();
    let mean = |what: &dyn Fn(&(usize, usize)) -> usize| {
        sizes.iter().map(|size| what(size) as f64).sum::<f64>() / sizes.len().max(1) as f64
    };
    let (width, height, pixels) = (mean(&|s| s.0), mean(&|s| s.1), mean(&|s| s.0 * s.1));
    let bytes_each = total as f64 / sizes.len().max(1) as f64;
    let (fewest, most) = (counts.values().min().copied(), counts.values().max().copied());
    if json {
        let document = serde_json::json!({
            "images": source.len(), "classes": counts.len(), "fewestInAClass": fewest, "mostInAClass": most,
            "lookedAt": ids.len(), "unreadable": unreadable, "meanBytes": bytes_each, "meanWidth": width,
            "meanHeight": height, "meanPixels": pixels, "imagesByClass": counts,
        });
        println!("{document:#}");
        return Ok(());
    }
    println!("{at}");
    println!("  images   {}", source.len());
    match (fewest, most) {
        (Some(fewest), Some(most)) => println!("  classes  {}, of {fewest} to {most} images", counts.len()),
        _ => println!("  classes  none (a flat folder; kNN and linear need class folders)"),
    }
    println!("  mean     {width:.0}×{height:.0}, {:.2} megapixel, {:.0} kB each", pixels / 1e6, bytes_each / 1e3);
    println!("  of {} images looked at, {unreadable} cannot be decoded", ids.len());
    Ok(())
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
