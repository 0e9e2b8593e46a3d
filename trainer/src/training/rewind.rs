//! The state of training at the last exchange of measurements, so that the few steps since then can be repeated when one
//! of them turned out to be the one that went wrong.

use tch::Tensor;

use crate::error::Error;

/// A copy of everything that a step changes, on the same device: one more copy of weights and momentum. It is overwritten at
/// every exchange, every ten steps or ten seconds, by a copy within the device's memory.
#[derive(Debug)]
pub(super) struct Rewind {
    copies: Vec<Tensor>,
    /// Finished steps at the time.
    pub(super) step: u64,
    /// Whether the momentum buffers held a step.
    pub(super) momentum: bool,
}

impl Rewind {
    /// A first copy of `tensors`.
    pub(super) fn of<'a>(tensors: impl Iterator<Item = &'a Tensor>, step: u64, momentum: bool) -> Result<Self, Error> {
        let copy = |tensor: &Tensor| Ok(tensor.f_detach()?.f_detach_copy()?);
        let copies = tch::no_grad(|| tensors.map(copy).collect::<Result<_, Error>>())?;
        Ok(Self { copies, step, momentum })
    }

    /// Overwrites the copy with the present values.
    pub(super) fn update<'a>(
        &mut self,
        tensors: impl Iterator<Item = &'a Tensor>,
        step: u64,
        momentum: bool,
    ) -> Result<(), Error> {
        tch::no_grad(|| {
            self.copies
                .iter_mut()
                .zip(tensors)
                .try_for_each(|(copy, tensor)| Ok::<_, Error>(copy.f_copy_(tensor).map(drop)?))
        })?;
        (self.step, self.momentum) = (step, momentum);
        Ok(())
    }

    /// Restores the values of the copy.
    pub(super) fn restore<'a>(&self, tensors: impl Iterator<Item = &'a Tensor>) -> Result<(), Error> {
        tch::no_grad(|| {
            let mut pairs = tensors.zip(&self.copies);
            pairs.try_for_each(|(tensor, copy)| Ok(tensor.shallow_clone().f_copy_(copy).map(drop)?))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restored_values_are_those_of_the_last_update() {
        let tensors = [Tensor::from_slice(&[1.0, 2.0]).set_requires_grad(true), Tensor::from_slice(&[3.0])];
        let set = |value: f64| {
            tch::no_grad(|| tensors.iter().for_each(|tensor| drop(tensor.shallow_clone().fill_(value))));
        };
        let values = || tensors.iter().map(|tensor| tensor.double_value(&[0])).collect::<Vec<_>>();
        let mut rewind = Rewind::of(tensors.iter(), 10, false).unwrap();
        set(f64::NAN);
        rewind.restore(tensors.iter()).unwrap();
        assert_eq!((values(), rewind.step, rewind.momentum), (vec![1.0, 3.0], 10, false));
        set(5.0);
        rewind.update(tensors.iter(), 20, true).unwrap();
        set(f64::NAN);
        rewind.restore(tensors.iter()).unwrap();
        assert_eq!((values(), rewind.step, rewind.momentum), (vec![5.0, 5.0], 20, true));
    }
}
