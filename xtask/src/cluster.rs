//! `cargo xtask cluster`: a Kubernetes cluster for tests on this machine.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use simsiam_cluster::{Cluster, Options, Tools};

use crate::error::{Error, Result};
use crate::process::start;
use crate::{system, table};

/// What to do with the cluster.
#[derive(Debug, clap::Subcommand)]
pub enum Action {
    /// Start a cluster, building its programs if necessary; it stays up until `down`
    Up {
        /// Number of nodes, up to 9; 0 starts only an API server
        #[arg(long, default_value_t = 2)]
        nodes: usize,
        /// Number of GPUs that each node advertises
        #[arg(long, default_value_t = 4)]
        gpus_per_node: usize,
        /// Do not enforce NetworkPolicies
        #[arg(long)]
        no_network_policies: bool,
        /// Folder for its files [default: `cluster` in the cache]
        #[arg(long, value_name = "DIR")]
        state: Option<PathBuf>,
    },
    /// Take the cluster down, including leftovers of a crash; only the logs are kept
    Down {
        /// Folder of its files [default: that of the cluster that is up, else `cluster` in the cache]
        #[arg(long, value_name = "DIR")]
        state: Option<PathBuf>,
    },
    /// Show the components and nodes
    Status,
    /// Build its programs into the cache without starting a cluster
    Build,
    /// Run the built kubectl against the cluster that is up
    #[command(disable_help_flag = true)]
    Kubectl {
        /// kubectl's own arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
        arguments: Vec<String>,
    },
    /// Run the built Helm against the cluster that is up
    #[command(disable_help_flag = true)]
    Helm {
        /// Helm's own arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
        arguments: Vec<String>,
    },
}

/// Executes an action.
///
/// # Errors
/// If it fails; the error contains the end of the log of the failed component.
pub fn cluster(action: Action) -> Result<()> {
    match action {
        Action::Up { nodes, gpus_per_node, no_network_policies, state } => {
            system::ensure(system::CLUSTER)?;
            let network_policies = !no_network_policies;
            up(&Options { nodes, gpus_per_node, network_policies, state, keep: true, quiet: false })
        }
        Action::Down { state } => down(state),
        Action::Status => status(),
        Action::Build => Tools::ensure().map(|tools| println!("{}", tools.folder().display())).map_err(Error::from),
        Action::Kubectl { arguments } => replace_by("kubectl", &arguments),
        Action::Helm { arguments } => replace_by("helm", &arguments),
    }
}

/// Replaces this process by a program of the cluster, so that input, output and exit status pass through. The program
/// reaches only the test cluster, because the shell's `KUBECONFIG` may name a production cluster.
fn replace_by(program: &str, arguments: &[String]) -> Result<()> {
    let mut command = Command::new(Tools::ensure()?.kube());
    let kubeconfig = match Cluster::running()? {
        Some(cluster) => cluster.kubeconfig().to_path_buf(),
        None => "/dev/null".into(),
    };
    command.arg(program).args(arguments).env("KUBECONFIG", kubeconfig);
    let error = command.exec();
    Err(start(&command, error))
}

fn up(options: &Options) -> Result<()> {
    let cluster = Cluster::up(options)?;
    println!("\nThe cluster is up. To use it:");
    println!("    export KUBECONFIG={}", cluster.kubeconfig().display());
    if !system::on_path("kubectl") {
        println!("    cargo xtask cluster kubectl get nodes");
    }
    println!("Logs:\n    {}", cluster.logs()?.display());
    println!("Import images (there is no registry):\n    cargo xtask images --import");
    println!("Take it down:\n    cargo xtask cluster down");
    Ok(())
}

fn down(state: Option<PathBuf>) -> Result<()> {
    let running = Cluster::running()?;
    let state = match (state, running) {
        (Some(state), _) => state,
        (None, Some(running)) => match running.owner() {
            None => running.state()?.to_path_buf(),
            Some(pid) => {
                return Err(Error::Refused(format!(
                    "the cluster belongs to the running process {pid}: end that process, or pass --state {}",
                    running.state()?.display()
                )));
            }
        },
        (None, None) => simsiam_cluster::default_state()?,
    };
    simsiam_cluster::down(&state)?;
    println!("The cluster is down. Logs: {}", state.join("logs").display());
    Ok(())
}

fn status() -> Result<()> {
    let Some(cluster) = Cluster::running()? else {
        let left = simsiam_cluster::left_behind();
        if left.is_empty() {
            println!("No cluster is up.");
        } else {
            println!(
                "No cluster is up, but leftovers of one were found: {}\nRemove them: cargo xtask cluster down",
                left.join(", ")
            );
        }
        return Ok(());
    };
    let components = cluster.components()?;
    let row =
        |(name, pid): &(String, Option<i32>)| vec![name.clone(), pid.map_or("DOWN".into(), |pid| pid.to_string())];
    let rows: Vec<_> =
        [vec!["component".to_owned(), "process".to_owned()]].into_iter().chain(components.iter().map(row)).collect();
    println!("{}\n", table::columns(&rows));
    println!("{}", cluster.kubectl(&["get", "nodes", "--output=wide"])?);
    println!("export KUBECONFIG={}", cluster.kubeconfig().display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(subcommand)]
        action: Action,
    }

    #[test]
    fn kubectl_and_helm_get_their_flags_unchanged() {
        let action = |words: &[&str]| Cli::parse_from([&["cluster"], words].concat()).action;
        let kubectl = action(&["kubectl", "get", "pods", "-A", "--help"]);
        assert!(matches!(kubectl, Action::Kubectl { arguments } if arguments == ["get", "pods", "-A", "--help"]));
        let helm = action(&["helm", "--help"]);
        assert!(matches!(helm, Action::Helm { arguments } if arguments == ["--help"]));
    }
}
