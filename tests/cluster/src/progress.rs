//! Saying what goes on, with the seconds since the beginning.

use std::time::Instant;

/// A teller of progress.
#[derive(Debug)]
pub struct Progress {
    begun: Instant,
    quiet: bool,
}

impl Progress {
    /// Begins to count.
    pub fn new(quiet: bool) -> Self {
        Self { begun: Instant::now(), quiet }
    }

    /// One line.
    pub fn say(&self, text: &str) {
        if !self.quiet {
            println!("{:>6.1} s  {text}", self.begun.elapsed().as_secs_f64());
        }
    }
}
