//! Chooses the columns with the images and the labels.

use std::collections::BTreeMap;

use parquet::basic::{ConvertedType, LogicalType, Type as Physical};
use parquet::schema::types::{SchemaDescriptor, Type};

use super::features::Feature;

/// The columns of Parquet files to read, where the caller names them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Columns {
    /// The column with the images.
    pub image: Option<String>,
    /// The column with the labels.
    pub label: Option<String>,
}

/// The columns of one file, by the numbers of their leaves in the schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chosen {
    /// The images' bytes.
    pub(super) image: usize,
    /// The images' file names, where there are any.
    pub(super) path: Option<usize>,
    /// The labels, where there are any.
    pub(super) label: Option<LabelColumn>,
    /// What to know of the choice.
    pub(super) note: Option<String>,
}

/// A column of labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LabelColumn {
    /// Its name.
    pub(super) name: String,
    /// Its leaf.
    pub(super) leaf: usize,
    /// The names of the classes with these numbers, where the file has them.
    pub(super) names: Option<Vec<String>>,
}

/// What can be read from a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    /// `struct<bytes, path>`, the form of `datasets`.
    Image { bytes: usize, path: Option<usize> },
    /// Bytes.
    Binary(usize),
    /// Numbers, text or true and false.
    Label(usize),
    /// Nothing.
    Other,
}

impl Content {
    fn is_image(self) -> bool {
        matches!(self, Self::Image { .. } | Self::Binary(_))
    }

    fn is_label(self) -> bool {
        matches!(self, Self::Label(_))
    }
}

/// A column at the top of the schema.
struct Column<'a> {
    name: &'a str,
    content: Content,
    /// Its type, for messages.
    kind: &'static str,
}

/// Chooses the columns of a file by its schema, its features and the caller's wishes.
///
/// # Errors
/// Why that is impossible: the message lists the columns and says what to set.
pub(super) fn choose(
    schema: &SchemaDescriptor,
    features: &BTreeMap<String, Feature>,
    wanted: &Columns,
) -> Result<Chosen, String> {
    let columns: Vec<Column> = schema.root_schema().get_fields().iter().map(|field| column(schema, field)).collect();
    let image = image(&columns, features, wanted.image.as_deref())?;
    let (image, path) = match image.content {
        Content::Image { bytes, path } => (bytes, path),
        Content::Binary(bytes) => (bytes, None),
        _ => return Err(format!("has no images in column {:?}", image.name)),
    };
    let label = label(&columns, features, wanted.label.as_deref())?;
    let mut note = None;
    let label = match label.map(|column| (column, column.content)) {
        Some((column, Content::Label(leaf))) => {
            let names = features.get(column.name).and_then(|feature| match feature {
                Feature::ClassLabel(names) => names.clone(),
                _ => None,
            });
            Some(LabelColumn { name: column.name.to_owned(), leaf, names })
        }
        Some((column, _)) => {
            note = Some(format!(
                "column {:?} is {}, no label of one class; its images have no labels",
                column.name, column.kind
            ));
            None
        }
        None => None,
    };
    Ok(Chosen { image, path, label, note })
}

fn image<'a>(
    columns: &'a [Column<'a>],
    features: &BTreeMap<String, Feature>,
    wanted: Option<&str>,
) -> Result<&'a Column<'a>, String> {
    if let Some(wanted) = wanted {
        return named(columns, wanted, "image", "a struct with bytes, or binary", Content::is_image);
    }
    let with = |is: &dyn Fn(&&Column) -> bool| -> Vec<&'a Column<'a>> { columns.iter().filter(|c| is(c)).collect() };
    let mut found = with(&|c| c.content.is_image() && features.get(c.name) == Some(&Feature::Image));
    if found.is_empty() {
        found = with(&|c| matches!(c.content, Content::Image { .. }));
    }
    if found.is_empty() {
        found = with(&|c| matches!(c.content, Content::Binary(_)));
    }
    match (&found[..], found.iter().find(|c| c.name == "image")) {
        ([one], _) | (_, Some(one)) => Ok(one),
        ([], None) => Err(format!("has no column with images (a struct with bytes, or binary); {}", listed(columns))),
        (several, None) => Err(several_of("image", several, columns)),
    }
}

/// The column of labels, as its content may or may not permit; none where there is no candidate.
fn label<'a>(
    columns: &'a [Column<'a>],
    features: &BTreeMap<String, Feature>,
    wanted: Option<&str>,
) -> Result<Option<&'a Column<'a>>, String> {
    if let Some(wanted) = wanted {
        return named(columns, wanted, "label", "a number or text", Content::is_label).map(Some);
    }
    if let Some(plain) = ["label", "labels"].iter().find_map(|name| columns.iter().find(|c| c.name == *name)) {
        return Ok(Some(plain));
    }
    let is_class = |c: &&Column| matches!(features.get(c.name), Some(Feature::ClassLabel(_)));
    let says_class = |c: &&Column| {
        ["class", "cls", "target", "category"].contains(&c.name)
            || ["_label", "_labels", "_class"].iter().any(|end| c.name.ends_with(end))
    };
    let mut found: Vec<_> = columns.iter().filter(|c| c.content.is_label()).filter(is_class).collect();
    if found.is_empty() {
        found = columns.iter().filter(|c| c.content.is_label()).filter(says_class).collect();
    }
    match found[..] {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        _ => Err(several_of("label", &found, columns)),
    }
}

fn named<'a>(
    columns: &'a [Column<'a>],
    wanted: &str,
    role: &str,
    expected: &str,
    fits: fn(Content) -> bool,
) -> Result<&'a Column<'a>, String> {
    match columns.iter().find(|column| column.name == wanted) {
        Some(column) if fits(column.content) => Ok(column),
        Some(column) => {
            Err(format!("the {role} column {wanted:?} is {}; expected {expected}; {}", column.kind, listed(columns)))
        }
        None => Err(format!("has no column {wanted:?}, the chosen {role} column; {}", listed(columns))),
    }
}

fn several_of(role: &str, found: &[&Column], columns: &[Column]) -> String {
    let names: Vec<_> = found.iter().map(|column| column.name).collect();
    format!(
        "several columns may be the {role} column ({}); set dataset.{role}Column (--{role}-column) to one of them; {}",
        names.join(", "),
        listed(columns)
    )
}

/// Most columns that a message lists.
const LISTED: usize = 20;

fn listed(columns: &[Column]) -> String {
    let mut names: Vec<_> = columns.iter().take(LISTED).map(|c| format!("{} ({})", c.name, c.kind)).collect();
    if columns.len() > LISTED {
        names.push(format!("and {} more", columns.len() - LISTED));
    }
    format!("its columns are {}", names.join(", "))
}

fn column<'a>(schema: &SchemaDescriptor, field: &'a Type) -> Column<'a> {
    let name = field.name();
    let leaf = |inner: Option<&str>| {
        schema.columns().iter().position(|leaf| {
            let parts = leaf.path().parts();
            parts.first().is_some_and(|first| first == name)
                && parts.get(1).map(String::as_str) == inner
                && parts.len() <= 2
                && leaf.max_rep_level() == 0
        })
    };
    let is_bytes = |leaf: &usize| schema.column(*leaf).physical_type() == Physical::BYTE_ARRAY;
    let (content, kind) = if field.is_primitive() {
        match leaf(None) {
            Some(leaf) => primitive(field, leaf),
            None => (Content::Other, "a list"),
        }
    } else {
        match leaf(Some("bytes")).filter(is_bytes) {
            Some(bytes) => {
                let path = leaf(Some("path")).filter(is_bytes);
                (Content::Image { bytes, path }, "a struct with bytes")
            }
            None if schema.columns().iter().any(|leaf| {
                leaf.path().parts().first().is_some_and(|first| first == name) && leaf.max_rep_level() > 0
            }) =>
            {
                (Content::Other, "a list")
            }
            None => (Content::Other, "a struct"),
        }
    };
    Column { name, content, kind }
}

fn primitive(field: &Type, leaf: usize) -> (Content, &'static str) {
    let info = field.get_basic_info();
    let converted = info.converted_type();
    let logical = info.logical_type_ref();
    let is_text = matches!(logical, Some(LogicalType::String | LogicalType::Enum))
        || matches!(converted, ConvertedType::UTF8 | ConvertedType::ENUM);
    let is_plain = matches!(logical, None | Some(LogicalType::Integer { .. }))
        && !matches!(
            converted,
            ConvertedType::DATE
                | ConvertedType::DECIMAL
                | ConvertedType::TIME_MILLIS
                | ConvertedType::TIME_MICROS
                | ConvertedType::TIMESTAMP_MILLIS
                | ConvertedType::TIMESTAMP_MICROS
        );
    match field.get_physical_type() {
        Physical::BYTE_ARRAY if is_text => (Content::Label(leaf), "text"),
        Physical::BYTE_ARRAY if logical.is_none() && converted == ConvertedType::NONE => {
            (Content::Binary(leaf), "binary")
        }
        Physical::INT32 | Physical::INT64 if is_plain => (Content::Label(leaf), "a number"),
        Physical::BOOLEAN => (Content::Label(leaf), "true or false"),
        Physical::FLOAT | Physical::DOUBLE => (Content::Other, "a fraction"),
        _ => (Content::Other, "of another type"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parquet::schema::parser::parse_message_type;
    use std::sync::Arc;

    const IMAGE: &str = "optional group image { optional binary bytes; optional binary path (UTF8); }";
    const OTHER: &str = "optional group img { optional binary bytes; optional binary path (UTF8); }";
    const LIST: &str = "optional group label (LIST) { repeated group list { optional int64 element; } }";

    fn chosen(fields: &[&str], features: &[(&str, Feature)], wanted: Columns) -> Result<Chosen, String> {
        let text = format!("message schema {{ {} }}", fields.join(" "));
        let schema = SchemaDescriptor::new(Arc::new(parse_message_type(&text).unwrap()));
        let features = features.iter().map(|(name, feature)| ((*name).to_owned(), feature.clone())).collect();
        choose(&schema, &features, &wanted)
    }

    fn wanted(image: Option<&str>, label: Option<&str>) -> Columns {
        Columns { image: image.map(str::to_owned), label: label.map(str::to_owned) }
    }

    /// The leaves of images, paths and labels.
    fn leaves(
        fields: &[&str],
        features: &[(&str, Feature)],
        columns: Columns,
    ) -> (usize, Option<usize>, Option<usize>) {
        let Chosen { image, path, label, .. } = chosen(fields, features, columns).unwrap();
        (image, path, label.map(|label| label.leaf))
    }

    #[test]
    fn columns_of_usual_data_sets_are_found() {
        let none = || wanted(None, None);
        let number = "optional int64 label;";
        let classes = || Feature::ClassLabel(Some(vec!["a".into()]));
        assert_eq!(leaves(&[IMAGE, number], &[("label", classes())], none()), (0, Some(1), Some(2)));
        assert_eq!(leaves(&[number, OTHER], &[], none()), (1, Some(2), Some(0)));
        assert_eq!(
            leaves(&["required binary data;", "required binary label (UTF8);"], &[], none()),
            (0, None, Some(1))
        );
        assert_eq!(leaves(&[IMAGE], &[], none()), (0, Some(1), None));
        // A thumbnail in bytes is no match for the form of `datasets`, nor is another struct for what is called an image.
        assert_eq!(leaves(&["optional binary thumbnail;", OTHER], &[], none()), (1, Some(2), None));
        assert_eq!(leaves(&[OTHER, IMAGE], &[], none()), (2, Some(3), None));
        assert_eq!(leaves(&[IMAGE, OTHER], &[("img", Feature::Image)], none()), (2, Some(3), None));
        let breed = ["optional int64 breed;", "optional int64 age;"];
        assert_eq!(leaves(&[IMAGE, breed[0], breed[1]], &[("breed", classes())], none()), (0, Some(1), Some(2)));
        assert_eq!(leaves(&[IMAGE, "optional int32 fine_label;"], &[], none()), (0, Some(1), Some(2)));
        assert_eq!(leaves(&[IMAGE, OTHER, number], &[], wanted(Some("img"), None)), (2, Some(3), Some(4)));
        let names = chosen(&[IMAGE, number], &[("label", classes())], none()).unwrap().label.unwrap().names;
        assert_eq!(names, Some(vec!["a".to_owned()]));
    }

    #[test]
    fn ambiguous_or_missing_columns_are_listed_with_the_field_to_set() {
        let refused = |fields: &[&str], columns| chosen(fields, &[], columns).unwrap_err();
        let none = || wanted(None, None);
        let two = refused(&["optional binary left;", "optional binary right;"], none());
        assert!(two.contains("(left, right)") && two.contains("dataset.imageColumn"), "{two}");
        let labels = ["optional int64 fine_label;", "optional int64 coarse_label;"];
        let two = refused(&[IMAGE, labels[0], labels[1]], none());
        assert!(two.contains("(fine_label, coarse_label)") && two.contains("dataset.labelColumn"), "{two}");
        assert!(two.contains("its columns are image (a struct with bytes), fine_label (a number)"), "{two}");
        let nothing = refused(&["optional binary url (UTF8);", "optional float x;"], none());
        assert!(
            nothing.contains("no column with images") && nothing.contains("url (text), x (a fraction)"),
            "{nothing}"
        );
        let missing = refused(&[IMAGE], wanted(None, Some("label")));
        assert!(missing.contains("no column \"label\""), "{missing}");
        let text = refused(&[IMAGE, "optional binary url (UTF8);"], wanted(Some("url"), None));
        assert!(text.contains("image column \"url\" is text"), "{text}");
        let list = refused(&[IMAGE, LIST], wanted(None, Some("label")));
        assert!(list.contains("label column \"label\" is a list"), "{list}");
        let images = "optional group images (LIST) { repeated group list { optional binary element; } }";
        assert!(refused(&[images], none()).contains("images (a list)"));
        assert!(refused(&["repeated binary image;"], none()).contains("image (a list)"));
    }

    #[test]
    fn label_that_is_a_list_is_noted() {
        let chosen = chosen(&[IMAGE, LIST], &[], wanted(None, None)).unwrap();
        assert_eq!(chosen.label, None);
        assert!(chosen.note.unwrap().contains("\"label\" is a list"));
    }
}
