//! SGD's state as PyTorch saves it: momentum by parameter index, settings by group.

use std::collections::BTreeMap;

use simsiam_pth::{Tensor, Value};
use simsiam_recipe::Pretrain;

use crate::checkpoint::State;
use crate::model::simsiam::PREDICTOR;
use crate::training::schedule::LearningRate;

/// The optimiser's state in a SimSiam checkpoint.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OptimizerState {
    /// Momentum buffers by parameter name; a frozen parameter has none.
    pub momentum: BTreeMap<String, Tensor>,
    /// Its settings, if known.
    pub settings: Option<Settings>,
}

/// SGD's settings in the last step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Learning rate of the encoder.
    pub lr: f64,
    /// Learning rate of the predictor, if constant (`fixPredLr`).
    pub fixed_lr: Option<f64>,
    /// Momentum factor.
    pub momentum: f64,
    /// Weight decay.
    pub weight_decay: f64,
}

impl Settings {
    /// Returns the settings of the last step of a run's checkpoint.
    pub fn of(state: &State) -> Option<Self> {
        let pretrain: Pretrain = serde_json::from_value(state.arithmetic.get("pretrain")?.clone()).ok()?;
        let rates = LearningRate::new(&pretrain, state.steps_per_epoch.max(1)).at(state.step.saturating_sub(1));
        Some(Self {
            lr: rates.encoder,
            fixed_lr: pretrain.fix_pred_lr.then_some(rates.predictor),
            momentum: pretrain.momentum,
            weight_decay: pretrain.weight_decay,
        })
    }
}

impl OptimizerState {
    /// Reads the `optimizer` of a PyTorch checkpoint with these parameters; `None` if it does not match them.
    ///
    /// PyTorch numbers parameters in the order of the groups, which is that of `parameters()`: the encoder's, then the
    /// predictor's. (Before PyTorch 1.4 the numbers were addresses, so the position in the groups counts, not the number.)
    pub fn read(value: &Value, parameters: &[&str]) -> Option<Self> {
        let groups = value.get("param_groups")?.items()?;
        let numbers: Vec<i64> = groups
            .iter()
            .map(|group| group.get("params")?.items()?.iter().map(Value::as_int).collect::<Option<Vec<_>>>())
            .collect::<Option<Vec<_>>>()?
            .concat();
        if numbers.len() != parameters.len() {
            return None;
        }
        let names: BTreeMap<i64, &str> = numbers.into_iter().zip(parameters.iter().copied()).collect();
        let mut momentum = BTreeMap::new();
        for (number, state) in value.get("state")?.entries()? {
            // PyTorch writes None for a parameter that never had a gradient.
            if let Some(buffer) = state.get("momentum_buffer").and_then(Value::as_tensor) {
                momentum.insert((*names.get(&number.as_int()?)?).to_owned(), buffer.clone());
            }
        }
        Some(Self { momentum, settings: settings(groups) })
    }

    /// Returns the `optimizer` of a PyTorch checkpoint with these parameters, as `torch.optim.SGD` loads it.
    pub fn to_value(&self, parameters: &[&str]) -> Value {
        let state = parameters.iter().enumerate().filter_map(|(number, name)| {
            let buffer = self.momentum.get(*name)?.clone();
            Some((Value::Int(number as i64), dict([("momentum_buffer", Value::Tensor(buffer))])))
        });
        let predictor = parameters.iter().position(|name| name.starts_with(PREDICTOR)).unwrap_or(parameters.len());
        let groups = match self.settings {
            Some(settings @ Settings { fixed_lr: Some(fixed), .. }) => vec![
                group(settings, settings.lr, Some(false), 0..predictor),
                group(settings, fixed, Some(true), predictor..parameters.len()),
            ],
            Some(settings) => vec![group(settings, settings.lr, None, 0..parameters.len())],
            None => Vec::new(),
        };
        dict([("state", Value::Dict(state.collect())), ("param_groups", Value::List(groups))])
    }
}

fn settings(groups: &[Value]) -> Option<Settings> {
    let number = |group: &Value, key| group.get(key).and_then(Value::as_float);
    let first = groups.first()?;
    let fixed = groups.iter().find(|group| group.get("fix_lr").and_then(Value::as_bool) == Some(true));
    Some(Settings {
        lr: number(first, "lr")?,
        fixed_lr: fixed.and_then(|group| number(group, "lr")),
        momentum: number(first, "momentum")?,
        weight_decay: number(first, "weight_decay")?,
    })
}

fn group(settings: Settings, lr: f64, fixed: Option<bool>, numbers: std::ops::Range<usize>) -> Value {
    let mut group = vec![
        ("lr", lr.into()),
        ("momentum", settings.momentum.into()),
        ("dampening", 0.into()),
        ("weight_decay", settings.weight_decay.into()),
        ("nesterov", false.into()),
        ("maximize", false.into()),
        ("foreach", Value::None),
        ("differentiable", false.into()),
        ("fused", Value::None),
    ];
    group.extend(fixed.map(|fixed| ("fix_lr", fixed.into())));
    group.push(("params", Value::List(numbers.map(|number| Value::Int(number as i64)).collect())));
    dict(group)
}

/// A dict with text keys.
pub(super) fn dict<'a>(entries: impl IntoIterator<Item = (&'a str, Value)>) -> Value {
    Value::Dict(entries.into_iter().map(|(key, value)| (key.into(), value)).collect())
}
