//! Where a rank's events go.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::event::Event;
use super::journal::JournalSender;
use crate::error::Error;

/// Sends a rank's events to its agent and, on rank 0, into the journal. Cheap to clone; sending never fails the training.
#[derive(Clone, Debug, Default)]
pub struct Sink {
    agent: Option<Arc<Mutex<UnixStream>>>,
    journal: Option<JournalSender>,
}

impl Sink {
    /// Connects to the agent's socket.
    pub fn connect(socket: &Path) -> Result<Self, Error> {
        let stream = UnixStream::connect(socket).map_err(Error::io("connect to", socket))?;
        Ok(Self { agent: Some(Arc::new(Mutex::new(stream))), journal: None })
    }

    /// A sink that drops every event.
    pub fn none() -> Self {
        Self::default()
    }

    /// The same sink, which also writes into a journal.
    #[must_use]
    pub fn with_journal(self, journal: JournalSender) -> Self {
        Self { journal: Some(journal), ..self }
    }

    /// Sends one event. A lost agent is not an error here: the kernel kills its ranks.
    pub fn send(&self, event: &Event) {
        if let Some(journal) = &self.journal {
            journal.send(event);
        }
        let Some(stream) = &self.agent else { return };
        let Ok(mut line) = serde_json::to_vec(event) else { return };
        line.push(b'\n');
        if let Ok(mut stream) = stream.lock() {
            let _ = stream.write_all(&line);
        }
    }
}
