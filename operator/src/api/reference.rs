//! Every field of the resource as a page for people, `docs/reference.md`: from the very schema that API servers get.

use std::fmt::Write;

use serde_json::{Map, Value};
use simsiam_recipe::schema;

use super::{ClusterSpec, crd};

const INTRODUCTION: &str = "\
# Every field of a SimSiamRun

Written by `cargo xtask crds` from the types that the operator and `simsiam` read; `kubectl explain ssr.spec.pretrain` says
the same on a cluster. What a rule says is what the API server answers, and for the training fields `simsiam validate`.
`a.b` is a field in a field, `a[].b` one of a list's elements, `a.*` the values of a map. Where no default is given there
is none.

";

/// The page.
///
/// # Errors
/// If the schema is no schema: a bug.
pub fn reference() -> Result<String, String> {
    let definition = crd().and_then(serde_json::to_value).map_err(|e| e.to_string())?;
    let version = &definition["spec"]["versions"][0];
    let schema = &version["schema"]["openAPIV3Schema"];
    let mut page = INTRODUCTION.to_owned();
    page.push_str("`simsiam run` on one machine passes over what only a cluster has: ");
    let cluster = schema::of::<ClusterSpec>().to_value();
    let names = entries(&cluster["properties"]).map(|(name, _)| format!("`{name}`"));
    page.push_str(&names.chain(["`dataset.cache.volume`".to_owned()]).collect::<Vec<_>>().join(", "));
    page.push_str(".\n");
    for part in ["spec", "status"] {
        let whole = &schema["properties"][part];
        section(&mut page, part, whole, false);
        for (name, field) in entries(&whole["properties"]) {
            if is_section(field) {
                section(&mut page, &format!("{part}.{name}"), field, true);
            }
        }
    }
    page.push_str("\n## Columns of `kubectl get ssr`\n\n| column | from | what it shows |\n|---|---|---|\n");
    for column in version["additionalPrinterColumns"].as_array().into_iter().flatten() {
        let text = |key: &str| column[key].as_str().unwrap_or_default();
        let wide = if column["priority"] == 0 { "" } else { " (with `-o wide`)" };
        let _ = writeln!(page, "| {}{wide} | `{}` | {} |", text("name"), text("jsonPath"), text("description"));
    }
    Ok(page)
}

fn entries(object: &Value) -> impl Iterator<Item = (&String, &Value)> {
    object.as_object().into_iter().flat_map(Map::iter)
}

/// Whether a field of `spec` or `status` has a heading of its own.
fn is_section(field: &Value) -> bool {
    element(field).0["properties"].is_object()
}

/// What a list or a map holds, and how that is shown in a name; a field itself if it is neither.
fn element(field: &Value) -> (&Value, &'static str) {
    match (&field["items"], &field["additionalProperties"]) {
        (items @ Value::Object(_), _) => (items, "[]"),
        (_, values @ Value::Object(_)) => (values, ".*"),
        _ => (field, ""),
    }
}

fn section(page: &mut String, path: &str, field: &Value, deep: bool) {
    let (inner, mark) = element(field);
    let _ = writeln!(page, "\n{} `{path}{mark}`\n", if deep { "###" } else { "##" });
    let (text, default) = description(field);
    let _ =
        writeln!(page, "{text}{}", if default.is_empty() { String::new() } else { format!(" Default: {default}.") });
    page.push_str("\n| field | type | default | meaning |\n|---|---|---|---|\n");
    rows(page, "", inner, (!deep).then_some(path));
    let mut notes = Vec::new();
    rules(&mut notes, "", inner, deep);
    if !notes.is_empty() {
        page.push_str("\nRules:\n");
        notes.iter().for_each(|note| page.push_str(note));
    }
}

/// A row for each field, and for those in it unless they have sections, beneath `path`, of their own.
fn rows(page: &mut String, before: &str, object: &Value, sections: Option<&str>) {
    let required = |name: &str| object["required"].as_array().is_some_and(|names| names.iter().any(|n| n == name));
    for (name, field) in entries(&object["properties"]) {
        let (text, spoken) = description(field);
        let default = match &field["default"] {
            _ if required(name) => "**required**".to_owned(),
            Value::Object(_) => String::new(),
            Value::Null => spoken,
            value => format!("`{value}`").replace("`\"", "`").replace("\"`", "`"),
        };
        let mut meaning = text;
        for rule in own_rules(field).filter(|rule| rule["fieldPath"].is_null()) {
            let _ = write!(meaning, " {}", sentence(&message(rule)));
        }
        if let Some(path) = sections.filter(|_| is_section(field)) {
            let anchor = format!("{path}{name}").to_lowercase();
            let _ = write!(meaning, " [Its fields](#{anchor}).");
        }
        let _ = writeln!(page, "| `{before}{name}` | {} | {} | {} |", kind(field), cell(&default), cell(&meaning));
        if sections.is_none() {
            let (inner, mark) = element(field);
            rows(page, &format!("{before}{name}{mark}."), inner, None);
        }
    }
}

fn own_rules(field: &Value) -> impl Iterator<Item = &Value> {
    let inner = element(field).0;
    let elements = if std::ptr::eq(inner, field) { None } else { inner["x-kubernetes-validations"].as_array() };
    field["x-kubernetes-validations"].as_array().into_iter().chain(elements).flatten()
}

/// The rules between an object's fields, as a list; equal ones are one entry.
fn rules(notes: &mut Vec<String>, before: &str, object: &Value, deep: bool) {
    let mut said: Vec<(String, Vec<String>)> = Vec::new();
    for rule in object["x-kubernetes-validations"].as_array().into_iter().flatten() {
        let path = rule["fieldPath"].as_str().unwrap_or_default().trim_start_matches('.');
        let name = if path.is_empty() { before.trim_end_matches('.').to_owned() } else { format!("{before}{path}") };
        let message = message(rule);
        match said.iter_mut().find(|(text, _)| *text == message) {
            Some((_, names)) => names.push(format!("`{name}`")),
            None => said.push((message, vec![format!("`{name}`")])),
        }
    }
    for (message, names) in said {
        let names = names.join(", ");
        notes.push(if names == "``" { format!("- {message}\n") } else { format!("- {names}: {message}\n") });
    }
    for (name, field) in entries(&object["properties"]).filter(|_| deep) {
        let (inner, mark) = element(field);
        if inner["properties"].is_object() {
            rules(notes, &format!("{before}{name}{mark}."), inner, deep);
        }
    }
}

/// What a rule answers, without the value found.
fn message(rule: &Value) -> String {
    if let Some(message) = rule["message"].as_str() {
        return message.to_owned();
    }
    let expression = rule["messageExpression"].as_str().unwrap_or_default();
    let text = expression.trim_start_matches('\'');
    let end = text.find("'.format").or_else(|| text.find('\'')).unwrap_or(text.len());
    text[..end].replace(", not %s", "").replace(" (%s)", "")
}

fn sentence(text: &str) -> String {
    let mut letters = text.trim_end_matches('.').chars();
    let first = letters.next().into_iter().flat_map(char::to_uppercase);
    first.chain(letters).chain(['.']).collect()
}

fn kind(field: &Value) -> String {
    let name = |schema: &Value| match (schema["enum"].is_array(), schema["type"].as_str().unwrap_or_default()) {
        (true, _) => "one of".to_owned(),
        (_, "string") if schema["format"] == "date-time" => "time".to_owned(),
        (_, other) => other.to_owned(),
    };
    let (inner, mark) = element(field);
    match mark {
        "[]" => format!("list of {}", name(inner)),
        ".*" => format!("map of {}", name(inner)),
        _ => name(field),
    }
}

/// A field's words with the values it may have, and the default that they name.
fn description(field: &Value) -> (String, String) {
    let text = field["description"].as_str().unwrap_or_default();
    let (text, values) = text.split_once("\n- ").map_or((text, None), |(text, values)| (text, Some(values)));
    let values = values.or_else(|| Some(field["items"]["description"].as_str()?.split_once("\n- ")?.1));
    let (text, default) = text.split_once("Default: ").unwrap_or((text, ""));
    // What comes after the default's sentence is about the field again.
    let (default, more) = default.split_once(". ").unwrap_or((default.trim_end_matches('.'), ""));
    let mut whole = [text.trim(), more].join(" ").trim().to_owned();
    for value in values.into_iter().flat_map(|values| values.split("\n- ")) {
        match value.split_once(": ") {
            Some((name, meaning)) => _ = write!(whole, "\n`{name}`: {}", meaning.trim()),
            None => _ = write!(whole, "\n{}", value.trim()),
        }
    }
    (whole, default.to_owned())
}

/// Text as a table takes it.
fn cell(text: &str) -> String {
    text.trim().replace('|', "\\|").replace('\n', "<br>")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_field_is_shown_with_its_values_default_and_rules() {
        let rule = json!({"messageExpression": "'must be odd, not %s'.format([self])", "rule": "self % 2 == 1"});
        let both = json!({"message": "needs b", "fieldPath": ".b", "rule": "has(self.b)"});
        let object = json!({
            "required": ["c"],
            "x-kubernetes-validations": [both],
            "properties": {
                "a": {"type": "string", "enum": ["x", "y"], "description": "Which | one. Default: x.\n- x: The first.\n- y: The other."},
                "b": {"type": "integer", "description": "How many.", "default": 3, "x-kubernetes-validations": [rule]},
                "c": {"type": "array", "description": "Some.", "items": {"type": "object", "properties": {
                    "d": {"type": "string", "description": "One. Default: the cluster's."}}}},
            },
        });
        let mut page = String::new();
        section(&mut page, "spec.e", &object, true);
        let expected = "\n### `spec.e`\n\n\n\n| field | type | default | meaning |\n|---|---|---|---|\n\
            | `a` | one of | x | Which \\| one.<br>`x`: The first.<br>`y`: The other. |\n\
            | `b` | integer | `3` | How many. Must be odd. |\n\
            | `c` | list of object | **required** | Some. |\n\
            | `c[].d` | string | the cluster's | One. |\n\
            \nRules:\n- `b`: needs b\n";
        assert_eq!(page, expected);
    }
}
