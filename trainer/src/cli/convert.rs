//! `simsiam convert`.

use simsiam_recipe::{ExportFormat, Output};

use super::export::parse_format;
use crate::error::Error;
use crate::weights;

/// Arguments of `simsiam convert`.
#[derive(clap::Args)]
pub struct Args {
    /// What to read: a file of torch.save, safetensors or Detectron2, or the folder of a checkpoint; a path or address
    input: String,
    /// The file to write, by path or address
    output: String,
    /// Its format: safetensors, torchvision, timm, detectron2 or pth
    #[arg(long, value_parser = parse_format)]
    format: ExportFormat,
    /// Address of an S3 service that is not Amazon's, as https://host:port
    #[arg(long)]
    endpoint: Option<String>,
    /// Region of the bucket
    #[arg(long)]
    region: Option<String>,
}

/// `simsiam convert`.
pub fn execute(args: &Args) -> Result<(), Error> {
    let runtime = tokio::runtime::Runtime::new().map_err(Error::io("the async runtime"))?;
    let reach = Output {
        uri: String::new(),
        credentials_secret: None,
        endpoint: args.endpoint.clone(),
        region: args.region.clone(),
    };
    let weights = weights::open("IN", &args.input, &reach, runtime.handle())?;
    weights.warn_of_other_shapes(&[args.format]);
    let file = weights.file(args.format)?;
    weights::open::put("OUT", &args.output, file.bytes, &reach, runtime.handle())?;
    let what = weights.architecture().map_or_else(|| "an unknown architecture".to_owned(), |found| found.to_string());
    let trained = weights.epochs.map_or_else(String::new, |epochs| format!(", {epochs} epochs"));
    println!("{}: {what}{trained}, {} tensors", args.output, weights.tensors.len());
    Ok(())
}
