//! Progress of commands without an agent.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

/// A bar on a terminal, a line every 10 s elsewhere.
pub struct Bar {
    what: &'static str,
    bar: Option<ProgressBar>,
    last_line: std::time::Instant,
}

impl Bar {
    pub fn new(what: &'static str) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("▕{wide_bar:.cyan/dim}▏ {pos}/{len} {msg}  {per_sec}  ETA {eta}");
            let bar = ProgressBar::new(0);
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_message(what);
            bar
        });
        Self { what, bar, last_line: std::time::Instant::now() }
    }

    pub fn show(&mut self, done: usize, of: usize) {
        match &self.bar {
            Some(bar) => {
                bar.set_length(of as u64);
                bar.set_position(done as u64);
            }
            None if self.last_line.elapsed().as_secs() >= 10 => {
                eprintln!("{done}/{of} {}", self.what);
                self.last_line = std::time::Instant::now();
            }
            None => {}
        }
    }

    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
