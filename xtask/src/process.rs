//! Running other programs, and the path of this repository.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::{Error, Result};

/// Returns the root of the repository: the parent of this crate's folder.
pub fn repo() -> PathBuf {
    // Cargo sets the variable at run time; the compiled-in path is for a binary started by hand.
    let own = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let own = PathBuf::from(own);
    own.parent().map_or_else(|| own.clone(), Path::to_path_buf)
}

/// Returns a command for the cargo that started this program, with the repository root as its working directory.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(repo());
    command
}

/// Returns the command line as typed in a shell.
pub fn line(command: &Command) -> String {
    let name = |s: &OsStr| s.to_string_lossy().into_owned();
    let program = Path::new(command.get_program());
    let mut words = vec![program.file_name().map_or_else(|| name(command.get_program()), name)];
    words.extend(command.get_args().map(name));
    words.join(" ")
}

/// Runs a command with our standard input and output.
///
/// # Errors
/// If it can't be started or ends with a status other than 0.
pub fn run(command: &mut Command) -> Result<()> {
    println!("$ {}", line(command));
    let status = command.status().map_err(|source| start(command, source))?;
    if status.success() { Ok(()) } else { Err(Error::Failed { command: line(command), status }) }
}

/// Runs a command and returns its standard output; its standard error goes to ours.
///
/// # Errors
/// If it can't be started or ends with a status other than 0.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command.stderr(Stdio::inherit()).output().map_err(|source| start(command, source))?;
    if !output.status.success() {
        return Err(Error::Failed { command: line(command), status: output.status });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Returns whether a command starts and exits with 0; prints nothing.
pub fn succeeds(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

/// Returns the error for a command that can't be started.
pub fn start(command: &Command, source: std::io::Error) -> Error {
    Error::Start { program: command.get_program().to_string_lossy().into_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_is_shown_as_typed() {
        let mut command = Command::new("/usr/bin/cargo");
        command.args(["build", "--release"]);
        assert_eq!(line(&command), "cargo build --release");
    }

    #[test]
    fn failing_command_is_reported_by_name() {
        let error = run(Command::new("sh").args(["-c", "exit 3"])).unwrap_err().to_string();
        assert!(error.contains("sh -c exit 3") && error.contains('3'), "{error}");
        assert!(run(&mut Command::new("/no/such/program")).unwrap_err().to_string().contains("/no/such/program"));
    }

    #[test]
    fn repository_root_has_the_workspace() {
        assert!(repo().join("Cargo.toml").is_file() && repo().join("xtask").is_dir());
    }
}
