//! Store and process group over 2 and 3 processes, and what happens when a peer is missing or lost.

#![allow(clippy::unwrap_used)] // The helpers here are tests too.

mod common;

use std::time::{Duration, Instant};

use common::{Launch, Rank, ranks};
use tch::{Kind, Tensor};
use tch_ext::Error;
use tch_ext::c10d::{Backend, Op, ProcessGroup, Store};

fn values(tensor: &Tensor) -> Vec<f64> {
    Vec::<f64>::try_from(tensor.to_kind(Kind::Double).reshape([-1])).unwrap()
}

fn all_collectives(rank: Rank) {
    let pg = rank.group();
    assert_eq!((pg.rank(), pg.size()), (rank.rank, rank.world));
    let (r, w) = (rank.rank as f64, rank.world as f64);
    for kind in [Kind::Float, Kind::Double, Kind::Int64, Kind::BFloat16] {
        let make = || Tensor::from_slice(&[r + 1.0, 10.0 * r, -r]).to_kind(kind);
        let sum_of_ranks = w * (w - 1.0) / 2.0;
        let x = make();
        pg.all_reduce(&x, Op::Sum).unwrap();
        assert_eq!(values(&x), [sum_of_ranks + w, 10.0 * sum_of_ranks, -sum_of_ranks], "{kind:?}");
        let x = make();
        pg.all_reduce(&x, Op::Max).unwrap();
        assert_eq!(values(&x), [w, 10.0 * (w - 1.0), 0.0], "{kind:?}");
        let x = make();
        pg.all_reduce(&x, Op::Min).unwrap();
        assert_eq!(values(&x), [1.0, 0.0, 1.0 - w], "{kind:?}");
    }

    // A transposed view, a leaf that requires a gradient, and a channels-last tensor, in place.
    let base = Tensor::arange(6, (Kind::Double, tch::Device::Cpu)).reshape([2, 3]) * (r + 1.0);
    pg.all_reduce(&base.tr(), Op::Sum).unwrap();
    let factor = w * (w + 1.0) / 2.0;
    assert_eq!(values(&base), (0..6).map(|i| f64::from(i) * factor).collect::<Vec<_>>());
    let leaf = Tensor::from_slice(&[r]).set_requires_grad(true);
    pg.broadcast(&leaf, rank.world - 1).unwrap();
    assert_eq!(values(&leaf), [w - 1.0]);
    let images = Tensor::arange(24, (Kind::Float, tch::Device::Cpu)).reshape([1, 2, 3, 4]) * r;
    let innermost = tch_ext::channels_last(&images).unwrap();
    pg.broadcast_all(&[innermost.shallow_clone(), images.shallow_clone()], 1).unwrap();
    assert_eq!(values(&innermost), (0..24).map(f64::from).collect::<Vec<_>>());
    assert_eq!(values(&images), values(&innermost));

    let gathered = pg.all_gather(&Tensor::from_slice(&[r, r * r])).unwrap();
    assert_eq!(gathered.len(), rank.world);
    for (i, tensor) in gathered.iter().enumerate() {
        assert_eq!(values(tensor), [i as f64, (i * i) as f64]);
    }

    // A second group over the same store, used in between.
    let second = rank.group_named("second");
    let x = Tensor::from_slice(&[1.0]);
    second.all_reduce(&x, Op::Sum).unwrap();
    pg.all_reduce(&x, Op::Sum).unwrap();
    assert_eq!(values(&x), [w * w]);

    assert!(matches!(pg.broadcast(&x, rank.world), Err(Error::Argument { op: "broadcast", .. })));
    barrier(&rank, &pg);
}

/// Nobody passes the barrier before the last has come.
fn barrier(rank: &Rank, pg: &ProcessGroup) {
    pg.barrier().unwrap();
    let start = Instant::now();
    if rank.rank == 0 {
        std::thread::sleep(Duration::from_millis(300));
        rank.store.set("late", b"here").unwrap();
    }
    pg.barrier().unwrap();
    assert!(start.elapsed() >= Duration::from_millis(250));
    assert_eq!(rank.store.get("late").unwrap(), b"here");
}

#[test]
fn collectives_of_two_ranks_agree() {
    ranks("collectives_of_two_ranks_agree", 2, all_collectives);
}

#[test]
fn collectives_of_three_ranks_agree() {
    ranks("collectives_of_three_ranks_agree", 3, all_collectives);
}

fn lost_peer(rank: Rank) {
    let pg = rank.group();
    let x = Tensor::ones([1000], (Kind::Float, tch::Device::Cpu));
    pg.all_reduce(&x, Op::Sum).unwrap();
    if rank.rank == 1 {
        std::process::abort();
    }
    let start = Instant::now();
    let error = loop {
        if let Err(error) = pg.all_reduce(&x, Op::Sum) {
            break error;
        }
    };
    assert!(error.is_temporary(), "{error:?}");
    assert!(error.to_string().starts_with("all-reduce: "), "{error}");
    drop(pg);
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}: {error}", start.elapsed());
    // Ends at once too, so that ranks that waited for this one see it gone.
}

#[test]
fn lost_peer_of_two_ranks_is_reported() {
    let mut launch = Launch::new("lost_peer_of_two_ranks_is_reported", 2);
    launch.may_fail = vec![1];
    launch.run(lost_peer);
}

#[test]
fn lost_peer_of_three_ranks_is_reported() {
    let mut launch = Launch::new("lost_peer_of_three_ranks_is_reported", 3);
    launch.may_fail = vec![1];
    launch.run(lost_peer);
}

#[test]
fn absent_rank_times_out() {
    ranks("absent_rank_times_out", 2, |rank| {
        let limit = Duration::from_secs(1);
        let pg = ProcessGroup::new(&rank.store, "short", Backend::Gloo, rank.rank, 2, limit).unwrap();
        if rank.rank == 0 {
            let start = Instant::now();
            let error = pg.all_reduce(&Tensor::from_slice(&[1.0]), Op::Sum).unwrap_err();
            assert!(matches!(&error, Error::Timeout { op: "all-reduce", .. }), "{error:?}");
            assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
            rank.store.set("done", b"").unwrap();
        } else {
            rank.store.wait("done", common::TIMEOUT).unwrap();
        }
    });
}

#[test]
fn incomplete_group_times_out() {
    let store = Store::tcp("127.0.0.1", 0, None, true, common::TIMEOUT).unwrap();
    let start = Instant::now();
    let error = ProcessGroup::new(&store, "g", Backend::Gloo, 0, 2, Duration::from_secs(1)).unwrap_err();
    assert!(matches!(&error, Error::Timeout { op: "process group", .. }), "{error:?}");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert!(matches!(
        ProcessGroup::new(&store, "g", Backend::Gloo, 2, 2, common::TIMEOUT),
        Err(Error::Argument { op: "process group", .. })
    ));
}

#[test]
fn abort_frees_a_waiting_thread() {
    ranks("abort_frees_a_waiting_thread", 2, |rank| {
        let pg = rank.group();
        if rank.rank == 0 {
            let start = Instant::now();
            let error = std::thread::scope(|scope| {
                scope.spawn(|| {
                    std::thread::sleep(Duration::from_millis(300));
                    pg.abort().unwrap();
                });
                pg.barrier().unwrap_err()
            });
            assert!(matches!(error, Error::Aborted { op: "barrier" }), "{error:?}");
            assert!(pg.all_reduce(&Tensor::from_slice(&[1.0]), Op::Sum).is_err());
            drop(pg);
            assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
            rank.store.set("done", b"").unwrap();
        } else {
            rank.store.wait("done", common::TIMEOUT).unwrap();
        }
    });
}

#[test]
fn nccl_without_cuda_is_refused() {
    if tch_ext::load_cuda().devices() > 0 {
        return;
    }
    let store = Store::tcp("127.0.0.1", 0, None, true, common::TIMEOUT).unwrap();
    let error = ProcessGroup::new(&store, "g", Backend::Nccl, 0, 1, common::TIMEOUT).unwrap_err();
    assert!(matches!(&error, Error::NoCuda { op: "process group", .. }), "{error:?}");
}

#[test]
fn store_keeps_values_and_counts() {
    let server = Store::tcp("127.0.0.1", 0, None, true, common::TIMEOUT).unwrap();
    assert_ne!(server.port(), 0);
    let client = Store::tcp("127.0.0.1", server.port(), None, false, Duration::from_secs(1)).unwrap();
    server.set("bytes", &[0, 255, 10]).unwrap();
    assert_eq!(client.get("bytes").unwrap(), [0, 255, 10]);
    server.set("empty", b"").unwrap();
    assert_eq!(client.get("empty").unwrap(), b"");
    assert_eq!(client.add("count", 3).unwrap(), 3);
    assert_eq!(server.add("count", -1).unwrap(), 2);
    let start = Instant::now();
    let error = client.wait("never", Duration::from_millis(300)).unwrap_err();
    assert!(matches!(&error, Error::Timeout { op: "store wait", .. }), "{error:?}");
    let error = client.get("never").unwrap_err();
    assert!(matches!(&error, Error::Timeout { op: "store get", .. }), "{error:?}");
    assert!(start.elapsed() < Duration::from_secs(4));
    assert!(matches!(client.set("a\0b", b""), Err(Error::Argument { op: "store set", .. })));
}

#[test]
fn lost_store_server_is_lost_peer() {
    let server = Store::tcp("127.0.0.1", 0, None, true, common::TIMEOUT).unwrap();
    let client = Store::tcp("127.0.0.1", server.port(), None, false, common::TIMEOUT).unwrap();
    drop(server);
    let error = client.set("key", b"value").and_then(|()| client.get("key").map(|_| ())).unwrap_err();
    assert!(error.is_temporary(), "{error:?}");
}

#[test]
fn unreachable_store_fails_within_timeout() {
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let limit = Duration::from_secs(2);
    let start = Instant::now();
    let error = Store::tcp("127.0.0.1", port, None, false, limit).unwrap_err();
    assert!(matches!(&error, Error::StoreUnreachable { port: p, .. } if *p == port), "{error:?}");
    assert!(error.is_temporary());
    assert!(error.to_string().contains(&format!("127.0.0.1:{port}")), "{error}");
    assert!(start.elapsed() < limit + Duration::from_secs(3), "{:?}", start.elapsed());
}

#[test]
fn unresolvable_host_fails_within_timeout() {
    let start = Instant::now();
    let error = Store::tcp("no-such-host.invalid", 29500, None, false, Duration::from_secs(1)).unwrap_err();
    assert!(matches!(&error, Error::StoreUnreachable { host, .. } if host == "no-such-host.invalid"), "{error:?}");
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
}

#[test]
fn port_in_use_is_named() {
    let listener = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let error = Store::tcp("127.0.0.1", port, None, true, common::TIMEOUT).unwrap_err();
    assert!(matches!(&error, Error::PortInUse { port: p } if *p == port), "{error:?}");
    assert!(error.to_string().contains(&port.to_string()), "{error}");
    assert!(!error.is_temporary());
}
