//! Finds the cluster's processes. It reads only `/proc`, so it works from any process and after a crash.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A process as `/proc` shows it.
#[derive(Debug, Clone)]
pub struct Process {
    /// Its number on the host.
    pub pid: i32,
    /// Its command line.
    pub arguments: Vec<String>,
}

/// All processes that have a command line.
pub fn all() -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(read).collect()
}

fn read(pid: i32) -> Option<Process> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words = bytes.split(|&byte| byte == 0).filter(|word| !word.is_empty());
    let arguments: Vec<_> = words.map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    (!arguments.is_empty()).then_some(Process { pid, arguments })
}

/// The namespace of process numbers that a process is in, as a name to compare.
pub fn pid_namespace(pid: i32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/ns/pid")).ok()
}

/// When a process began, in clock ticks since boot: with its number it names it for ever.
pub fn start_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold spaces; field 22 is the 20th after it.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// Kills a process and waits until it has ended.
pub fn end(pid: i32, signal: Signal, within: Duration) -> bool {
    // A process that has already ended is fine.
    let _ = kill(Pid::from_raw(pid), signal);
    let end = Instant::now() + within;
    while alive(pid) {
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

/// Whether a process exists and is no zombie.
pub fn alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

impl Process {
    /// Returns whether this is the named program, started directly or as a sub-command of a multi-call program.
    pub fn is(&self, program: &str) -> bool {
        let base = |word: &String| Path::new(word).file_name().is_some_and(|name| name == program);
        self.arguments.first().is_some_and(base) || self.arguments.get(1).is_some_and(|word| word == program)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process_has_a_stable_start_time() {
        let own = std::process::id() as i32;
        assert!(all().iter().any(|process| process.pid == own));
        assert!(alive(own) && start_time(own).is_some());
        assert_eq!(start_time(own), start_time(own));
        assert!(pid_namespace(own).is_some());
    }

    #[test]
    fn program_is_identified_by_name_or_subcommand() {
        let process = |words: &[&str]| Process { pid: 1, arguments: words.iter().map(|&w| w.to_owned()).collect() };
        assert!(process(&["/usr/bin/containerd", "--config", "x"]).is("containerd"));
        assert!(process(&["/c/kube", "kubelet", "--v=1"]).is("kubelet"));
        assert!(!process(&["/usr/bin/containerd-shim-runc-v2"]).is("containerd"));
    }

    #[test]
    fn end_returns_after_the_process_is_gone() {
        let mut child = std::process::Command::new("sleep").arg("100").spawn().unwrap();
        assert!(end(child.id() as i32, Signal::SIGKILL, Duration::from_secs(5)));
        child.wait().unwrap();
        assert!(end(child.id() as i32, Signal::SIGKILL, Duration::from_secs(5)));
    }
}
