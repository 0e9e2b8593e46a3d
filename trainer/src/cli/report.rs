//! `simsiam report`.

use std::path::PathBuf;

use super::file::FileArgs;
use super::stage::threads;
use crate::agent::topology::default_threads;
use crate::dist::rank::Rank;
use crate::error::Error;
use crate::report::{self, Run};
use crate::runtime;
use crate::storage::Storage;

/// Arguments of `simsiam report`.
#[derive(clap::Args)]
pub struct Args {
    /// The run: a SimSiamRun in YAML
    #[arg(value_name = "FILE", required_unless_present = "file", conflicts_with = "file")]
    run: Option<PathBuf>,
    /// The run, given with the same flag as for other commands
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Local path of a persistent volume claim that the file names; may be repeated
    #[arg(long, value_name = "NAME=/PATH")]
    mount: Vec<String>,
    /// Override a field of spec, as in --set report.points=500; the value is YAML; may be repeated
    #[arg(long, value_name = "FIELD=VALUE")]
    set: Vec<String>,
    /// File to write the report to [default: report.html in the run's output]
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
    /// libtorch threads [default: the machine's cores]
    #[arg(long, value_parser = threads())]
    threads: Option<u32>,
}

/// Runs `simsiam report`.
pub fn execute(args: &Args) -> Result<(), Error> {
    let Some(file) = args.run.clone().or(args.file.clone()) else {
        return Err(Error::Usage("no run file given; pass its path".into()));
    };
    let file = FileArgs { file, mount: args.mount.clone(), set: args.set.clone() };
    let run = file.load()?;
    let text = file.text()?;
    let rank = Rank::alone(args.threads.unwrap_or_else(|| default_threads(1)))?;
    let runtime = runtime::start()?;
    let storage = Storage::open(&run.recipe.output, runtime.handle().clone())?;
    let run = Run { name: &run.name, recipe: &run.recipe, text: &text };
    let written = match &args.output {
        None => report::write(&rank, &run, &storage)?,
        Some(path) => {
            let html = report::page(&rank, &run, &storage)?;
            std::fs::write(path, html).map_err(Error::io("write", path))?;
            path.display().to_string()
        }
    };
    println!("{written}");
    Ok(())
}
