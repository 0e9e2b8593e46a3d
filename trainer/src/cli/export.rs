//! `simsiam export`.

use clap::builder::{PossibleValuesParser, TypedValueParser};
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
    /// Format to write; may be repeated [default: those of spec.export]
    #[arg(long = "format", value_name = "FORMAT", value_parser = format_parser(|_| true))]
    formats: Vec<ExportFormat>,
    /// Folder to write to, by path or address [default: export/ in the run's output]
    #[arg(short, long, value_name = "DIR")]
    output: Option<String>,
}

/// Parses a format by its name in `spec.export`, of those that `takes` accepts.
pub fn format_parser(takes: fn(&ExportFormat) -> bool) -> impl TypedValueParser<Value = ExportFormat> {
    let names = PossibleValuesParser::new(ExportFormat::ALL.into_iter().filter(takes).map(ExportFormat::name));
    names.try_map(|name| ExportFormat::ALL.into_iter().find(|format| format.name() == name).ok_or("unknown format"))
}

/// Runs `simsiam export`.
pub fn execute(args: &Args) -> Result<(), Error> {
    let file = args.file.load()?;
    let recipe = file.recipe;
    let formats = if args.formats.is_empty() { &recipe.export } else { &args.formats };
    if formats.is_empty() {
        return Err(Error::config("spec.export", "missing; list the formats there, or give them with --format"));
    }
    let runtime = runtime::start()?;
    let run = Storage::open(&recipe.output, runtime.handle().clone())?;
    let from = export::Source { run: &file.name, recipe: &recipe, storage: &run };
    let exported = match &args.output {
        None => export::export(formats, &from, &|name| format!("{}/{name}", export::FOLDER), &run)?,
        Some(uri) => {
            let to = Storage::open(&Output { uri: uri.clone(), ..recipe.output.clone() }, runtime.handle().clone())?;
            export::export(formats, &from, &str::to_owned, &to)?
        }
    };
    for file in exported {
        println!("{}  {}", file.sha256, file.file);
    }
    Ok(())
}
