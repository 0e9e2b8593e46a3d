//! Shared code of the end-to-end tests: the built `simsiam`, run files, data and results.
//!
//! ```
//! use simsiam_tests::RunFile;
//!
//! let folder = tempfile::tempdir().unwrap();
//! let mut run = RunFile::new(folder.path(), &folder.path().join("data"), "val");
//! run.set("/pretrain/epochs", 1.into());
//! let text = std::fs::read_to_string(run.write()).unwrap();
//! assert!(text.contains(r#""kind":"SimSiamRun""#) && text.contains(r#""epochs":1"#));
//! assert!(run.checkpoints().is_empty());
//! ```

pub mod browser;
pub mod mlflow;
pub mod s3;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::Value;

/// Returns the root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// Returns the `simsiam` binary of the tests' profile, built once if it is missing or outdated.
pub fn simsiam() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| build_program("simsiam-trainer", "simsiam"))
}

/// Builds a program of a package in the tests' profile and returns its path.
pub fn build_program(package: &str, program: &str) -> PathBuf {
    // target/<profile>/deps/<test>-<hash>
    let test = std::env::current_exe().expect("the test's own path");
    let profile = test.ancestors().nth(2).expect("the profile's folder");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(root()).args(["build", "--quiet", "-p", package, "--bin", program]);
    cargo.arg("--target-dir").arg(profile.parent().expect("the target folder"));
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    // Cargo sets variables with the test's package. Build scripts that read them (ring's) would run again, which would
    // rebuild everything that depends on them, and once more in the next build from a shell.
    let about = |name: &str| ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|begin| name.starts_with(begin));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(about)) {
        cargo.env_remove(name);
    }
    assert!(cargo.status().expect("cargo").success(), "{program} was not built");
    profile.join(program)
}

/// Returns a `simsiam` command without the environment variables of a rank.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(simsiam());
    command.args(arguments).stdin(Stdio::null());
    for name in ["RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"] {
        command.env_remove(name);
    }
    command
}

/// Runs `simsiam` and returns exit code, standard output and standard error.
pub fn run(arguments: &[&str]) -> (i32, String, String) {
    output_of(command(arguments).output().expect("simsiam starts"))
}

/// Returns exit code, standard output and standard error; a signal is its negative number.
pub fn output_of(output: Output) -> (i32, String, String) {
    use std::os::unix::process::ExitStatusExt;
    let code = output.status.code().unwrap_or_else(|| -output.status.signal().unwrap_or(0));
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (code, text(output.stdout), text(output.stderr))
}

/// Runs `simsiam`, expects success, and returns standard output.
pub fn run_ok(arguments: &[&str]) -> String {
    let (code, out, err) = run(arguments);
    assert_eq!(code, 0, "simsiam {arguments:?}\n{out}\n{err}");
    out
}

/// Sends SIGKILL and waits.
pub fn kill(mut child: Child) {
    child.kill().expect("SIGKILL");
    child.wait().expect("the process is reaped");
}

/// Polls until `what` returns something.
pub fn wait_until<T>(limit: Duration, name: &str, mut what: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = what() {
            return found;
        }
        assert!(start.elapsed() < limit, "{name}: not within {limit:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Generates images, `train/<class>/…` and `val/<class>/…`.
pub fn synth(folder: &Path, train_per_class: usize, val_per_class: usize) -> PathBuf {
    let data = folder.join("data");
    let (train, val) = (train_per_class.to_string(), val_per_class.to_string());
    run_ok(&["data", "synth", text(&data), "--train-per-class", &train, "--val-per-class", &val]);
    data
}

/// Images of the real CIFAR-10 with file numbers below `below` of each class, `train/<class>/…` and `test/<class>/…`; `None`, with one
/// line that says so, on a machine without the archive.
pub fn cifar10(below: usize) -> Option<PathBuf> {
    let archive = root().join("../shared/data/cifar10.tar.xz");
    if !archive.exists() {
        eprintln!("SKIPPED: {} is not on this machine", archive.display());
        return None;
    }
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("../target/test-data/cifar10-{below}"));
    if folder.exists() {
        return Some(folder);
    }
    let parent = folder.parent().expect("target");
    fs::create_dir_all(parent).expect("target is writable");
    let whole = tempfile::tempdir_in(parent).expect("target is writable");
    let untar = Command::new("tar").arg("-xJf").arg(&archive).arg("-C").arg(whole.path()).status().expect("tar");
    assert!(untar.success(), "tar could not unpack {} (xz-utils is needed)", archive.display());
    for part in ["train", "test"] {
        for class in fs::read_dir(whole.path().join(part)).expect("classes") {
            let class = class.expect("a class").path();
            let mut files: Vec<_> =
                fs::read_dir(&class).expect("images").map(|f| f.expect("an image").path()).collect();
            files.sort();
            for file in files.into_iter().skip(below) {
                fs::remove_file(file).expect("to trim");
            }
        }
    }
    // Tests run concurrently: the first one wins.
    match fs::rename(whole.keep(), &folder) {
        Ok(()) => Some(folder),
        Err(_) if folder.exists() => Some(folder),
        Err(e) => panic!("{}: {e}", folder.display()),
    }
}

/// A run file of a small network on 32×32 crops, for tests to modify.
#[derive(Clone)]
pub struct RunFile {
    /// `spec`, which tests may modify.
    pub spec: Value,
    path: PathBuf,
}

impl RunFile {
    /// Returns a run on `data/train` and `data/<val>`, with its output in `folder/out`.
    pub fn new(folder: &Path, data: &Path, val: &str) -> Self {
        let spec = serde_json::json!({
            "dataset": {"train": data.join("train"), "val": data.join(val)},
            "output": {"uri": folder.join("out")},
            "pretrain": {
                "arch": "resnet18", "stem": "cifar", "baseWidth": 8, "dim": 64, "predDim": 16,
                "projector": {"layers": 2, "hiddenDim": 64},
                "epochs": 2, "batchSize": 48, "lr": 0.03, "seed": 7,
                "augment": {"cropSize": 32, "evalResize": 32, "blurProb": 0.0},
            },
        });
        Self { spec, path: folder.join("run.yaml") }
    }

    /// Sets one field, as in `set("/pretrain/epochs", 3.into())`.
    pub fn set(&mut self, pointer: &str, value: Value) -> &mut Self {
        let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
        self.spec.pointer_mut(parent).expect("its parent")[key] = value;
        self
    }

    /// Writes it (JSON is YAML) and returns its path.
    pub fn write(&self) -> &str {
        let document = serde_json::json!({
            "apiVersion": "simsiam.dev/v1alpha1", "kind": "SimSiamRun", "metadata": {"name": "test"}, "spec": self.spec,
        });
        fs::write(&self.path, document.to_string()).expect("the folder is writable");
        text(&self.path)
    }

    /// Returns the folder of the output, if it is local.
    pub fn output(&self) -> PathBuf {
        self.spec["output"]["uri"].as_str().expect("a uri").into()
    }

    /// `result.json`.
    pub fn result(&self) -> Value {
        let path = self.output().join("result.json");
        serde_json::from_slice(&fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))).expect("JSON")
    }

    /// Returns the names of the complete checkpoints, oldest first.
    pub fn checkpoints(&self) -> Vec<String> {
        let Ok(folders) = fs::read_dir(self.output().join("checkpoints")) else { return Vec::new() };
        let mut names: Vec<_> = folders
            .filter_map(|f| f.ok())
            .filter(|f| f.path().join("manifest.json").exists())
            .map(|f| f.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    /// Returns the weights of a checkpoint.
    pub fn weights(&self, checkpoint: &str) -> BTreeMap<String, Vec<f64>> {
        let path = self.output().join("checkpoints").join(checkpoint).join("model.safetensors");
        weights(&fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
    }
}

/// A safetensors file without its metadata: names, types and places of the tensors, and their bytes.
pub fn tensors(file: &Path) -> (Value, Vec<u8>) {
    let bytes = std::fs::read(file).unwrap();
    let length = u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
    let mut header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    header.as_object_mut().unwrap().remove("__metadata__").unwrap();
    (header, bytes[8 + length..].to_vec())
}

/// Returns all fp32 tensors of a safetensors file, by name.
pub fn weights(bytes: &[u8]) -> BTreeMap<String, Vec<f64>> {
    let file = safetensors::SafeTensors::deserialize(bytes).expect("safetensors");
    file.tensors()
        .into_iter()
        .filter(|(_, t)| t.dtype() == safetensors::Dtype::F32)
        .map(|(name, t)| {
            let values = t.data().chunks_exact(4).map(|b| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]])));
            (name, values.collect())
        })
        .collect()
}

/// Returns a path as text.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("a path of UTF-8")
}
