//! Features of the latest checkpoint: nearest neighbours by cosine similarity, and the first two principal components.

use std::sync::Arc;

use simsiam_data::{EvalView, Source, Subset};
use tch::{Device, Kind, Tensor};

use crate::dist::rank::Rank;
use crate::error::Error;
use crate::eval::extraction::FeatureExtraction;
use crate::eval::knn::normalised;
use crate::model::{Pass, SimSiam};

/// Images of a forward pass.
const BATCH: usize = 128;

/// Features `[N, F]` of length 1 and the ids of their images within the whole source.
pub struct Features {
    /// The features, on the CPU.
    pub rows: Tensor,
    /// Ids; images that cannot be read are left out.
    pub ids: Vec<u64>,
}

/// Computes the features of a sample of images.
pub fn extract(
    rank: &Rank,
    model: &SimSiam,
    sample: Subset,
    view: &EvalView,
    loader_threads: usize,
    what: &str,
) -> Result<Features, Error> {
    let outer = sample.ids().to_vec();
    let source: Arc<dyn Source> = Arc::new(sample);
    let extraction = FeatureExtraction {
        source: &source,
        view: view.clone(),
        batch: BATCH,
        loader_threads,
        max_corrupt: u64::MAX,
        what,
    };
    let mut rows = vec![Tensor::f_zeros([0, model.feature_width()], (Kind::Float, Device::Cpu))?];
    let mut ids = Vec::new();
    extraction.run(
        rank,
        |images| normalised(&model.features(images, Pass::EVAL)?),
        |part| {
            ids.extend(part.ids.iter().filter_map(|id| outer.get(*id as usize)));
            rows.push(part.values.f_to_device(Device::Cpu)?);
            Ok(())
        },
    )?;
    Ok(Features { rows: Tensor::f_cat(&rows, 0)?, ids })
}

/// Returns, for each row of `queries`, the indices in `bank` of the `k` nearest by cosine similarity, with their
/// similarities, nearest first. With `same`, both are of one source and an image is not its own neighbour.
pub fn nearest(queries: &Features, bank: &Features, k: usize, same: bool) -> Result<Vec<Vec<(usize, f64)>>, Error> {
    let similarity = queries.rows.f_matmul(&bank.rows.f_tr()?)?.f_to_kind(Kind::Double)?;
    let width = bank.ids.len();
    let flat = Vec::<f64>::try_from(similarity.f_flatten(0, -1)?)?;
    let row = |(row, query): (&[f64], &u64)| {
        let mut ranked: Vec<(usize, f64)> = row.iter().copied().enumerate().collect();
        ranked.retain(|(index, _)| !same || bank.ids[*index] != *query);
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
        ranked.truncate(k);
        ranked
    };
    Ok(flat.chunks(width.max(1)).zip(&queries.ids).map(row).collect())
}

/// Returns the first two principal components of rows `[N, F]` and the share of the variance that each explains.
/// The sign of a component is such that its largest loading is positive.
pub fn principal(rows: &Tensor) -> Result<(Vec<[f64; 2]>, [f64; 2]), Error> {
    let rows = rows.f_to_kind(Kind::Double)?;
    let centred = rows.f_sub(&rows.f_mean_dim([0i64].as_slice(), true, Kind::Double)?)?;
    let (u, s, v) = centred.f_svd(true, true)?;
    let variance = Vec::<f64>::try_from(s.f_square()?)?;
    let total: f64 = variance.iter().sum::<f64>().max(1e-300);
    let share = |i: usize| variance.get(i).copied().unwrap_or(0.0) / total;
    let mut columns = [Vec::new(), Vec::new()];
    for (i, column) in columns.iter_mut().enumerate().take(variance.len()) {
        let loadings = Vec::<f64>::try_from(v.f_select(1, i as i64)?.f_contiguous()?)?;
        let largest = loadings.iter().copied().max_by(|a, b| a.abs().total_cmp(&b.abs())).unwrap_or(1.0);
        let scale = variance[i].sqrt() * largest.signum();
        *column = Vec::<f64>::try_from(u.f_select(1, i as i64)?.f_contiguous()?)?.iter().map(|x| x * scale).collect();
    }
    let n = columns[0].len();
    let at = |column: &[f64], i: usize| column.get(i).copied().unwrap_or(0.0);
    Ok(((0..n).map(|i| [at(&columns[0], i), at(&columns[1], i)]).collect(), [share(0), share(1)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn features(rows: &[[f32; 3]]) -> Features {
        let rows = Tensor::from_slice(&rows.concat()).reshape([rows.len() as i64, 3]);
        let ids = (0..rows.size()[0] as u64).collect();
        Features { rows, ids }
    }

    #[test]
    fn neighbours_are_sorted_and_exclude_the_image_itself() {
        let set = features(&[[1.0, 0.0, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]]);
        let found = nearest(&set, &set, 2, true).unwrap();
        assert_eq!(found[0].iter().map(|n| n.0).collect::<Vec<_>>(), [1, 2]);
        assert!((found[0][0].1 - 0.6).abs() < 1e-6);
        assert_eq!(nearest(&set, &set, 1, false).unwrap()[2][0].0, 2);
    }

    #[test]
    fn first_component_is_the_direction_of_most_variance() {
        // Along (0, −3, 4)/5 by ±5, along x by ±1.
        let set = features(&[[1.0, -3.0, 4.0], [-1.0, -3.0, 4.0], [1.0, 3.0, -4.0], [-1.0, 3.0, -4.0]]);
        let (points, share) = principal(&set.rows).unwrap();
        for (point, expected) in points.iter().zip([[5.0, 1.0], [5.0, -1.0], [-5.0, 1.0], [-5.0, -1.0]]) {
            assert!((point[0] - expected[0]).abs() < 1e-6 && (point[1] - expected[1]).abs() < 1e-6, "{points:?}");
        }
        assert!((share[0] - 25.0 / 26.0).abs() < 1e-6, "{share:?}");
    }
}
