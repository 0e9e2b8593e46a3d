//! A Parquet file of feature vectors: columns `path`, `label` and `vector`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::data_type::{ByteArray, ByteArrayType, DataType, FloatType};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use tempfile::NamedTempFile;

use crate::error::Error;

/// One image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row<'a> {
    /// Its path within the data set.
    pub path: &'a str,
    /// Name of its class.
    pub label: Option<&'a str>,
    /// Its vector, of the same length in all rows.
    pub vector: &'a [f32],
}

/// A list as every Parquet reader accepts it (the format's "LogicalTypes", section "Lists").
const SCHEMA: &str = "message embedding {
    required binary path (UTF8);
    optional binary label (UTF8);
    required group vector (LIST) { repeated group list { required float element; } }
}";

/// A file being written; it gets its name once it is complete.
pub struct Table {
    path: PathBuf,
    writer: SerializedFileWriter<NamedTempFile>,
}

impl Table {
    /// Starts a file with `facts` in its key-value metadata.
    pub fn create(path: &Path, facts: &[(&str, &str)]) -> Result<Self, Error> {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let file =
            tempfile::Builder::new().prefix(".embedding-").tempfile_in(folder).map_err(Error::io("write", path))?;
        let facts = facts.iter().map(|(key, value)| KeyValue::new((*key).to_owned(), (*value).to_owned())).collect();
        let properties = WriterProperties::builder().set_key_value_metadata(Some(facts)).set_dictionary_enabled(false);
        let failed = failed(path);
        let schema = Arc::new(parse_message_type(SCHEMA).map_err(&failed)?);
        let writer = SerializedFileWriter::new(file, schema, Arc::new(properties.build())).map_err(&failed)?;
        Ok(Self { path: path.to_owned(), writer })
    }

    /// Appends rows as one row group.
    pub fn append(&mut self, rows: &[Row]) -> Result<(), Error> {
        let failed = failed(&self.path);
        let mut group = self.writer.next_row_group().map_err(&failed)?;
        let paths: Vec<ByteArray> = rows.iter().map(|row| row.path.into()).collect();
        column::<ByteArrayType>(&mut group, &paths, None, None).map_err(&failed)?;
        let labels: Vec<ByteArray> = rows.iter().filter_map(|row| row.label).map(ByteArray::from).collect();
        let present: Vec<i16> = rows.iter().map(|row| i16::from(row.label.is_some())).collect();
        column::<ByteArrayType>(&mut group, &labels, Some(&present), None).map_err(&failed)?;
        let values: Vec<f32> = rows.iter().flat_map(|row| row.vector).copied().collect();
        // Every value is defined, and only the first of a row starts a list.
        let there = vec![1; values.len()];
        let begins = |row: &Row| (0..row.vector.len()).map(|index| i16::from(index > 0)).collect::<Vec<_>>();
        let lists: Vec<i16> = rows.iter().flat_map(begins).collect();
        column::<FloatType>(&mut group, &values, Some(&there), Some(&lists)).map_err(&failed)?;
        group.close().map(drop).map_err(&failed)
    }

    /// Completes the file and renames it, replacing an existing one.
    pub fn finish(self) -> Result<(), Error> {
        let file = self.writer.into_inner().map_err(failed(&self.path))?;
        file.as_file().sync_all().map_err(Error::io("write", &self.path))?;
        file.persist(&self.path).map(drop).map_err(|e| Error::Io { action: "write", path: self.path, source: e.error })
    }
}

fn column<T: DataType>(
    group: &mut SerializedRowGroupWriter<NamedTempFile>,
    values: &[T::T],
    definition: Option<&[i16]>,
    repetition: Option<&[i16]>,
) -> Result<(), ParquetError> {
    let missing = || ParquetError::General("the schema has fewer columns than were written".into());
    let mut column = group.next_column()?.ok_or_else(missing)?;
    column.typed::<T>().write_batch(values, definition, repetition)?;
    column.close()
}

/// A failed write is almost always an error of the file system.
fn failed(path: &Path) -> impl Fn(ParquetError) -> Error + use<> {
    let path = path.to_owned();
    move |e| Error::Io { action: "write", path: path.clone(), source: std::io::Error::other(e) }
}

#[cfg(test)]
mod tests {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::{Field, RowAccessor};

    use super::*;

    #[test]
    fn written_rows_are_read_back_unchanged() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("features.parquet");
        let rows = [
            Row { path: "a/1.png", label: Some("a"), vector: &[1.0, -2.5, 0.0] },
            Row { path: "2.png", label: None, vector: &[0.5, f32::MIN_POSITIVE, 3.0] },
            Row { path: "b/ü.png", label: Some("b"), vector: &[7.0, 8.0, 9.0] },
        ];
        let mut table = Table::create(&path, &[("arch", "resnet18")]).unwrap();
        table.append(&rows[..2]).unwrap();
        assert!(!path.exists(), "half a file has no name");
        table.append(&rows[2..]).unwrap();
        table.finish().unwrap();

        let reader = SerializedFileReader::new(std::fs::File::open(&path).unwrap()).unwrap();
        let metadata = reader.metadata().file_metadata();
        let facts = metadata.key_value_metadata().unwrap();
        assert!(facts.iter().any(|f| f.key == "arch" && f.value.as_deref() == Some("resnet18")), "{facts:?}");
        let read: Vec<_> = reader.get_row_iter(None).unwrap().map(Result::unwrap).collect();
        assert_eq!(read.len(), rows.len());
        for (read, row) in read.iter().zip(rows) {
            assert_eq!(read.get_string(0).unwrap(), row.path);
            let label = read.get_column_iter().nth(1).unwrap().1;
            assert_eq!(*label, row.label.map_or(Field::Null, |label| Field::Str(label.to_owned())));
            let vector: Vec<_> = read.get_list(2).unwrap().elements().to_vec();
            assert_eq!(vector, row.vector.iter().map(|x| Field::Float(*x)).collect::<Vec<_>>());
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
