//! Asking the API server.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::command::{output, output_with};
use crate::error::{Error, Result};

/// kubectl with one cluster's access.
#[derive(Debug, Clone)]
pub struct Kubectl {
    program: PathBuf,
    first: Option<&'static str>,
    kubeconfig: PathBuf,
}

impl Kubectl {
    /// Returns the built kubectl.
    pub fn own(kube: &Path, kubeconfig: &Path) -> Self {
        Self { program: kube.to_path_buf(), first: Some("kubectl"), kubeconfig: kubeconfig.to_path_buf() }
    }

    /// Returns the kubectl on PATH.
    pub fn users(kubeconfig: &Path) -> Self {
        Self { program: "kubectl".into(), first: None, kubeconfig: kubeconfig.to_path_buf() }
    }

    /// A command to start, for what runs longer: `port-forward`, `logs --follow`.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(self.first).args(arguments).env("KUBECONFIG", &self.kubeconfig);
        command
    }

    /// Runs it and returns its output.
    ///
    /// # Errors
    /// If it fails; the error contains its output.
    pub fn run(&self, arguments: &[&str]) -> Result<String> {
        output(&mut self.command(arguments))
    }

    /// Runs it with `--output=json` and returns what it printed.
    ///
    /// # Errors
    /// If it fails; the error contains its output.
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let text = self.run(&[arguments, &["--output=json"]].concat())?;
        serde_json::from_str(&text).map_err(|source| Error::State { path: "kubectl's answer".into(), source })
    }

    /// Applies a manifest.
    ///
    /// # Errors
    /// If it is refused.
    pub fn apply(&self, manifest: &str) -> Result<String> {
        output_with(&mut self.command(&["apply", "--filename=-"]), manifest)
    }
}
