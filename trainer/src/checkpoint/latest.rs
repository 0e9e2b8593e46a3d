//! The latest checkpoint on every rank: rank 0 finds and reads it, the others receive its state and tensors.

use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::state::State;
use super::store::{Checkpoints, Found, sha256};
use crate::dist::rank::Rank;
use crate::error::Error;

/// A checkpoint whose tensors are in place, as every rank knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Restored {
    /// Its address.
    pub uri: String,
    /// Its `state.json`.
    pub state: State,
    /// SHA-256 of its `model.safetensors`.
    pub model_sha256: String,
}

/// Restores the latest valid checkpoint on every rank; `None` on every rank where there is none.
///
/// This is the one way from a checkpoint into a network that several ranks hold. Rank 0 alone lists and reads the
/// storage, since two ranks that looked for themselves could choose differently while another attempt writes. `fill`, on
/// rank 0 alone, checks the checkpoint and copies its tensors into this rank's own; then `filled`, which are all of the
/// tensors that `fill` wrote to and the same on every rank, are broadcast from rank 0.
///
/// A resume passes the network's parameters and buffers and the optimiser's momentum as `filled`, reads step, epoch and
/// bucket order from [`Restored::state`], and does what else each rank needs from that.
///
/// # Errors
/// An error of the storage or of `fill` ends every rank with rank 0's exit code, as [`Rank::on_rank_0`] describes.
pub fn restore_latest<'a>(
    rank: &Rank,
    checkpoints: &Checkpoints,
    fill: impl FnOnce(&Found) -> Result<(), Error>,
    filled: impl IntoIterator<Item = &'a Tensor>,
) -> Result<Option<Restored>, Error> {
    let restored = rank.on_rank_0("reading the latest checkpoint", || {
        let Some(found) = checkpoints.latest()? else { return Ok(None) };
        fill(&found)?;
        Ok(Some(Restored { model_sha256: sha256(&found.model), uri: found.uri, state: found.state }))
    })?;
    if restored.is_some() {
        rank.broadcast(filled, "the broadcast of the checkpoint")?;
    }
    Ok(restored)
}

/// As [`restore_latest`], for what cannot do without a checkpoint; `purpose` completes "there is no valid checkpoint to …".
///
/// # Errors
/// [`Error::Checkpoint`] on every rank where there is none.
pub fn require_latest<'a>(
    rank: &Rank,
    checkpoints: &Checkpoints,
    purpose: &str,
    fill: impl FnOnce(&Found) -> Result<(), Error>,
    filled: impl IntoIterator<Item = &'a Tensor>,
) -> Result<Restored, Error> {
    restore_latest(rank, checkpoints, fill, filled)?.ok_or_else(|| checkpoints.missing(purpose))
}

#[cfg(test)]
mod tests {
    use simsiam_recipe::Output;

    use super::*;
    use crate::checkpoint::{Environment, Snapshot, snapshot};
    use crate::dist::testing::on_each_rank;
    use crate::error::ExitCode;
    use crate::storage::Storage;

    const WORLD: usize = 2;

    fn snapshot_of(tensor: &Tensor) -> Snapshot {
        let state = State {
            step: 30,
            epoch: 3,
            steps_per_epoch: 10,
            attempt: 1,
            seed: 0,
            samples: 100,
            listing: None,
            digest: String::new(),
            arithmetic: serde_json::Value::Null,
            bucket_order: None,
            eval_record: None,
            environment: Environment::of(&Rank::alone(1).unwrap()),
        };
        Snapshot::of([("weight", tensor)], [], state).unwrap()
    }

    /// What was restored and the tensor's values, or the exit code.
    type Outcome = Result<(Option<Restored>, Vec<f32>), ExitCode>;

    /// What each of two ranks has after restoring, where rank 0's storage holds one checkpoint and rank 1's none.
    fn restore(written: Option<&Tensor>, shape: &[i64]) -> Vec<Outcome> {
        let (folder, runtime) = (tempfile::tempdir().unwrap(), tokio::runtime::Runtime::new().unwrap());
        let outputs: Vec<_> = (0..WORLD)
            .map(|rank| {
                let uri = folder.path().join(rank.to_string()).display().to_string();
                let output = Output { uri, credentials_secret: None, endpoint: None, region: None };
                Checkpoints::new(Storage::open(&output, runtime.handle().clone()).unwrap())
            })
            .collect();
        if let Some(tensor) = written {
            outputs[0].write(&snapshot_of(tensor)).unwrap();
        }
        on_each_rank(WORLD, |rank| {
            let tensor = Tensor::zeros(shape, (tch::Kind::Float, tch::Device::Cpu));
            let fill = |found: &Found| snapshot::restore_tensors([("weight", &tensor)], &found.model, &found.uri);
            let restored = restore_latest(rank, &outputs[rank.info.rank], fill, [&tensor]);
            let restored = restored.map_err(|e| e.exit_code())?;
            Ok((restored, Vec::try_from(&tensor).unwrap()))
        })
    }

    #[test]
    fn checkpoint_that_only_rank_0_finds_is_restored_on_every_rank() {
        let got = restore(Some(&Tensor::from_slice(&[1.5f32, -2.0, 7.0])), &[3]);
        let (restored, values) = got[0].clone().unwrap();
        let restored = restored.unwrap();
        assert_eq!((restored.state.step, restored.state.epoch, values), (30, 3, vec![1.5, -2.0, 7.0]));
        assert!(restored.uri.ends_with("checkpoints/step-000000030-a1") && restored.model_sha256.len() == 64);
        assert_eq!(got[1], got[0]);
    }

    #[test]
    fn checkpoint_that_does_not_fit_ends_every_rank_with_65() {
        let got = restore(Some(&Tensor::from_slice(&[1.5f32, -2.0, 7.0])), &[4]);
        assert_eq!(got, [Err(ExitCode::Data), Err(ExitCode::Data)]);
    }

    #[test]
    fn missing_checkpoint_is_none_on_every_rank() {
        assert_eq!(restore(None, &[1]), [Ok((None, vec![0.0])), Ok((None, vec![0.0]))]);
    }
}
