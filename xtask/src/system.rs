//! Required system packages, and their installation.

use std::path::Path;
use std::process::Command;

use crate::download::PYTHON;
use crate::error::{Error, Result};
use crate::process::{output, run, succeeds};

/// A required program, the Debian package that contains it, and its purpose.
#[derive(Debug)]
pub struct Need {
    /// A program, or a Python module as `-m name`.
    program: &'static str,
    package: &'static str,
    why: &'static str,
}

/// Needed by every build.
pub const BUILD: &[Need] = &[
    Need { program: "c++", package: "g++", why: "the C++ shim over libtorch" },
    Need { program: "make", package: "make", why: "libjpeg-turbo" },
    Need { program: "cmake", package: "cmake", why: "libjpeg-turbo" },
    Need { program: "nasm", package: "nasm", why: "libjpeg-turbo's vector code" },
];

/// Needed to download libtorch.
pub const DOWNLOAD: &[Need] = &[
    Need { program: "python3", package: "python3", why: "pip" },
    Need { program: "-m pip", package: "python3-pip", why: "downloading libtorch" },
];

/// Needed by the tests of the report.
pub const BROWSER: &[Need] =
    &[Need { program: "chromium", package: "chromium", why: "the report's test in a browser" }];

/// Needed by the tests of dashboards and alerts.
pub const MONITORING: &[Need] = &[
    Need { program: "prometheus", package: "prometheus", why: "the tests of dashboards" },
    Need { program: "promtool", package: "prometheus", why: "the tests of alerts" },
];

/// Needed by the CUDA flavour of the trainer's image.
pub const CUDA_IMAGE: &[Need] = &[
    Need {
        program: "/usr/lib/x86_64-linux-gnu/libibverbs.so.1",
        package: "libibverbs1",
        why: "InfiniBand and RoCE in the CUDA image",
    },
    Need {
        program: "/usr/lib/x86_64-linux-gnu/libmlx5.so.1",
        package: "ibverbs-providers",
        why: "InfiniBand and RoCE in the CUDA image",
    },
];

/// Needed by the test cluster.
pub const CLUSTER: &[Need] = &[
    Need { program: "containerd", package: "containerd", why: "containers of the test cluster" },
    Need { program: "runc", package: "runc", why: "containers of the test cluster" },
    Need {
        program: "/usr/lib/cni/ptp",
        package: "containernetworking-plugins",
        why: "pod networks of the test cluster",
    },
    Need { program: "ip", package: "iproute2", why: "node networks of the test cluster" },
    Need { program: "iptables", package: "iptables", why: "Services of the test cluster" },
    Need { program: "ipset", package: "ipset", why: "network policies of the test cluster" },
    Need { program: "conntrack", package: "conntrack", why: "Services of the test cluster" },
];

/// Installs missing system packages, as root or with `sudo` if it asks for no password.
///
/// # Errors
/// If a package is missing and can't be installed; the error contains the line to run.
pub fn ensure(needs: &[Need]) -> Result<()> {
    let missing: Vec<&Need> = needs.iter().filter(|need| !present(need)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    for need in &missing {
        println!("missing: {} (for {}), package {}", need.program, need.why, need.package);
    }
    let mut packages: Vec<_> = missing.iter().map(|need| need.package).collect();
    // One package may contain several of the programs.
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
            "{} was installed, but `{}` is not found: check PATH",
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

/// Returns whether a program is on PATH, or exists at an absolute path.
pub fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

fn is_root() -> bool {
    output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
}

/// Returns the prefix for `apt-get`: nothing for root, `sudo -n` if it asks for no password, or `None` if neither works.
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
        return format!("(your package manager) install {}", packages.join(" "));
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
