//! Images of our programs as archives, for a cluster without a registry.
//!
//! The root file system is made by `xtask/image/rootfs.sh`, which the Dockerfiles run as well.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::run;
use crate::error::{Error, Result};
use crate::oci::{self, Image, Layer};

const ROOTFS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../xtask/image/rootfs.sh");
/// The unprivileged user of the programs, the same as in the Dockerfiles.
const USER: &str = "65532:65532";
/// The environment of every image.
pub const ENVIRONMENT: &[&str] = &["PATH=/usr/local/bin", "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"];
/// What the CUDA flavour adds. Not `NVIDIA_VISIBLE_DEVICES`: it would give all devices to pods that requested none.
pub const CUDA_ENVIRONMENT: &[&str] = &["LD_LIBRARY_PATH=/usr/local/lib", "NVIDIA_DRIVER_CAPABILITIES=compute,utility"];

/// A program that has an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Product {
    /// The image's short name, which is also its archive's: `trainer`.
    pub name: &'static str,
    /// The package that has the program.
    pub package: &'static str,
    /// The program.
    pub program: &'static str,
    title: &'static str,
}

/// All of them.
pub const PRODUCTS: [Product; 2] = [OPERATOR, TRAINER];

/// The operator.
pub const OPERATOR: Product = Product {
    name: "operator",
    package: "simsiam-operator",
    program: "simsiam-operator",
    title: "Kubernetes operator for SimSiam pre-training",
};

/// The trainer.
pub const TRAINER: Product =
    Product { name: "trainer", package: "simsiam-trainer", program: "simsiam", title: "SimSiam pre-training" };

impl Product {
    /// The name by which pods ask for the image: `simsiam.dev/trainer:0.1.0`.
    pub fn image(&self) -> String {
        format!("simsiam.dev/{}:{}", self.name, env!("CARGO_PKG_VERSION"))
    }

    /// Writes the image of a built program as an archive, for [`Cluster::import_image`](crate::Cluster::import_image).
    ///
    /// System libraries, libtorch and the program are a layer each, the last to change on top, so that
    /// importing it again after a build stores the program alone.
    ///
    /// # Errors
    /// If a library that the program needs is not there, or the archive can't be written.
    pub fn archive(&self, program: &Path, archive: &Path) -> Result<()> {
        self.archive_with(program, None, archive)
    }

    /// As [`archive`](Self::archive); with `cuda` the image of the CUDA flavour.
    ///
    /// # Errors
    /// As for [`archive`](Self::archive).
    pub fn archive_with(&self, program: &Path, cuda: Option<&Cuda>, archive: &Path) -> Result<()> {
        let root = archive.with_extension("rootfs");
        let made = self.archive_in(program, cuda, archive, &root);
        let removed = if root.exists() { fs::remove_dir_all(&root) } else { Ok(()) };
        made.and(removed.map_err(Error::io("remove", &root)))
    }

    fn archive_in(&self, program: &Path, cuda: Option<&Cuda>, archive: &Path, root: &Path) -> Result<()> {
        root_file_system(program, cuda, root)?;
        let layer = |wanted: &dyn Fn(&Path) -> bool| Layer::default().folder(root, wanted);
        let layers = [
            layer(&|path| !path.starts_with("usr/local"))?,
            layer(&|path| path.starts_with("usr/local/lib"))?,
            layer(&|path| path.starts_with("usr/local/bin"))?,
        ];
        oci::write(archive, &self.description(cuda.is_some()), &layers)
    }

    fn description(&self, cuda: bool) -> Image {
        let label = |name: &str, value: &str| (format!("org.opencontainers.image.{name}"), value.to_owned());
        Image {
            name: self.image() + if cuda { "-cuda" } else { "" },
            entrypoint: vec![format!("/usr/local/bin/{}", self.program)],
            environment: ENVIRONMENT
                .iter()
                .chain(CUDA_ENVIRONMENT.iter().filter(|_| cuda))
                .copied()
                .map(str::to_owned)
                .collect(),
            user: USER.to_owned(),
            labels: BTreeMap::from([
                label("title", self.title),
                label("version", env!("CARGO_PKG_VERSION")),
                label("licenses", "Apache-2.0"),
            ]),
        }
    }
}

/// What the image of the CUDA flavour also contains.
#[derive(Debug, Clone)]
pub struct Cuda {
    /// The CUDA shim, `libtch_ext_cuda.so`.
    pub shim: PathBuf,
    /// The folder that contains `torch/` and `nvidia/`.
    pub libtorch: PathBuf,
    /// Whether libtorch's files are linked where possible instead of copied, for tests.
    pub link: bool,
}

/// Makes the root file system of a program's image, replacing what is there.
///
/// # Errors
/// If a library that the program needs is not there.
pub fn root_file_system(program: &Path, cuda: Option<&Cuda>, root: &Path) -> Result<()> {
    if root.exists() {
        fs::remove_dir_all(root).map_err(Error::io("remove", root))?;
    }
    let mut command = Command::new("sh");
    command.arg(ROOTFS).arg(program).arg(root).env_remove("ROOTFS_LINK");
    if let Some(cuda) = cuda {
        command.args([&cuda.shim, &cuda.libtorch]);
        if cuda.link {
            command.env("ROOTFS_LINK", "1");
        }
    }
    run(&mut command)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `/bin/ls` replaces our programs here: it needs glibc and other libraries.
    #[test]
    fn image_of_a_program_contains_its_libraries() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        run(Command::new("sh").arg(ROOTFS).arg("/bin/ls").arg(&root)).unwrap();
        assert!(root.join("usr/local/bin/ls").is_file() && root.join("etc/ssl/certs/ca-certificates.crt").is_file());
        if nix::unistd::geteuid().is_root() {
            let listed = crate::command::output(Command::new("chroot").arg(&root).args(["/usr/local/bin/ls", "/"]));
            assert_eq!(listed.unwrap(), "etc\nlib\nlib64\ntmp\nusr\n");
        }
        let archive = dir.path().join("ls.tar");
        OPERATOR.archive(Path::new("/bin/ls"), &archive).unwrap();
        let first = fs::read(&archive).unwrap();
        OPERATOR.archive(Path::new("/bin/ls"), &archive).unwrap();
        assert!(first == fs::read(&archive).unwrap(), "the same input gives the same bytes");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "the root and the archive");
    }

    #[test]
    fn cuda_flavour_has_its_own_tag_and_no_devices_of_its_own() {
        let (cpu, cuda) = (TRAINER.description(false), TRAINER.description(true));
        assert_eq!(cuda.name, format!("{}-cuda", cpu.name));
        assert!(cuda.environment.iter().any(|pair| pair == "LD_LIBRARY_PATH=/usr/local/lib"));
        assert!(!cuda.environment.iter().any(|pair| pair.starts_with("NVIDIA_VISIBLE_DEVICES")));
    }

    #[test]
    fn image_of_a_non_program_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let error = TRAINER.archive(Path::new(ROOTFS), &dir.path().join("x.tar")).unwrap_err().to_string();
        assert!(error.contains("rootfs.sh"), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
