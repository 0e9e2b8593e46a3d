//! Which ranks run on this node: from torchrun's flags, the reference's `--dist-url` flags, or the environment.

use simsiam_contract::names::{RENDEZVOUS_PORT, env};

use crate::error::Error;

/// What the command line and the environment say about the topology.
#[derive(Clone, Debug, Default)]
pub struct TopologyArgs {
    /// `--nnodes`.
    pub nnodes: Option<usize>,
    /// `--node-rank`.
    pub node_rank: Option<usize>,
    /// `--nproc-per-node`.
    pub nproc: Option<usize>,
    /// `--master-addr` or `MASTER_ADDR`.
    pub master_addr: Option<String>,
    /// `--master-port` or `MASTER_PORT`.
    pub master_port: Option<u16>,
    /// `--dist-url tcp://host:port`.
    pub dist_url: Option<String>,
    /// `--world-size`: nodes, as in the reference.
    pub world_size: Option<usize>,
    /// `--rank`: this node's number, as in the reference.
    pub rank: Option<usize>,
    /// `WORLD_SIZE` of the environment: processes.
    pub env_world_size: Option<usize>,
    /// `RANK` of the environment: this process.
    pub env_rank: Option<usize>,
    /// `LOCAL_RANK` of the environment.
    pub env_local_rank: Option<usize>,
}

impl TopologyArgs {
    /// Adds what torchrun or Slurm set in the environment.
    ///
    /// # Errors
    /// If a variable is not a number.
    pub fn with_environment(self) -> Result<Self, Error> {
        let number = |name: &str| match std::env::var(name) {
            Err(_) => Ok(None),
            Ok(text) => text
                .parse()
                .map(Some)
                .map_err(|_| Error::Usage(format!("{name}={text} in the environment is not a number"))),
        };
        Ok(Self {
            env_world_size: number(env::WORLD_SIZE)?,
            env_rank: number(env::RANK)?,
            env_local_rank: number(env::LOCAL_RANK)?,
            ..self
        })
    }
}

/// Intra-op threads of each of `ranks` ranks of this machine: its cores divided by them, at least one.
pub fn default_threads(ranks: usize) -> u32 {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    u32::try_from(cores / ranks.max(1)).unwrap_or(1).max(1)
}

/// The ranks of this agent among all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    /// Global rank of this agent's first rank.
    pub first_rank: usize,
    /// Local rank of its first rank.
    pub first_local_rank: usize,
    /// Number of its ranks.
    pub nproc: usize,
    /// World size: the ranks of all nodes.
    pub world: usize,
    /// Address of node 0.
    pub master_addr: String,
    /// Port of node 0's rendezvous store; 0 on a single node takes any free one.
    pub master_port: u16,
}

impl Topology {
    /// A topology of `nproc` ranks on this machine.
    pub fn local(nproc: usize) -> Self {
        Self {
            first_rank: 0,
            first_local_rank: 0,
            nproc,
            world: nproc,
            master_addr: "127.0.0.1".into(),
            master_port: 0,
        }
    }

    /// Resolves what was asked; `devices` is the default number of ranks.
    pub fn resolve(asked: &TopologyArgs, devices: usize) -> Result<Self, Error> {
        let usage = |text: String| Err(Error::Usage(text));
        let torchrun = asked.nnodes.is_some() || asked.node_rank.is_some() || asked.nproc.is_some();
        let reference = asked.dist_url.is_some() || asked.world_size.is_some() || asked.rank.is_some();
        let environment = asked.env_rank.is_some() || asked.env_world_size.is_some();
        if environment && (torchrun || reference) {
            return usage(
                "RANK or WORLD_SIZE is set in the environment and names one process, while --nnodes, --node-rank, \
                 --nproc-per-node, --dist-url, --world-size or --rank count nodes; unset the one or leave out the other"
                    .into(),
            );
        }
        if reference && (asked.nnodes.is_some() || asked.node_rank.is_some()) {
            return usage(
                "--world-size and --rank mean the same as --nnodes and --node-rank; give only one pair".into(),
            );
        }
        if environment {
            return Self::from_environment(asked);
        }
        let nnodes = asked.nnodes.or(asked.world_size).unwrap_or(1);
        let node = match (asked.node_rank.or(asked.rank), nnodes) {
            (Some(rank), _) => rank,
            (None, 1) => 0,
            (None, _) => return usage(format!("with {nnodes} nodes each needs its --node-rank, 0 to {}", nnodes - 1)),
        };
        let nproc = asked.nproc.unwrap_or(devices);
        if nnodes == 0 || nproc == 0 {
            return usage("--nnodes and --nproc-per-node must be at least 1".into());
        }
        if node >= nnodes {
            return usage(format!(
                "--node-rank {node} does not exist among {nnodes} nodes; the last is {}",
                nnodes - 1
            ));
        }
        let (master_addr, master_port) = match &asked.dist_url {
            Some(url) => parse_url(url)?,
            None if nnodes == 1 && asked.master_addr.is_none() && asked.master_port.is_none() => {
                ("127.0.0.1".to_owned(), 0)
            }
            None => {
                let address = match (&asked.master_addr, node) {
                    (Some(address), _) => address.clone(),
                    (None, 0) if nnodes == 1 => "127.0.0.1".to_owned(),
                    (None, _) => return usage("--master-addr is missing: the address of node 0".into()),
                };
                (address, asked.master_port.unwrap_or(RENDEZVOUS_PORT))
            }
        };
        let world = nnodes * nproc;
        Ok(Self { first_rank: node * nproc, first_local_rank: 0, nproc, world, master_addr, master_port })
    }

    /// One rank, as torchrun or Slurm started it.
    fn from_environment(asked: &TopologyArgs) -> Result<Self, Error> {
        let missing = |name: &str| {
            Error::Usage(format!(
                "{name} is not set; with RANK or WORLD_SIZE in the environment, RANK, WORLD_SIZE, MASTER_ADDR and \
                 MASTER_PORT must all be"
            ))
        };
        let world = asked.env_world_size.ok_or_else(|| missing(env::WORLD_SIZE))?;
        let first_rank = asked.env_rank.ok_or_else(|| missing(env::RANK))?;
        if first_rank >= world {
            return Err(Error::Usage(format!("RANK={first_rank} does not exist with WORLD_SIZE={world}")));
        }
        Ok(Self {
            first_rank,
            first_local_rank: asked.env_local_rank.unwrap_or(0),
            nproc: 1,
            world,
            master_addr: asked.master_addr.clone().ok_or_else(|| missing(env::MASTER_ADDR))?,
            master_port: asked.master_port.ok_or_else(|| missing(env::MASTER_PORT))?,
        })
    }

    /// Whether this agent hosts the rendezvous store.
    pub fn hosts_store(&self) -> bool {
        self.first_rank == 0
    }
}

fn parse_url(text: &str) -> Result<(String, u16), Error> {
    let bad = || Error::Usage(format!("--dist-url {text}: expected tcp://host:port"));
    let url = url::Url::parse(text).map_err(|_| bad())?;
    match (url.scheme(), url.host_str(), url.port()) {
        ("tcp", Some(host), Some(port)) => Ok((host.trim_matches(['[', ']']).to_owned(), port)),
        _ => Err(bad()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topology_of_flags_counts_nodes_and_of_environment_counts_ranks() {
        let flags = TopologyArgs {
            nnodes: Some(2),
            node_rank: Some(1),
            nproc: Some(4),
            master_addr: Some("a".into()),
            ..TopologyArgs::default()
        };
        let there = Topology::resolve(&flags, 1).unwrap();
        assert_eq!((there.first_rank, there.nproc, there.world, there.master_port), (4, 4, 8, 29500));
        let reference = TopologyArgs {
            dist_url: Some("tcp://[::1]:4000".into()),
            world_size: Some(2),
            rank: Some(0),
            ..TopologyArgs::default()
        };
        let there = Topology::resolve(&reference, 3).unwrap();
        assert_eq!((there.nproc, there.world, there.master_addr.as_str(), there.master_port), (3, 6, "::1", 4000));
        let environment = TopologyArgs {
            env_rank: Some(5),
            env_world_size: Some(8),
            env_local_rank: Some(1),
            master_addr: Some("a".into()),
            master_port: Some(1),
            ..TopologyArgs::default()
        };
        let there = Topology::resolve(&environment, 4).unwrap();
        assert_eq!((there.first_rank, there.first_local_rank, there.nproc, there.world), (5, 1, 1, 8));
        assert_eq!(Topology::resolve(&TopologyArgs::default(), 2).unwrap(), Topology::local(2));
    }

    #[test]
    fn topology_of_contradicting_flags_is_bad_usage() {
        let some = |f: fn(&mut TopologyArgs)| {
            let mut asked = TopologyArgs::default();
            f(&mut asked);
            Topology::resolve(&asked, 1).unwrap_err()
        };
        type Case = (fn(&mut TopologyArgs), &'static str);
        let cases: [Case; 6] = [
            (|a| (a.env_rank, a.nnodes) = (Some(0), Some(1)), "names one process"),
            (|a| (a.world_size, a.nnodes) = (Some(2), Some(2)), "only one pair"),
            (|a| a.nnodes = Some(2), "--node-rank, 0 to 1"),
            (|a| (a.nnodes, a.node_rank) = (Some(2), Some(2)), "does not exist among 2"),
            (|a| (a.dist_url, a.rank) = (Some("host:1".into()), Some(0)), "tcp://host:port"),
            (|a| (a.env_rank, a.env_world_size) = (Some(0), Some(2)), "MASTER_ADDR"),
        ];
        for (change, words) in cases {
            let error = some(change);
            assert!(error.to_string().contains(words), "{error}");
            assert_eq!(error.exit_code().code(), 64);
        }
    }
}
