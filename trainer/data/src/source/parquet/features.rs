//! What the metadata that `datasets` writes into a Parquet file says about its columns.

use std::collections::BTreeMap;

use parquet::file::metadata::KeyValue;
use serde::Deserialize;
use serde_json::Value;

/// The key of the metadata.
const KEY: &str = "huggingface";

/// What a column holds, for `datasets`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Feature {
    /// Encoded images.
    Image,
    /// Numbers of classes with these names; without names they are unknown.
    ClassLabel(Option<Vec<String>>),
    /// Anything else.
    Other,
}

#[derive(Deserialize)]
struct Document {
    info: Info,
}

#[derive(Deserialize)]
struct Info {
    #[serde(default)]
    features: BTreeMap<String, Value>,
}

/// The features by the names of their columns; none for a file without the metadata.
///
/// # Errors
/// Why the metadata cannot be used.
pub(super) fn features(metadata: Option<&[KeyValue]>) -> Result<BTreeMap<String, Feature>, String> {
    let text = metadata.unwrap_or_default().iter().find(|pair| pair.key == KEY).and_then(|pair| pair.value.as_ref());
    let Some(text) = text else { return Ok(BTreeMap::new()) };
    let document: Document =
        serde_json::from_str(text).map_err(|e| format!("its metadata {KEY:?} is not that of `datasets`: {e}"))?;
    document.info.features.into_iter().map(|(column, value)| Ok((column.clone(), feature(&column, &value)?))).collect()
}

fn feature(column: &str, value: &Value) -> Result<Feature, String> {
    match value.get("_type").and_then(Value::as_str) {
        Some("Image") => Ok(Feature::Image),
        Some("ClassLabel") => {
            let Some(names) = value.get("names").filter(|names| !names.is_null()) else {
                return Ok(Feature::ClassLabel(None));
            };
            let names = Vec::<String>::deserialize(names).map_err(|_| {
                format!("its metadata {KEY:?} has class names of column {column:?} that are not a list of texts")
            })?;
            Ok(Feature::ClassLabel(Some(names)))
        }
        _ => Ok(Feature::Other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<BTreeMap<String, Feature>, String> {
        features(Some(&[KeyValue::new("pandas".into(), "{}".to_owned()), KeyValue::new(KEY.into(), text.to_owned())]))
    }

    #[test]
    fn features_of_datasets_are_read() {
        let found = read(
            r#"{"info": {"features": {"image": {"_type": "Image"}, "n": {"dtype": "int64", "_type": "Value"},
               "label": {"names": ["cat", "dog"], "_type": "ClassLabel"}, "list": [{"_type": "Image"}],
               "other": {"num_classes": 3, "names": null, "_type": "ClassLabel"}}}}"#,
        );
        let names = vec!["cat".to_owned(), "dog".to_owned()];
        let expected = [
            ("image", Feature::Image),
            ("label", Feature::ClassLabel(Some(names))),
            ("list", Feature::Other),
            ("n", Feature::Other),
            ("other", Feature::ClassLabel(None)),
        ];
        assert_eq!(found.unwrap(), expected.map(|(name, feature)| (name.to_owned(), feature)).into());
        assert_eq!(features(None).unwrap(), BTreeMap::new());
    }

    #[test]
    fn other_metadata_under_the_key_is_refused() {
        assert!(read("[1").unwrap_err().contains("is not that of `datasets`"));
        let message = read(r#"{"info": {"features": {"y": {"names": [1], "_type": "ClassLabel"}}}}"#).unwrap_err();
        assert!(message.contains("column \"y\""), "{message}");
    }
}
