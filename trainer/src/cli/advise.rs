//! `simsiam advise`.

use std::path::PathBuf;

use super::bar::Bar;
use super::file::FileArgs;
use crate::advise::{self, AdviseOptions, Subject, SurveyOptions, default_path};
use crate::agent::topology::default_threads;
use crate::error::Error;

/// Arguments of `simsiam advise`.
#[derive(clap::Args)]
pub struct Args {
    /// The run: a SimSiamRun in YAML
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// Local path of a persistent volume claim that the file names; may be repeated
    #[arg(long, value_name = "NAME=/PATH")]
    mount: Vec<String>,
    /// Images to read of each set, drawn at random; 0 reads all
    #[arg(long, default_value_t = 2000)]
    limit: usize,
    /// Seed of that draw
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Threads that read images [default: the machine's cores]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: Option<u32>,
    /// Do not time the loader and training steps
    #[arg(long)]
    no_measure: bool,
    /// Write the run file with the proposals [default path: FILE.advised.yaml, without FILE's own ending]
    #[arg(long, value_name = "PATH", num_args = 0..=1)]
    write: Option<Option<PathBuf>>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// Runs `simsiam advise`.
pub fn execute(args: &Args) -> Result<(), Error> {
    let file = FileArgs { file: args.file.clone(), mount: args.mount.clone(), set: Vec::new() };
    let (run, text) = (file.load()?, file.text()?);
    let threads = args.threads.unwrap_or_else(|| default_threads(1)) as usize;
    let options = AdviseOptions {
        survey: SurveyOptions { limit: args.limit, seed: args.seed, threads },
        measure: !args.no_measure,
        write: args.write.as_ref().map(|path| path.clone().unwrap_or_else(|| default_path(&args.file))),
    };
    let mut bar = Bar::new("images read");
    let subject = Subject { file: &args.file, text: &text, recipe: &run.recipe };
    let report = advise::advise(subject, &options, &mut |_, done, of| {
        bar.show(done, of);
        if done == of {
            bar.finish();
            bar = Bar::new("images read");
        }
    })?;
    if args.json {
        let text = serde_json::to_string_pretty(&report).map_err(|e| Error::Internal(e.to_string()))?;
        println!("{text}");
    } else {
        print!("{}", report.text());
    }
    if let Some(path) = &report.written {
        let lost = if report.kept_comments { "" } else { "; its form did not allow to keep the comments" };
        eprintln!("written: {}{lost}", path.display());
    }
    Ok(())
}
