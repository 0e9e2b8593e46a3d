//! What linear classification and fine-tuning differ in.

use serde_json::{Value, json};
use simsiam_recipe::{Finetune, Linear, LinearOptimizer, Pretrain, Recipe};

use crate::error::Error;
use crate::training::sgd::SgdOptions;

/// What a classification stage trains, and how.
#[derive(Clone, Debug)]
pub enum Protocol {
    /// The classifier alone, on the backbone in evaluation mode (the paper's section 4, "Experimental setup").
    Linear(Linear),
    /// The whole network, with the labels of a part of the images.
    Finetune(Finetune),
}

impl Protocol {
    /// The linear stage of a recipe.
    pub fn linear(recipe: &Recipe) -> Result<Self, Error> {
        let missing = || Error::missing("spec.linear", "the linear stage");
        recipe.linear.clone().map(Self::Linear).ok_or_else(missing)
    }

    /// The finetune stage of a recipe.
    pub fn finetune(recipe: &Recipe) -> Result<Self, Error> {
        let missing = || Error::missing("spec.finetune", "the finetune stage");
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

    pub(super) fn lr_field(&self) -> &'static str {
        match self {
            Self::Linear(_) => "spec.linear.lr",
            Self::Finetune(_) => "spec.finetune.lr",
        }
    }

    pub(super) fn epochs(&self) -> u32 {
        match self {
            Self::Linear(l) => l.epochs,
            Self::Finetune(f) => f.epochs,
        }
    }

    pub(super) fn batch_size(&self) -> u32 {
        match self {
            Self::Linear(l) => l.batch_size,
            Self::Finetune(f) => f.batch_size,
        }
    }

    pub(super) fn seed(&self) -> u64 {
        match self {
            Self::Linear(l) => l.seed,
            Self::Finetune(f) => f.seed,
        }
    }

    pub(super) fn min_scale(&self) -> f64 {
        match self {
            Self::Linear(l) => l.min_scale,
            Self::Finetune(f) => f.min_scale,
        }
    }

    /// Whether the classifier alone is trained.
    pub(super) fn freezes_backbone(&self) -> bool {
        matches!(self, Self::Linear(_))
    }

    /// Peak learning rates of the parameter groups: the classifier's and, if it is trained, the backbone's.
    pub(super) fn peak_rates(&self) -> Vec<f64> {
        match self {
            Self::Linear(l) => vec![l.peak_lr()],
            Self::Finetune(f) => vec![f.peak_classifier_lr(), f.peak_lr()],
        }
    }

    pub(super) fn sgd(&self) -> SgdOptions {
        match self {
            Self::Linear(l) => SgdOptions {
                momentum: l.momentum,
                weight_decay: l.weight_decay,
                trust: (l.optimizer == LinearOptimizer::Lars).then_some(l.trust_coefficient),
            },
            Self::Finetune(f) => SgdOptions { momentum: f.momentum, weight_decay: f.weight_decay, trust: None },
        }
    }

    pub(super) fn cached_features(&self) -> bool {
        matches!(self, Self::Linear(Linear { cached_features: true, .. }))
    }

    /// How the result differs from the published protocol, if it does.
    pub(super) fn caveat(&self) -> Option<String> {
        match self {
            Self::Linear(l) if l.cached_features => {
                Some("on features computed once without augmentation: a quick estimate, not the protocol".into())
            }
            Self::Finetune(f) if f.fraction < 1.0 => {
                Some(format!("with the labels of {} % of the training images", 100.0 * f.fraction))
            }
            _ => None,
        }
    }

    /// Everything that decides the outcome: a checkpoint with other fields or another backbone is not resumed.
    pub(super) fn arithmetic(&self, recipe: &Recipe, pretrain: &Pretrain, backbone: &str) -> Value {
        let mut own = match self {
            Self::Linear(l) => json!({ "linear": l }),
            Self::Finetune(f) => json!({ "finetune": f }),
        };
        if let Some(fields) = own.pointer_mut("/linear").and_then(Value::as_object_mut) {
            // The values of a preset count, not its name.
            fields.remove("preset");
            fields.remove("untrainedToo");
        }
        own["backbone"] = json!(backbone);
        own["dataset"] = json!({ "decode": recipe.dataset.decode, "pack": recipe.dataset.pack });
        // Where they are not the default; earlier checkpoints lack them.
        let written = json!(recipe.dataset);
        for field in ["pages", "range"] {
            if let Some(value) = written.get(field) {
                own["dataset"][field] = value.clone();
            }
        }
        let a = &pretrain.augment;
        own["augment"] = json!({
            "cropSize": a.crop_size, "evalResize": a.eval_resize(), "flipProb": a.flip_prob, "mean": a.mean,
            "std": a.std, "precision": pretrain.precision,
        });
        own
    }
}
