//! `--set pretrain.epochs=1`: overrides of fields of `spec`.

use serde_json::{Map, Value};

use crate::error::Error;
use crate::yaml;

/// Sets the field `path` of `document`'s `spec` to the YAML value in `path=value`.
pub(crate) fn apply(document: &mut Value, text: &str) -> Result<(), Error> {
    let wrong = |message: String| Error::Override { text: text.to_owned(), message };
    let form = || wrong("expected FIELD=VALUE, as in pretrain.epochs=10; the field is one of spec".to_owned());
    let (path, value) = text.split_once('=').ok_or_else(form)?;
    let path = path.trim().strip_prefix("spec.").unwrap_or(path.trim());
    let keys: Vec<&str> = path.split('.').collect();
    if keys.iter().any(|key| key.is_empty() || key.contains(['[', ']'])) {
        return Err(form());
    }
    let value = yaml::parse(value, "--set")?;
    if !value.not_finite.is_empty() {
        return Err(wrong("must be a finite number".to_owned()));
    }
    let keys: Vec<&str> = std::iter::once("spec").chain(keys).collect();
    set(document, &keys, value.value).map_err(wrong)
}

/// Sets the field with these keys, and creates the objects that contain it; otherwise returns why it cannot.
pub(crate) fn set(document: &mut Value, keys: &[&str], value: Value) -> Result<(), String> {
    let mut place = document;
    let mut seen = String::new();
    for key in keys {
        if place.is_null() {
            *place = Value::Object(Map::new());
        }
        let Value::Object(fields) = place else {
            return Err(format!("{seen} has no fields: it is {place}"));
        };
        seen = if seen.is_empty() { (*key).to_owned() } else { format!("{seen}.{key}") };
        place = fields.entry(*key).or_insert(Value::Null);
    }
    *place = value;
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn override_of_missing_object_creates_it() {
        let mut document = json!({"spec": {"pretrain": {"epochs": 100, "arch": "resnet18"}, "export": ["pth"]}});
        for text in [
            "pretrain.epochs=1",
            "spec.linear.cachedFeatures=true",
            "export=[timm, pth]",
            "knn={}",
            "dataset.train=./a=b",
        ] {
            apply(&mut document, text).unwrap();
        }
        assert_eq!(
            document["spec"],
            json!({"pretrain": {"epochs": 1, "arch": "resnet18"}, "linear": {"cachedFeatures": true},
                "export": ["timm", "pth"], "knn": {}, "dataset": {"train": "./a=b"}})
        );
    }

    #[test]
    fn override_of_invalid_path_is_refused() {
        let mut document = json!({"spec": {"pretrain": {"arch": "resnet18"}}});
        for (text, words) in [
            ("pretrain.epochs", "expected FIELD=VALUE"),
            ("=3", "expected FIELD=VALUE"),
            ("knn.protocols[0].k=3", "expected FIELD=VALUE"),
            ("pretrain.arch.x=3", "spec.pretrain.arch has no fields"),
            ("pretrain.lr=.nan", "finite"),
            ("pretrain.lr=[", "YAML"),
        ] {
            let error = apply(&mut document, text).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
