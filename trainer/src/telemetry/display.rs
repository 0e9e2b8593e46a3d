//! What the user sees: a live bar on a terminal, log lines elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use simsiam_contract::Progress;

use super::event::{Event, Step};
use super::metric::Metric;
use super::metric_table::{self, LINEAR_BEST_TOP1, LINEAR_TOP1, LINEAR_TOP5};

/// Draws progress and prints lines above it, all on standard error.
#[derive(Debug)]
pub struct Display {
    bar: Option<ProgressBar>,
    last_line: Option<Instant>,
}

impl Display {
    /// A bar if standard error is a terminal, else lines.
    pub fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr_with_hz(8));
            let style = ProgressStyle::with_template("{prefix:>9.bold} ▕{wide_bar:.cyan/dim}▏ {percent:>3}% {msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("█▉▊▋▌▍▎▏ "));
            bar
        });
        Self { bar, last_line: None }
    }

    /// Prints a line above the bar.
    pub fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{text}")),
            None => eprintln!("{text}"),
        }
    }

    /// Shows an event of rank 0; `progress` already includes it.
    pub fn update(&mut self, progress: &Progress, event: &Event) {
        match event {
            Event::Step(step) => self.step(progress, step),
            Event::Evaluated { done, of, what } => self.show(&progress.stage, *done, *of, what, done == of),
            Event::Knn { epoch, features, scores, .. } => {
                let scores: Vec<_> =
                    scores.iter().map(|s| format!("{:.1} % (k={}, T={})", s.top1, s.k, s.temperature)).collect();
                self.line(&format!("kNN top-1 of {features} features after {epoch} epochs: {}", scores.join(", ")));
            }
            Event::Linear { stage, epoch, epochs, values, .. } => {
                let of = |metric: &Metric| values.get(metric.key).unwrap_or(f64::NAN);
                let (top1, top5, best) = (of(&LINEAR_TOP1), of(&LINEAR_TOP5), of(&LINEAR_BEST_TOP1));
                self.line(&format!(
                    "{stage}: after epoch {epoch} of {epochs} top-1 {top1:.2} %, top-5 {top5:.2} % (best top-1 {best:.2} %)"
                ));
            }
            Event::Resumed { step, uri } => self.line(&format!("resumed after step {step} from {uri}")),
            Event::Checkpoint { uri, seconds, bytes, .. } => {
                tracing::debug!("checkpoint {uri}: {bytes} bytes in {seconds:.2} s");
            }
            _ => {}
        }
    }

    /// Removes the bar.
    pub fn finish(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn step(&mut self, progress: &Progress, step: &Step) {
        let left = progress.images_per_second.map_or(String::new(), |rate| {
            let images_per_step = step.images as f64 / step.step_seconds.len().max(1) as f64;
            format!("  ETA {}", duration((step.steps - step.step) as f64 * images_per_step / rate))
        });
        let std = metric_table::OUTPUT_STD.of_step(step).zip(metric_table::OUTPUT_STD_HEALTHY.of_step(step));
        let std = std.map_or(String::new(), |(std, healthy)| format!("  std {std:.4} (healthy {healthy:.4})"));
        let text = format!(
            "epoch {}/{}  step {}/{}  loss {:.4}{std}  {:.0} images/s{left}",
            step.epoch + 1,
            step.epochs,
            step.step,
            step.steps,
            step.loss,
            progress.images_per_second.unwrap_or_default(),
        );
        let epoch_ends = (step.step * step.epochs).is_multiple_of(step.steps.max(1));
        self.show(&progress.stage, step.step, step.steps, &text, epoch_ends);
    }

    fn show(&mut self, stage: &str, done: u64, of: u64, text: &str, now: bool) {
        if let Some(bar) = &self.bar {
            bar.set_prefix(stage.to_owned());
            bar.set_length(of);
            bar.set_position(done);
            bar.set_message(text.to_owned());
            return;
        }
        // Without a terminal: a line at the end of an epoch, and one every 10 s so that a log shows progress.
        if now || self.last_line.is_none_or(|t| t.elapsed() > Duration::from_secs(10)) {
            self.last_line = Some(Instant::now());
            eprintln!("{stage}  {done}/{of}  {text}");
        }
    }
}

impl Default for Display {
    fn default() -> Self {
        Self::new()
    }
}

/// A duration in its two largest units: `45s`, `3m20s`, `2h05m`, `1d04h`.
pub fn duration(seconds: f64) -> String {
    let s = seconds.max(0.0).round() as u64;
    match s {
        0..60 => format!("{s}s"),
        60..3600 => format!("{}m{:02}s", s / 60, s % 60),
        3600..86400 => format!("{}h{:02}m", s / 3600, s % 3600 / 60),
        _ => format!("{}d{:02}h", s / 86400, s % 86400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::duration;

    #[test]
    fn duration_of_seconds_has_at_most_two_units() {
        let shown: Vec<_> = [0.4, 59.6, 200.0, 7500.0, 100_000.0].map(duration).into();
        assert_eq!(shown, ["0s", "1m00s", "3m20s", "2h05m", "1d03h"]);
    }
}
