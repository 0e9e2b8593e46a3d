//! Images in the columns of Parquet files, as the data sets of the Hugging Face Hub are stored.
//!
//! [`select`] finds the files of an address, [`columns`] the columns with the images and labels, by the file's schema and
//! by what [`features`] reads from the metadata that `datasets` writes. [`table`] reads a file's labels and the positions
//! of the pages of its images; it reads no image. [`rows`] names the samples. [`files`] is the source: for a sample it reads
//! the one page that has it ([`pages`]) and keeps the last pages in memory ([`held`]). A page may be a hundred times as
//! large as an image, so a thread ([`set`]) extracts all images into the cache meanwhile, where each is read by itself
//! ([`extract`]). [`chunk`] is how the Parquet library reads a file.

mod chunk;
mod columns;
mod extract;
mod features;
mod files;
mod held;
mod pages;
mod rows;
mod select;
mod set;
mod table;

pub use columns::Columns;
pub use files::ParquetFiles;
pub(super) use select::{is_parquet, selected_by};
