//! YAML to JSON, with the position of each field.

use std::collections::HashMap;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::{Location, MessageFormatter as _, NonFiniteFloatPolicy, Spanned, UserMessageFormatter};

use crate::error::{Error, Position};

/// A document: its value, and the place of every field by its path.
pub(crate) struct Document {
    pub value: Value,
    /// For a field the position of its key, for a list entry that of the entry.
    pub places: HashMap<String, Position>,
    /// Numbers that JSON cannot hold (`.nan`, `.inf`), by path, as written; `value` has null there.
    pub not_finite: Vec<(String, String)>,
}

/// Parses the one document of `text`.
pub(crate) fn parse(text: &str, origin: &str) -> Result<Document, Error> {
    let bad = |error: serde_saphyr::Error| Error::Yaml {
        origin: origin.to_owned(),
        place: error.location().and_then(place),
        message: UserMessageFormatter.format_message(error.without_snippet()).into_owned(),
    };
    // `.inf` is well-formed YAML, so it is reported together with the other violations.
    let options = serde_saphyr::options! {
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
    };
    let node: Spanned<Node> = serde_saphyr::from_str_with_options(text, options).map_err(bad)?;
    let mut document = Document { value: Value::Null, places: HashMap::new(), not_finite: Vec::new() };
    document.value = document.take(node.value, String::new());
    Ok(document)
}

impl Document {
    fn take(&mut self, node: Node, path: String) -> Value {
        match node {
            Node::Scalar(value) => value,
            Node::NotFinite(number) => {
                self.not_finite.push((path, number.to_string()));
                Value::Null
            }
            Node::List(entries) => {
                let mut list = Vec::with_capacity(entries.len());
                for (index, entry) in entries.into_iter().enumerate() {
                    let path = format!("{path}[{index}]");
                    self.locate(&path, entry.referenced);
                    list.push(self.take(entry.value, path));
                }
                Value::Array(list)
            }
            Node::Map(entries) => {
                let mut map = Map::new();
                for (key, entry) in entries {
                    let path = child(&path, &key.value);
                    self.locate(&path, key.referenced);
                    let value = self.take(entry, path);
                    map.insert(key.value, value);
                }
                Value::Object(map)
            }
        }
    }

    fn locate(&mut self, path: &str, location: Location) {
        if let Some(place) = place(location) {
            self.places.insert(path.to_owned(), place);
        }
    }
}

/// The path of `key` under `path`.
pub(crate) fn child(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn place(location: Location) -> Option<Position> {
    (location.line() > 0).then(|| Position { line: location.line(), column: location.column() })
}

enum Node {
    Scalar(Value),
    NotFinite(f64),
    List(Vec<Spanned<Node>>),
    Map(Vec<(Spanned<String>, Node)>),
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Number::from_f64(value).map_or(Node::NotFinite(value), |n| Node::Scalar(n.into())))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = seq.next_element()? {
            entries.push(entry);
        }
        Ok(Node::List(entries))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries: Vec<(Spanned<String>, Node)> = Vec::new();
        while let Some((key, value)) = map.next_entry::<Spanned<String>, Node>()? {
            if entries.iter().any(|(other, _)| other.value == key.value) {
                return Err(de::Error::custom(format!("duplicate key `{}`", key.value)));
            }
            entries.push((key, value));
        }
        Ok(Node::Map(entries))
    }
}
