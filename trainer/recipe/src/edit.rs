//! Changes fields in the text of a run file and keeps the rest of it: comments, order and form.
//!
//! An edit changes as few characters as possible. Its result is parsed again and must be the document with that one field
//! changed; otherwise (anchors, values over several lines) the whole document is written from its values, without the
//! comments that it had.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::error::Error;
use crate::overrides;
use crate::yaml::{self, Document, child};

/// A new value of a field.
#[derive(Debug, Clone, PartialEq)]
pub struct Edit {
    /// The field's keys from the root, joined by dots, as in `spec.pretrain.epochs`.
    pub path: String,
    /// Its value.
    pub value: Value,
    /// A comment for the lines above it; may be empty.
    pub comment: String,
}

/// A run file's text after edits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edited {
    /// The new text.
    pub text: String,
    /// Whether the comments and the form of the original were kept.
    pub kept_form: bool,
}

/// Applies edits to the text of a file, one after the other; `origin` names it in errors.
///
/// # Errors
/// [`Error::Yaml`] if the text is not one YAML document, [`Error::Override`] if a parent of a field is not an object.
pub fn edit(text: &str, origin: &str, edits: &[Edit]) -> Result<Edited, Error> {
    let mut value = yaml::parse(text, origin)?.value;
    let mut kept = Some(text.to_owned());
    for edit in edits {
        let keys: Vec<&str> = edit.path.split('.').collect();
        overrides::set(&mut value, &keys, edit.value.clone())
            .map_err(|message| Error::Override { text: format!("{}={}", edit.path, edit.value), message })?;
        let edited = kept.and_then(|text| in_place(&text, edit));
        kept = edited.filter(|text| yaml::parse(text, origin).is_ok_and(|document| document.value == value));
    }
    Ok(match kept {
        Some(text) => Edited { text, kept_form: true },
        None => {
            let comments = edits.iter().map(|edit| (edit.path.as_str(), edit.comment.as_str())).collect();
            let mut text = String::new();
            write_block(&value, "", 0, &comments, &mut text);
            Edited { text, kept_form: false }
        }
    })
}

/// The text with one field changed; `None` where that needs more than a change of one line.
fn in_place(text: &str, edit: &Edit) -> Option<String> {
    let document = yaml::parse(text, "").ok()?;
    let keys: Vec<&str> = edit.path.split('.').collect();
    let known = (1..=keys.len()).rev().find(|n| document.places.contains_key(&keys[..*n].join(".")))?;
    let path = keys[..known].join(".");
    let place = document.places.get(&path)?;
    let at = usize::try_from(place.line).ok()?.checked_sub(1)?;
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let line = lines.get(at)?;
    let column = usize::try_from(place.column).ok()?.checked_sub(1)?;
    let key = line.char_indices().nth(column)?.0;
    let value = key + value_start(&line[key..])?;
    let rest = &line[value..];
    let indent = line.len() - line.trim_start().len();
    let missing = &keys[known..];
    if missing.is_empty() {
        let changed = format!("{}{}{}", &line[..value], flow(&edit.value), &rest[value_length(rest)?..]);
        lines[at] = changed;
        lines.splice(at..at, comment_lines(&edit.comment, indent));
    } else if let Some(inside) = rest.strip_prefix('{').map(str::trim_start) {
        let separator = if inside.starts_with('}') { "" } else { ", " };
        let entry = flow_entry(missing, &edit.value);
        lines[at] = format!("{}{{{entry}{separator}{inside}", &line[..value]);
        lines.splice(at..at, comment_lines(&edit.comment, indent));
    } else if rest.is_empty() || rest.starts_with('#') {
        let indent = child_column(&document, &path, place.line).unwrap_or(column + 2);
        let mut new = comment_lines(&edit.comment, indent);
        for (depth, key) in missing.iter().enumerate() {
            let value = if depth + 1 == missing.len() { format!(" {}", flow(&edit.value)) } else { String::new() };
            new.push(format!("{}{key}:{value}", " ".repeat(indent + 2 * depth)));
        }
        lines.splice(at + 1..at + 1, new);
    } else {
        return None;
    }
    Some(lines.join("\n") + "\n")
}

/// Where the value begins on a line that begins with its key: after the colon and its spaces.
fn value_start(line: &str) -> Option<usize> {
    let quote = line.chars().next().filter(|first| matches!(first, '"' | '\''));
    let key = match quote {
        Some(quote) => 2 + line[1..].find(quote)?,
        None => line.find(':')?,
    };
    let colon = key + line[key..].find(':')? + 1;
    Some(colon + (line[colon..].len() - line[colon..].trim_start().len()))
}

/// Length of the value that a text begins with; `None` if it may go on in the next line.
fn value_length(text: &str) -> Option<usize> {
    match text.chars().next()? {
        quote @ ('"' | '\'') => Some(2 + text[1..].find(quote)?),
        '[' | '{' => {
            let mut depth = 0;
            text.char_indices().find_map(|(at, letter)| {
                match letter {
                    '[' | '{' => depth += 1,
                    ']' | '}' => depth -= 1,
                    _ => {}
                }
                (depth == 0).then_some(at + 1)
            })
        }
        '#' | '|' | '>' | '&' | '*' | '!' => None,
        _ => {
            let end = [text.find(" #"), text.find([',', ']', '}'])].into_iter().flatten().min().unwrap_or(text.len());
            Some(text[..end].trim_end().len())
        }
    }
}

/// Columns before the fields of a block mapping, by the first of them.
fn child_column(document: &Document, path: &str, line: u64) -> Option<usize> {
    let prefix = format!("{path}.");
    let direct = |name: &&String| name.strip_prefix(&prefix).is_some_and(|key| !key.contains(['.', '[']));
    let places = document.places.iter().filter(|(name, place)| direct(name) && place.line > line);
    let first = places.map(|(_, place)| place).min_by_key(|place| place.line)?;
    usize::try_from(first.column).ok()?.checked_sub(1)
}

/// Comment lines of at most 110 columns.
fn comment_lines(comment: &str, indent: usize) -> Vec<String> {
    const WIDTH: usize = 110;
    let mut lines: Vec<String> = Vec::new();
    for word in comment.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(format!("{}# {word}", " ".repeat(indent))),
        }
    }
    lines
}

/// A value on one line.
fn flow(value: &Value) -> String {
    match value {
        Value::String(text) if is_plain(text) => text.clone(),
        Value::Array(entries) => format!("[{}]", entries.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::Object(fields) => {
            let entries = fields.iter().map(|(key, value)| format!("{}: {}", scalar_key(key), flow(value)));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
        }
        scalar => scalar.to_string(),
    }
}

fn flow_entry(keys: &[&str], value: &Value) -> String {
    match keys {
        [] => flow(value),
        [key] => format!("{key}: {}", flow(value)),
        [key, rest @ ..] => format!("{key}: {{{}}}", flow_entry(rest, value)),
    }
}

/// Whether a text is a string in YAML without quotes, wherever it is.
fn is_plain(text: &str) -> bool {
    const OTHERWISE: [&str; 9] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '/'))
        && !OTHERWISE.contains(&text.to_ascii_lowercase().as_str())
}

fn scalar_key(key: &str) -> String {
    if is_plain(key) { key.to_owned() } else { Value::from(key).to_string() }
}

/// A mapping as block lines, with the comments of its fields by path.
fn write_block(value: &Value, path: &str, indent: usize, comments: &BTreeMap<&str, &str>, text: &mut String) {
    let none = Map::new();
    for (key, value) in value.as_object().unwrap_or(&none) {
        let path = child(path, key);
        for line in comment_lines(comments.get(path.as_str()).copied().unwrap_or_default(), indent) {
            text.push_str(&line);
            text.push('\n');
        }
        text.push_str(&format!("{}{}:", " ".repeat(indent), scalar_key(key)));
        match value {
            Value::Object(fields) if !fields.is_empty() => {
                text.push('\n');
                write_block(value, &path, indent + 2, comments, text);
            }
            other => text.push_str(&format!(" {}\n", flow(other))),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const FILE: &str = "\
# A run.
apiVersion: simsiam.dev/v1alpha1
kind: SimSiamRun
metadata: {name: photos}
spec:
  dataset: {train: ./a, maxCorrupt: 3}   # where
  output:
    uri: ./out
  pretrain: # what
    # the backbone
    arch: resnet18
    epochs: 10 # few
    augment: {}
  knn:
";

    fn one(path: &str, value: Value) -> Edit {
        Edit { path: path.into(), value, comment: "because".into() }
    }

    #[test]
    fn edit_changes_one_field_and_keeps_everything_else() {
        for (path, value, before, after) in [
            ("spec.pretrain.epochs", json!(800), "    epochs: 10 # few", "    # because\n    epochs: 800 # few"),
            (
                "spec.dataset.maxCorrupt",
                json!(5),
                "  dataset: {train: ./a, maxCorrupt: 3}   # where",
                "  # because\n  dataset: {train: ./a, maxCorrupt: 5}   # where",
            ),
            (
                "spec.dataset.pack.maxSide",
                json!(400),
                "  dataset: {train: ./a, maxCorrupt: 3}   # where",
                "  # because\n  dataset: {pack: {maxSide: 400}, train: ./a, maxCorrupt: 3}   # where",
            ),
            ("spec.pretrain.augment.mean", json!([0.5, 0.25, 1]), "augment: {}", "augment: {mean: [0.5, 0.25, 1]}"),
            (
                "spec.pretrain.projector.layers",
                json!(2),
                "  pretrain: # what\n",
                "  pretrain: # what\n    # because\n    projector:\n      layers: 2\n",
            ),
            (
                "spec.output.region",
                json!("eu west"),
                "  output:\n",
                "  output:\n    # because\n    region: \"eu west\"\n",
            ),
            ("spec.knn.everyEpochs", json!(2), "  knn:\n", "  knn:\n    # because\n    everyEpochs: 2\n"),
            ("spec.report", json!({}), "spec:\n", "spec:\n  # because\n  report: {}\n"),
        ] {
            let edited = edit(FILE, "run.yaml", &[one(path, value)]).unwrap();
            let expected = if path.ends_with("mean") {
                FILE.replace("    augment: {}", &format!("    # because\n    {after}"))
            } else {
                FILE.replace(before, after)
            };
            assert_eq!(edited, Edited { text: expected, kept_form: true }, "{path}");
        }
    }

    #[test]
    fn edits_of_json_and_of_any_form_have_the_edited_values() {
        let json = r#"{"spec":{"pretrain":{"epochs":3,"stem":"imagenet"},"output":{"uri":"a: b # c"}}}"#;
        let anchored = "spec:\n  pretrain: &p\n    epochs: 3\n  output:\n    uri: >\n      a\n      b\n  again: *p\n";
        let over_lines = "spec:\n  pretrain: {\n    epochs: 3,\n    stem: imagenet\n  }\n";
        for (text, kept) in [(json, true), (anchored, false), (over_lines, true)] {
            let edits = [one("spec.pretrain.epochs", json!(4)), one("spec.pretrain.augment.cropSize", json!(32))];
            let edited = edit(text, "x", &edits).unwrap();
            assert_eq!(edited.kept_form, kept, "{}", edited.text);
            let mut expected = yaml::parse(text, "x").unwrap().value;
            expected["spec"]["pretrain"]["epochs"] = json!(4);
            expected["spec"]["pretrain"]["augment"] = json!({"cropSize": 32});
            assert_eq!(yaml::parse(&edited.text, "x").unwrap().value, expected, "{}", edited.text);
            assert_eq!(edited.text.matches("# because").count(), 2, "{}", edited.text);
        }
        assert!(edit("spec: {a: 1}", "x", &[one("spec.a.b", json!(1))]).is_err());
    }

    #[test]
    fn strings_that_would_be_read_as_something_else_are_quoted() {
        for (text, expected) in [("cifar", "cifar"), ("yes", "\"yes\""), ("0x1", "\"0x1\""), ("a: b", "\"a: b\"")] {
            assert_eq!(flow(&json!(text)), expected);
        }
    }
}
