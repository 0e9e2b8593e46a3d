//! `simsiam worker`, and `simsiam rank` which it starts.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use simsiam_contract::names::{METRICS_PORT, TERMINATION_LOG, env};
use simsiam_recipe::Stage;

use super::stage::{StageArgs, TimeoutArgs, at_least_one, threads};
use crate::agent::node::{self, Node};
use crate::agent::topology::TopologyArgs;
use crate::error::Error;
use crate::stage::{self, StageRequest};

/// Arguments of `simsiam worker`.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    stage_args: StageArgs,
    /// Stage to run
    #[arg(long, value_parser = stage_names(), default_value = "pretrain")]
    stage: Stage,
    /// Number of nodes
    #[arg(long, value_parser = at_least_one())]
    nnodes: Option<usize>,
    /// Index of this node, from 0
    #[arg(long)]
    node_rank: Option<usize>,
    /// Ranks on this node [default: one per GPU, or one]
    #[arg(long, value_parser = at_least_one())]
    nproc_per_node: Option<usize>,
    /// Number of GPUs required; exits with code 78 if there are fewer
    #[arg(long, env = env::GPUS, default_value_t = 0)]
    gpus: usize,
    /// Address of node 0
    #[arg(long, env = env::MASTER_ADDR)]
    master_addr: Option<String>,
    /// Port of node 0's rendezvous store [default: 29500]
    #[arg(long, env = env::MASTER_PORT)]
    master_port: Option<u16>,
    /// tcp://host:port of node 0; --world-size and --rank then count nodes
    #[arg(long, value_name = "URL")]
    dist_url: Option<String>,
    /// Number of nodes (the reference's name for --nnodes)
    #[arg(long, value_parser = at_least_one())]
    world_size: Option<usize>,
    /// Index of this node (the reference's name for --node-rank)
    #[arg(long)]
    rank: Option<usize>,
    /// libtorch threads of each rank [default: the machine's cores divided by its ranks]
    #[arg(long, value_parser = threads())]
    threads_per_rank: Option<u32>,
    /// Address to serve /metrics, /progress and /healthz on
    #[arg(long, value_name = "ADDRESS", default_value_t = SocketAddr::from(([0, 0, 0, 0], METRICS_PORT)))]
    metrics_addr: SocketAddr,
    /// File to write the termination message to, if its folder exists
    #[arg(long, value_name = "PATH", default_value = TERMINATION_LOG)]
    termination_log: PathBuf,
    #[command(flatten)]
    timeouts: TimeoutArgs,
}

/// Parses the name of a stage.
fn stage_names() -> impl TypedValueParser<Value = Stage> {
    PossibleValuesParser::new(Stage::ALL.map(Stage::name)).try_map(|name| name.parse::<Stage>())
}

/// Runs `simsiam worker`.
pub fn execute(args: &Args) -> Result<(), Error> {
    node::run(args.node(), &args.termination_log)
}

impl Args {
    fn node(&self) -> Result<Node, Error> {
        let run = self.stage_args.file.load()?;
        let asked = TopologyArgs {
            nnodes: self.nnodes,
            node_rank: self.node_rank,
            nproc: self.nproc_per_node,
            master_addr: self.master_addr.clone(),
            master_port: self.master_port,
            dist_url: self.dist_url.clone(),
            world_size: self.world_size,
            rank: self.rank,
            ..TopologyArgs::default()
        };
        Ok(Node {
            request: self.stage_args.request(&run, self.stage, None)?,
            asked: asked.with_environment()?,
            gpus: self.gpus,
            threads_per_rank: self.threads_per_rank.or(run.threads_per_rank()),
            timeouts: self.timeouts.timeouts(),
            metrics_addr: self.metrics_addr,
        })
    }
}

/// Arguments of `simsiam rank`.
#[derive(clap::Args)]
pub struct RankArgs {
    /// The stage request, as the agent wrote it
    #[arg(long, value_name = "FILE")]
    request: PathBuf,
}

/// Runs `simsiam rank`.
pub fn execute_rank(args: &RankArgs) -> Result<(), Error> {
    stage::run(&StageRequest::read(&args.request)?)
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use simsiam_contract::WorkerCommand;

    use super::*;
    use crate::cli::{Cli, Command};

    #[test]
    fn worker_command_of_the_contract_parses_into_every_option() {
        let command = WorkerCommand {
            file: "/run/simsiam/run.yaml".into(),
            stage: "linear".into(),
            attempt: 2,
            nnodes: 4,
            node_rank: "3".into(),
            nproc_per_node: 8,
            master_addr: "node0".into(),
            master_port: 29501,
            stall_timeout: 601,
            rendezvous_timeout: 901,
            stop_grace: 101,
            threads_per_rank: Some(2),
            mounts: vec![("data".into(), "/mnt/data".into()), ("out".into(), "/mnt/out".into())],
        };
        let arguments = std::iter::once("simsiam".to_owned()).chain(command.to_args());
        let Command::Worker(args) = Cli::try_parse_from(arguments).unwrap().command else { panic!("another command") };
        // Every option of the command line is compared: a new one must be added here.
        let Args {
            stage_args,
            stage,
            nnodes,
            node_rank,
            nproc_per_node,
            gpus: _,
            master_addr,
            master_port,
            dist_url,
            world_size,
            rank,
            threads_per_rank,
            metrics_addr,
            termination_log,
            timeouts,
        } = args;
        let parsed = WorkerCommand {
            file: stage_args.file.file.display().to_string(),
            stage: stage.name().into(),
            attempt: stage_args.attempt.unwrap(),
            nnodes: nnodes.unwrap().try_into().unwrap(),
            node_rank: node_rank.unwrap().to_string(),
            nproc_per_node: nproc_per_node.unwrap().try_into().unwrap(),
            master_addr: master_addr.unwrap(),
            master_port: master_port.unwrap(),
            stall_timeout: timeouts.stall_timeout,
            rendezvous_timeout: timeouts.rendezvous_timeout,
            stop_grace: timeouts.stop_grace,
            threads_per_rank,
            mounts: (stage_args.file.mount.iter())
                .map(|mount| mount.split_once('=').map(|(name, path)| (name.to_owned(), path.to_owned())).unwrap())
                .collect(),
        };
        assert_eq!(parsed, command);
        assert_eq!((dist_url, world_size, rank), (None, None, None));
        assert_eq!(metrics_addr.port(), METRICS_PORT);
        assert_eq!(termination_log.to_str(), Some(TERMINATION_LOG));
        assert!(stage_args.file.set.is_empty());
    }
}
