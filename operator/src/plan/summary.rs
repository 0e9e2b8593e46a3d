//! The conditions `Ready`, `Reconciling` and `Stalled`, from which kstatus, Flux and Argo CD conclude how an object is:
//! exactly one of them is true, or none while a run is suspended.

use super::types::{INVALID_SPEC, Input, RECONCILED, set_condition};
use crate::api::{ConditionStatus, RunPhase, Status};

/// The condition types of the summary.
pub(super) const SUMMARY: [&str; 3] = ["Ready", "Reconciling", "Stalled"];

/// Sets the summary, and the generation that all conditions are about: every plan considers the whole status.
pub(super) fn summarise(status: &mut Status, input: &Input) {
    let Some(phase) = status.phase else { return };
    let refused = status.conditions.iter().find(|c| c.kind == RECONCILED && c.status == ConditionStatus::False);
    let invalid = refused.is_some_and(|refused| refused.reason == INVALID_SPEC);
    let (reason, message) = match refused.filter(|_| !phase.is_final()) {
        Some(refused) => (refused.reason.clone(), refused.message.clone()),
        None => (
            status.reason.clone().unwrap_or_else(|| phase.name().to_owned()),
            status.message.clone().unwrap_or_default(),
        ),
    };
    let holds = match phase {
        RunPhase::Succeeded => Some("Ready"),
        RunPhase::Failed => Some("Stalled"),
        // Nothing changes until the user corrects the spec.
        _ if invalid => Some("Stalled"),
        RunPhase::Suspended if status.reason.is_none() => None,
        _ => Some("Reconciling"),
    };
    for kind in SUMMARY {
        let value = if holds == Some(kind) { ConditionStatus::True } else { ConditionStatus::False };
        set_condition(status, input, kind, value, &reason, &message);
    }
    for condition in &mut status.conditions {
        condition.observed_generation = input.object.generation();
    }
}
