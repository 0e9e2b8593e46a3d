//! Several ranks in one process, for tests: a thread each, with c10d's store and Gloo between them.

use std::time::Duration;

use tch_ext::c10d::Store;

use super::rank::{Rank, RankInfo};
use crate::telemetry::Sink;

/// Runs `work` on every one of `world` ranks and returns what each returned, in rank order.
pub fn on_each_rank<T: Send>(world: usize, work: impl Fn(&Rank) -> T + Sync) -> Vec<T> {
    // Far more than a test needs, yet a rank that waits for ever fails the test.
    let timeout = Duration::from_secs(60);
    let store = Store::tcp("127.0.0.1", 0, None, true, timeout).unwrap();
    let run = |rank| {
        let info = RankInfo {
            rank,
            world,
            local_rank: rank,
            master_addr: "127.0.0.1".into(),
            master_port: store.port(),
            timeout,
            threads: 1,
        };
        work(&Rank::join(info, Sink::none()).unwrap())
    };
    std::thread::scope(|scope| {
        let ranks: Vec<_> = (0..world).map(|rank| scope.spawn(move || run(rank))).collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    })
}
