//! `simsiam doctor`.

use std::path::PathBuf;
use std::time::Duration;

use simsiam_contract::names::RENDEZVOUS_PORT;
use simsiam_recipe::Output;

use super::file::{FileArgs, parse_endpoint, parse_region};
use crate::doctor::{self, DoctorOptions};
use crate::error::Error;

/// Arguments of `simsiam doctor`.
#[derive(clap::Args)]
pub struct Args {
    /// Number of GPUs required; exits with code 78 if there are fewer
    #[arg(long, default_value_t = 0)]
    gpus: usize,
    /// Probe the output of this run
    #[arg(short, long, value_name = "FILE", conflicts_with = "output")]
    file: Option<PathBuf>,
    /// Probe this output: a path, s3://, gs:// or az://
    #[arg(long, value_name = "URI")]
    output: Option<String>,
    /// Endpoint of an S3 service other than Amazon's
    #[arg(long, value_name = "URL", requires = "output", value_parser = parse_endpoint)]
    endpoint: Option<String>,
    /// Region of the bucket
    #[arg(long, requires = "output", value_parser = parse_region)]
    region: Option<String>,
    /// Folder of the cache
    #[arg(long, value_name = "FOLDER")]
    cache: Option<PathBuf>,
    /// Connect to the rendezvous store of this node
    #[arg(long, value_name = "HOST")]
    master_addr: Option<String>,
    /// Port of that store
    #[arg(long, value_name = "PORT", default_value_t = RENDEZVOUS_PORT)]
    master_port: u16,
    /// Seconds to wait for that node
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    timeout: u64,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// Runs `simsiam doctor`.
pub fn execute(args: &Args) -> Result<(), Error> {
    let report = doctor::run(&args.options()?)?;
    if args.json {
        let text = serde_json::to_string_pretty(&report).map_err(|e| Error::Internal(e.to_string()))?;
        println!("{text}");
    } else {
        print!("{}", report.text());
    }
    match report.wrong().as_slice() {
        [] => Ok(()),
        wrong => Err(Error::config(
            "doctor",
            format!("{} of {} checks failed: {}", wrong.len(), report.checks.len(), wrong.join(", ")),
        )),
    }
}

impl Args {
    fn options(&self) -> Result<DoctorOptions, Error> {
        let of_file = |file: &PathBuf| {
            let file = FileArgs { file: file.clone(), mount: Vec::new(), set: Vec::new() };
            Ok::<_, Error>(file.load()?.recipe.output)
        };
        let output = match (&self.file, &self.output) {
            (Some(file), _) => Some(of_file(file)?),
            (None, Some(uri)) => Some(Output {
                uri: uri.clone(),
                endpoint: self.endpoint.clone(),
                region: self.region.clone(),
                credentials_secret: None,
            }),
            (None, None) => None,
        };
        Ok(DoctorOptions {
            gpus: self.gpus,
            output,
            cache: self.cache.clone(),
            master: self.master_addr.clone().map(|host| (host, self.master_port)),
            timeout: Duration::from_secs(self.timeout),
        })
    }
}
