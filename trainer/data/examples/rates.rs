//! Images a second of the two-view pipeline over a data set, for `cargo xtask bench data`.
//!
//! `rates rate ADDRESS [--threads N] [--crops] [--fast] [--stages] [--seconds S] [--batch N] [--extracts FOLDER]` prints one
//! line of JSON; the images of Parquet files are extracted to `FOLDER`, if they are more than fit in memory;
//! `rates error FOLDER` tells how far the crops of a fast decode are from those of an exact one;
//! `rates pack FROM TO MAX_SIDE QUALITY` writes a copy of a folder, every image shrunk to `MAX_SIDE`.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use simsiam_data::{
    Access, DecodeMode, ImageFolder, LoadStage, Loader, LoaderOptions, Source, TargetSize, Transcoder, TwoViews,
    ViewFormat, open,
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match &words[..] {
        ["rate", address, flags @ ..] => rate(address, flags),
        ["error", folder] => error(Path::new(folder)),
        ["pack", from, to, side, quality] => pack(Path::new(from), Path::new(to), side.parse()?, quality.parse()?),
        _ => Err("expected: rate ADDRESS [flags], or pack FROM TO MAX_SIDE QUALITY".into()),
    }
}

/// A data set whose images come again and again, so that one loader in its steady state can be timed for as long as it
/// takes: an epoch of a few hundred images would be over before its buffers had been used twice.
struct Repeated(Arc<dyn Source>);

impl Repeated {
    const TIMES: usize = 10_000;

    fn once(&self, id: u64) -> u64 {
        id % self.0.len() as u64
    }
}

impl Source for Repeated {
    fn len(&self) -> usize {
        self.0.len() * Self::TIMES
    }

    fn read(&self, id: u64) -> std::result::Result<Vec<u8>, simsiam_data::Error> {
        self.0.read(self.once(id))
    }

    fn read_into(&self, id: u64, buffer: &mut Vec<u8>) -> std::result::Result<(), simsiam_data::Error> {
        self.0.read_into(self.once(id), buffer)
    }

    fn name(&self, id: u64) -> &str {
        self.0.name(self.once(id))
    }

    fn label(&self, id: u64) -> Option<u32> {
        self.0.label(self.once(id))
    }

    fn classes(&self) -> &[String] {
        self.0.classes()
    }
}

/// Goes through as many images as the data set has, again and again until the time is up; the first time does not count.
fn rate(address: &str, flags: &[&str]) -> Result<()> {
    let value = |flag: &str| flags.iter().position(|word| *word == flag).and_then(|at| flags.get(at + 1));
    let has = |flag: &str| flags.contains(&flag);
    let runtime = tokio::runtime::Runtime::new()?;
    let extracts = value("--extracts").map(|folder| (folder.into(), u64::MAX));
    let access = Access { extracts, ..Access::new(runtime.handle().clone()) };
    let source = open(address, None, &access)?;
    let images = source.len();
    let seconds: f64 = value("--seconds").map_or(Ok(2.0), |text| text.parse())?;
    let batch = value("--batch").map_or(Ok(50.min(images)), |text| text.parse())?;
    let options = LoaderOptions {
        batch,
        threads: value("--threads").map_or(Ok(1), |text| text.parse())?,
        decode: if has("--fast") { DecodeMode::Fast } else { DecodeMode::Exact },
        output: if has("--crops") { ViewFormat::Crops } else { ViewFormat::Planes },
        time_stages: has("--stages"),
        ..LoaderOptions::default()
    };
    let mut loader = Loader::two_views(Arc::new(Repeated(source)), TwoViews::default(), options)?;
    let batches = images.div_ceil(batch).max(4);
    let mut pass = || -> Result<Duration> {
        let start = Instant::now();
        for _ in 0..batches {
            let batch = loader.next().ok_or("the images are used up: ask for less time")??;
            loader.recycle(batch);
        }
        Ok(start.elapsed())
    };
    pass()?;
    let mut passes = Vec::new();
    while passes.iter().sum::<Duration>().as_secs_f64() < seconds {
        passes.push(pass()?);
    }
    let times = loader.stage_times();
    let rate_of = |time: Duration, passes: usize| (passes * batches * batch) as f64 / time.as_secs_f64();
    let rate = rate_of(passes.iter().sum(), passes.len());
    let fastest = rate_of(passes.iter().copied().min().unwrap_or_default(), 1);
    let share = |stage: LoadStage| times.of(stage).as_secs_f64() / times.total().as_secs_f64();
    let shares = LoadStage::ALL.iter().filter(|_| has("--stages"));
    let shares: Vec<String> = shares.map(|stage| format!("\"{}\":{:.4}", stage.name(), share(*stage))).collect();
    println!("{{\"imagesPerSecond\":{rate:.2},\"fastestPass\":{fastest:.2},\"stages\":{{{}}}}}", shares.join(","));
    Ok(())
}

/// Differences of the resized crops, in levels of 255, over four epochs.
fn error(folder: &Path) -> Result<()> {
    let source: Arc<dyn Source> = Arc::new(ImageFolder::open(folder)?);
    let (mut sum, mut count, mut most, mut worst) = (0u64, 0u64, 0u8, 0.0f64);
    for epoch in 0..4 {
        let load = |decode| {
            let options =
                LoaderOptions { epoch, decode, batch: 1, output: ViewFormat::Crops, ..LoaderOptions::default() };
            Loader::two_views(Arc::clone(&source), TwoViews::default(), options)
        };
        for (exact, fast) in load(DecodeMode::Exact)?.zip(load(DecodeMode::Fast)?) {
            for (exact, fast) in exact?.crops.iter().zip(&fast?.crops) {
                let differences = exact.iter().zip(fast).map(|(a, b)| a.abs_diff(*b));
                let view: u64 = differences.clone().map(u64::from).sum();
                most = most.max(differences.max().unwrap_or(0));
                worst = worst.max(view as f64 / exact.len() as f64);
                (sum, count) = (sum + view, count + exact.len() as u64);
            }
        }
    }
    println!("mean {:.3}, worst view's mean {worst:.3}, largest {most}", sum as f64 / count as f64);
    Ok(())
}

fn pack(from: &Path, to: &Path, side: u32, quality: u8) -> Result<()> {
    let source = ImageFolder::open(from)?;
    let mut transcoder = Transcoder::new(TargetSize::MaxSide(side), quality)?;
    let mut packed = Vec::new();
    for id in 0..source.len() as u64 {
        let name = source.name(id);
        transcoder.transcode(name, &source.read(id)?, &mut packed)?;
        let path = to.join(name);
        fs::create_dir_all(path.parent().unwrap_or(to))?;
        fs::write(path, &packed)?;
    }
    Ok(())
}
