//! Publishing what was planned as Kubernetes Events.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};

use crate::plan::PlannedEvent;

/// The longest note and reason that API servers accept, in bytes.
const NOTE_BYTES: usize = 1024;
const REASON_BYTES: usize = 128;

/// Publishes an event about an object.
///
/// Each is an Event of its own: a [`Recorder`] that outlived the call would count a later one with the same reason as a
/// repetition of the first, whose words it keeps.
///
/// # Errors
/// If the API server refuses it.
pub async fn publish(
    client: &Client,
    reporter: &Reporter,
    object: &ObjectReference,
    event: &PlannedEvent,
) -> Result<(), kube::Error> {
    let event = Event {
        type_: if event.warning { EventType::Warning } else { EventType::Normal },
        reason: cut(&event.reason, REASON_BYTES),
        note: Some(cut(&event.message, NOTE_BYTES)),
        action: "Reconcile".into(),
        secondary: None,
    };
    Recorder::new(client.clone(), reporter.clone()).publish(&event, object).await
}

/// The text, or as many of its first characters as fit, with an ellipsis.
fn cut(text: &str, bytes: usize) -> String {
    if text.len() <= bytes {
        return text.to_owned();
    }
    format!("{}…", &text[..text.floor_char_boundary(bytes - '…'.len_utf8())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_to_bytes_between_characters() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abcdefgh", 5), "ab…");
        let long = "é".repeat(1000);
        let note = cut(&long, NOTE_BYTES);
        assert!(note.len() <= 1024 && note.len() > 1020 && note.ends_with("é…"), "{}", note.len());
    }
}
