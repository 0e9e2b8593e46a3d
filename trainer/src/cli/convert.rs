//! `simsiam convert`.

use simsiam_recipe::{ExportFormat, Output};

use super::export::format_parser;
use super::file::{parse_endpoint, parse_region};
use crate::error::Error;
use crate::runtime;
use crate::weights::convert::convert;

/// Arguments of `simsiam convert`.
#[derive(clap::Args)]
pub struct Args {
    /// Weights to read, by path or address: a torch.save, safetensors or Detectron2 file, or a checkpoint folder
    input: String,
    /// File to write, by path or address
    output: String,
    /// Format to write; onnxWithNormalization needs a checkpoint folder
    #[arg(long, value_parser = format_parser(|format| *format != ExportFormat::Huggingface))]
    format: ExportFormat,
    /// Endpoint of an S3 service other than Amazon's, as in https://host:port
    #[arg(long, value_parser = parse_endpoint)]
    endpoint: Option<String>,
    /// Region of the bucket
    #[arg(long, value_parser = parse_region)]
    region: Option<String>,
}

/// Runs `simsiam convert`.
pub fn execute(args: &Args) -> Result<(), Error> {
    let runtime = runtime::start()?;
    let access = Output {
        uri: String::new(),
        credentials_secret: None,
        endpoint: args.endpoint.clone(),
        region: args.region.clone(),
    };
    let (weights, written) = convert(&args.input, &args.output, args.format, &access, runtime.handle())?;
    let what = weights.architecture().map_or_else(|| "an unknown architecture".to_owned(), |found| found.to_string());
    let trained = weights.epochs.map_or_else(String::new, |epochs| format!(", {epochs} epochs"));
    println!("{}: {what}{trained}, {written} tensors", args.output);
    Ok(())
}
