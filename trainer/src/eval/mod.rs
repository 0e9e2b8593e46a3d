//! Evaluation of features: [`extraction`] computes those of a whole data set, [`knn`] and [`accuracy`] measure them,
//! [`feature_file`] writes them to a file.

pub mod accuracy;
pub mod embed;
pub mod extraction;
pub mod feature_file;
pub mod knn;
