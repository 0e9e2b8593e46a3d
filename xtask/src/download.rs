//! Downloads wheels with pip and verifies their checksums.

use std::fs::{self, File};
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest, Sha256};
use simsiam_cluster::oci::hex;

use crate::error::{Error, Result};
use crate::pins::{GLIBC_MINORS, PLATFORM, Wheel};
use crate::process::start;

/// The Python that runs pip.
pub const PYTHON: &str = "python3";

/// A progress bar in a terminal; otherwise a line every ten seconds.
pub struct Progress {
    bar: ProgressBar,
    terminal: bool,
    last_line: Instant,
}

impl Progress {
    /// Starts at 0 of `total` bytes.
    pub fn new(total: u64) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = if terminal { ProgressBar::new(total) } else { ProgressBar::hidden() };
        bar.set_length(total);
        if let Ok(style) = ProgressStyle::with_template("  {msg:<28} {wide_bar} {bytes}/{total_bytes} {eta:>4}") {
            bar.set_style(style);
        }
        Self { bar, terminal, last_line: Instant::now() }
    }

    /// Shows the current action.
    pub fn say(&self, message: &str) {
        if self.terminal { self.bar.set_message(message.to_owned()) } else { println!("  {message}") }
    }

    /// Sets the progress to `done` bytes.
    pub fn at(&mut self, done: u64) {
        self.bar.set_position(done);
        if !self.terminal && self.last_line.elapsed() > Duration::from_secs(10) {
            self.last_line = Instant::now();
            println!("    {} of {} MB", done / 1_000_000, self.bar.length().unwrap_or(0) / 1_000_000);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Downloads one wheel into `folder` and verifies it. `before` bytes of the whole task are already done.
///
/// # Errors
/// If pip can't download it, or its checksum is not the pinned one.
pub fn wheel(wheel: &Wheel, folder: &Path, progress: &mut Progress, before: u64) -> Result<PathBuf> {
    // pip writes to TMPDIR first. Inside our folder its size can be monitored, and it is removed with the folder.
    let folder = folder.join(wheel.name);
    fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
    let log_path = folder.join("pip.log");
    let log = File::create(&log_path).map_err(Error::io("write", &log_path))?;
    let errors = log.try_clone().map_err(Error::io("write", &log_path))?;
    let mut pip = Command::new(PYTHON);
    pip.args(["-m", "pip", "download", "--no-deps", "--no-cache-dir", "--only-binary=:all:", "--progress-bar=off"])
        .args(PLATFORM)
        .args(GLIBC_MINORS.map(|minor| format!("--platform=manylinux_2_{minor}_x86_64")))
        .args(["--platform=manylinux2014_x86_64", "--dest"])
        .arg(&folder)
        .arg(wheel.requirement())
        .env("TMPDIR", &folder)
        .env("PIP_REQUIRE_VIRTUALENV", "false")
        .env("PIP_DISABLE_PIP_VERSION_CHECK", "1")
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors);
    progress.say(&format!("download {} {}", wheel.name, wheel.version));
    let mut child = pip.spawn().map_err(|source| start(&pip, source))?;
    let status = loop {
        if let Some(status) = child.try_wait().map_err(|source| start(&pip, source))? {
            break status;
        }
        progress.at(before + size_below(&folder).min(wheel.size));
        std::thread::sleep(Duration::from_millis(150));
    };
    let file = find_wheel(&folder);
    let (true, Some(file)) = (status.success(), file) else {
        return Err(Error::Download { package: wheel.requirement(), python: PYTHON, said: tail(&log_path) });
    };
    progress.at(before + wheel.size);
    verify(wheel, &file)?;
    Ok(file)
}

fn verify(wheel: &Wheel, file: &Path) -> Result<()> {
    let found = sha256(file)?;
    if found == wheel.sha256 {
        return Ok(());
    }
    Err(Error::Checksum { package: wheel.requirement(), expected: wheel.sha256.into(), found })
}

/// Returns the SHA-256 of a file in hex.
///
/// # Errors
/// If it can't be read.
pub fn sha256(path: &Path) -> Result<String> {
    let mut file = File::open(path).map_err(Error::io("read", path))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let n = file.read(&mut buffer).map_err(Error::io("read", path))?;
        if n == 0 {
            break;
        }
        hasher.update(&buffer[..n]);
    }
    Ok(hex(&hasher.finalize()))
}

fn find_wheel(folder: &Path) -> Option<PathBuf> {
    let mut files = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
    files.find(|path| path.extension().is_some_and(|e| e == "whl"))
}

/// Returns the size of all files below a folder; files that vanish meanwhile count as 0.
fn size_below(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(data) if data.is_dir() => size_below(&entry.path()),
        Ok(data) => data.len(),
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}

/// Returns the last lines of pip's log, indented.
fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(6)..].iter().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wheel_with_another_checksum_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.whl");
        fs::write(&file, "abc").unwrap();
        // FIPS 180-4's example.
        let sum = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let pinned = Wheel { name: "a", version: "1", sha256: sum, size: 3 };
        verify(&pinned, &file).unwrap();
        fs::write(&file, "abd").unwrap();
        let error = verify(&pinned, &file).unwrap_err().to_string();
        assert!(error.contains("a==1") && error.contains(sum), "{error}");
    }

    #[test]
    fn long_log_is_cut_to_its_last_lines() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("pip.log");
        fs::write(&log, (0..50).map(|i| format!("line {i}\n\n")).collect::<String>()).unwrap();
        assert!(tail(&log).ends_with("line 49") && !tail(&log).contains("line 40"));
        assert_eq!(tail(&dir.path().join("none")), "");
    }

    #[test]
    fn download_size_includes_subfolders() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        fs::write(dir.path().join("a"), [0; 10]).unwrap();
        fs::write(dir.path().join("sub/b"), [0; 5]).unwrap();
        assert_eq!(size_below(dir.path()), 15);
    }
}
