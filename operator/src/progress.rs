//! The leaders' `/progress`: live display, pulled outside of reconciling.
//!
//! A pull that fails is no news, and never by itself a stall: the agent's own watchdog decides that.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use jiff::Timestamp;
use serde::Deserialize;
use tokio::sync::mpsc;

use simsiam_recipe::Stage;

use crate::api::Checkpoint;
use crate::observe::Key;

/// The port that agents answer on.
pub const PORT: u16 = 9400;
/// Between two pulls of a run, in ticks, where there are few. Each run has a tick of its own, so that a thousand are not
/// asked, and their statuses written, at once.
const EVERY: u64 = 150;
/// With more leaders than these the time between two pulls doubles, and so on: what is written for display alone, some 33
/// statuses a second, must not grow with the fleet and crowd out what runs need.
const FEW: usize = 500;
const TICK: Duration = Duration::from_millis(100);
/// Of one pull.
const TIMEOUT: Duration = Duration::from_secs(2);
const CONCURRENT: usize = 64;
const BODY_LIMIT: usize = 64 << 10;

/// What an agent told, as much of it as the operator shows.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Report {
    /// The stage under way.
    pub stage: String,
    /// What the ranks are at: rendezvous, starting, training, checkpointing or evaluating.
    pub phase: Option<String>,
    /// Finished epochs.
    pub epoch: u64,
    /// Epochs of the stage.
    pub epochs: u64,
    /// Finished steps.
    pub step: u64,
    /// Steps of the stage.
    pub steps: u64,
    /// Mean loss of the last interval.
    pub loss: Option<f64>,
    /// Output std.
    pub output_std: Option<f64>,
    /// What it is near while all is well.
    pub healthy_std: Option<f64>,
    /// Images a second over all ranks.
    pub images_per_second: Option<f64>,
    /// kNN accuracy in percent.
    pub knn_top1: Option<f64>,
    /// The classifier's best accuracy in percent.
    pub linear_top1: Option<f64>,
    /// The newest checkpoint.
    pub checkpoint: Option<Checkpoint>,
    /// When the stage should end.
    pub eta: Option<Timestamp>,
    /// Is the silence of the ranks longer than half of what their watchdog allows?
    pub quiet: bool,
    /// When it was pulled.
    #[serde(skip)]
    pub seen: Option<Timestamp>,
    /// The attempt's Job.
    #[serde(skip)]
    pub job: String,
}

impl Report {
    /// Is it about this stage?
    pub fn is_of(&self, stage: Stage, job: &str) -> bool {
        self.stage == stage.name() && self.job == job
    }
}

/// Where a run's leader is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leader {
    /// Its address.
    pub ip: String,
    /// Its Job.
    pub job: String,
}

#[derive(Debug, Default)]
struct State {
    leaders: HashMap<Key, Leader>,
    reports: HashMap<Key, Report>,
    /// Those that were never asked: they need not wait for their tick.
    fresh: HashSet<Key>,
}

/// The leaders that are asked, and what they told. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Reports {
    state: Arc<Mutex<State>>,
    /// Answers in the place of every leader: for measuring.
    stub: Option<Arc<str>>,
}

impl Reports {
    /// Asks this address instead of the leaders'.
    #[must_use]
    pub fn with_stub(self, address: Option<&str>) -> Self {
        Self { stub: address.map(Arc::from), ..self }
    }

    /// Begins to ask, or ceases to with `None`.
    pub fn follow(&self, key: &Key, leader: Option<Leader>) {
        let Ok(mut state) = self.state.lock() else { return };
        match leader {
            Some(leader) if state.leaders.get(key) == Some(&leader) => {}
            Some(leader) => {
                state.fresh.insert(key.clone());
                state.leaders.insert(key.clone(), leader);
            }
            None => {
                state.fresh.remove(key);
                state.leaders.remove(key);
                state.reports.remove(key);
            }
        }
    }

    /// What the leader last told.
    pub fn of(&self, key: &Key) -> Option<Report> {
        self.state.lock().ok()?.reports.get(key).cloned()
    }

    /// Whom to ask at this tick.
    fn due(&self, tick: u64) -> Vec<(Key, Leader)> {
        let Ok(mut state) = self.state.lock() else { return Vec::new() };
        let fresh = std::mem::take(&mut state.fresh);
        let every = every(state.leaders.len());
        let due = |key: &Key| fresh.contains(key) || turn(key, every) == tick % every;
        let leaders = state.leaders.iter().filter(|(key, _)| due(key));
        leaders.map(|(key, leader)| (key.clone(), leader.clone())).collect()
    }

    /// Keeps an answer; whether it says anything new.
    fn keep(&self, key: &Key, mut report: Report, leader: &Leader) -> bool {
        report.seen = Some(Timestamp::now());
        report.job.clone_from(&leader.job);
        let Ok(mut state) = self.state.lock() else { return false };
        if state.leaders.get(key) != Some(leader) {
            return false;
        }
        let news = state.reports.get(key).is_none_or(|before| {
            (before.step, &before.phase, before.quiet, before.epoch, &before.checkpoint)
                != (report.step, &report.phase, report.quiet, report.epoch, &report.checkpoint)
        });
        state.reports.insert(key.clone(), report);
        news
    }

    /// Asks all leaders, again and again; runs with news go to `wake`. Ends when nobody listens.
    pub async fn pull(self, client: reqwest::Client, wake: mpsc::UnboundedSender<Key>) {
        let mut ticks = tokio::time::interval(TICK);
        // Late is better than never: no run's turn is left out.
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut tick, mut waiting, mut busy) = (0, VecDeque::new(), HashSet::new());
        let mut asked = FuturesUnordered::new();
        while !wake.is_closed() {
            tokio::select! {
                _ = ticks.tick() => {
                    // One that has not answered yet is not asked again.
                    waiting.extend(self.due(tick).into_iter().filter(|(key, _)| busy.insert(key.clone())));
                    tick += 1;
                }
                Some((key, has_news)) = asked.next() => {
                    busy.remove(&key);
                    if has_news {
                        let _ = wake.send(key);
                    }
                }
            }
            while asked.len() < CONCURRENT
                && let Some((key, leader)) = waiting.pop_front()
            {
                asked.push(self.ask(&client, key, leader));
            }
        }
    }

    async fn ask(&self, client: &reqwest::Client, key: Key, leader: Leader) -> (Key, bool) {
        match report(client, &self.address(&leader)).await {
            Ok(report) => {
                let has_news = self.keep(&key, report, &leader);
                (key, has_news)
            }
            Err(why) => {
                tracing::debug!(run = key.run, namespace = key.namespace, "no progress: {why}");
                (key, false)
            }
        }
    }

    fn address(&self, leader: &Leader) -> String {
        match &self.stub {
            Some(address) => format!("http://{address}/progress"),
            None if leader.ip.contains(':') => format!("http://[{}]:{PORT}/progress", leader.ip),
            None => format!("http://{}:{PORT}/progress", leader.ip),
        }
    }
}

/// Ticks between two pulls of a run, among so many. Only ever doubled: a run's turns in a longer time are some of those in
/// a shorter one, so that none is left out while the fleet grows.
fn every(leaders: usize) -> u64 {
    EVERY * leaders.div_ceil(FEW).max(1).next_power_of_two() as u64
}

/// The tick, of `every` so many, at which a run is asked.
fn turn(key: &Key, every: u64) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish() % every
}

/// A client for pulling.
///
/// # Errors
/// If the system gives it no sockets.
pub fn client() -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder()
        .timeout(TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .pool_max_idle_per_host(0)
        .build()
}

async fn report(client: &reqwest::Client, url: &str) -> Result<Report, String> {
    let answer = client.get(url).send().await.map_err(|e| e.to_string())?;
    let mut answer = answer.error_for_status().map_err(|e| e.to_string())?;
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|e| e.to_string())? {
        if body.len() + chunk.len() > BODY_LIMIT {
            return Err(format!("the answer is longer than {BODY_LIMIT} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    serde_json::from_slice(&body).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_comes_after_its_attempt_is_not_kept() {
        let reports = Reports::default();
        let key = Key { namespace: "n".into(), run: "r".into() };
        let first = Leader { ip: "10.0.0.1".into(), job: "r-pretrain-1".into() };
        reports.follow(&key, Some(first.clone()));
        assert!(reports.keep(&key, Report { step: 1, ..Report::default() }, &first));
        assert!(!reports.keep(&key, Report { step: 1, ..Report::default() }, &first), "no news");
        reports.follow(&key, Some(Leader { ip: "10.0.0.2".into(), job: "r-pretrain-2".into() }));
        assert!(!reports.keep(&key, Report { step: 2, ..Report::default() }, &first));
        reports.follow(&key, None);
        assert_eq!(reports.of(&key), None);
    }

    #[test]
    fn a_new_leader_is_asked_at_once_and_then_at_its_turn() {
        let reports = Reports::default();
        let key = |i: u32| Key { namespace: "n".into(), run: format!("r{i}") };
        let leader = Leader { ip: "10.0.0.1".into(), job: "j".into() };
        for i in 0..500 {
            reports.follow(&key(i), Some(leader.clone()));
        }
        assert_eq!(reports.due(0).len(), 500);
        // Being followed on is nothing new.
        reports.follow(&key(0), Some(leader.clone()));
        let turns: Vec<_> = (0..EVERY).map(|tick| reports.due(tick).len()).collect();
        assert_eq!(turns.iter().sum::<usize>(), 500);
        let seconds: Vec<usize> = turns.chunks(10).map(|asked| asked.iter().sum()).collect();
        assert!(seconds.iter().all(|asked| (17..67).contains(asked)), "evenly: {seconds:?}");
        reports.follow(&key(0), Some(Leader { job: "j2".into(), ..leader }));
        let mut asked = (0..EVERY).filter(|tick| reports.due(*tick).iter().any(|(asked, _)| *asked == key(0)));
        assert_eq!(asked.next(), Some(0));
    }

    #[test]
    fn a_large_fleet_is_asked_no_more_a_second_than_a_small_one() {
        let periods = [0, 1, 500, 501, 1000, 1001, 10_000].map(|leaders| every(leaders) / EVERY);
        assert_eq!(periods, [1, 1, 1, 2, 2, 4, 32]);
        let reports = Reports::default();
        for i in 0..4000 {
            let key = Key { namespace: "n".into(), run: format!("r{i}") };
            reports.follow(&key, Some(Leader { ip: "10.0.0.1".into(), job: "j".into() }));
        }
        assert_eq!(reports.due(0).len(), 4000);
        let asked: Vec<_> = (0..8 * EVERY).map(|tick| reports.due(tick)).collect();
        let seconds: Vec<usize> = asked.chunks(10).map(|asked| asked.iter().map(Vec::len).sum()).collect();
        assert!(seconds.iter().all(|asked| (8..67).contains(asked)), "evenly: {seconds:?}");
        assert_eq!(seconds.iter().sum::<usize>(), 4000);
        let once: HashSet<_> = asked.into_iter().flatten().map(|(key, _)| key).collect();
        assert_eq!(once.len(), 4000, "each once");
    }

    #[test]
    fn addresses() {
        let reports = Reports::default();
        let leader = |ip: &str| Leader { ip: ip.into(), job: String::new() };
        assert_eq!(reports.address(&leader("10.0.0.1")), "http://10.0.0.1:9400/progress");
        assert_eq!(reports.address(&leader("fd00::1")), "http://[fd00::1]:9400/progress");
    }
}
