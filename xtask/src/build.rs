//! Building our programs, and the paths of the results.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::error::{Error, Result};
use crate::process::{cargo, line, output, start};

/// The results of a build.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Built {
    /// The `simsiam` program.
    pub program: PathBuf,
    /// The folder into which `tch-ext`'s build script writes the CUDA shim.
    pub shim_folder: Option<PathBuf>,
}

/// Builds `simsiam` for release; with `cuda` also the CUDA shim.
///
/// # Errors
/// If it doesn't build.
pub fn release(cuda: bool) -> Result<Built> {
    let mut command = cargo();
    command.args(["build", "--release", "-p", "simsiam-trainer", "--bin", "simsiam"]);
    if cuda {
        command.env("TCH_EXT_CUDA", "1");
    }
    println!("$ {}", line(&command));
    // The messages contain the paths of the results; diagnostics still go to standard error.
    command.arg("--message-format=json-render-diagnostics").stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = command.output().map_err(|source| start(&command, source))?;
    if !output.status.success() {
        return Err(Error::Failed { command: line(&command), status: output.status });
    }
    let built = read_messages(&String::from_utf8_lossy(&output.stdout));
    if built.program.as_os_str().is_empty() {
        return Err(Error::Refused("cargo built no program named simsiam".into()));
    }
    Ok(built)
}

/// The CUDA shim's file name.
pub const SHIM: &str = "libtch_ext_cuda.so";

/// Returns the path of the CUDA shim of a build with CUDA.
///
/// # Errors
/// If it was not built.
pub fn shim(built: &Built) -> Result<PathBuf> {
    let path = built.shim_folder.as_ref().map(|folder| folder.join(SHIM));
    path.filter(|path| path.is_file())
        .ok_or_else(|| Error::Refused(format!("{SHIM} was not built; see cargo's messages above")))
}

/// Builds a program of one of our packages and returns its path.
///
/// # Errors
/// If it doesn't build.
pub fn binary(package: &str, name: &str, release: bool) -> Result<PathBuf> {
    built(package, "--bin", name, release)
}

/// Builds an example of one of our packages for release and returns its path. Prints nothing on standard output.
///
/// # Errors
/// If it doesn't build.
pub fn example(package: &str, name: &str) -> Result<PathBuf> {
    built(package, "--example", name, true)
}

fn built(package: &str, kind: &str, name: &str, release: bool) -> Result<PathBuf> {
    let mut command = cargo();
    command.args(["build", "-p", package, kind, name]).args(release.then_some("--release"));
    eprintln!("$ {}", line(&command));
    command.arg("--message-format=json-render-diagnostics").stdin(Stdio::null());
    let text = output(&mut command)?;
    let messages = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let programs = messages.filter(|message| message.pointer("/target/name").and_then(Value::as_str) == Some(name));
    programs
        .filter_map(|message| message.get("executable")?.as_str().map(PathBuf::from))
        .next_back()
        .ok_or_else(|| Error::Refused(format!("cargo built no program named {name}")))
}

fn read_messages(text: &str) -> Built {
    let mut built = Built::default();
    for message in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        let field = |pointer: &str| message.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        match field("/reason") {
            "compiler-artifact" if field("/target/name") == "simsiam" && !field("/executable").is_empty() => {
                built.program = field("/executable").into();
            }
            "build-script-executed" if field("/package_id").contains("/tch-ext#") => {
                built.shim_folder = Some(field("/out_dir").into());
            }
            _ => {}
        }
    }
    built
}

/// Returns a command for the built program with the repository root as its working directory.
pub fn program(built: &Built) -> Command {
    let mut command = Command::new(&built.program);
    command.current_dir(crate::process::repo());
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_messages_give_program_and_shim_paths() {
        let text = r#"{"reason":"compiler-artifact","target":{"name":"simsiam","kind":["lib"]},"executable":null}
{"reason":"build-script-executed","package_id":"path+file:///r/trainer/tch-ext#0.1.0","out_dir":"/t/release/build/tch-ext-1/out"}
{"reason":"build-script-executed","package_id":"registry+x#torch-sys@0.24.0","out_dir":"/t/other"}
{"reason":"compiler-artifact","target":{"name":"simsiam","kind":["bin"]},"executable":"/t/release/simsiam"}
not json
{"reason":"build-finished","success":true}"#;
        let expected =
            Built { program: "/t/release/simsiam".into(), shim_folder: Some("/t/release/build/tch-ext-1/out".into()) };
        assert_eq!(read_messages(text), expected);
    }
}
