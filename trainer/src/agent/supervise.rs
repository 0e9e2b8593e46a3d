//! Starting the ranks, listening to them, and ending them together.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use simsiam_contract::StageResult;
use simsiam_contract::names::env;
use simsiam_recipe::Stage;
use tch_ext::c10d::Store;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::net::UnixListener;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::outcome::{Ending, Outcome};
use super::{RunStatus, Topology, reap, rendezvous};
use crate::error::Error;
use crate::telemetry::Event;

/// What an agent runs.
#[derive(Clone, Debug)]
pub struct Spec {
    /// The stage.
    pub stage: Stage,
    /// Its ranks here.
    pub topology: Topology,
    /// Arguments of `simsiam rank` that say what to run: the file, `--mount`, `--attempt` and the like.
    pub arguments: Vec<String>,
    /// libtorch's threads in each rank.
    pub threads: u32,
    /// Bound on finding each other.
    pub rendezvous_timeout: Duration,
    /// Bound on the ranks' silence while they train; beyond it they are taken for hung. Three times as long elsewhere.
    pub stall_timeout: Duration,
    /// Between SIGTERM and SIGKILL when a rank failed.
    pub grace: Duration,
    /// The same when the agent itself was told to stop: time for a checkpoint.
    pub stop_grace: Duration,
}

/// Runs the stage's ranks on this node to their end.
pub async fn supervise(spec: &Spec, board: &RunStatus) -> Result<Outcome, Error> {
    let topology = &spec.topology;
    let address = |port| format!("{}:{port}", topology.master_addr);
    // From the beginning: as PID 1 of a container a process without handlers does not hear SIGTERM at all.
    let mut signals = Signals::new()?;
    // A store server of node 0 lives as long as its agent, so that a lost rank does not take it along.
    let (port, _store) = if topology.hosts_store() {
        let (host, port) = (topology.master_addr.clone(), topology.master_port);
        let timeout = spec.rendezvous_timeout;
        let store = tokio::task::spawn_blocking(move || Store::tcp(&host, port, None, true, timeout))
            .await
            .map_err(|e| Error::Rendezvous { address: address(port), message: e.to_string() })?
            .map_err(|e| Error::Rendezvous { address: address(port), message: e.to_string() })?;
        (store.port(), Some(store))
    } else {
        let reached = rendezvous::reach(&topology.master_addr, topology.master_port, spec.rendezvous_timeout);
        tokio::select! {
            reached = reached => reached?,
            () = signals.next() => return Ok(Outcome::of(&[], true, StageResult::default())),
        }
        (topology.master_port, None)
    };
    board.watch(spec.stall_timeout, spec.rendezvous_timeout);
    Gang::start(spec, board, port)?.watch(spec, board, &mut signals).await
}

/// What tells an agent to stop.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> Result<Self, Error> {
        let handler = |kind| signal(kind).map_err(Error::io("a signal handler"));
        Ok(Self { terminate: handler(SignalKind::terminate())?, interrupt: handler(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// The ranks of this agent.
struct Gang {
    ranks: JoinSet<(usize, std::io::Result<std::process::ExitStatus>)>,
    pids: HashMap<usize, Pid>,
    relays: JoinSet<()>,
    words: mpsc::UnboundedReceiver<(usize, Event)>,
    own: reap::Own,
    listener: tokio::task::JoinHandle<()>,
    open: Arc<AtomicUsize>,
    _folder: tempfile::TempDir,
}

impl Gang {
    fn start(spec: &Spec, board: &RunStatus, port: u16) -> Result<Self, Error> {
        let folder = tempfile::Builder::new().prefix("simsiam-").tempdir().map_err(Error::io(std::env::temp_dir()))?;
        let socket = folder.path().join("agent");
        let listener = UnixListener::bind(&socket).map_err(Error::io(&socket))?;
        let (sender, words) = mpsc::unbounded_channel();
        let open = Arc::new(AtomicUsize::new(0));
        let listener = tokio::spawn(listen(listener, board.clone(), sender, open.clone()));
        let own = reap::Own::default();
        reap::orphans(own.clone());
        let (mut ranks, mut relays, mut pids) = (JoinSet::new(), JoinSet::new(), HashMap::new());
        for i in 0..spec.topology.nproc {
            let rank = spec.topology.first_rank + i;
            let mut child = start_rank(spec, i, port, &socket)?;
            if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
                pids.insert(rank, Pid::from_raw(pid));
                if let Ok(mut own) = own.lock() {
                    own.insert(pid);
                }
            }
            let prefix: Arc<str> = format!("[rank {rank}] ").into();
            if let Some(out) = child.stdout.take() {
                relays.spawn(relay(out, prefix.clone(), board.clone()));
            }
            if let Some(err) = child.stderr.take() {
                relays.spawn(relay(err, prefix, board.clone()));
            }
            ranks.spawn(async move { (rank, child.wait().await) });
        }
        Ok(Self { ranks, pids, relays, words, own, listener, open, _folder: folder })
    }

    async fn watch(mut self, spec: &Spec, board: &RunStatus, signals: &mut Signals) -> Result<Outcome, Error> {
        let mut endings: Vec<Ending> = Vec::new();
        let mut asked = false;
        let mut stalled = None;
        let mut kill_at: Option<tokio::time::Instant> = None;
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        while !self.ranks.is_empty() {
            tokio::select! {
                Some(ended) = self.ranks.join_next() => {
                    let Ok((rank, status)) = ended else { continue };
                    let status = status.map_err(Error::io(format!("rank {rank}")))?;
                    self.forget(rank);
                    let ending = Ending::new(rank, status, kill_at.is_none() || asked);
                    if !ending.is_done() && kill_at.is_none() && !self.ranks.is_empty() {
                        self.signal_all(Signal::SIGTERM);
                        kill_at = Some(tokio::time::Instant::now() + spec.grace);
                    }
                    endings.push(ending);
                }
                () = signals.next() => { asked = true; kill_at = Some(self.stop(spec)); }
                _ = tick.tick() => {
                    if kill_at.is_some_and(|t| tokio::time::Instant::now() >= t) {
                        self.signal_all(Signal::SIGKILL);
                    } else if kill_at.is_none() && let Some(silence) = board.stalled() {
                        stalled = Some(silence.as_secs());
                        board.line(&format!("no rank has made progress for {} s; ending them", silence.as_secs()));
                        self.signal_all(Signal::SIGKILL);
                        kill_at = Some(tokio::time::Instant::now());
                    }
                }
            }
        }
        // The pipes and the socket may still hold last words.
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
        while let Ok((rank, event)) = self.words.try_recv() {
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
        if let Some(seconds) = stalled {
            let message = format!("no rank made progress for {seconds} s, so all were ended");
            return Ok(Outcome::temporary(message, result));
        }
        Ok(Outcome::of(&endings, asked, result))
    }

    /// The agent was told to stop: all ranks are, and have time for a checkpoint.
    fn stop(&self, spec: &Spec) -> tokio::time::Instant {
        self.signal_all(Signal::SIGTERM);
        tokio::time::Instant::now() + spec.stop_grace
    }

    fn signal_all(&self, signal: Signal) {
        for pid in self.pids.values() {
            let _ = kill(*pid, signal);
        }
    }

    fn forget(&mut self, rank: usize) {
        if let Some(pid) = self.pids.remove(&rank)
            && let Ok(mut own) = self.own.lock()
        {
            own.remove(&pid.as_raw());
        }
    }
}

/// What libraries must be told at their start for the same bits in every run; the user's own settings win.
const REPRODUCIBLE: [(&str, &str); 2] = [
    // cuBLAS: a fixed workspace for each stream.
    ("CUBLAS_WORKSPACE_CONFIG", ":4096:8"),
    // MKL: the same code path whatever the alignment of the operands.
    ("MKL_CBWR", "AUTO,STRICT"),
];

fn start_rank(spec: &Spec, index: usize, port: u16, socket: &Path) -> Result<Child, Error> {
    let program: PathBuf = std::env::current_exe().map_err(Error::io("this program's own file"))?;
    let topology = &spec.topology;
    let mut command = Command::new(&program);
    command
        .arg("rank")
        .args(["--stage", spec.stage.name()])
        .args(&spec.arguments)
        .env(env::RANK, (topology.first_rank + index).to_string())
        .env(env::LOCAL_RANK, (topology.first_local_rank + index).to_string())
        .env(env::WORLD_SIZE, topology.world.to_string())
        .env(env::MASTER_ADDR, &topology.master_addr)
        .env(env::MASTER_PORT, port.to_string())
        .env("SIMSIAM_AGENT_SOCKET", socket)
        .env("SIMSIAM_AGENT_PID", std::process::id().to_string())
        .env("SIMSIAM_THREADS", spec.threads.to_string())
        .env("SIMSIAM_TIMEOUT", spec.rendezvous_timeout.as_secs().to_string())
        // libtorch reads it before we can set the number ourselves.
        .env("OMP_NUM_THREADS", spec.threads.to_string())
        .envs(REPRODUCIBLE.into_iter().filter(|(name, _)| std::env::var_os(name).is_none()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command.spawn().map_err(Error::io(program))
}

/// Passes a rank's lines on.
async fn relay(stream: impl AsyncRead + Unpin, prefix: Arc<str>, board: RunStatus) {
    let mut lines = BufReader::new(stream).split(b'\n');
    while let Ok(Some(line)) = lines.next_segment().await {
        board.line(&format!("{prefix}{}", String::from_utf8_lossy(&line).trim_end()));
    }
}

/// Takes the ranks' connections and their events. `open` counts connections that may still have something to say.
async fn listen(
    listener: UnixListener,
    board: RunStatus,
    words: mpsc::UnboundedSender<(usize, Event)>,
    open: Arc<AtomicUsize>,
) {
    let mut readers = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        open.fetch_add(1, Ordering::SeqCst);
        let (board, words, open) = (board.clone(), words.clone(), open.clone());
        readers.spawn(async move {
            let mut lines = BufReader::new(stream).lines();
            let mut rank = None;
            while let Ok(Some(line)) = lines.next_line().await {
                match (serde_json::from_str::<Event>(&line), rank) {
                    (Ok(Event::Hello { rank: r }), _) => rank = Some(r),
                    (Ok(event), Some(rank)) => {
                        board.event(rank, &event);
                        if matches!(event, Event::Done(_) | Event::Failed { .. }) {
                            let _ = words.send((rank, event));
                        }
                    }
                    _ => tracing::warn!("not an event: {line}"),
                }
            }
            open.fetch_sub(1, Ordering::SeqCst);
        });
    }
}
