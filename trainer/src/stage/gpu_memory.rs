//! A GPU that is out of memory, as a configuration error: the same batch would not fit in the next attempt either.

use simsiam_recipe::Stage;

use crate::error::Error;

/// How libtorch's allocator begins its message.
const BEGIN: &str = "CUDA out of memory";

/// `error`, or the field that asks for too much memory if that is what happened in `stage`.
pub fn explain(error: Error, stage: Stage) -> Error {
    let text = match &error {
        Error::Torch(e) => e.to_string(),
        Error::Ext(tch_ext::Error::OutOfMemory { message, .. }) => message.clone(),
        _ => return error,
    };
    let Some(said) = text.find(BEGIN).and_then(|at| text.get(at..)) else { return error };
    let field = match stage {
        Stage::Pretrain | Stage::Linear | Stage::Finetune => format!("spec.{}.batchSize", stage.name()),
        other => format!("spec.{}", other.name()),
    };
    let remedy = match stage {
        Stage::Pretrain => "lower batchSize, set precision: bf16, or use more GPUs",
        Stage::Linear | Stage::Finetune => "lower batchSize or use more GPUs",
        _ => "use a GPU with more memory, and end other processes on it",
    };
    Error::config(field, format!("{}; {remedy}", figures(said)))
}

/// What was needed and what there is; libtorch's own sentence if it has another form than expected.
fn figures(said: &str) -> String {
    let between = |begin: &str, end: &str| {
        let rest = said.split_once(begin)?.1;
        Some(rest.split_once(end)?.0.trim())
    };
    let parts = (
        between("Tried to allocate ", ". "),
        between("total capacity of ", " of which"),
        between("of which ", " is free"),
    );
    match parts {
        (Some(needed), Some(total), Some(free)) => {
            format!("the GPU is out of memory: {needed} more were needed, and {free} of its {total} are free")
        }
        _ => said.lines().next().unwrap_or(said).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use tch::TchError;

    use super::*;

    /// The message of `c10::OutOfMemoryError`, with the start of the C++ stack that tch's errors contain.
    const SAID: &str = "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 79.11 GiB of which \
         1.25 GiB is free. Including non-PyTorch memory, this process has 77.85 GiB memory in use. Of the allocated memory \
         76.00 GiB is allocated by PyTorch, and 1.00 GiB is reserved by PyTorch but unallocated.\nException raised from \
         malloc at /pytorch/c10/cuda/CUDACachingAllocator.cpp:1 (most recent call first):\nframe #0: x";

    #[test]
    fn out_of_memory_is_a_configuration_error_of_the_batch_size() {
        let of_ext = tch_ext::Error::OutOfMemory { op: "backward", message: SAID.into() };
        for error in [Error::Torch(TchError::Torch(SAID.into())), Error::Ext(of_ext)] {
            let explained = explain(error, Stage::Pretrain);
            assert_eq!(explained.exit_code().code(), 78);
            assert_eq!(explained.subject().as_deref(), Some("spec.pretrain.batchSize"));
            assert_eq!(
                explained.to_string(),
                "spec.pretrain.batchSize: the GPU is out of memory: 2.50 GiB more were needed, and 1.25 GiB of its 79.11 \
                 GiB are free; lower batchSize, set precision: bf16, or use more GPUs"
            );
        }
    }

    #[test]
    fn out_of_memory_in_another_form_keeps_libtorchs_sentence() {
        let error = Error::Torch(TchError::Torch("CUDA out of memory: on device 0\nframe".into()));
        let explained = explain(error, Stage::Linear);
        assert!(
            explained.to_string().starts_with("spec.linear.batchSize: CUDA out of memory: on device 0; "),
            "{explained}"
        );
    }

    #[test]
    fn other_errors_stay_as_they_are() {
        let error = explain(Error::Torch(TchError::Torch("shapes differ".into())), Stage::Pretrain);
        assert_eq!(
            (error.exit_code().code(), error.to_string()),
            (1, "libtorch: Internal torch error: shapes differ".to_owned())
        );
    }
}
