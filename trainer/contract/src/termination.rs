//! What an agent leaves when it exits, read from the pod's `state.terminated.message`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::lenient::or_default;
use crate::progress::Checkpoint;
use crate::reason::FailureReason;
use crate::result::StageResult;

/// How a stage ended on one node. What must survive the pod is in here.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TerminationMessage {
    /// The agent's exit code.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "or_default")]
    pub code: Option<u8>,
    /// Why it ended, in one word.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "or_default")]
    pub reason: Option<FailureReason>,
    /// What happened, for the user; empty when all is well.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "or_default")]
    pub message: String,
    /// The field or file that the message is about.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "or_default")]
    pub subject: Option<String>,
    /// The stage.
    #[serde(deserialize_with = "or_default")]
    pub stage: String,
    /// Finished epochs.
    #[serde(deserialize_with = "or_default")]
    pub epoch: u64,
    /// Finished steps.
    #[serde(deserialize_with = "or_default")]
    pub step: u64,
    /// The newest checkpoint.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "or_default")]
    pub checkpoint: Option<Checkpoint>,
    /// The checkpoint that the attempt resumed from.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "or_default")]
    pub resumed_from: Option<Checkpoint>,
    /// The stage's results.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "or_default")]
    pub result: Option<StageResult>,
}

impl TerminationMessage {
    /// What Kubernetes keeps of a container's termination message, in bytes.
    pub const LIMIT: usize = 4096;

    /// Reads a message. Text that is not such a document, as the log lines of a crashed container, becomes `message`.
    pub fn parse(text: &str) -> Self {
        let document = serde_json::from_str::<Map<String, Value>>(text);
        let read = document.and_then(|document| serde_json::from_value(Value::Object(document)));
        read.unwrap_or_else(|_| Self { message: text.to_owned(), ..Self::default() })
    }

    /// The document as JSON of at most [`LIMIT`](Self::LIMIT) bytes: a long `message` is shortened, the rest is kept.
    pub fn to_json(&self) -> String {
        let mut short = self.clone();
        loop {
            // Strings and numbers always serialise: JSON writes a number that is not finite as null.
            let json = serde_json::to_string(&short).unwrap_or_default();
            if json.len() <= Self::LIMIT || short.message.is_empty() {
                return json;
            }
            let mut end = short.message.len() / 2;
            while !short.message.is_char_boundary(end) {
                end -= 1;
            }
            short.message.truncate(end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn termination_message_that_is_too_long_keeps_code_and_result() {
        let message = TerminationMessage {
            code: Some(65),
            reason: Some(FailureReason::BadData),
            message: "ä".repeat(5000),
            result: Some(StageResult { step: Some(7), ..StageResult::default() }),
            ..TerminationMessage::default()
        };
        let json = message.to_json();
        assert!(json.len() <= TerminationMessage::LIMIT && json.len() > 1000);
        let back = TerminationMessage::parse(&json);
        assert_eq!((back.code, back.result.unwrap().step), (Some(65), Some(7)));
    }

    #[test]
    fn termination_message_of_plain_text_becomes_the_message() {
        for text in ["", "panicked at 'index out of bounds'", "[1, 2]", "{\"code\": 65"] {
            let message = TerminationMessage::parse(text);
            assert_eq!((message.code, message.message.as_str()), (None, text));
        }
    }

    #[test]
    fn termination_message_of_newer_trainer_keeps_what_is_known() {
        let text = r#"{"code": 65, "reason": "QuotaExceeded", "message": "full", "result": {"linear": 7, "step": 3},
            "checkpoint": {"step": "x"}, "node": {"gpu": 1}}"#;
        let message = TerminationMessage::parse(text);
        assert_eq!(message.reason, Some(FailureReason::Other("QuotaExceeded".into())));
        assert_eq!((message.code, message.message.as_str(), &message.checkpoint), (Some(65), "full", &None));
        let result = message.result.unwrap();
        assert_eq!((result.step, result.linear), (Some(3), None));
    }
}
