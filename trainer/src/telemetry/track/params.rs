//! The fields of a run as MLflow's parameters.

use std::collections::BTreeMap;

use serde_json::Value;
use simsiam_recipe::Recipe;

/// MLflow before 2.10 refuses longer values.
const LONGEST: usize = 500;

/// The recipe's fields by their paths, as in `pretrain.lr`, with defaults and presets filled in. Lists are JSON. Fields that say
/// how something is reached rather than what is trained are left out: `track`, and the names of Secrets.
pub fn params(recipe: &Recipe) -> BTreeMap<String, String> {
    let mut fields = serde_json::to_value(recipe).unwrap_or_default();
    if let Some(fields) = fields.as_object_mut() {
        fields.remove("track");
    }
    if let Some(output) = fields["output"].as_object_mut() {
        output.remove("credentialsSecret");
    }
    let mut params = BTreeMap::new();
    flatten("", &fields, &mut params);
    params
}

fn flatten(path: &str, value: &Value, params: &mut BTreeMap<String, String>) {
    let text = match value {
        Value::Null => return,
        Value::Object(fields) => {
            for (key, value) in fields {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                flatten(&path, value, params);
            }
            return;
        }
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    params.insert(path.to_owned(), shortened(&text, LONGEST));
}

/// The text, cut to at most `longest` characters with an ellipsis.
pub fn shortened(text: &str, longest: usize) -> String {
    if text.chars().count() <= longest {
        return text.to_owned();
    }
    text.chars().take(longest.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn params_are_the_fields_of_the_recipe_by_path() {
        let recipe = Recipe::from_json(&json!({
            "dataset": {"train": "a".repeat(600)},
            "output": {"uri": "s3://b/o", "credentialsSecret": "keys"},
            "pretrain": {"preset": "cifar10", "lr": 0.25},
            "export": ["torchvision", "timm"],
            "track": {"mlflow": {"uri": "https://mlflow.example.com"}},
        }))
        .unwrap();
        let params = params(&recipe);
        for (key, value) in [
            ("pretrain.lr", "0.25"),
            ("pretrain.epochs", "800"),
            ("pretrain.arch", "resnet18"),
            ("pretrain.augment.cropSize", "32"),
            ("output.uri", "s3://b/o"),
            ("export", r#"["torchvision","timm"]"#),
        ] {
            assert_eq!(params.get(key).map(String::as_str), Some(value), "{key}");
        }
        let train = &params["dataset.train"];
        assert!(train.chars().count() == 500 && train.ends_with("a…"), "{train}");
        assert!(!params.keys().any(|key| key.contains("track") || key.contains("Secret")), "{params:?}");
    }
}
