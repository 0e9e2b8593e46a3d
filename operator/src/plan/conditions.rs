//! The conditions of a status, as an error in or outside of planning sets them.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::summary::{SUMMARY, summarise};
use super::time::whole_seconds;
use super::types::{Input, RECONCILED, set_condition, truncated};
use crate::api::{ConditionStatus, Json, SimSiamRun, Status};

/// Sets the condition `Reconciled`: true, or false with the reason and message of an error, which may have occurred
/// outside of planning.
pub fn set_reconciled(status: &mut Status, input: &Input, error: Option<(&str, &str)>) {
    match error {
        None => set_condition(status, input, RECONCILED, ConditionStatus::True, RECONCILED, ""),
        Some((reason, message)) => {
            set_condition(status, input, RECONCILED, ConditionStatus::False, reason, message);
        }
    }
    summarise(status, input);
}

/// The status to write if the existing one cannot be read: the same, with the condition `Reconciled` set to False and
/// `Stalled` to True.
pub fn unreadable_status(object: &SimSiamRun, error: &str, now: Timestamp) -> Value {
    let mut status = object.status.as_ref().map(Json::value).unwrap_or_default();
    if !status.is_object() {
        status = json!({});
    }
    let message = format!("this version of the operator cannot read the status, and leaves the run alone: {error}");
    let message = truncated(&message, 2048);
    let mut conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    for kind in [RECONCILED].into_iter().chain(SUMMARY) {
        let value = if kind == "Stalled" { "True" } else { "False" };
        let before = conditions.iter().find(|c| c["type"] == kind && c["status"] == value);
        let since = before.map_or_else(|| json!(whole_seconds(now)), |c| c["lastTransitionTime"].clone());
        let condition = json!({
            "type": kind, "status": value, "reason": "StatusUnreadable", "message": message,
            "lastTransitionTime": since, "observedGeneration": object.generation(),
        });
        match conditions.iter_mut().find(|c| c["type"] == kind) {
            Some(there) => *there = condition,
            None => conditions.push(condition),
        }
    }
    status["conditions"] = conditions.into();
    status
}
