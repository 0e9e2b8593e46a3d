//! `simsiam data`: creates, packs and inspects data sets.

use std::path::PathBuf;
use std::sync::Arc;

use simsiam_data::pack::{self, PackOptions};
use simsiam_data::storage::{Storage, StorageOptions};
use simsiam_data::synth::{self, SynthOptions};
use simsiam_data::{Access, Columns, DecodeOptions, ListingReport, Pages, Source, TargetSize, ValueRange};
use simsiam_recipe::Cache as CacheSettings;
use tokio::runtime::Runtime;

use super::bar::Bar;
use super::file::{parse_endpoint, parse_image_column, parse_image_key, parse_label_column, parse_region};
use crate::agent::topology::default_threads;
use crate::data::datasets::{cache_folder, store_options};
use crate::data::inspect;
use crate::error::Error;
use crate::runtime;

/// Subcommands of `simsiam data`.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Generate a small labelled data set: ten classes of shapes and textures, as JPEG files
    Synth {
        /// Folder in which to create train/ and val/
        out: PathBuf,
        /// Training images per class
        #[arg(long, default_value_t = 500)]
        train_per_class: usize,
        /// Validation images per class
        #[arg(long, default_value_t = 100)]
        val_per_class: usize,
        /// Width and height in pixels
        #[arg(long, default_value_t = 48)]
        size: usize,
        /// Seed; a different seed gives different images
        #[arg(long, default_value_t = 0)]
        seed: u64,
    },
    /// Pack images into a few large shards, which load faster and need fewer requests
    Pack(PackArgs),
    /// Read and decode every image and list those that fail (exit code 65 if any do)
    Verify {
        /// Images, by path or address
        at: String,
        #[command(flatten)]
        access: AccessArgs,
    },
    /// Count images, classes and sizes
    Stat {
        /// Images, by path or address
        at: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        access: AccessArgs,
    },
}

/// Arguments of `simsiam data pack`.
#[derive(clap::Args)]
pub struct PackArgs {
    /// Images to pack: a folder, tar shards, Parquet files or a packed set, by path or s3://, gs:// or az:// address
    from: String,
    /// Destination of the shards, by path or address; to resume after an interruption, run the same command
    /// again
    to: String,
    /// Downscale images whose longer side exceeds this many pixels
    #[arg(long, conflicts_with = "short_side", value_parser = clap::value_parser!(u32).range(16..=65500))]
    max_side: Option<u32>,
    /// Downscale images whose shorter side exceeds this many pixels
    #[arg(long, value_parser = clap::value_parser!(u32).range(16..=65500))]
    short_side: Option<u32>,
    /// JPEG quality of downscaled images and of converted 8-bit PNGs
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u8).range(1..=100))]
    quality: u8,
    /// Images per shard
    #[arg(long, default_value_t = 2048, value_parser = parse_count)]
    shard_samples: usize,
    /// Maximum number of unreadable images to skip before the command fails
    #[arg(long, default_value_t = 0)]
    max_corrupt: u64,
    #[command(flatten)]
    access: AccessArgs,
}

/// How to reach and read images, and with how many threads.
#[derive(clap::Args)]
pub struct AccessArgs {
    /// Endpoint of an S3 service other than Amazon's, as in https://host:port
    #[arg(long, value_parser = parse_endpoint)]
    endpoint: Option<String>,
    /// Region of the bucket
    #[arg(long, value_parser = parse_region)]
    region: Option<String>,
    /// Ending of the image to use if a WebDataset key has several, such as jpg or left.jpg
    #[arg(long, value_name = "ENDING", value_parser = parse_image_key)]
    image_key: Option<String>,
    /// Column of Parquet files with the images [default: the only column of images, or image]
    #[arg(long, value_name = "COLUMN", value_parser = parse_image_column)]
    image_column: Option<String>,
    /// Column of Parquet files with the labels [default: label, or the only column of classes]
    #[arg(long, value_name = "COLUMN", value_parser = parse_label_column)]
    label_column: Option<String>,
    /// Channels of the images, as dataset.channels of a run
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=32))]
    channels: u8,
    /// Black and white of images of more than 8 bits: auto (the range of their type), pillow (as Pillow clips them),
    /// fixed:LOW:HIGH or percentiles:LOW:HIGH
    #[arg(long, value_name = "RANGE", default_value = "auto")]
    range: ValueRange,
    /// Pages of a TIFF file that are samples: first, or all
    #[arg(long, value_name = "PAGES", default_value = "first", value_parser = parse_pages)]
    pages: Pages,
    /// Threads [default: the machine's cores]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: Option<u32>,
}

fn parse_count(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| (1..=1 << 20).contains(n)).ok_or_else(|| "expected 1 to 1048576".to_owned())
}

fn parse_pages(text: &str) -> Result<Pages, String> {
    match text {
        "first" => Ok(Pages::First),
        "all" => Ok(Pages::All),
        _ => Err("expected first or all".to_owned()),
    }
}

impl AccessArgs {
    fn storage(&self) -> StorageOptions {
        StorageOptions { endpoint: self.endpoint.clone(), region: self.region.clone(), ..store_options() }
    }

    fn threads(&self) -> usize {
        self.threads.unwrap_or_else(|| default_threads(1)) as usize
    }

    /// How to read images, each of them once: only those of Parquet files are copied.
    fn access(&self, runtime: &Runtime) -> Access {
        Access {
            storage: self.storage(),
            cache: None,
            image_key: self.image_key.clone(),
            columns: Columns { image: self.image_column.clone(), label: self.label_column.clone() },
            extracts: Some((cache_folder(), CacheSettings::default().size_limit_bytes())),
            pages: self.pages,
            decode: DecodeOptions { range: self.range, channels: usize::from(self.channels) },
            runtime: runtime.handle().clone(),
        }
    }

    fn open(&self, uri: &str, runtime: &Runtime) -> Result<Arc<dyn Source>, Error> {
        let source = simsiam_data::open(uri, None, &self.access(runtime))?;
        show(uri, &source.listing_report());
        Ok(source)
    }
}

/// Runs `simsiam data`.
pub fn execute(command: &Command) -> Result<(), Error> {
    match command {
        Command::Synth { out, train_per_class, val_per_class, size, seed } => {
            let options = SynthOptions {
                train_per_class: *train_per_class,
                val_per_class: *val_per_class,
                size: *size,
                seed: *seed,
            };
            let mut bar = Bar::new("generated");
            synth::write(out, &options, &mut |done, of| bar.show(done, of))?;
            bar.finish();
            println!("{}: ten classes, {train_per_class} + {val_per_class} images each", out.display());
            Ok(())
        }
        Command::Pack(args) => pack(args),
        Command::Verify { at, access } => verify(at, access),
        Command::Stat { at, json, access } => stat(at, *json, access),
    }
}

fn pack(args: &PackArgs) -> Result<(), Error> {
    let runtime = runtime::start()?;
    if args.access.channels != 3 && (args.max_side, args.short_side) != (None, None) {
        return Err(Error::config(
            "--channels",
            "images of other than three channels are packed as they are; omit --max-side and --short-side",
        ));
    }
    let source = args.access.open(&args.from, &runtime)?;
    let to = Storage::create(&args.to, &args.access.storage(), runtime.handle().clone())?;
    let size = match (args.max_side, args.short_side) {
        (Some(side), _) => TargetSize::MaxSide(side),
        (None, Some(side)) => TargetSize::ShortSide(side),
        (None, None) => TargetSize::Keep,
    };
    let options = PackOptions {
        size,
        quality: args.quality,
        samples_per_shard: args.shard_samples,
        threads: args.access.threads(),
        max_corrupt: args.max_corrupt,
    };
    let mut bar = Bar::new("packed");
    let packed = pack::pack(&*source, &to, &options, &mut |done, of| bar.show(done, of))?;
    bar.finish();
    for name in &packed.manifest.left_out {
        eprintln!("left out {name}: it cannot be decoded");
    }
    println!(
        "{}: {} images in {} shards ({} reused), {}",
        to.uri(""),
        packed.manifest.samples,
        packed.manifest.shards.len(),
        packed.reused,
        megabytes(packed.bytes_out),
    );
    Ok(())
}

fn verify(at: &str, access: &AccessArgs) -> Result<(), Error> {
    let runtime = runtime::start()?;
    let mut bar = Bar::new("shards and images read");
    let verified = inspect::verify(at, &access.access(&runtime), access.threads(), &mut |done, of| bar.show(done, of))?;
    bar.finish();
    show(at, &verified.listing_report);
    for fault in &verified.faults {
        println!("{}: {}", fault.name, fault.reason);
    }
    if verified.faults.is_empty() {
        let skipped = match verified.listing_report.total() {
            0 => String::new(),
            files => format!("; {files} other files were skipped ({})", verified.listing_report.kinds()),
        };
        println!("{at}: {} images, all readable{skipped}", verified.images);
        return Ok(());
    }
    Err(Error::Faults { uri: at.to_owned(), faults: verified.faults.len(), images: verified.images })
}

fn stat(at: &str, json: bool, access: &AccessArgs) -> Result<(), Error> {
    let runtime = runtime::start()?;
    let source = access.open(at, &runtime)?;
    let mut bar = Bar::new("images inspected");
    let statistics = inspect::statistics(&*source, &mut |done, of| bar.show(done, of))?;
    bar.finish();
    if json {
        println!("{:#}", serde_json::json!(statistics));
        return Ok(());
    }
    let s = statistics;
    println!("{at}");
    println!("  images   {}", s.images);
    match (s.fewest_in_a_class, s.most_in_a_class) {
        (Some(_), Some(_)) if s.classes == 1 => println!("  classes  1; kNN and linear need at least two"),
        (Some(fewest), Some(most)) => println!("  classes  {}, of {fewest} to {most} images", s.classes),
        _ => println!("  classes  none (a flat folder; kNN and linear need class folders)"),
    }
    let (width, height, megapixels, kilobytes) = (s.mean_width, s.mean_height, s.mean_pixels / 1e6, s.mean_bytes / 1e3);
    println!("  mean     {width:.0}×{height:.0}, {megapixels:.2} megapixels, {kilobytes:.0} kB");
    println!("  of {} images inspected, {} cannot be decoded", s.inspected, s.unreadable);
    Ok(())
}

/// Prints what the listing of `at` found beside images.
fn show(at: &str, listing_report: &ListingReport) {
    for line in listing_report.lines() {
        eprintln!("{at}: {line}");
    }
    if !listing_report.image_keys.is_empty() {
        eprintln!("{at}: `simsiam data pack --image-key ENDING` packs the images of one ending");
    }
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
