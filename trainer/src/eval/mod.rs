//! Evaluation of features: [`extraction`] computes those of a whole data set, [`knn`] and [`accuracy`] measure them,
//! [`embedding`] writes them to a file.

pub mod accuracy;
pub mod embed;
pub mod embedding;
pub mod extraction;
pub mod knn;
