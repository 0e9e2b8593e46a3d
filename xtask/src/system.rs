//! What the build needs from the system, and installing what is missing.

use std::path::Path;
use std::process::Command;

use crate::download::PYTHON;
use crate::error::{Error, Result};
use crate::process::{output, run, succeeds};

/// A program that the build calls, the Debian package that has it, and what for.
#[derive(Debug)]
pub struct Need {
    /// A program, or a Python module as `-m name`.
    program: &'static str,
    package: &'static str,
    why: &'static str,
}

/// What every build calls.
pub const BUILD: &[Need] = &[
    Need { program: "c++", package: "g++", why: "the C++ shim over libtorch" },
    Need { program: "make", package: "make", why: "libjpeg-turbo" },
    Need { program: "cmake", package: "cmake", why: "libjpeg-turbo" },
    Need { program: "nasm", package: "nasm", why: "libjpeg-turbo's vector code" },
];

/// What bringing libtorch takes.
pub const DOWNLOAD: &[Need] = &[
    Need { program: "python3", package: "python3", why: "pip" },
    Need { program: "-m pip", package: "python3-pip", why: "downloading libtorch" },
];

/// What shows the report to its test.
pub const BROWSER: &[Need] =
    &[Need { program: "chromium", package: "chromium", why: "the report's test in a browser" }];

/// What tries the dashboards and the alerts.
pub const MONITORING: &[Need] = &[
    Need { program: "prometheus", package: "prometheus", why: "the tests of dashboards" },
    Need { program: "promtool", package: "prometheus", why: "the tests of alerts" },
];

/// What the cluster for tests runs on.
pub const CLUSTER: &[Need] = &[
    Need { program: "containerd", package: "containerd", why: "the cluster for tests: containers" },
    Need { program: "runc", package: "runc", why: "the cluster for tests: containers" },
    Need {
        program: "/usr/lib/cni/ptp",
        package: "containernetworking-plugins",
        why: "the cluster for tests: pods' networks",
    },
    Need { program: "ip", package: "iproute2", why: "the cluster for tests: nodes' networks" },
    Need { program: "iptables", package: "iptables", why: "the cluster for tests: Services" },
    Need { program: "ipset", package: "ipset", why: "the cluster for tests: network policies" },
    Need { program: "conntrack", package: "conntrack", why: "the cluster for tests: Services" },
];

/// Installs those system packages that are missing, as root or by `sudo` without a password.
///
/// # Errors
/// If something is missing and may not be installed from here: the error has the one line to run.
pub fn ensure(needs: &[Need]) -> Result<()> {
    let missing: Vec<&Need> = needs.iter().filter(|need| !present(need)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    for need in &missing {
        println!("missing: {} (for {}), package {}", need.program, need.why, need.package);
    }
    let mut packages: Vec<_> = missing.iter().map(|need| need.package).collect();
    // One package may have several of the programs.
    packages.dedup();
    let Some(prefix) = installer() else {
        let missing = missing.iter().map(|need| need.program.trim_start_matches("-m ").to_owned()).collect();
        return Err(Error::Packages { missing, line: by_hand(&packages, is_root()) });
    };
    apt(&prefix, &["update", "-qq"])?;
    apt(&prefix, &[["install", "-y", "-qq", "--no-install-recommends"].as_slice(), &packages].concat())?;
    match missing.iter().find(|need| !present(need)) {
        None => Ok(()),
        Some(need) => Err(Error::Refused(format!(
            "{} was installed, but `{}` is still not found: look at PATH",
            need.package, need.program
        ))),
    }
}

fn present(need: &Need) -> bool {
    match need.program.strip_prefix("-m ") {
        Some(module) => succeeds(Command::new(PYTHON).args(["-m", module, "--version"])),
        None => on_path(need.program),
    }
}

/// Whether a program is on the path, or a file at an absolute one.
pub fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

fn is_root() -> bool {
    output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
}

/// What to put before `apt-get`: nothing for root, `sudo -n` where it asks no password; None where neither works.
fn installer() -> Option<Vec<&'static str>> {
    if !on_path("apt-get") {
        None
    } else if is_root() {
        Some(vec![])
    } else if succeeds(Command::new("sudo").args(["-n", "true"])) {
        Some(vec!["sudo", "-n"])
    } else {
        None
    }
}

fn apt(prefix: &[&str], arguments: &[&str]) -> Result<()> {
    // `env` because sudo drops the environment.
    let words = [prefix, &["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"], arguments].concat();
    run(Command::new(words[0]).args(&words[1..]))
}

fn by_hand(packages: &[&str], root: bool) -> String {
    if !Path::new("/etc/debian_version").exists() {
        return format!("(your system's installer) {}", packages.join(" "));
    }
    let sudo = if root { "" } else { "sudo " };
    format!("{sudo}apt-get update && {sudo}apt-get install -y {}", packages.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manual_install_line_names_every_package() {
        let line = by_hand(&["g++", "nasm"], false);
        assert!(line.ends_with("g++ nasm"), "{line}");
        assert!(!by_hand(&["g++"], true).contains("sudo"));
    }

    #[test]
    fn program_is_looked_up_on_path() {
        assert!(on_path("sh") && !on_path("no-such-program-anywhere"));
    }
}
