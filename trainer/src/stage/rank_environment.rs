//! What an agent passes to its ranks in their environment.

use std::path::PathBuf;
use std::time::Duration;

use simsiam_contract::names::env;

use crate::dist::rank::RankInfo;
use crate::error::Error;
use crate::telemetry::Sink;

/// Path of the socket that takes a rank's events.
pub const AGENT_SOCKET: &str = "SIMSIAM_AGENT_SOCKET";
/// Process id of the agent.
pub const AGENT_PID: &str = "SIMSIAM_AGENT_PID";
/// Intra-op threads of the rank.
pub const THREADS: &str = "SIMSIAM_THREADS";
/// Bound on waiting for peers, in seconds.
pub const TIMEOUT: &str = "SIMSIAM_TIMEOUT";

/// Reads the rank's place among its peers and connects to its agent.
///
/// # Errors
/// [`Error::Usage`] if no agent started this process.
pub fn connect() -> Result<(RankInfo, Sink), Error> {
    let socket: PathBuf = std::env::var_os(AGENT_SOCKET)
        .ok_or_else(|| Error::Usage("`simsiam rank` is started by `simsiam worker` or `simsiam run`".into()))?
        .into();
    die_with_agent()?;
    let info = RankInfo {
        rank: variable(env::RANK)?,
        world: variable(env::WORLD_SIZE)?,
        local_rank: variable(env::LOCAL_RANK)?,
        master_addr: variable(env::MASTER_ADDR)?,
        master_port: variable(env::MASTER_PORT)?,
        timeout: Duration::from_secs(variable(TIMEOUT)?),
        threads: variable(THREADS)?,
    };
    Ok((info, Sink::connect(&socket)?))
}

/// A variable that the agent sets: whatever is wrong with it is not the user's mistake.
fn variable<T: std::str::FromStr>(name: &str) -> Result<T, Error> {
    let text = std::env::var(name).map_err(|_| Error::Internal(format!("the agent did not set {name}")))?;
    text.parse().map_err(|_| Error::Internal(format!("the agent set {name}={text}")))
}

/// Asks the kernel to kill this rank when its agent ends: alone it would hold its GPU and its peers forever.
fn die_with_agent() -> Result<(), Error> {
    #[cfg(target_os = "linux")]
    {
        nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)
            .map_err(std::io::Error::from)
            .map_err(Error::system("register for the agent's death"))?;
        // The agent may have ended before the kernel was asked.
        let agent = std::env::var(AGENT_PID).ok().and_then(|pid| pid.parse::<i32>().ok());
        if agent.is_some_and(|agent| nix::unistd::getppid().as_raw() != agent) {
            return Err(Error::Internal("the agent that started this rank has ended".into()));
        }
    }
    Ok(())
}
