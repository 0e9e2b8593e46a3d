//! Starts the ranks, listens to them, and stops all when one fails.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use simsiam_contract::StageResult;
use simsiam_contract::names::env;
use tch_ext::c10d::Store;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::net::UnixListener;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::outcome::{Outcome, RankExit};
use super::{RunStatus, Timeouts, Topology, reap, rendezvous};
use crate::error::Error;
use crate::stage::{StageRequest, rank_environment};
use crate::telemetry::Event;

/// A stage on one node, as its agent runs it.
#[derive(Clone, Debug)]
pub struct NodeStage {
    /// What each rank does.
    pub request: StageRequest,
    /// The ranks of this node.
    pub topology: Topology,
    /// Intra-op threads of each rank.
    pub threads: u32,
    /// Bounds on waiting.
    pub timeouts: Timeouts,
}

/// Runs the stage's ranks on this node until all have ended.
pub async fn supervise(spec: &NodeStage, status: &RunStatus) -> Result<Outcome, Error> {
    let topology = &spec.topology;
    let address = |port| format!("{}:{port}", topology.master_addr);
    // First of all: PID 1 of a container ignores SIGTERM until it has a handler.
    let mut signals = Signals::new()?;
    // Node 0's store runs in its agent, so that it survives a lost rank.
    let (port, _store) = if topology.hosts_store() {
        let (host, port) = (topology.master_addr.clone(), topology.master_port);
        let timeout = spec.timeouts.rendezvous;
        let store = tokio::task::spawn_blocking(move || Store::tcp(&host, port, None, true, timeout))
            .await
            .map_err(|e| Error::Rendezvous { address: address(port), message: e.to_string() })?
            .map_err(|e| Error::Rendezvous { address: address(port), message: e.to_string() })?;
        (store.port(), Some(store))
    } else {
        let reached = rendezvous::reach(&topology.master_addr, topology.master_port, spec.timeouts.rendezvous);
        tokio::select! {
            reached = reached => reached?,
            () = signals.next() => return Ok(Outcome::of(&[], true, StageResult::default())),
        }
        (topology.master_port, None)
    };
    status.watch(spec.timeouts.stall, spec.timeouts.rendezvous);
    Gang::start(spec, status, port)?.watch(spec, status, &mut signals).await
}

/// The signals that stop an agent.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> Result<Self, Error> {
        let handler = |kind| signal(kind).map_err(Error::system("register a signal handler"));
        Ok(Self { terminate: handler(SignalKind::terminate())?, interrupt: handler(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// The ranks of this node and what connects the agent to them.
struct Gang {
    ranks: JoinSet<(usize, std::io::Result<std::process::ExitStatus>)>,
    pids: HashMap<usize, Pid>,
    relays: JoinSet<()>,
    last_lines: HashMap<usize, LastLines>,
    reports: mpsc::UnboundedReceiver<(usize, Event)>,
    own: reap::RankPids,
    listener: tokio::task::JoinHandle<()>,
    open: Arc<AtomicUsize>,
    _folder: tempfile::TempDir,
}

impl Gang {
    fn start(spec: &NodeStage, status: &RunStatus, port: u16) -> Result<Self, Error> {
        let folder = tempfile::Builder::new()
            .prefix("simsiam-")
            .tempdir()
            .map_err(Error::io("create a folder in", std::env::temp_dir()))?;
        let socket = folder.path().join("agent");
        let request = folder.path().join("request.json");
        spec.request.write(&request)?;
        let listener = UnixListener::bind(&socket).map_err(Error::io("listen on", &socket))?;
        let (sender, reports) = mpsc::unbounded_channel();
        let open = Arc::new(AtomicUsize::new(0));
        let listener = tokio::spawn(listen(listener, status.clone(), sender, open.clone()));
        let own = reap::RankPids::default();
        reap::orphans(own.clone());
        let (mut ranks, mut relays, mut pids) = (JoinSet::new(), JoinSet::new(), HashMap::new());
        let mut last_lines = HashMap::new();
        for i in 0..spec.topology.nproc {
            let rank = spec.topology.first_rank + i;
            let mut child = start_rank(spec, i, port, &socket, &request)?;
            if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
                pids.insert(rank, Pid::from_raw(pid));
                own.lock().unwrap_or_else(PoisonError::into_inner).insert(pid);
            }
            let prefix: Arc<str> = format!("[rank {rank}] ").into();
            if let Some(out) = child.stdout.take() {
                relays.spawn(relay(out, prefix.clone(), status.clone(), LastLines::default()));
            }
            if let Some(err) = child.stderr.take() {
                let last: &LastLines = last_lines.entry(rank).or_default();
                relays.spawn(relay(err, prefix, status.clone(), last.clone()));
            }
            ranks.spawn(async move { (rank, child.wait().await) });
        }
        Ok(Self { ranks, pids, relays, last_lines, reports, own, listener, open, _folder: folder })
    }

    async fn watch(mut self, spec: &NodeStage, status: &RunStatus, signals: &mut Signals) -> Result<Outcome, Error> {
        let mut endings: Vec<RankExit> = Vec::new();
        let mut stopped = false;
        let mut stalled = None;
        let mut kill_at: Option<tokio::time::Instant> = None;
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        while !self.ranks.is_empty() {
            tokio::select! {
                Some(ended) = self.ranks.join_next() => {
                    let Ok((rank, status)) = ended else { continue };
                    let status = status.map_err(Error::system("wait for a rank"))?;
                    self.forget(rank);
                    let ending = RankExit::new(rank, status, kill_at.is_none() || stopped);
                    if !ending.is_done() && kill_at.is_none() && !self.ranks.is_empty() {
                        self.signal_all(Signal::SIGTERM);
                        kill_at = Some(tokio::time::Instant::now() + Timeouts::FAILURE_GRACE);
                    }
                    endings.push(ending);
                }
                () = signals.next() => { stopped = true; kill_at = Some(self.stop(spec)); }
                _ = tick.tick() => {
                    if kill_at.is_some_and(|t| tokio::time::Instant::now() >= t) {
                        self.signal_all(Signal::SIGKILL);
                    } else if kill_at.is_none() && let Some(silence) = status.stalled() {
                        stalled = Some(silence.as_secs());
                        status.line(&format!("no rank has reported for {} s; killing them", silence.as_secs()));
                        self.signal_all(Signal::SIGKILL);
                        kill_at = Some(tokio::time::Instant::now());
                    }
                }
            }
        }
        // The pipes and the socket may still hold final reports.
        let drain = async {
            while self.relays.join_next().await.is_some() {}
            loop {
                tokio::time::sleep(Duration::from_millis(20)).await;
                if self.open.load(Ordering::SeqCst) == 0 {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(2), drain).await;
        self.listener.abort();
        let mut result = StageResult::default();
        while let Ok((rank, event)) = self.reports.try_recv() {
            match event {
                Event::Done(done) if rank == 0 => result = *done,
                Event::Failed { reason, message, subject, .. } => {
                    for ending in endings.iter_mut().filter(|e| e.rank == rank) {
                        ending.reason = Some(reason.clone());
                        (ending.message, ending.subject) = (Some(message.clone()), subject.clone());
                    }
                }
                _ => {}
            }
        }
        for ending in endings.iter_mut().filter(|e| e.message.is_none()) {
            if let Some(lines) = self.last_lines.get(&ending.rank) {
                ending.last_lines = lines.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect();
            }
        }
        if let Some(seconds) = stalled {
            let message = format!("no rank made progress for {seconds} s, so all were killed");
            return Ok(Outcome::temporary(message, result));
        }
        Ok(Outcome::of(&endings, stopped, result))
    }

    /// Stops all ranks, which then have time for a checkpoint; returns when that time is over.
    fn stop(&self, spec: &NodeStage) -> tokio::time::Instant {
        self.signal_all(Signal::SIGTERM);
        tokio::time::Instant::now() + spec.timeouts.stop_grace
    }

    fn signal_all(&self, signal: Signal) {
        for pid in self.pids.values() {
            let _ = kill(*pid, signal);
        }
    }

    fn forget(&mut self, rank: usize) {
        if let Some(pid) = self.pids.remove(&rank) {
            self.own.lock().unwrap_or_else(PoisonError::into_inner).remove(&pid.as_raw());
        }
    }
}

/// What makes libraries give the same bits in every run; the user's own settings win.
const REPRODUCIBLE: [(&str, &str); 2] = [
    // cuBLAS: a fixed workspace for each stream.
    ("CUBLAS_WORKSPACE_CONFIG", ":4096:8"),
    // MKL: the same code path whatever the alignment of the operands.
    ("MKL_CBWR", "AUTO,STRICT"),
];

/// How NCCL ends and what it prints; the user's own settings win.
const NCCL: [(&str, &str); 3] = [
    // Its watchdog ends a rank that lost a peer; by default it first waits 15 s for other threads' dumps.
    ("TORCH_NCCL_WAIT_TIMEOUT_DUMP_MILSEC", "1000"),
    // For the lines that say which network it uses; `nccl_detail` drops the others.
    ("NCCL_DEBUG", "INFO"),
    ("NCCL_DEBUG_SUBSYS", "INIT,NET"),
];

/// Whether a line is one of NCCL's many that say neither its version nor the network that it chose.
fn nccl_detail(line: &str) -> bool {
    const SHOWN: [&str; 3] = ["Using network", "NET/IB : ", "NET/Socket : "];
    line.contains("NCCL INFO") && !SHOWN.iter().any(|part| line.contains(part))
}

/// The last lines that a rank printed on standard error: what there is to say about a crash.
type LastLines = Arc<Mutex<VecDeque<String>>>;
const LAST_LINES: usize = 5;
const LAST_LINE_CHARS: usize = 200;

fn remember(lines: &LastLines, line: &str) {
    let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
    if lines.len() == LAST_LINES {
        lines.pop_front();
    }
    lines.push_back(line.chars().take(LAST_LINE_CHARS).collect());
}

fn start_rank(spec: &NodeStage, index: usize, port: u16, socket: &Path, request: &Path) -> Result<Child, Error> {
    let program: PathBuf = std::env::current_exe().map_err(Error::system("find the path of this program"))?;
    let topology = &spec.topology;
    let mut command = Command::new(&program);
    command
        .args(["rank", "--request"])
        .arg(request)
        .env(env::RANK, (topology.first_rank + index).to_string())
        .env(env::LOCAL_RANK, (topology.first_local_rank + index).to_string())
        .env(env::WORLD_SIZE, topology.world.to_string())
        .env(env::MASTER_ADDR, &topology.master_addr)
        .env(env::MASTER_PORT, port.to_string())
        .env(rank_environment::AGENT_SOCKET, socket)
        .env(rank_environment::AGENT_PID, std::process::id().to_string())
        .env(rank_environment::THREADS, spec.threads.to_string())
        .env(rank_environment::TIMEOUT, spec.timeouts.rendezvous.as_secs().to_string())
        // libtorch reads it before the rank can set the number itself.
        .env("OMP_NUM_THREADS", spec.threads.to_string())
        .envs(REPRODUCIBLE.into_iter().filter(|(name, _)| std::env::var_os(name).is_none()))
        .envs(NCCL.into_iter().filter(|(name, _)| std::env::var_os(name).is_none()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command.spawn().map_err(Error::io("start", program))
}

/// Relays a rank's output, each line with its rank.
async fn relay(stream: impl AsyncRead + Unpin, prefix: Arc<str>, status: RunStatus, last: LastLines) {
    let quiet = std::env::var_os("NCCL_DEBUG").is_none();
    let mut lines = BufReader::new(stream).split(b'\n');
    while let Ok(Some(line)) = lines.next_segment().await {
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_end();
        if quiet && nccl_detail(line) {
            continue;
        }
        remember(&last, line);
        status.line(&format!("{prefix}{line}"));
    }
}

/// Accepts the ranks' connections and reads their events. `open` counts the connections that are not yet closed.
async fn listen(
    listener: UnixListener,
    status: RunStatus,
    reports: mpsc::UnboundedSender<(usize, Event)>,
    open: Arc<AtomicUsize>,
) {
    let mut readers = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        open.fetch_add(1, Ordering::SeqCst);
        let (status, reports, open) = (status.clone(), reports.clone(), open.clone());
        readers.spawn(async move {
            let mut lines = BufReader::new(stream).lines();
            let mut rank = None;
            while let Ok(Some(line)) = lines.next_line().await {
                match (serde_json::from_str::<Event>(&line), rank) {
                    (Ok(Event::Hello { rank: r }), _) => rank = Some(r),
                    (Ok(event), Some(rank)) => {
                        status.event(rank, &event);
                        if matches!(event, Event::Done(_) | Event::Failed { .. }) {
                            let _ = reports.send((rank, event));
                        }
                    }
                    _ => tracing::warn!("a rank sent something that is not an event: {line}"),
                }
            }
            open.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nccl_lines_are_dropped_except_those_that_name_its_network() {
        for shown in [
            "host:1:2 [0] NCCL INFO NET/IB : Using [0]mlx5_0:1/IB [RO]; OOB eth0:10.0.0.1<0>",
            "host:1:2 [0] NCCL INFO Using network IB",
            "host:1:2 [0] NCCL WARN Call to connect failed",
            "NCCL version 2.28.9+cuda13.0",
            "epoch 1",
        ] {
            assert!(!nccl_detail(shown), "{shown}");
        }
        assert!(nccl_detail("host:1:2 [0] NCCL INFO Channel 00/0 : 0[0] -> 1[1] via P2P/CUMEM"));
    }

    #[test]
    fn last_lines_are_few_and_short() {
        let lines = LastLines::default();
        for i in 0..9 {
            remember(&lines, &format!("{i}{}", "x".repeat(1000)));
        }
        let lines = lines.lock().unwrap();
        assert_eq!((lines.len(), lines[0].len()), (LAST_LINES, LAST_LINE_CHARS));
        assert!(lines[0].starts_with('4') && lines[4].starts_with('8'));
    }
}
