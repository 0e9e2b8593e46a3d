//! A run's measurements in MLflow.
//!
//! The agent of node 0 runs a [`Tracker`], a thread that no rank waits for. It turns rank 0's events into the
//! journal's [records](super::journal::Record) and sends their [`points`] over the [REST API](rest). The journal
//! in the run's output is what remains to be sent while the server is away: whenever the thread
//! begins to talk to the server, it asks what that has ([`session`]) and sends only what is missing, so nothing is sent twice
//! after an answer was lost, a process was killed, or steps were repeated. [`State`] in the output names the
//! server's run, so that later attempts and stages continue it.
//!
//! A server that cannot be reached is tried again and again, ever more rarely; one that refuses is left alone until the
//! next command. Neither is a failure of the run.

pub mod failure;
pub mod http;
pub mod params;
pub mod points;
pub mod rest;
pub mod session;
pub mod state;

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

pub use failure::Failure;
pub use session::{Session, Setup, now};
pub use state::{Ending, State, Status};

use super::event::Event;
use super::journal::record::{RecordBuilder, is_measurement};
use crate::error::Error;
use crate::storage::Storage;

/// Time from a measurement to the request that sends it, so that one request has several.
const EVERY: Duration = Duration::from_secs(5);
/// Shortest and longest time between two tries.
const BACKOFF: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(15)];
/// How long a command waits at its end for what is still to be sent, when it ended well.
const PATIENCE: Duration = Duration::from_secs(60);
/// The same after a failure or SIGTERM: less than the time between the end of the ranks and that of their pod.
const PATIENCE_OF_FAILED: Duration = Duration::from_secs(8);
/// How much longer a command waits for the thread, whose output may hang too.
const SLACK: Duration = Duration::from_secs(2);
/// Tries at the end with a server that cannot be reached.
const LAST_TRIES: u32 = 3;

/// A message to the thread.
enum Message {
    Stage(String),
    Event(SystemTime, Box<Event>),
    Close(Ending, Vec<&'static str>),
}

/// Sends events to a tracker. Cheap to clone; never blocks, never fails.
#[derive(Clone)]
pub struct TrackerSender(Sender<Message>);

impl TrackerSender {
    /// Another stage begins.
    pub fn stage(&self, name: &str) {
        let _ = self.0.send(Message::Stage(name.to_owned()));
    }

    /// Takes an event of rank 0.
    pub fn event(&self, event: &Event) {
        if is_measurement(event) || matches!(event, Event::Attempt { .. } | Event::Done(_)) {
            let _ = self.0.send(Message::Event(SystemTime::now(), Box::new(event.clone())));
        }
    }
}

/// Called with the number of values that are to be sent and of those that were refused.
pub type OnChange = Box<dyn Fn(u64, u64) + Send>;

/// The thread that sends what a command measures.
pub struct Tracker {
    sender: TrackerSender,
    deadline: Arc<OnceLock<Instant>>,
    /// Closed by the thread when it ends.
    end: Receiver<()>,
}

impl Tracker {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the server's address cannot be used, or the system has no thread.
    pub fn start(setup: Setup, storage: Storage, on_change: OnChange) -> Result<Self, Error> {
        let session = Session::new(setup, storage)
            .map_err(|failure| Error::config("spec.track.mlflow", failure.message().to_owned()))?;
        let deadline = session.deadline();
        let (sender, queue) = channel();
        let (ended, end) = channel();
        let work = Work {
            session,
            builder: RecordBuilder::new("", 0),
            stage: String::new(),
            next_try: Instant::now(),
            backoff: BACKOFF[0],
            trouble: None,
            on_change,
        };
        let work = move || {
            work.run(&queue);
            drop(ended);
        };
        let thread = std::thread::Builder::new().name("tracker".into()).spawn(work);
        thread.map_err(Error::system("start the tracker's thread"))?;
        Ok(Self { sender: TrackerSender(sender), deadline, end })
    }

    /// A sender of events to this tracker.
    pub fn sender(&self) -> TrackerSender {
        self.sender.clone()
    }

    /// Sends what is left, the named files of the output, and how the command ended; waits for that, but not long for a
    /// server that does not answer.
    pub fn close(self, ending: Ending, artifacts: Vec<&'static str>) {
        let patience = if ending.reason.is_none() { PATIENCE } else { PATIENCE_OF_FAILED };
        let _ = self.deadline.set(Instant::now() + patience);
        let _ = self.sender.0.send(Message::Close(ending, artifacts));
        if let Err(RecvTimeoutError::Timeout) = self.end.recv_timeout(patience + SLACK) {
            tracing::warn!(
                "what was measured has not reached MLflow in time; the next command of this run sends the rest"
            );
        }
    }
}

/// What keeps the thread from sending.
enum Trouble {
    Unreachable,
    Refused,
}

/// The thread's state.
struct Work {
    session: Session,
    builder: RecordBuilder,
    stage: String,
    next_try: Instant,
    backoff: Duration,
    trouble: Option<Trouble>,
    on_change: OnChange,
}

impl Work {
    fn run(mut self, queue: &Receiver<Message>) {
        loop {
            match queue.recv_timeout(self.next_try.saturating_duration_since(Instant::now())) {
                Ok(Message::Stage(stage)) => {
                    self.builder = RecordBuilder::new(&stage, 0);
                    self.session.tag("simsiam.stage", stage.clone());
                    self.stage = stage;
                }
                Ok(Message::Event(time, event)) => self.take(time, &event),
                Ok(Message::Close(ending, artifacts)) => return self.close(ending, &artifacts),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if Instant::now() >= self.next_try {
                self.send();
            }
        }
    }

    fn take(&mut self, time: SystemTime, event: &Event) {
        match event {
            Event::Attempt { number } => {
                self.builder = RecordBuilder::new(&self.stage, *number);
                self.session.tag(&format!("simsiam.attempt.{}", self.stage), number.to_string());
            }
            Event::Done(result) => {
                if let Some(sha256) = &result.weights_sha256 {
                    self.session.tag("simsiam.weightsSha256", sha256);
                }
            }
            // What nobody will send is in the journal.
            _ if matches!(self.trouble, Some(Trouble::Refused)) => {}
            event => {
                for record in self.builder.records(time, event) {
                    self.session.add(points::points(&record));
                }
            }
        }
        self.tell();
    }

    fn send(&mut self) {
        let refused_before = matches!(self.trouble, Some(Trouble::Refused));
        let result = if refused_before { Ok(()) } else { self.session.send() };
        let wait = match result {
            Ok(()) => {
                self.recovered();
                EVERY
            }
            Err(failure) => {
                self.failed(&failure);
                let wait = self.backoff;
                self.backoff = (wait * 2).min(BACKOFF[1]);
                wait
            }
        };
        self.next_try = Instant::now() + wait;
        self.tell();
    }

    fn recovered(&mut self) {
        self.backoff = BACKOFF[0];
        if matches!(self.trouble, Some(Trouble::Refused)) {
            return;
        }
        if self.trouble.take().is_some() {
            tracing::info!("MLflow has answered again, and has everything so far");
        }
    }

    /// Says what is wrong, once.
    fn failed(&mut self, failure: &Failure) {
        let (uri, message) = (&self.session.uri(), failure.message());
        match failure {
            Failure::Unreachable(_) if self.trouble.is_none() => {
                tracing::warn!(
                    "MLflow at {uri} cannot be reached: {message}; the run goes on, and what is measured is sent later"
                );
                self.trouble = Some(Trouble::Unreachable);
            }
            Failure::Unreachable(_) => {}
            Failure::Refused { .. } => {
                tracing::warn!(
                    "spec.track.mlflow: {uri}: {message}; the run goes on without MLflow, and what is measured can be sent \
                     later with `simsiam track`"
                );
                self.trouble = Some(Trouble::Refused);
            }
        }
    }

    fn close(mut self, ending: Ending, artifacts: &[&str]) {
        let deadline = self.session.deadline();
        let is_late = || deadline.get().is_some_and(|deadline| Instant::now() + BACKOFF[0] > *deadline);
        let mut result = self.session.keep_ending(ending);
        if !matches!(self.trouble, Some(Trouble::Refused)) && result.is_ok() {
            for again in (0..LAST_TRIES).rev() {
                result = self.session.finish(artifacts);
                match &result {
                    Err(failure @ Failure::Unreachable(_)) => self.failed(failure),
                    _ => break,
                }
                if again == 0 || is_late() {
                    break;
                }
                std::thread::sleep(BACKOFF[0]);
            }
            if let Err(failure @ Failure::Refused { .. }) = &result {
                self.failed(failure);
            }
        }
        self.tell();
        match (result, &self.trouble) {
            (Ok(()), Some(Trouble::Refused)) | (Err(_), _) => tracing::warn!(
                "MLflow at {} does not have everything that was measured; the next command of this run sends the rest, and \
                 `simsiam track -f FILE` does nothing else",
                self.session.uri()
            ),
            (Ok(()), _) => {
                let page = self.session.page().unwrap_or_default();
                tracing::info!("MLflow has everything that was measured: {page}");
            }
        }
    }

    fn tell(&self) {
        (self.on_change)(self.session.pending(), self.session.refused);
    }
}
