//! What moves whole pixels of square planes (`[C, side, side]`): vertical flips and turns, in place.
//!
//! The horizontal flip costs nothing in [`super::Normalize`]; these are rare, and cost a pass of their own.

/// Exchanges top and bottom (`ImageOps.flip`).
pub fn vertical_flip(planes: &mut [u8], side: usize) {
    for plane in squares(planes, side) {
        let (top, bottom) = plane.split_at_mut(side / 2 * side);
        // An odd number of rows has one in the middle, which stays.
        let opposite = bottom.chunks_exact_mut(side).rev();
        top.chunks_exact_mut(side).zip(opposite).for_each(|(above, below)| above.swap_with_slice(below));
    }
}

/// Turns counter-clockwise by `turns` × 90° (`Image.rotate`), of which whole circles do not count.
pub fn quarter_turns(planes: &mut [u8], side: usize, turns: u8) {
    match turns % 4 {
        0 => {}
        1 => {
            transpose(planes, side);
            vertical_flip(planes, side);
        }
        2 => squares(planes, side).for_each(<[u8]>::reverse),
        _ => {
            vertical_flip(planes, side);
            transpose(planes, side);
        }
    }
}

/// Side of a tile: one of each of two tiles' rows fits a cache line.
const TILE: usize = 32;

/// Exchanges rows and columns, tile by tile, since a column's pixels are on as many cache lines as it has rows.
fn transpose(planes: &mut [u8], side: usize) {
    for plane in squares(planes, side) {
        for top in (0..side).step_by(TILE) {
            for left in (top..side).step_by(TILE) {
                for row in top..side.min(top + TILE) {
                    for column in left.max(row + 1)..side.min(left + TILE) {
                        plane.swap(row * side + column, column * side + row);
                    }
                }
            }
        }
    }
}

fn squares(planes: &mut [u8], side: usize) -> impl Iterator<Item = &mut [u8]> {
    planes.chunks_exact_mut((side * side).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sides below, at and beyond a tile, odd ones too, against the definition of each.
    #[test]
    fn pixels_go_where_they_belong() {
        for side in [1, 2, 3, 31, 32, 33, 70] {
            let before: Vec<u8> = (0..2 * side * side).map(|place| (place * 7 % 251) as u8).collect();
            let check = |what: &str, after: &[u8], from: &dyn Fn(usize, usize) -> (usize, usize)| {
                for (place, value) in after.iter().enumerate() {
                    let (plane, place) = (place / (side * side) * side * side, place % (side * side));
                    let (row, column) = from(place / side, place % side);
                    assert_eq!(*value, before[plane + row * side + column], "{what} of side {side} at {place}");
                }
            };
            let last = side - 1;
            let mut after = before.clone();
            vertical_flip(&mut after, side);
            check("flip", &after, &|row, column| (last - row, column));
            for turns in [0, 1, 2, 3, 5] {
                let mut after = before.clone();
                quarter_turns(&mut after, side, turns);
                check(&format!("{turns} turns"), &after, &|row, column| match turns % 4 {
                    0 => (row, column),
                    1 => (column, last - row),
                    2 => (last - row, last - column),
                    _ => (last - column, row),
                });
            }
        }
    }

    #[test]
    fn nothing_to_move_is_fine() {
        vertical_flip(&mut [], 0);
        quarter_turns(&mut [], 0, 1);
    }
}
