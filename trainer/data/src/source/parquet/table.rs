//! A file's table of contents: the label and path of each row, and where the pages of its images are.

use std::collections::HashMap;
use std::sync::Arc;

use parquet::basic::Type as Physical;
use parquet::column::reader::ColumnReaderImpl;
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, Int32Type, Int64Type};
use parquet::file::metadata::{
    ColumnChunkMask, ColumnChunkMetaData, PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader,
};
use parquet::file::reader::SerializedPageReader;
use serde::{Deserialize, Serialize};

use super::super::index::is_plain;
use super::chunk::{Origin, Window, damaged, guarded};
use super::columns::{Chosen, Columns, LabelColumn, choose};
use super::features::features;
use super::pages::{Codec, Located, Span, locate, span_of, spread};
use crate::Error;

/// What is known of a file without reading its images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Table {
    /// The definition level at which an image is not null.
    pub(super) max_def: i16,
    /// The row groups.
    pub(super) groups: Vec<Group>,
    /// The pages of images of all row groups, in the order of the rows.
    pub(super) pages: Vec<PageAt>,
    /// Bytes of the images' column, decompressed.
    pub(super) image_bytes: u64,
    /// The classes of the labels, in no order.
    pub(super) classes: Vec<String>,
    /// Whether the file says what its classes are called.
    pub(super) named: bool,
    /// Each row's index into `classes`; none for a row without a label.
    pub(super) labels: Vec<Option<u32>>,
    /// Whether there is a column of labels.
    pub(super) has_labels: bool,
    /// Each row's file name; empty without such a column.
    pub(super) paths: Vec<Option<String>>,
    /// What to know of the file.
    pub(super) note: Option<String>,
}

/// The images of a row group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Group {
    /// How its pages are compressed.
    pub(super) codec: Codec,
    /// Where its dictionary is, if it has one.
    pub(super) dictionary: Option<Span>,
}

/// A page of images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PageAt {
    /// Where it is.
    pub(super) span: Span,
    /// Its first row in the file.
    pub(super) first: u32,
    /// Its number of rows.
    pub(super) rows: u32,
    /// The row group that it is in.
    pub(super) group: u32,
}

/// A label is a number or a word; anything longer is no label.
const MAX_LABEL: usize = 256;
/// Labels or file names of one row group; they are read as a whole.
const MAX_COLUMN: u64 = 1 << 30;

/// Reads the table of contents of a file.
///
/// # Errors
/// [`Error::Shard`] for a damaged file, a label that is none, or a column of images without any; [`Error::Selection`] where
/// the columns cannot be chosen; the errors of reading.
pub(super) fn read(origin: &Origin, wanted: &Columns) -> Result<Table, Error> {
    let uri = origin.uri();
    let metadata = guarded(&uri, "its footer", || ParquetMetaDataReader::new().parse_and_finish(origin))?;
    let file = metadata.file_metadata();
    let features = features(file.key_value_metadata().map(Vec::as_slice))
        .map_err(|reason| Error::Shard { uri: uri.clone(), reason: format!("{reason}; write the file again") })?;
    let chosen = choose(file.schema_descr(), &features, wanted)
        .map_err(|reason| Error::Selection { uri: uri.clone(), reason })?;
    let metadata = with_page_index(origin, metadata, chosen.image)?;
    let Chosen { image, path, label, note } = chosen;
    let mut table = Table {
        max_def: metadata.file_metadata().schema_descr().column(image).max_def_level(),
        groups: Vec::new(),
        pages: Vec::new(),
        image_bytes: 0,
        classes: Vec::new(),
        named: label.as_ref().is_some_and(|label| label.names.is_some()),
        labels: Vec::new(),
        has_labels: label.is_some(),
        paths: Vec::new(),
        note,
    };
    let (mut numbers, mut nulls) = (HashMap::new(), Some(0));
    for (number, group) in (0u32..).zip(metadata.row_groups()) {
        let rows = u64::try_from(group.num_rows())
            .map_err(|_| damaged(&uri, "its footer", "a row group has a negative number of rows"))?;
        let chunk = group.column(image);
        let index = metadata.page_index_for_row_group(number as usize);
        let index = index.page_locations(image).map(Vec::as_slice).filter(|index| !index.is_empty());
        let codec = Codec::of(&uri, chunk)?;
        let Located { dictionary, pages } = locate(origin, chunk, rows, index)?;
        table.groups.push(Group { codec, dictionary });
        table.image_bytes += u64::try_from(chunk.uncompressed_size()).unwrap_or_default();
        let mut first = table.labels.len() as u64;
        for (span, rows) in pages {
            let end = first + u64::from(rows);
            if u32::try_from(end).is_err() {
                let reason = format!("has more than {} rows; write several files", u32::MAX);
                return Err(Error::Shard { uri, reason });
            }
            table.pages.push(PageAt { span, first: first as u32, rows, group: number });
            first = end;
        }
        nulls = nulls.zip(chunk.statistics().and_then(|s| s.null_count_opt())).map(|(sum, more)| sum + more);
        if let Some(path) = path {
            let read = column::<ByteArrayType>(origin, group.column(path), rows)?;
            table.paths.extend(read.into_iter().map(|path| path.and_then(|path| text_of(&path))));
        }
        match &label {
            Some(label) => {
                let first = table.labels.len();
                let texts = labels(origin, group.column(label.leaf), rows)?;
                for (row, text) in texts.into_iter().enumerate() {
                    let class = class(label, text).map_err(|reason| Error::Shard {
                        uri: uri.clone(),
                        reason: format!("row {} has {reason}", first + row),
                    })?;
                    let next = table.classes.len() as u32;
                    table.labels.push(class.map(|class| {
                        *numbers.entry(class).or_insert_with_key(|class: &String| {
                            table.classes.push(class.clone());
                            next
                        })
                    }));
                }
            }
            None => table.labels.resize(table.labels.len() + rows as usize, None),
        }
    }
    let rows = table.labels.len();
    if rows > 0 && nulls == Some(rows as u64) {
        let reason = format!(
            "none of its {rows} rows has an image in column {}, as when only the paths of images were saved; write it \
             again with the images (`push_to_hub` and `Dataset.to_parquet` embed them)",
            metadata.file_metadata().schema_descr().column(image).path()
        );
        return Err(Error::Shard { uri, reason });
    }
    Ok(table)
}

/// Adds the positions of the pages of the images, where the file has an index of them.
fn with_page_index(origin: &Origin, metadata: ParquetMetaData, image: usize) -> Result<ParquetMetaData, Error> {
    guarded(&origin.uri(), "its page index", || {
        let mut reader = ParquetMetaDataReader::new_with_metadata(metadata)
            .with_column_index_policy(PageIndexPolicy::Skip)
            .with_offset_index_policy(PageIndexPolicy::Optional)
            .with_offset_index_mask(ColumnChunkMask::columns([image]));
        reader.read_page_indexes(origin)?;
        reader.finish()
    })
}

/// The values of a short column in a row group of `rows` rows; none for null.
fn column<T: DataType>(origin: &Origin, chunk: &ColumnChunkMetaData, rows: u64) -> Result<Vec<Option<T::T>>, Error> {
    let (uri, path) = (origin.uri(), chunk.column_path().string());
    Codec::of(&uri, chunk)?;
    let span = span_of(origin, chunk)?;
    if span.bytes > MAX_COLUMN {
        let reason = format!("column {path} has {} bytes in one row group; write smaller row groups", span.bytes);
        return Err(Error::Shard { uri, reason });
    }
    let window = Window { start: span.offset, bytes: origin.read(span.offset, span.bytes)? };
    let rows = rows as usize;
    let (read, values) = guarded(&uri, &format!("column {path}"), || {
        let pages = SerializedPageReader::new(Arc::new(window), chunk, rows, None)?;
        let descriptor = chunk.column_descr_ptr();
        let max_def = descriptor.max_def_level();
        let mut reader = ColumnReaderImpl::<T>::new(descriptor, Box::new(pages));
        let (mut levels, mut present) = (Vec::new(), Vec::new());
        let (read, ..) = reader.read_records(rows, (max_def > 0).then_some(&mut levels), None, &mut present)?;
        Ok((read, spread(present, &levels, max_def)))
    })?;
    if read != rows {
        return Err(damaged(&uri, &format!("column {path}"), &format!("it has {read} rows instead of {rows}")));
    }
    Ok(values)
}

/// A label as it is in the file.
enum Label {
    Number(i64),
    Text(ByteArray),
    Bool(bool),
}

fn labels(origin: &Origin, chunk: &ColumnChunkMetaData, rows: u64) -> Result<Vec<Option<Label>>, Error> {
    fn all<T>(values: Vec<Option<T>>, label: fn(T) -> Label) -> Vec<Option<Label>> {
        values.into_iter().map(|value| value.map(label)).collect()
    }
    Ok(match chunk.column_type() {
        Physical::INT32 => all(column::<Int32Type>(origin, chunk, rows)?, |n| Label::Number(n.into())),
        Physical::INT64 => all(column::<Int64Type>(origin, chunk, rows)?, Label::Number),
        Physical::BOOLEAN => all(column::<BoolType>(origin, chunk, rows)?, Label::Bool),
        Physical::BYTE_ARRAY => all(column::<ByteArrayType>(origin, chunk, rows)?, Label::Text),
        other => {
            let reason = format!("column {} is of type {other} here; expected labels", chunk.column_path());
            return Err(damaged(&origin.uri(), "it", &reason));
        }
    })
}

/// The class of a label: none for null, -1 and an empty text. An error says what the row has instead.
fn class(column: &LabelColumn, label: Option<Label>) -> Result<Option<String>, String> {
    let class = match label {
        None | Some(Label::Number(-1)) => return Ok(None),
        Some(Label::Bool(value)) => value.to_string(),
        Some(Label::Number(number)) => match &column.names {
            None if number >= 0 => number.to_string(),
            None => return Err(format!("label {number} in column {:?}; expected -1 (no label) or more", column.name)),
            Some(names) => match usize::try_from(number).ok().and_then(|number| names.get(number)) {
                Some(name) => name.clone(),
                None => {
                    return Err(format!(
                        "label {number} in column {:?}; its metadata names {} classes, numbered from 0",
                        column.name,
                        names.len()
                    ));
                }
            },
        },
        Some(Label::Text(text)) => match text_of(&text) {
            Some(text) => text,
            None => return Err(format!("a label that is not UTF-8 in column {:?}", column.name)),
        },
    };
    if class.len() > MAX_LABEL || !is_plain(&class) {
        return Err(format!(
            "a label of {} bytes in column {:?}; expected at most {MAX_LABEL}, without control characters",
            class.len(),
            column.name
        ));
    }
    Ok(Some(class).filter(|class| !class.is_empty()))
}

fn text_of(bytes: &ByteArray) -> Option<String> {
    bytes.as_utf8().ok().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_is_a_class_or_none_or_refused() {
        let column = |names: Option<&[&str]>| LabelColumn {
            name: "y".into(),
            leaf: 0,
            names: names.map(|names| names.iter().map(|name| (*name).to_owned()).collect()),
        };
        let named = column(Some(&["cat", "dog", ""]));
        let class = |column: &LabelColumn, label| class(column, label);
        let text = |text: &str| Some(Label::Text(ByteArray::from(text)));
        for (column, label, expected) in [
            (&named, Some(Label::Number(1)), Some("dog")),
            (&named, Some(Label::Number(-1)), None),
            (&named, Some(Label::Number(2)), None),
            (&named, None, None),
            (&column(None), Some(Label::Number(12)), Some("12")),
            (&column(None), text("tench, Tinca tinca"), Some("tench, Tinca tinca")),
            (&column(None), text(""), None),
            (&column(None), Some(Label::Bool(true)), Some("true")),
        ] {
            assert_eq!(class(column, label).unwrap().as_deref(), expected);
        }
        for (column, label, expected) in [
            (&named, Some(Label::Number(3)), "label 3 in column \"y\"; its metadata names 3 classes"),
            (&named, Some(Label::Number(-2)), "label -2"),
            (&column(None), Some(Label::Number(-2)), "expected -1 (no label) or more"),
            (&column(None), text("a\nb"), "control characters"),
            (&column(None), text(&"x".repeat(300)), "a label of 300 bytes"),
            (&column(None), Some(Label::Text(ByteArray::from(vec![0xFF]))), "not UTF-8"),
        ] {
            let error = class(column, label).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
