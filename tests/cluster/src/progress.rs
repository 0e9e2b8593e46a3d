//! Progress messages with the seconds since the start.

use std::time::Instant;

/// Prints progress messages.
#[derive(Debug)]
pub struct Progress {
    begun: Instant,
    quiet: bool,
}

impl Progress {
    /// Starts the clock.
    pub fn new(quiet: bool) -> Self {
        Self { begun: Instant::now(), quiet }
    }

    /// Prints one line.
    pub fn say(&self, text: &str) {
        if !self.quiet {
            println!("{:>6.1} s  {text}", self.begun.elapsed().as_secs_f64());
        }
    }
}
