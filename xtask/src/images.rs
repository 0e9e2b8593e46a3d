//! `cargo xtask images`: the operator's and the trainer's images, without Docker or a registry.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use simsiam_cluster::Cluster;
use simsiam_cluster::images::{Cuda, PRODUCTS, Product, TRAINER};

use crate::build::{binary, release, shim};
use crate::error::{Error, Result};
use crate::pins::Flavour;
use crate::process::repo;
use crate::setup::setup;
use crate::system;

const FOLDER: &str = "target/images";

/// Which images to build, and from what.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Build only this image: operator or trainer
    #[arg(value_parser = PRODUCTS.map(|product| product.name))]
    only: Option<String>,
    /// Use debug builds, which compile faster
    #[arg(long)]
    debug: bool,
    /// Use this program instead of building it
    #[arg(long, value_name = "FILE", requires = "only", conflicts_with = "cuda")]
    program: Option<PathBuf>,
    /// Build the trainer's image for GPUs (a 2.5 GB download; the image has 3.5 GB), as target/images/trainer-cuda.tar
    #[arg(long, conflicts_with_all = ["only", "debug", "import"])]
    cuda: bool,
    /// Import the images on the nodes of the cluster that is up
    #[arg(long)]
    import: bool,
}

/// Builds the programs and writes `target/images/<name>.tar`.
///
/// # Errors
/// If a program doesn't build, or one of its libraries is missing.
pub fn images(options: &Options) -> Result<()> {
    if options.cuda {
        return cuda_image();
    }
    let cluster = match Cluster::running()? {
        None if options.import => {
            return Err(Error::Refused("no cluster is up; start one: cargo xtask cluster up".into()));
        }
        cluster => cluster.filter(|_| options.import),
    };
    for product in PRODUCTS.iter().filter(|product| options.only.as_deref().is_none_or(|only| only == product.name)) {
        let program = match &options.program {
            Some(program) => program.clone(),
            None => build(product, options.debug)?,
        };
        let start = Instant::now();
        let archive = repo().join(FOLDER).join(format!("{}.tar", product.name));
        product.archive(&program, &archive)?;
        let size = fs::metadata(&archive).map_err(Error::io("read", &archive))?.len();
        println!(
            "{}: {} ({} MB, {:.1} s)",
            product.image(),
            archive.display(),
            size / 1_000_000,
            start.elapsed().as_secs_f64()
        );
        if let Some(cluster) = &cluster {
            let start = Instant::now();
            cluster.import_image(&archive)?;
            println!(
                "{}: imported on {} nodes ({:.1} s)",
                product.image(),
                cluster.nodes()?,
                start.elapsed().as_secs_f64()
            );
        }
    }
    Ok(())
}

/// The trainer's image of the CUDA flavour.
fn cuda_image() -> Result<()> {
    system::ensure(system::CUDA_IMAGE)?;
    setup(Flavour::Cuda)?;
    let built = release(true)?;
    let libtorch = repo().join(".libtorch");
    let cuda = Cuda { shim: shim(&built)?, libtorch, link: false };
    let start = Instant::now();
    let archive = repo().join(FOLDER).join("trainer-cuda.tar");
    TRAINER.archive_with(&built.program, Some(&cuda), &archive)?;
    let size = fs::metadata(&archive).map_err(Error::io("read", &archive))?.len();
    println!(
        "{}-cuda: {} ({} MB, {:.1} s)",
        TRAINER.image(),
        archive.display(),
        size / 1_000_000,
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

fn build(product: &Product, debug: bool) -> Result<PathBuf> {
    if product.package == "simsiam-trainer" {
        setup(Flavour::Cpu)?;
    }
    binary(product.package, product.program, !debug)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockerfile_of_a_product_matches_its_image() {
        for product in &PRODUCTS {
            let dockerfile = fs::read_to_string(repo().join(product.name).join("Dockerfile")).unwrap();
            assert!(dockerfile.contains("xtask/image/rootfs.sh"), "{}: the same root file system", product.name);
            assert!(
                dockerfile.contains(&format!("/usr/local/bin/{}", product.program)) && dockerfile.contains("65532")
            );
        }
    }

    #[test]
    fn dockerfiles_name_the_toolchain_of_the_workspace() {
        let manifest = fs::read_to_string(repo().join("Cargo.toml")).unwrap();
        let version = manifest.lines().find_map(|line| line.strip_prefix("rust-version = \"")).unwrap();
        let version = version.trim_end_matches('"');
        for product in &PRODUCTS {
            let dockerfile = fs::read_to_string(repo().join(product.name).join("Dockerfile")).unwrap();
            assert!(dockerfile.contains(&format!("ARG TOOLCHAIN={version}.")), "{}: {version}", product.name);
            assert!(dockerfile.contains("ENV RUSTUP_TOOLCHAIN=${TOOLCHAIN}"), "{}", product.name);
        }
    }

    #[test]
    fn docker_context_excludes_build_outputs_and_git() {
        let ignored = fs::read_to_string(repo().join(".dockerignore")).unwrap();
        for entry in [".git", "**/target", ".libtorch"] {
            assert!(ignored.lines().any(|line| line == entry), "{entry}");
        }
        assert!(!ignored.contains("rust-toolchain.toml\n"));
    }
}
