//! `simsiam report`.

use std::path::PathBuf;

use super::file::FileArgs;
use super::worker::default_threads;
use crate::dist::rank::Rank;
use crate::error::Error;
use crate::report::{self, Run};
use crate::storage::Storage;

/// Arguments of `simsiam report`.
#[derive(clap::Args)]
pub struct Args {
    /// The run: a SimSiamRun as YAML
    #[arg(value_name = "FILE", required_unless_present = "file", conflicts_with = "file")]
    run: Option<PathBuf>,
    /// The same, as other commands take it
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Where a persistent volume claim of the file lies on this machine
    #[arg(long, value_name = "NAME=/PATH")]
    mount: Vec<String>,
    /// A field of the run in the place of the file's, as spec.report.points=500
    #[arg(long, value_name = "FIELD=VALUE")]
    set: Vec<String>,
    /// Where to write the page [default: report.html in the run's output]
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
    /// libtorch's threads; by default the machine's cores
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    threads: Option<u32>,
}

/// `simsiam report`.
pub fn execute(args: &Args) -> Result<(), Error> {
    let Some(file) = args.run.clone().or(args.file.clone()) else {
        return Err(Error::Usage("which run? Give its file".into()));
    };
    let file = FileArgs { file, mount: args.mount.clone(), set: args.set.clone() };
    let run = file.load()?;
    let text = file.text()?;
    let rank = Rank::alone(args.threads.unwrap_or_else(|| default_threads(1)))?;
    let runtime = tokio::runtime::Runtime::new().map_err(Error::io("the async runtime"))?;
    let storage = Storage::open(&run.recipe.output, runtime.handle().clone())?;
    let run = Run { name: &run.name, recipe: &run.recipe, text: &text };
    let written = match &args.output {
        None => report::write(&rank, &run, &storage)?,
        Some(path) => {
            let html = report::page(&rank, &run, &storage)?;
            std::fs::write(path, html).map_err(Error::io(path))?;
            path.display().to_string()
        }
    };
    println!("{written}");
    Ok(())
}
