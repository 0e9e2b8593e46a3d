//! Where images come from: encoded bytes by sample id.
//!
//! [`open`] detects what is at an address: a packed set (`packed.json`), tar shards (`*.tar`), Parquet files (`*.parquet`),
//! or a folder of images; each on a local disk or in object storage.

mod access;
mod filling;
mod folder;
pub(crate) mod index;
mod listing;
mod listing_report;
mod objects;
mod open;
pub(crate) mod packed;
pub(crate) mod pages;
mod parallel;
mod parquet;
mod prefetch;
mod shards;
mod subset;
pub(crate) mod tar;

pub use access::{Access, Source, listing_digest};
pub use folder::ImageFolder;
pub use listing_report::ListingReport;
pub use objects::Objects;
pub use open::open;
pub use packed::{Manifest, ShardInfo};
pub use pages::Pages;
pub use parquet::{Columns, ParquetFiles};
pub use shards::Shards;
pub use subset::Subset;
