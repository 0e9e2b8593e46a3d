//! The cluster's programs, built from Go modules once and kept in the cache.
//!
//! Two programs: `kube`, which is every Kubernetes program, etcd, CoreDNS, Helm and
//! kube-router's firewall in one (what they share is compiled and
//! linked once), and `pod`, a small static one that runs inside nodes and pods.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use simsiam_cache::Staging;

use crate::command::{last_lines, output};
use crate::error::{Error, Result};
use crate::oci::{self, Image, Layer};

/// The image of `pod`: the pause container of every pod, and a program for a test's own pods.
pub const POD_IMAGE: &str = "simsiam.test/pod:1";

const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tools");
const FILES: [&str; 6] = ["go.mod", "go.sum", "kube/main.go", "kube/policies.go", "pod/main.go", "pod/certs.go"];
/// No debug information: it would be a third of the time and half of the size.
const FLAGS: [&str; 4] = ["build", "-trimpath", "-v", "-gcflags=all=-dwarf=false"];
/// What Go's own cache, its modules and the programs take.
const DISK: u64 = 5_000_000_000;

/// The programs, built.
#[derive(Debug, Clone)]
pub struct Tools {
    folder: PathBuf,
}

impl Tools {
    /// Builds them where the cache does not have them: minutes the first time, nothing after that.
    ///
    /// # Errors
    /// If there is no Go that is new enough, or they don't build.
    pub fn ensure() -> Result<Self> {
        if let Some(ready) = Self::ready()? {
            return Ok(ready);
        }
        let go = own_go()?;
        let root = simsiam_cache::root()?;
        simsiam_cache::room(&root, DISK)?;
        let staging = Staging::begin(&root, &name()?)?;
        build(&go, staging.path(), "./pod")?;
        build(&go, staging.path(), "./kube")?;
        let pod = Layer::default().program("/pod", &staging.path().join("pod"));
        let image =
            Image { name: POD_IMAGE.to_owned(), entrypoint: vec!["/pod".into(), "pause".into()], ..Image::default() };
        oci::write(&staging.path().join("pod.tar"), &image, &[pod])?;
        Ok(Self { folder: staging.finish()? })
    }

    /// The built programs, where the cache has them.
    ///
    /// # Errors
    /// If the sources can't be read.
    pub fn ready() -> Result<Option<Self>> {
        let tools = Self::at(&simsiam_cache::root()?.join(name()?));
        Ok(tools.pod_image().is_file().then_some(tools))
    }

    /// The programs of a folder.
    pub(crate) fn at(folder: &Path) -> Self {
        Self { folder: folder.to_path_buf() }
    }

    /// The reason why they can't be built here, if there is one.
    pub fn obstacle() -> Option<String> {
        match Self::ready() {
            Ok(Some(_)) => None,
            _ => own_go().err().map(|error| error.to_string()),
        }
    }

    /// Their folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the path of Kubernetes' programs, etcd, CoreDNS and Helm; the first argument selects one.
    pub fn kube(&self) -> PathBuf {
        self.folder.join("kube")
    }

    /// The small program.
    pub fn pod(&self) -> PathBuf {
        self.folder.join("pod")
    }

    /// The small program as an image archive, by the name [`POD_IMAGE`].
    pub fn pod_image(&self) -> PathBuf {
        self.folder.join("pod.tar")
    }
}

/// Returns the folder name in the cache, derived from the sources and the flags.
fn name() -> Result<String> {
    let mut all = format!("{} {}", FLAGS.join(" "), link_flags()?).into_bytes();
    for file in FILES {
        let path = Path::new(SOURCES).join(file);
        all.extend(fs::read(&path).map_err(Error::io("read", &path))?);
    }
    let digest = oci::sha256(all.as_slice()).map_err(Error::io("read", Path::new(SOURCES)))?;
    Ok(format!("cluster-tools-{}", &digest[..16]))
}

/// Returns the rest of the line of a module's `go.mod` that starts with `beginning`.
fn module(sources: &Path, beginning: &str) -> Result<String> {
    let path = sources.join("go.mod");
    let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
    Ok(text.lines().find_map(|line| line.trim().strip_prefix(beginning)).unwrap_or_default().to_owned())
}

/// Kubernetes' and Helm's own builds set their versions so. Clients go by them: without, `helm template` takes the
/// cluster for 1.20.
fn link_flags() -> Result<String> {
    let version = module(Path::new(SOURCES), "k8s.io/kubernetes ")?;
    let minor = version.split('.').nth(1).unwrap_or_default();
    let kubernetes = ["k8s.io/component-base/version.git", "k8s.io/client-go/pkg/version.git"];
    let helm = [
        "helm.sh/helm/v4/pkg/chart/common.k8sVersion",
        "helm.sh/helm/v4/pkg/chart/v2/lint/rules.k8sVersion",
        "helm.sh/helm/v4/internal/version.kubeClientVersion",
    ];
    let mut flags = "-ldflags=-s -w".to_owned();
    for name in kubernetes {
        flags += &format!(" -X {name}Version={version}");
    }
    for name in kubernetes.iter().chain(&helm) {
        flags += &format!(" -X {name}Major=1 -X {name}Minor={minor}");
    }
    Ok(flags)
}

/// A Go that can build the module of a folder: of the version in its `go.mod`, or newer.
///
/// # Errors
/// If `go.mod` can't be read, or there is no such Go.
pub fn go(sources: &Path) -> Result<PathBuf> {
    let needed = module(sources, "go ")?;
    let mut found = Vec::new();
    for go in ["go", "/usr/local/go/bin/go", "/usr/lib/go/bin/go"] {
        // The user's GOTOOLCHAIN decides whether Go may download a newer version of itself; if so, this is that version.
        let Ok(version) = output(Command::new(go).args(["env", "GOVERSION"]).current_dir(sources)) else { continue };
        let version = version.trim().trim_start_matches("go").to_owned();
        if numbers(&version) >= numbers(&needed) {
            return Ok(go.into());
        }
        found.push(version);
    }
    let found = if found.is_empty() { "none was found".to_owned() } else { format!("found {}", found.join(", ")) };
    Err(Error::Go { needed, sources: sources.to_path_buf(), found })
}

/// A Go that can build the cluster's programs.
fn own_go() -> Result<PathBuf> {
    go(Path::new(SOURCES)).map_err(|error| match error {
        Error::Go { .. } => Error::Impossible(error.to_string()),
        other => other,
    })
}

fn numbers(version: &str) -> Vec<u32> {
    let digits = |part: &str| part.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok();
    version.split('.').map_while(digits).collect()
}

/// Builds one package into a folder. Go prints each package when it starts it; progress is printed every 20 s.
fn build(go: &Path, folder: &Path, package: &str) -> Result<()> {
    let name = package.trim_start_matches("./");
    let log = folder.with_file_name(format!("cluster-tools-{name}.log"));
    let mut file = File::create(&log).map_err(Error::io("write", &log))?;
    println!("building the cluster's program `{name}` (once; minutes for `kube` on a machine that has nothing of it)");
    let begun = Instant::now();
    let mut command = Command::new(go);
    command.args(FLAGS).arg(link_flags()?).arg("-o").arg(folder.join(name)).arg(package).current_dir(SOURCES);
    command.env("CGO_ENABLED", "0").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|source| Error::Start { program: "go".into(), source })?;
    let (mut packages, mut said) = (0, 0);
    for line in child.stderr.take().into_iter().flat_map(|out| BufReader::new(out).lines()).map_while(|line| line.ok())
    {
        writeln!(file, "{line}").map_err(Error::io("write", &log))?;
        packages += 1;
        if begun.elapsed().as_secs() >= said + 20 {
            said = begun.elapsed().as_secs();
            println!("  {said:>4} s  {packages} modules and packages, now {line}");
        }
    }
    let status = child.wait().map_err(|source| Error::Start { program: "go".into(), source })?;
    if !status.success() {
        return Err(Error::Tools { status, last: last_lines(&log, 20), log });
    }
    println!("  {:>4} s  built", begun.elapsed().as_secs());
    fs::remove_file(&log).map_err(Error::io("remove", &log))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_numerically() {
        assert!(numbers("1.26.8") >= numbers("1.25.0"));
        assert!(numbers("1.9") < numbers("1.25.0"));
        assert!(numbers("1.25rc1") < numbers("1.25.0"));
        assert!(numbers("") < numbers("1.25.0"));
    }

    #[test]
    fn cache_name_covers_every_source_file() {
        let mut go = vec![];
        for folder in ["kube", "pod"] {
            let entries = fs::read_dir(Path::new(SOURCES).join(folder)).unwrap().flatten();
            go.extend(entries.map(|entry| format!("{folder}/{}", entry.file_name().to_str().unwrap())));
        }
        assert!(go.iter().all(|file| FILES.contains(&file.as_str())), "{go:?}");
        assert_eq!(go.len() + 2, FILES.len());
        assert_eq!(name().unwrap(), name().unwrap());
    }
}
