//! A sandbox of processes that is killed as a whole: the control plane, or a node.
//!
//! A sandbox has its own PID and mount namespaces, and for a node also a network namespace. Its first process only waits
//! (`pod pause`); killing that one makes the kernel kill every other, and with the last one its mounts and network
//! disappear. So nothing is left behind, however many shims and containers a node had.
//!
//! A sandbox is found by the command line of its first process, which contains the state folder; no file is needed.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::command;
use crate::error::{Error, Result};
use crate::processes::{self, Process};

const MARK: &str = "--simsiam-cluster=";
const PAUSE: &str = "pause";
const TIMEOUT: Duration = Duration::from_secs(10);

/// A sandbox of processes.
#[derive(Debug, Clone)]
pub struct Sandbox {
    state: PathBuf,
    name: String,
}

impl Sandbox {
    /// Returns the sandbox of a name in a state folder, running or not.
    pub fn new(state: &Path, name: &str) -> Self {
        Self { state: state.to_path_buf(), name: name.to_owned() }
    }

    /// The sandbox's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The state folder it belongs to.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// Returns all sandboxes on this machine.
    pub fn all() -> Vec<Self> {
        processes::all().iter().filter_map(Self::from_process).map(|(sandbox, _)| sandbox).collect()
    }

    fn from_process(process: &Process) -> Option<(Self, i32)> {
        let [_, pause, mark, name] = process.arguments.as_slice() else { return None };
        let state = mark.strip_prefix(MARK).filter(|_| pause == PAUSE)?;
        Some((Self::new(Path::new(state), name), process.pid))
    }

    /// Returns the PID of the first process on the host, if the sandbox runs.
    pub fn pid(&self) -> Option<i32> {
        let mut found = processes::all().into_iter().filter_map(|process| Self::from_process(&process));
        found.find(|(other, _)| other.state == self.state && other.name == self.name).map(|(_, pid)| pid)
    }

    fn running(&self) -> Result<i32> {
        self.pid().ok_or_else(|| Error::Impossible(format!("{} does not run", self.name)))
    }

    /// Starts the sandbox with the program `pod`; `network` creates a network namespace too.
    pub fn start(&self, pod: &Path, network: bool) -> Result<i32> {
        let mut command = Command::new("setsid");
        command.args(["--fork", "unshare", "--pid", "--fork", "--kill-child", "--mount", "--propagation", "slave"]);
        command.arg("--mount-proc").args(network.then_some("--net")).arg(pod).arg(PAUSE);
        command.arg(format!("{MARK}{}", self.state.display())).arg(&self.name);
        self.detached(&mut command, &self.name)?;
        self.wait_for(&self.name, || self.pid())
    }

    /// Kills the sandbox with all its processes; does nothing if it does not run.
    pub fn kill(&self) -> Result<()> {
        let Some(pid) = self.pid() else { return Ok(()) };
        let mut left = vec![];
        // `nsenter` and `unshare` wait outside for the processes they started inside, and end on their own.
        let waiting = self.waiting(pid);
        for (pid, signal) in std::iter::once((pid, Signal::SIGKILL)).chain(waiting.map(|pid| (pid, Signal::SIGCONT))) {
            if !processes::end(pid, signal, TIMEOUT) {
                left.push(format!("process {pid} ({})", self.name));
            }
        }
        if left.is_empty() { Ok(()) } else { Err(Error::Left(left)) }
    }

    fn waiting(&self, pid: i32) -> impl Iterator<Item = i32> {
        let (mark, target) = (format!("{MARK}{}", self.state.display()), pid.to_string());
        let name = self.name.clone();
        let entered = move |process: &Process| process.is("nsenter") && process.arguments.get(2) == Some(&target);
        let made = move |process: &Process| {
            process.is("unshare") && process.arguments.ends_with(&[mark.clone(), name.clone()])
        };
        processes::all().into_iter().filter(move |process| entered(process) || made(process)).map(|process| process.pid)
    }

    /// Returns a command that runs in the sandbox as root.
    pub fn command(&self, words: &[&str]) -> Result<Command> {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.running()?.to_string(), "--mount", "--net", "--pid", "--"]).args(words);
        Ok(command)
    }

    /// Runs a shell script in the sandbox; its first error ends it.
    pub fn script(&self, script: &str) -> Result<()> {
        command::run(&mut self.command(&["sh", "-ec", script])?)
    }

    /// Starts a component in the sandbox and returns when it is running.
    pub fn spawn(&self, program: &str, words: &[String], environment: &[(&str, &str)]) -> Result<()> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let inner = self.command(&words)?;
        let mut command = Command::new("setsid");
        command.arg("--fork").arg(inner.get_program()).args(inner.get_args()).envs(environment.iter().copied());
        self.detached(&mut command, &self.component(program))?;
        self.wait_for(&self.component(program), || self.find(program)).map(drop)
    }

    /// Returns the PID on the host of a component in this sandbox.
    pub fn find(&self, program: &str) -> Option<i32> {
        let own = processes::pid_namespace(self.pid()?)?;
        let mut found = processes::all().into_iter().filter(|process| process.is(program));
        found.find(|process| processes::pid_namespace(process.pid).as_ref() == Some(&own)).map(|process| process.pid)
    }

    fn log_of(&self, component: &str) -> PathBuf {
        self.state.join("logs").join(format!("{component}.log"))
    }

    /// Returns a component's name in messages and logs.
    pub fn component(&self, program: &str) -> String {
        if self.name.starts_with("node-") { format!("{}-{program}", self.name) } else { program.to_owned() }
    }

    /// Returns the error for a component with the end of its log.
    pub fn trouble(&self, program: &str, problem: &str) -> Error {
        self.trouble_of(&self.component(program), problem)
    }

    fn trouble_of(&self, component: &str, problem: &str) -> Error {
        let log = self.log_of(component);
        let last = command::last_lines(&log, 15);
        Error::Component { component: component.to_owned(), problem: problem.to_owned(), log, last }
    }

    /// Starts a command detached: its output goes to its log, and it receives no signals of our terminal.
    fn detached(&self, command: &mut Command, component: &str) -> Result<()> {
        let path = self.log_of(component);
        let log = File::options().create(true).append(true).open(&path).map_err(Error::io("write", &path))?;
        let again = log.try_clone().map_err(Error::io("write", &path))?;
        let status = command.stdin(Stdio::null()).stdout(log).stderr(again).status();
        match status {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(self.trouble_of(component, &format!("did not start ({status})"))),
            Err(source) => Err(Error::Start { program: "setsid (of util-linux)".into(), source }),
        }
    }

    fn wait_for(&self, component: &str, find: impl Fn() -> Option<i32>) -> Result<i32> {
        let end = Instant::now() + TIMEOUT;
        loop {
            match find() {
                Some(pid) => return Ok(pid),
                None if Instant::now() > end => return Err(self.trouble_of(component, "did not start")),
                None => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }
}
