//! The termination message: what must not be lost when the pod goes.

use std::path::Path;

use serde::Serialize;

use super::Outcome;
use crate::telemetry::Progress;
use crate::telemetry::event::StageResult;

/// What Kubernetes keeps of a container's last words.
const LIMIT: usize = 4096;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Termination<'a> {
    code: u8,
    reason: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    stage: &'a str,
    epoch: u64,
    step: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    checkpoint: Option<&'a crate::telemetry::progress::Checkpoint>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resumed_from: Option<&'a crate::telemetry::progress::Checkpoint>,
    result: &'a StageResult,
}

/// The message as JSON of at most 4 KiB: a long text is cut, never the numbers.
pub fn message(outcome: &Outcome, progress: &Progress) -> String {
    let mut text = outcome.message.as_str();
    loop {
        let document = Termination {
            code: outcome.code.code(),
            reason: outcome.code.reason(),
            message: text,
            subject: outcome.subject.as_deref(),
            stage: &progress.stage,
            epoch: progress.epoch,
            step: progress.step,
            checkpoint: progress.checkpoint.as_ref(),
            resumed_from: progress.resumed_from.as_ref(),
            result: &outcome.result,
        };
        let json = serde_json::to_string(&document).unwrap_or_default();
        if json.len() <= LIMIT || text.is_empty() {
            return json;
        }
        let mut end = text.len() / 2;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text = &text[..end];
    }
}

/// Writes it where Kubernetes looks, if this process runs there.
pub fn write(path: &Path, outcome: &Outcome, progress: &Progress) {
    if let Err(e) = std::fs::write(path, message(outcome, progress)) {
        tracing::warn!("could not write the termination message {}: {e}", path.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ExitCode;

    #[test]
    fn a_long_message_is_cut_and_the_code_stays() {
        let outcome = Outcome {
            code: ExitCode::Data,
            message: "ä".repeat(5000),
            subject: Some("spec.dataset.train".into()),
            result: StageResult { step: Some(7), ..StageResult::default() },
        };
        let text = message(&outcome, &Progress::new("r", "pretrain"));
        assert!(text.len() <= LIMIT && text.len() > 1000);
        let back: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((back["code"].as_u64(), back["result"]["step"].as_u64()), (Some(65), Some(7)));
        assert_eq!(back["reason"], "BadData");
    }
}
