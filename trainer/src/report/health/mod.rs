//! What in a run's figures looks healthy and what does not, in words: a pure function of what the journal and the recipe
//! say.
//!
//! [`figures`] extracts what the rules evaluate, [`rules`] holds the thresholds and their reasons, [`finding`] is what a reader
//! gets. `docs/what-is-normal.md` has the same table of rules; a test compares them. A finding never ends a run.

pub mod figures;
pub mod finding;
pub mod rules;
#[cfg(test)]
mod tests;

pub use figures::Figures;
pub use finding::{Finding, Verdict};

/// One finding for each rule whose figures the run has, in the order of the rules.
pub fn findings(figures: &Figures) -> Vec<Finding> {
    let rules = rules::ALL.iter();
    let found = rules.filter_map(|rule| {
        let (verdict, says) = (rule.check)(figures)?;
        Some(Finding { title: rule.title, verdict, says, advice: rule.advice, source: rule.source })
    });
    found.collect()
}

/// Logs the findings: a line for each that is not ok, and one that counts those that are.
pub fn log(findings: &[Finding]) {
    let healthy = findings.iter().filter(|finding| finding.verdict == Verdict::Ok).count();
    for finding in findings.iter().filter(|finding| finding.verdict != Verdict::Ok) {
        tracing::warn!("{} ({}): {} {}", finding.title, finding.verdict.name(), finding.says, finding.advice);
    }
    if !findings.is_empty() {
        tracing::info!("{healthy} of {} checks of the run's figures are ok", findings.len());
    }
}
