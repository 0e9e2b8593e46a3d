//! Weights of networks for RGB images in a network for images of other channels.

use tch::{Kind, Tensor};

use crate::error::Error;

/// Channels of the images that published networks are trained on.
const RGB: i64 = 3;

/// Whether the first convolution of a file can be adapted to a network's: it is for RGB, the network's is not, and they
/// are alike in all else. Sizes are `[out, C, kernel, kernel]`.
pub(super) fn adapts(file: &[i64], network: &[i64]) -> bool {
    match (file, network) {
        ([out, RGB, kernel @ ..], [wanted, channels, other @ ..]) => {
            *channels != RGB && out == wanted && kernel.len() == 2 && kernel == other
        }
        _ => false,
    }
}

/// The weight `[out, 3, kernel, kernel]` of a first convolution as `[out, C, kernel, kernel]` in single precision, by timm's
/// rule (`adapt_input_conv`).
///
/// For one channel, the sum over R, G and B: a grayscale image gives what its RGB copy gave. For more, R, G, B, R, … times
/// 3 / C, so that an image whose channels are all alike gives what its RGB copy gave, if 3 divides C, and about that
/// otherwise.
pub(super) fn adapted(weight: &Tensor, channels: i64) -> Result<Tensor, Error> {
    let weight = weight.f_to_kind(Kind::Float)?;
    if channels == 1 {
        return Ok(weight.f_sum_dim_intlist([1i64].as_slice(), true, Kind::Float)?);
    }
    let cycle: Vec<i64> = (0..channels).map(|channel| channel % RGB).collect();
    let repeated = weight.f_index_select(1, &Tensor::f_from_slice(&cycle)?)?;
    Ok(repeated.f_mul_scalar(RGB as f64 / channels as f64)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `[1, 3, 1, 2]`: R is (1, 2), G (10, 20), B (100, 200).
    fn weight() -> Tensor {
        Tensor::from_slice(&[1f32, 2.0, 10.0, 20.0, 100.0, 200.0]).reshape([1, 3, 1, 2])
    }

    fn values(channels: i64) -> Vec<f32> {
        let adapted = adapted(&weight(), channels).unwrap();
        assert_eq!(adapted.size(), [1, channels, 1, 2]);
        Vec::try_from(adapted.flatten(0, -1)).unwrap()
    }

    #[test]
    fn weight_for_one_channel_is_the_sum() {
        assert_eq!(values(1), [111.0, 222.0]);
    }

    #[test]
    fn weight_for_more_channels_repeats_in_turn_and_keeps_the_scale() {
        assert_eq!(values(2), [1.5, 3.0, 15.0, 30.0]);
        let fifths = [1f32, 2.0, 10.0, 20.0, 100.0, 200.0, 1.0, 2.0, 10.0, 20.0].map(|value| value * 0.6);
        assert_eq!(values(5), fifths);
        let six = values(6);
        assert_eq!((six[..6].to_vec(), six[6..].iter().sum::<f32>()), (vec![0.5, 1.0, 5.0, 10.0, 50.0, 100.0], 166.5));
    }

    #[test]
    fn only_a_weight_for_rgb_is_adapted() {
        assert!(adapts(&[64, 3, 7, 7], &[64, 5, 7, 7]) && adapts(&[64, 3, 7, 7], &[64, 1, 7, 7]));
        for (file, network) in [
            ([64, 3, 7, 7], [64, 3, 7, 7]),
            ([64, 4, 7, 7], [64, 5, 7, 7]),
            ([64, 5, 7, 7], [64, 3, 7, 7]),
            ([32, 3, 7, 7], [64, 5, 7, 7]),
            ([64, 3, 3, 3], [64, 5, 7, 7]),
        ] {
            assert!(!adapts(&file, &network), "{file:?} {network:?}");
        }
    }
}
