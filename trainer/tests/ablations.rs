//! The paper's ablations (sections 4 and 5) in the network: which tensors each has, what its loss is, and where gradients
//! flow. `collapse.rs` shows what becomes of some of them; `alternation.rs` trains by them.

#![allow(clippy::unwrap_used)] // The helpers here are tests too.

use std::collections::BTreeMap;

use simsiam::model::params::Role;
use simsiam::model::{Outputs, Pass, SimSiam};
use simsiam_recipe::{Ablation, Arch, Pretrain, Stem};
use tch::{Device, Kind, Tensor};

const ALL: [Ablation; 10] = [
    Ablation::None,
    Ablation::NoStopGradient,
    Ablation::NoPredictor,
    Ablation::FixedPredictor,
    Ablation::BatchNormNone,
    Ablation::BatchNormHidden,
    Ablation::BatchNormAll,
    Ablation::CrossEntropy,
    Ablation::Asymmetric,
    Ablation::AsymmetricDouble,
];

fn model(ablation: Ablation) -> SimSiam {
    let recipe = Pretrain {
        arch: Arch::Resnet18,
        stem: Stem::Cifar,
        base_width: 4,
        dim: 12,
        pred_dim: 6,
        seed: 3,
        ablation,
        ..Pretrain::default()
    };
    SimSiam::new(&recipe, Kind::Double, Device::Cpu).unwrap()
}

/// Two views of ten images.
fn views() -> [Tensor; 2] {
    tch::manual_seed(5);
    [(); 2].map(|()| Tensor::randn([10, 3, 8, 8], (Kind::Double, Device::Cpu)))
}

fn forward(model: &SimSiam, views: &[Tensor; 2]) -> Outputs {
    model.forward([&views[0], &views[1]], Pass::train(None)).unwrap()
}

/// Names and roles of the tensors of projector and predictor.
fn heads(model: &SimSiam) -> BTreeMap<String, Role> {
    let entries = model.params().entries().iter();
    entries
        .filter(|e| e.name.starts_with("encoder.fc.") || e.name.starts_with("predictor."))
        .map(|e| (e.name.clone(), e.role))
        .collect()
}

#[test]
fn heads_have_the_tensors_of_each_ablation() {
    const NORM: [&str; 5] = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"];
    let whole = model(Ablation::None);
    for ablation in ALL {
        let mut expected = heads(&whole);
        let remove = |heads: &mut BTreeMap<String, Role>, layers: &[&str]| {
            heads.retain(|name, _| !layers.iter().any(|layer| name.starts_with(layer)));
        };
        let trained = |heads: &mut BTreeMap<String, Role>, names: &[&str]| {
            heads.extend(names.iter().map(|name| ((*name).to_owned(), Role::Trained)));
        };
        match ablation {
            Ablation::NoPredictor => remove(&mut expected, &["predictor."]),
            Ablation::FixedPredictor => {
                for (_, role) in expected.iter_mut().filter(|(name, _)| name.starts_with("predictor.")) {
                    *role = if *role == Role::Trained { Role::Frozen } else { *role };
                }
            }
            Ablation::BatchNormNone => {
                remove(&mut expected, &["encoder.fc.1.", "encoder.fc.4.", "encoder.fc.7.", "predictor.1."]);
                trained(
                    &mut expected,
                    &["encoder.fc.0.bias", "encoder.fc.3.bias", "encoder.fc.6.bias", "predictor.0.bias"],
                );
            }
            Ablation::BatchNormHidden => {
                remove(&mut expected, &["encoder.fc.7."]);
                trained(&mut expected, &["encoder.fc.6.bias"]);
            }
            Ablation::BatchNormAll => {
                expected.insert("predictor.3.bias".into(), Role::Frozen);
                for (i, name) in NORM.iter().enumerate() {
                    expected.insert(format!("predictor.4.{name}"), if i < 2 { Role::Trained } else { Role::Buffer });
                }
            }
            _ => {}
        }
        let found = model(ablation);
        assert_eq!(heads(&found), expected, "{ablation:?}");
        for entry in found.params().entries() {
            if let Some(tensor) = whole.params().get(&entry.name) {
                assert!(entry.tensor.equal(tensor), "{ablation:?}: {} starts elsewhere", entry.name);
            }
        }
    }
}

fn rows(tensor: &Tensor) -> Vec<Vec<f64>> {
    (0..tensor.size()[0]).map(|i| Vec::try_from(tensor.get(i).detach()).unwrap()).collect()
}

/// D as the paper has it, in plain loops: equation 1, or section 4.5.
fn distance(ablation: Ablation, p: &Tensor, z: &Tensor) -> f64 {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let softmax = |x: &[f64]| {
        let sum: f64 = x.iter().map(|x| x.exp()).sum();
        x.iter().map(|x| x.exp() / sum).collect::<Vec<_>>()
    };
    let (p, z) = (rows(p), rows(z));
    let of_row = |(p, z): (&Vec<f64>, &Vec<f64>)| match ablation {
        Ablation::CrossEntropy => -softmax(z).iter().zip(softmax(p)).map(|(z, p)| z * p.ln()).sum::<f64>(),
        _ => -dot(p, z) / (dot(p, p) * dot(z, z)).sqrt(),
    };
    p.iter().zip(&z).map(of_row).sum::<f64>() / p.len() as f64
}

#[test]
fn losses_equal_the_papers_formulas() {
    for ablation in ALL {
        let Outputs { loss, z, p } = forward(&model(ablation), &views());
        let expected = match ablation {
            Ablation::Asymmetric | Ablation::AsymmetricDouble => {
                assert_eq!(p.len(), 1, "view 2 predicts nothing");
                distance(ablation, &p[0], &z[1])
            }
            _ => (distance(ablation, &p[0], &z[1]) + distance(ablation, &p[1], &z[0])) / 2.0,
        };
        let loss = loss.double_value(&[]);
        assert!((loss - expected).abs() < 1e-12, "{ablation:?}: {loss}, expected {expected}");
        if ablation == Ablation::CrossEntropy {
            assert!(loss > 0.0 && loss < 2.0 * 12f64.ln(), "{loss}");
        }
    }
}

/// Gradients of all trained parameters, one after the other.
fn gradients(model: &SimSiam, loss: &Tensor) -> Tensor {
    loss.backward();
    let gradients: Vec<_> = model.params().trained().map(|(_, t)| t.grad().flatten(0, -1)).collect();
    Tensor::cat(&gradients, 0)
}

/// Targets that were computed before give the same loss and the same gradients, which is what a stop-gradient means.
#[test]
fn targets_receive_no_gradients() {
    for ablation in ALL {
        let (in_step, before) = (model(ablation), model(ablation));
        let views = views();
        let outputs = forward(&in_step, &views);
        let refs = [&views[0], &views[1]];
        let [one, two] = before.targets(refs, Pass::train(None)).unwrap();
        assert!(one.equal(&outputs.z[0]) && two.equal(&outputs.z[1]) && !one.requires_grad(), "{ablation:?}");
        let towards = before.forward_towards(refs, [&one, &two], Pass::train(None)).unwrap();
        assert!(towards.loss.equal(&outputs.loss), "{ablation:?}");
        let same = gradients(&in_step, &outputs.loss).equal(&gradients(&before, &towards.loss));
        assert_eq!(same, ablation != Ablation::NoStopGradient, "{ablation:?}");
        for (a, b) in in_step.params().entries().iter().zip(before.params().entries()) {
            assert!(a.tensor.equal(&b.tensor), "{ablation:?}: the targets left a trace in {}", a.name);
        }
    }
}

#[test]
fn gradients_reach_only_the_predicting_views() {
    for ablation in ALL {
        let views = views().map(|view| view.set_requires_grad(true));
        forward(&model(ablation), &views).loss.backward();
        let reached = views.map(|view| view.grad().defined() && view.grad().abs().max().double_value(&[]) > 0.0);
        let one_way = matches!(ablation, Ablation::Asymmetric | Ablation::AsymmetricDouble);
        assert_eq!(reached, [true, !one_way], "{ablation:?}");
    }
}

/// Largest distance of the channels' means from 0 and of their variances from 1.
fn off(x: &Tensor) -> f64 {
    let x = x.detach();
    let mean = x.mean_dim([0i64].as_slice(), false, Kind::Double).abs().max();
    let var = (x.var_dim([0i64].as_slice(), false, false) - 1.0).abs().max();
    mean.max_other(&var).double_value(&[])
}

#[test]
fn batch_norms_match_the_papers_table() {
    for (ablation, z_normal, p_normal) in [
        (Ablation::None, true, false),
        (Ablation::BatchNormNone, false, false),
        (Ablation::BatchNormHidden, false, false),
        (Ablation::BatchNormAll, true, true),
    ] {
        let Outputs { z, p, .. } = forward(&model(ablation), &views());
        // The norms' epsilon keeps variances a little below 1.
        assert_eq!((off(&z[0]) < 0.05, off(&p[0]) < 0.05), (z_normal, p_normal), "{ablation:?}");
    }
}
