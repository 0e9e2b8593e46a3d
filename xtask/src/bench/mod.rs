//! `cargo xtask bench`: benchmarks, alternating with PyTorch and torchvision in one run.

pub mod data;
pub mod operator;
mod python;
pub mod train;

/// Returns the median; for an even number of values, the mean of the middle two; 0 if there are none.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    match values.len() {
        0 => 0.0,
        count if count % 2 == 1 => values[half],
        _ => (values[half - 1] + values[half]) / 2.0,
    }
}
