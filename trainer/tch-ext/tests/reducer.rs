//! The DDP reducer over 2 and 3 processes against one process on the concatenated batch, and a resumed run against an
//! uninterrupted one.

#![allow(clippy::unwrap_used)] // The helpers here are tests too.

mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use common::{Launch, Rank, TIMEOUT, assert_close, randn, ranks};
use tch::{Kind, Tensor};
use tch_ext::Error;
use tch_ext::c10d::{Backend, BucketOrder, ProcessGroup, Reducer, ReducerOptions};

/// Small buckets, so that there are several.
fn small_buckets(order: Option<BucketOrder>) -> ReducerOptions {
    ReducerOptions { first_bucket_bytes: 2 << 10, bucket_bytes: 16 << 10, order, ..Default::default() }
}

/// A little convolutional net; names are not in the order of use, as a model's seldom are when sorted.
struct Net {
    params: Vec<(String, Tensor)>,
}

impl Net {
    fn new(seed: u64, kind: Kind) -> Net {
        let shapes: [(&str, &[i64]); 7] = [
            ("stem.weight", &[8, 3, 3, 3]),
            ("body.weight", &[16, 8, 3, 3]),
            ("body.bias", &[16]),
            ("a_head.weight", &[64, 16]),
            ("a_head.bias", &[64]),
            ("zz_middle.weight", &[64, 64]),
            ("head.weight", &[10, 64]),
        ];
        let params = shapes
            .iter()
            .enumerate()
            .map(|(i, (name, shape))| {
                let fan_in: i64 = shape[1..].iter().product();
                let values = randn(seed + i as u64, shape, kind) / (fan_in as f64).sqrt();
                (name.to_string(), values.set_requires_grad(true))
            })
            .collect();
        Net { params }
    }

    fn p(&self, name: &str) -> &Tensor {
        &self.params.iter().find(|(n, _)| n == name).unwrap().1
    }

    fn tensors(&self) -> Vec<Tensor> {
        self.params.iter().map(|(_, t)| t.shallow_clone()).collect()
    }

    fn loss(&self, x: &Tensor, use_head: bool) -> Tensor {
        let none = None::<&Tensor>;
        let h = x.conv2d(self.p("stem.weight"), none, [2, 2], [1, 1], [1, 1], 1).relu();
        let h = h.conv2d(self.p("body.weight"), Some(self.p("body.bias")), [2, 2], [1, 1], [1, 1], 1).relu();
        let h = h.mean_dim([2i64, 3].as_slice(), false, None::<Kind>);
        let h = h.linear(self.p("a_head.weight"), Some(self.p("a_head.bias"))).relu();
        let h = h.linear(self.p("zz_middle.weight"), none);
        let h = if use_head { h.linear(self.p("head.weight"), none) } else { h };
        (h.square() + h.sin()).mean(h.kind())
    }
}

fn grads_match(net: &Net, reference: &Net, what: &str) {
    for ((name, ours), (_, theirs)) in net.params.iter().zip(&reference.params) {
        assert_close(&format!("{what}: {name}"), &ours.grad(), &theirs.grad(), 1e-11);
    }
}

fn averages(rank: Rank) {
    let pg = rank.group();
    let world = rank.world as i64;
    for channels_last in [false, true] {
        // Ranks start from different weights; rank 0's count.
        let net = Net::new(if rank.rank == 0 { 1 } else { 100 }, Kind::Double);
        if channels_last {
            for tensor in net.tensors() {
                tch_ext::make_channels_last(&tensor).unwrap();
            }
        }
        let mut reducer = Reducer::new(&pg, &net.params, &small_buckets(None)).unwrap();
        let mut names = reducer.names().to_vec();
        names.sort();
        assert_eq!(reducer.names(), names);
        let reference = Net::new(1, Kind::Double);
        assert_eq!(reducer.order(), None);
        for step in 0..4u64 {
            let batch = randn(1000 + step, &[4 * world, 3, 12, 12], Kind::Double);
            let mine = batch.narrow(0, 4 * rank.rank as i64, 4);
            reducer.prepare_forward().unwrap();
            reducer.backward(&net.loss(&mine, true)).unwrap();
            reference.loss(&batch, true).backward();
            grads_match(&net, &reference, &format!("step {step}, channels last {channels_last}"));
            assert!(reducer.order().is_some(), "step {step}");
            tch_ext::zero_grads(&net.tensors()).unwrap();
            tch_ext::zero_grads(&reference.tensors()).unwrap();
        }
        let order = reducer.order().unwrap();
        assert!(order.len() >= 3, "{order:?}");
        let mut all = order.concat();
        all.sort_unstable();
        assert_eq!(all, (0..net.params.len()).collect::<Vec<_>>());

        // Micro-batches: only the last is prepared, and the sum of all is averaged.
        let batches = randn(7, &[3, 4 * world, 3, 12, 12], Kind::Double);
        for i in 0..3 {
            let mine = batches.get(i).narrow(0, 4 * rank.rank as i64, 4);
            if i < 2 {
                tch_ext::backward(&net.loss(&mine, true)).unwrap();
            } else {
                reducer.prepare_forward().unwrap();
                reducer.backward(&net.loss(&mine, true)).unwrap();
            }
            reference.loss(&batches.get(i), true).backward();
        }
        grads_match(&net, &reference, "micro-batches");
    }
}

#[test]
fn reducer_averages_over_two_ranks() {
    ranks("reducer_averages_over_two_ranks", 2, averages);
}

#[test]
fn reducer_averages_over_three_ranks() {
    ranks("reducer_averages_over_three_ranks", 3, averages);
}

#[test]
fn reducer_with_one_rank_keeps_gradients() {
    ranks("reducer_with_one_rank_keeps_gradients", 1, averages);
}

fn unused_parameter(rank: Rank) {
    let pg = rank.group();
    let net = Net::new(1, Kind::Float);
    let mut reducer = Reducer::new(&pg, &net.params, &small_buckets(None)).unwrap();
    let x = randn(5 + rank.rank as u64, &[4, 3, 12, 12], Kind::Float);
    reducer.prepare_forward().unwrap();
    reducer.backward(&net.loss(&x, true)).unwrap();
    reducer.prepare_forward().unwrap();
    let error = reducer.backward(&net.loss(&x, false)).unwrap_err();
    let Error::UnusedParameters { names } = &error else { panic!("{error:?}") };
    assert_eq!(names, &["head.weight"]);
    assert!(error.to_string().contains("head.weight"), "{error}");
    let error = reducer.prepare_forward().unwrap_err();
    assert!(matches!(error, Error::ReducerBroken { op: "prepare forward" }), "{error:?}");
}

#[test]
fn unused_parameter_fails_in_same_step() {
    ranks("unused_parameter_fails_in_same_step", 2, unused_parameter);
}

#[test]
fn unused_parameter_on_single_rank_fails() {
    ranks("unused_parameter_on_single_rank_fails", 1, unused_parameter);
}

#[test]
fn ranks_with_different_models_are_refused() {
    ranks("ranks_with_different_models_are_refused", 2, |rank| {
        let pg = rank.group();
        let mut net = Net::new(1, Kind::Float);
        if rank.rank == 1 {
            net.params[1].0 = "body2.weight".into();
        }
        let error = Reducer::new(&pg, &net.params, &ReducerOptions::default()).unwrap_err();
        assert!(matches!(&error, Error::Argument { op: "reducer", .. }), "{error:?}");

        let pg = rank.group_named("shapes");
        let mut net = Net::new(1, Kind::Float);
        if rank.rank == 1 {
            net.params[6].1 = randn(1, &[11, 64], Kind::Float).set_requires_grad(true);
        }
        // Rank 0 is who the others are compared with, so only they can tell; it then sees them gone.
        let result = Reducer::new(&pg, &net.params, &ReducerOptions::default());
        if rank.rank == 1 {
            let error = result.unwrap_err();
            assert!(matches!(&error, Error::Torch { op: "reducer", .. }), "{error:?}");
        }
    });
}

#[test]
fn invalid_reducer_arguments_are_named() {
    ranks("invalid_reducer_arguments_are_named", 1, |rank| {
        let pg = rank.group();
        let refused = |params: &[(String, Tensor)], order: Option<BucketOrder>, expected: &str| {
            let error = Reducer::new(&pg, params, &small_buckets(order)).unwrap_err();
            assert!(matches!(&error, Error::Argument { op: "reducer", .. }), "{error:?}");
            assert!(error.to_string().contains(expected), "{error}");
        };
        let net = Net::new(1, Kind::Float);
        refused(&[], None, "no parameters");
        let mut twice = Net::new(1, Kind::Float);
        twice.params[2].0 = "stem.weight".into();
        refused(&twice.params, None, "stem.weight");
        let mut frozen = Net::new(1, Kind::Float);
        frozen.params[2].1 = randn(1, &[16], Kind::Float);
        refused(&frozen.params, None, "body.bias");
        for order in [vec![vec![0, 1, 2]], vec![vec![0, 1, 2, 3, 4, 5, 6, 7]], vec![vec![0, 1, 2, 3, 4, 5, 5]], vec![]]
        {
            refused(&net.params, Some(order), "bucket order");
        }
        refused(&net.params, Some(vec![vec![0, 1, 2, 3, 4, 5, 6], vec![]]), "bucket order");
    });
}

#[test]
fn peer_lost_in_backward_fails_quickly() {
    let mut launch = Launch::new("peer_lost_in_backward_fails_quickly", 2);
    launch.may_fail = vec![1];
    launch.run(|rank| {
        let pg = rank.group();
        let net = Net::new(1, Kind::Float);
        let mut reducer = Reducer::new(&pg, &net.params, &small_buckets(None)).unwrap();
        let x = randn(5, &[4, 3, 12, 12], Kind::Float);
        let start = Instant::now();
        let error = loop {
            if rank.rank == 1 && reducer.order().is_some() {
                reducer.prepare_forward().unwrap();
                let _loss = net.loss(&x, true);
                std::process::abort();
            }
            let step = reducer.prepare_forward().and_then(|()| reducer.backward(&net.loss(&x, true)));
            if let Err(error) = step {
                break error;
            }
        };
        assert!(error.is_temporary(), "{error:?}");
        drop(reducer);
        drop(pg);
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}: {error}", start.elapsed());
    });
}

// ---- resume ----

const STEPS: u64 = 7;
const STOP: u64 = 3;

fn save(dir: &Path, tensors: &[Tensor], momentum: &[Tensor], order: &BucketOrder) {
    let bytes: Vec<u8> = tensors.iter().chain(momentum).flat_map(|t| tch_ext::tensor_bytes(t).unwrap()).collect();
    std::fs::write(dir.join("state"), bytes).unwrap();
    let lines: Vec<String> =
        order.iter().map(|b| b.iter().map(usize::to_string).collect::<Vec<_>>().join(" ")).collect();
    std::fs::write(dir.join("order"), lines.join("\n")).unwrap();
}

fn load(dir: &Path, tensors: &[Tensor], momentum: &[Tensor]) -> BucketOrder {
    let bytes = std::fs::read(dir.join("state")).unwrap();
    let mut rest = bytes.as_slice();
    for tensor in tensors.iter().chain(momentum) {
        let (mine, tail) = rest.split_at(tensor.numel() * 4);
        tch_ext::copy_from_bytes(tensor, mine).unwrap();
        rest = tail;
    }
    assert!(rest.is_empty());
    let order = std::fs::read_to_string(dir.join("order")).unwrap();
    order.lines().map(|line| line.split(' ').map(|i| i.parse().unwrap()).collect()).collect()
}

/// Trains from `first` to `last` and writes the final weights to `<dir>/<argument>`.
fn train(rank: Rank) {
    let (mode, dir) = (rank.argument.as_str(), rank.dir.as_path());
    let (first, last) = match mode {
        "whole" => (0, STEPS),
        "first" => (0, STOP),
        _ => (STOP, STEPS),
    };
    let pg = rank.group();
    let net = Net::new(1, Kind::Float);
    let tensors = net.tensors();
    let momentum: Vec<Tensor> = tensors.iter().map(|t| t.detach().zeros_like()).collect();
    let order = if first > 0 { Some(load(dir, &tensors, &momentum)) } else { None };
    let options = small_buckets(if mode == "with order" { order.clone() } else { None });
    let mut reducer = Reducer::new(&pg, &net.params, &options).unwrap();
    if mode == "with order" {
        assert_eq!(reducer.order(), order);
    }
    for step in first..last {
        let x = randn(500 + 10 * step + rank.rank as u64, &[4, 3, 12, 12], Kind::Float);
        reducer.prepare_forward().unwrap();
        reducer.backward(&net.loss(&x, true)).unwrap();
        let grads: Vec<Tensor> = tensors.iter().map(Tensor::grad).collect();
        tch_ext::fused_sgd(&tensors, &grads, &momentum, 0.1, 0.9, 1e-4, step == 0).unwrap();
        tch_ext::zero_grads(&tensors).unwrap();
    }
    if let Some(order) = &order {
        // What a resumed run would build by itself is the same in the end; only its first step differs.
        assert!(order.len() >= 3, "{order:?}");
        assert_eq!(reducer.order().as_ref(), Some(order));
    }
    if rank.rank == 0 {
        if mode == "first" {
            save(dir, &tensors, &momentum, &reducer.order().unwrap());
        }
        let bytes: Vec<u8> = tensors.iter().flat_map(|t| tch_ext::tensor_bytes(t).unwrap()).collect();
        std::fs::write(dir.join(mode), bytes).unwrap();
    }
    pg.barrier().unwrap();
}

#[test]
fn resumed_run_with_bucket_order_is_bit_identical() {
    let name = "resumed_run_with_bucket_order_is_bit_identical";
    let dir = std::env::temp_dir().join(format!("tch-ext-resume-{}", std::process::id()));
    let is_rank = std::env::var_os("TCH_EXT_TEST_RANK").is_some();
    if !is_rank {
        std::fs::create_dir_all(&dir).unwrap();
    }
    for mode in ["whole", "again", "first", "with order", "without order"] {
        let mut launch = Launch::new(name, 3);
        launch.dir = dir.clone();
        // "again" is "whole" in new processes.
        launch.argument = if mode == "again" { "whole".into() } else { mode.into() };
        launch.run(train);
        if is_rank {
            return;
        }
        if mode == "whole" {
            std::fs::rename(dir.join("whole"), dir.join("reference")).unwrap();
        }
    }
    let read = |mode: &str| std::fs::read(dir.join(mode)).unwrap();
    let reference = read("reference");
    assert!(reference == read("whole"), "two runs from the start differ");
    assert!(reference == read("with order"), "a resumed run differs from an uninterrupted one");
    // If this ever fails, the test has lost its power: then the order makes no difference.
    assert!(reference != read("without order"), "the order makes no difference here");
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn group_may_be_dropped_before_its_reducer() {
    ranks("group_may_be_dropped_before_its_reducer", 2, |rank| {
        let pg = ProcessGroup::new(&rank.store, "g", Backend::Gloo, rank.rank, rank.world, TIMEOUT).unwrap();
        let net = Net::new(1, Kind::Float);
        let mut reducer = Reducer::new(&pg, &net.params, &small_buckets(None)).unwrap();
        drop(pg);
        let x = randn(5, &[4, 3, 12, 12], Kind::Float);
        for _ in 0..3 {
            reducer.prepare_forward().unwrap();
            reducer.backward(&net.loss(&x, true)).unwrap();
        }
        drop(reducer);
        // Without its reducer the net works alone.
        tch_ext::backward(&net.loss(&x, true)).unwrap();
    });
}
