//! Writing the termination message: what must not be lost when the pod goes.

use std::path::Path;

use simsiam_contract::{Progress, TerminationMessage};

use super::Outcome;

/// Composes the message of a stage that ended as `outcome` says, `progress` being its last state.
pub fn message(outcome: &Outcome, progress: &Progress) -> TerminationMessage {
    TerminationMessage {
        code: Some(outcome.code.code()),
        reason: Some(outcome.reason.clone()),
        message: outcome.message.clone(),
        subject: outcome.subject.clone(),
        stage: progress.stage.clone(),
        epoch: progress.epoch,
        step: progress.step,
        checkpoint: progress.checkpoint.clone(),
        resumed_from: progress.resumed_from.clone(),
        result: Some(outcome.result.clone()),
    }
}

/// Writes the message to `path`, if a container runtime or the user made a place for it. A failure is a warning, since
/// the exit code still says how the stage ended.
pub fn write_termination_message(path: &Path, message: &TerminationMessage) {
    // Kubernetes creates the default file; outside a container /dev is not ours to write into.
    let expected = path.exists() || !path.starts_with("/dev");
    if !expected || !path.parent().is_some_and(Path::exists) {
        return;
    }
    if let Err(e) = std::fs::write(path, message.to_json()) {
        tracing::warn!("cannot write the termination message {}: {e}", path.display());
    }
}

#[cfg(test)]
mod tests {
    use simsiam_contract::{Checkpoint, ExitCode, FailureReason, StageResult};

    use super::*;

    #[test]
    fn termination_message_has_outcome_and_progress() {
        let outcome = Outcome {
            code: ExitCode::Diverged,
            reason: FailureReason::Collapsed,
            message: "the representation collapsed".into(),
            subject: Some("spec.pretrain.lr".into()),
            result: StageResult { step: Some(7), ..StageResult::default() },
        };
        let checkpoint = Some(Checkpoint { step: 7, uri: "c".into() });
        let progress = Progress { stage: "pretrain".into(), step: 8, checkpoint, ..Progress::default() };
        let json: serde_json::Value = serde_json::from_str(&message(&outcome, &progress).to_json()).unwrap();
        let expected = serde_json::json!({
            "code": 86, "reason": "Collapsed", "message": "the representation collapsed",
            "subject": "spec.pretrain.lr", "stage": "pretrain", "epoch": 0, "step": 8,
            "checkpoint": {"step": 7, "uri": "c"}, "result": {"step": 7},
        });
        assert_eq!(json, expected);
    }
}
