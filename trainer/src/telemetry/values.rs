//! Measurements by name.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// Measured values by the key of their metric.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Values(BTreeMap<String, f64>);

impl Values {
    /// The value under `key`, if it was measured.
    pub fn get(&self, key: &str) -> Option<f64> {
        self.0.get(key).copied()
    }

    /// Sets the value under `key`; `None` leaves it unmeasured.
    pub fn set(&mut self, key: &str, value: impl Into<Option<f64>>) {
        if let Some(value) = value.into() {
            self.0.insert(key.to_owned(), value);
        }
    }

    /// Whether nothing was measured.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'de> Deserialize<'de> for Values {
    /// Reads numbers, and `null` as NaN, which JSON does not have; ignores everything else.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let fields = BTreeMap::<String, Value>::deserialize(deserializer)?;
        let numbers = fields.into_iter().filter_map(|(key, value)| match value {
            Value::Null => Some((key, f64::NAN)),
            value => Some((key, value.as_f64()?)),
        });
        Ok(Self(numbers.collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_round_trip_and_ignore_what_is_not_a_number() {
        let mut values = Values::default();
        assert!(values.is_empty());
        values.set("loss", -0.25);
        values.set("outputStd", None);
        values.set("lr", f64::NAN);
        let json = serde_json::to_string(&values).unwrap();
        assert_eq!(json, r#"{"loss":-0.25,"lr":null}"#);
        let back: Values = serde_json::from_str(r#"{"loss":-0.25,"lr":null,"note":"x","list":[1]}"#).unwrap();
        assert_eq!((back.get("loss"), back.get("note"), back.get("outputStd")), (Some(-0.25), None, None));
        assert!(back.get("lr").is_some_and(f64::is_nan));
    }
}
