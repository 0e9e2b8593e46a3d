//! Classification with labels, to judge features: on the frozen backbone (`linear`) and with it (`finetune`).
//!
//! [`Protocol`] is what the two differ in; [`encoder`] is what they judge; [`network`] puts a classifier on a backbone, [`optimizer`] trains it, with
//! [`larc`]'s rates where asked; [`trainer`] is the loop, [`batches`] what it goes through, [`accuracy`] how a network is
//! judged. [`frozen_check`] makes sure that what is frozen stays so.

pub mod batches;
pub mod encoder;
pub mod frozen_check;
pub mod trainer;

pub use encoder::Encoder;
pub use trainer::{Job, run};

use serde_json::{Value, json};
use simsiam_recipe::{Finetune, Linear, LinearOptimizer, Pretrain, Recipe};

use crate::error::Error;

/// Which parameters are trained, and how.
#[derive(Clone, Debug)]
pub enum Protocol {
    /// The classifier alone, on the backbone in evaluation mode (the paper's section 4, "Experimental setup").
    Linear(Linear),
    /// Everything, with the labels of a part of the images.
    Finetune(Finetune),
}

impl Protocol {
    /// What the recipe says of a stage.
    pub fn linear(recipe: &Recipe) -> Result<Self, Error> {
        let missing = || Error::config("spec.linear", "missing; this stage trains what it describes");
        recipe.linear.clone().map(Self::Linear).ok_or_else(missing)
    }

    /// What the recipe says of a stage.
    pub fn finetune(recipe: &Recipe) -> Result<Self, Error> {
        let missing = || Error::config("spec.finetune", "missing; this stage trains what it describes");
        recipe.finetune.clone().map(Self::Finetune).ok_or_else(missing)
    }

    /// The stage's name, and its folder in the output.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Linear(_) => "linear",
            Self::Finetune(_) => "finetune",
        }
    }

    /// The field of the run that describes it.
    pub fn field(&self) -> &'static str {
        match self {
            Self::Linear(_) => "spec.linear",
            Self::Finetune(_) => "spec.finetune",
        }
    }

    fn lr_field(&self) -> &'static str {
        match self {
            Self::Linear(_) => "spec.linear.lr",
            Self::Finetune(_) => "spec.finetune.lr",
        }
    }

    fn epochs(&self) -> u32 {
        match self {
            Self::Linear(l) => l.epochs,
            Self::Finetune(f) => f.epochs,
        }
    }

    fn batch_size(&self) -> u32 {
        match self {
            Self::Linear(l) => l.batch_size,
            Self::Finetune(f) => f.batch_size,
        }
    }

    fn seed(&self) -> u64 {
        match self {
            Self::Linear(l) => l.seed,
            Self::Finetune(f) => f.seed,
        }
    }

    fn min_scale(&self) -> f64 {
        match self {
            Self::Linear(l) => l.min_scale,
            Self::Finetune(f) => f.min_scale,
        }
    }

    /// The classifier's and the backbone's peak rates, base × batch / 256; the backbone has none where it is frozen.
    fn peaks(&self) -> (f64, Option<f64>) {
        let scale = f64::from(self.batch_size()) / 256.0;
        match self {
            Self::Linear(l) => (l.lr * scale, None),
            Self::Finetune(f) => (f.classifier_lr * scale, Some(f.lr * scale)),
        }
    }

    /// Momentum, weight decay and, for LARS, the trust coefficient.
    fn sgd(&self) -> (f64, f64, Option<f64>) {
        match self {
            Self::Linear(l) => {
                let trust = (l.optimizer == LinearOptimizer::Lars).then_some(l.trust_coefficient);
                (l.momentum, l.weight_decay, trust)
            }
            Self::Finetune(f) => (f.momentum, f.weight_decay, None),
        }
    }

    fn cached_features(&self) -> bool {
        matches!(self, Self::Linear(Linear { cached_features: true, .. }))
    }

    /// What a reader of the result must know before comparing it.
    fn caveat(&self) -> Option<String> {
        match self {
            Self::Linear(l) if l.cached_features => {
                Some("on features computed once without augmentation: a quick look, not the protocol".into())
            }
            Self::Finetune(f) if f.fraction < 1.0 => {
                Some(format!("with the labels of {} % of the training images", 100.0 * f.fraction))
            }
            _ => None,
        }
    }

    /// Everything that decides the outcome: a checkpoint of other fields or another backbone is not continued.
    fn arithmetic(&self, recipe: &Recipe, pretrain: &Pretrain, backbone: &str) -> Value {
        let mut own = match self {
            Self::Linear(l) => json!({ "linear": l }),
            Self::Finetune(f) => json!({ "finetune": f }),
        };
        if let Some(fields) = own.pointer_mut("/linear").and_then(Value::as_object_mut) {
            // Its values count, not its name.
            fields.remove("preset");
            fields.remove("untrainedToo");
        }
        own["backbone"] = json!(backbone);
        own["dataset"] = json!({ "decode": recipe.dataset.decode, "pack": recipe.dataset.pack });
        let a = &pretrain.augment;
        own["augment"] = json!({
            "cropSize": a.crop_size, "evalResize": a.eval_resize(), "flipProb": a.flip_prob, "mean": a.mean,
            "std": a.std, "precision": pretrain.precision,
        });
        own
    }
}
