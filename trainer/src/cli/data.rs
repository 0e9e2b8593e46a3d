//! `simsiam data`.

use std::path::PathBuf;

use indicatif::ProgressBar;
use simsiam_data::synth::{self, SynthOptions};

use crate::error::Error;

/// Subcommands of `simsiam data`.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Draw a small labelled data set: ten classes of shapes and textures, as JPEG files
    Synth {
        /// The folder to make train/ and val/ in
        out: PathBuf,
        /// Training images of each class
        #[arg(long, default_value_t = 500)]
        train_per_class: usize,
        /// Validation images of each class
        #[arg(long, default_value_t = 100)]
        val_per_class: usize,
        /// Width and height in pixels
        #[arg(long, default_value_t = 48)]
        size: usize,
        /// Another seed draws other images
        #[arg(long, default_value_t = 0)]
        seed: u64,
    },
}

/// `simsiam data …`.
pub fn execute(command: &Command) -> Result<(), Error> {
    match command {
        Command::Synth { out, train_per_class, val_per_class, size, seed } => {
            let options = SynthOptions {
                train_per_class: *train_per_class,
                val_per_class: *val_per_class,
                size: *size,
                seed: *seed,
            };
            let bar = ProgressBar::new(0);
            synth::write(out, &options, &mut |done, of| {
                bar.set_length(of as u64);
                bar.set_position(done as u64);
            })?;
            bar.finish_and_clear();
            println!("{}: ten classes, {train_per_class} + {val_per_class} images each", out.display());
            Ok(())
        }
    }
}
