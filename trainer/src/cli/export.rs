//! `simsiam export`.

use simsiam_recipe::{ExportFormat, Output};

use super::file::FileArgs;
use crate::error::Error;
use crate::runtime;
use crate::stage::export;
use crate::storage::Storage;

/// Arguments of `simsiam export`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    file: FileArgs,
    /// Format to write: safetensors, torchvision, timm, detectron2 or pth; may be repeated [default: those of
    /// spec.export]
    #[arg(long = "format", value_name = "FORMAT", value_parser = parse_format)]
    formats: Vec<ExportFormat>,
    /// Folder to write to, by path or address [default: export/ in the run's output]
    #[arg(short, long, value_name = "DIR")]
    output: Option<String>,
}

/// Parses a format by its name in `spec.export`.
pub fn parse_format(text: &str) -> Result<ExportFormat, String> {
    let format = ExportFormat::ALL.into_iter().find(|format| format.name() == text);
    format.ok_or_else(|| format!("expected one of {}", ExportFormat::ALL.map(ExportFormat::name).join(", ")))
}

/// Runs `simsiam export`.
pub fn execute(args: &Args) -> Result<(), Error> {
    let recipe = args.file.load()?.recipe;
    let formats = if args.formats.is_empty() { &recipe.export } else { &args.formats };
    if formats.is_empty() {
        return Err(Error::config("spec.export", "missing; list the formats there, or give them with --format"));
    }
    let runtime = runtime::start()?;
    let run = Storage::open(&recipe.output, runtime.handle().clone())?;
    let exported = match &args.output {
        None => export::export(formats, &run, &|name| format!("{}/{name}", export::FOLDER), &run)?,
        Some(uri) => {
            let to = Storage::open(&Output { uri: uri.clone(), ..recipe.output }, runtime.handle().clone())?;
            export::export(formats, &run, &str::to_owned, &to)?
        }
    };
    for file in exported {
        println!("{}  {}", file.sha256, file.file);
    }
    Ok(())
}
