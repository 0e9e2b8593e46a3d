//! Polls the first pods' `/progress` for live display, outside of reconciling.
//!
//! A poll that fails is no news, and on its own never a stall: the agent's own watchdog decides that.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use jiff::Timestamp;
use simsiam_contract::Progress;
use simsiam_contract::names::{METRICS_PORT, PROGRESS_PATH};
use simsiam_recipe::Stage;
use tokio::sync::mpsc;

use crate::api::RunKey;
use crate::sync::lock;

/// Ticks between two polls of a run in a small fleet. Each run has its own tick, so that a thousand are not polled, and
/// their statuses written, at once.
const PERIOD: u64 = 150;
/// Up to this many first pods are polled once per [`PERIOD`]; with twice as many the period doubles, and so on. What is
/// written for display alone, about 33 statuses per second, must not grow with the fleet and crowd out other requests.
const SMALL_FLEET: usize = 500;
const TICK: Duration = Duration::from_millis(100);
/// Of one poll.
const TIMEOUT: Duration = Duration::from_secs(2);
const CONCURRENT: usize = 64;
const BODY_LIMIT: usize = 64 << 10;

/// The progress of an attempt, as its first pod reported it.
#[derive(Debug, Clone, PartialEq)]
pub struct LiveProgress {
    /// The attempt's Job.
    pub job: String,
    /// When it was received.
    pub received: Timestamp,
    /// The report.
    pub progress: Progress,
}

impl LiveProgress {
    /// Whether it is about this stage and Job.
    pub fn is_of(&self, stage: Stage, job: &str) -> bool {
        self.progress.stage == stage.name() && self.job == job
    }

    /// Whether it differs from `before` in what is shown at once: more than a new loss or throughput.
    fn is_news(&self, before: &Progress) -> bool {
        let after = &self.progress;
        (before.step, &before.phase, before.quiet, before.epoch, &before.checkpoint)
            != (after.step, &after.phase, after.quiet, after.epoch, &after.checkpoint)
    }
}

/// The pod of an attempt that reports progress: its first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirstPod {
    /// Its IP address.
    pub ip: String,
    /// Its Job.
    pub job: String,
}

#[derive(Debug, Default)]
struct State {
    first_pods: HashMap<RunKey, FirstPod>,
    newest: HashMap<RunKey, LiveProgress>,
    /// First pods that were never polled: they need not wait for their tick.
    fresh: HashSet<RunKey>,
}

/// The first pods to poll, and the newest progress of each. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct ProgressPoller {
    state: Arc<Mutex<State>>,
    /// Polled instead of every first pod, in benchmarks.
    stub: Option<Arc<str>>,
}

impl ProgressPoller {
    /// Polls this address instead of the first pods'.
    #[must_use]
    pub fn with_stub(self, address: Option<&str>) -> Self {
        Self { stub: address.map(Arc::from), ..self }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Sets the first pod of a run; `None` stops polling.
    pub fn set_first_pod(&self, key: &RunKey, first_pod: Option<FirstPod>) {
        let mut state = self.state();
        match first_pod {
            Some(first_pod) if state.first_pods.get(key) == Some(&first_pod) => {}
            Some(first_pod) => {
                state.fresh.insert(key.clone());
                state.first_pods.insert(key.clone(), first_pod);
            }
            None => {
                state.fresh.remove(key);
                state.first_pods.remove(key);
                state.newest.remove(key);
            }
        }
    }

    /// The newest progress of a run.
    pub fn newest(&self, key: &RunKey) -> Option<LiveProgress> {
        self.state().newest.get(key).cloned()
    }

    /// The first pods to poll at this tick.
    fn due(&self, tick: u64) -> Vec<(RunKey, FirstPod)> {
        let mut state = self.state();
        let fresh = std::mem::take(&mut state.fresh);
        let period = period(state.first_pods.len());
        let due = |key: &RunKey| fresh.contains(key) || tick_of(key, period) == tick % period;
        let first_pods = state.first_pods.iter().filter(|(key, _)| due(key));
        first_pods.map(|(key, first_pod)| (key.clone(), first_pod.clone())).collect()
    }

    /// Stores an answer. Returns whether it is news.
    fn store(&self, key: &RunKey, progress: Progress, first_pod: &FirstPod) -> bool {
        let mut state = self.state();
        if state.first_pods.get(key) != Some(first_pod) {
            return false;
        }
        let live = LiveProgress { job: first_pod.job.clone(), received: Timestamp::now(), progress };
        let is_news = state.newest.get(key).is_none_or(|before| live.is_news(&before.progress));
        state.newest.insert(key.clone(), live);
        is_news
    }

    /// Polls all first pods periodically, and sends runs with news to `wake`. Ends when the receiver is dropped.
    pub async fn poll(self, client: reqwest::Client, wake: mpsc::UnboundedSender<RunKey>) {
        let mut ticks = tokio::time::interval(TICK);
        // A late tick is not skipped: it is the turn of some runs.
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut tick, mut waiting, mut busy) = (0, VecDeque::new(), HashSet::new());
        let mut polled = FuturesUnordered::new();
        while !wake.is_closed() {
            tokio::select! {
                _ = ticks.tick() => {
                    // A first pod that has not answered yet is not polled again.
                    waiting.extend(self.due(tick).into_iter().filter(|(key, _)| busy.insert(key.clone())));
                    tick += 1;
                }
                Some((key, is_news)) = polled.next() => {
                    busy.remove(&key);
                    if is_news {
                        let _ = wake.send(key);
                    }
                }
            }
            while polled.len() < CONCURRENT
                && let Some((key, first_pod)) = waiting.pop_front()
            {
                polled.push(self.poll_once(&client, key, first_pod));
            }
        }
    }

    async fn poll_once(&self, client: &reqwest::Client, key: RunKey, first_pod: FirstPod) -> (RunKey, bool) {
        match get(client, &self.url(&first_pod)).await {
            Ok(progress) => {
                let is_news = self.store(&key, progress, &first_pod);
                (key, is_news)
            }
            Err(error) => {
                tracing::debug!(run = key.name, namespace = key.namespace, "no progress: {error}");
                (key, false)
            }
        }
    }

    fn url(&self, first_pod: &FirstPod) -> String {
        match &self.stub {
            Some(address) => format!("http://{address}{PROGRESS_PATH}"),
            None if first_pod.ip.contains(':') => format!("http://[{}]:{METRICS_PORT}{PROGRESS_PATH}", first_pod.ip),
            None => format!("http://{}:{METRICS_PORT}{PROGRESS_PATH}", first_pod.ip),
        }
    }
}

/// Ticks between two polls of a run in a fleet of this size. It only ever doubles: a run's ticks in a longer period are
/// some of those in a shorter one, so that no run is left out while the fleet grows.
fn period(first_pods: usize) -> u64 {
    PERIOD * first_pods.div_ceil(SMALL_FLEET).max(1).next_power_of_two() as u64
}

/// The tick of the period at which a run is polled.
fn tick_of(key: &RunKey, period: u64) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish() % period
}

/// An HTTP client for polling.
///
/// # Errors
/// If the system's TLS or socket set-up fails.
pub fn client() -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder()
        .timeout(TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .pool_max_idle_per_host(0)
        .build()
}

async fn get(client: &reqwest::Client, url: &str) -> Result<Progress, String> {
    let response = client.get(url).send().await.map_err(|e| e.to_string())?;
    let mut response = response.error_for_status().map_err(|e| e.to_string())?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| e.to_string())? {
        if body.len() + chunk.len() > BODY_LIMIT {
            return Err(format!("the response is longer than {BODY_LIMIT} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    serde_json::from_slice(&body).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(i: u32) -> RunKey {
        RunKey { namespace: "n".into(), name: format!("r{i}") }
    }

    fn first_pod(ip: &str, job: &str) -> FirstPod {
        FirstPod { ip: ip.into(), job: job.into() }
    }

    fn at_step(step: u64) -> Progress {
        Progress { step, ..Progress::default() }
    }

    #[test]
    fn answer_of_an_earlier_attempt_is_dropped() {
        let poller = ProgressPoller::default();
        let first = first_pod("10.0.0.1", "r-pretrain-1");
        poller.set_first_pod(&key(0), Some(first.clone()));
        assert!(poller.store(&key(0), at_step(1), &first));
        assert!(!poller.store(&key(0), at_step(1), &first), "no news");
        poller.set_first_pod(&key(0), Some(first_pod("10.0.0.2", "r-pretrain-2")));
        assert!(!poller.store(&key(0), at_step(2), &first));
        poller.set_first_pod(&key(0), None);
        assert_eq!(poller.newest(&key(0)), None);
    }

    #[test]
    fn poller_with_poisoned_lock_keeps_its_first_pods() {
        let poller = ProgressPoller::default();
        let first = first_pod("10.0.0.1", "r-pretrain-1");
        poller.set_first_pod(&key(0), Some(first.clone()));
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _guard = poller.state.lock();
            panic!("a bug while the lock is held");
        }));
        assert!(poller.state.is_poisoned());
        assert_eq!(poller.due(0).len(), 1);
        assert!(poller.store(&key(0), at_step(1), &first) && poller.newest(&key(0)).is_some());
    }

    #[test]
    fn new_first_pod_is_polled_at_once_and_then_once_per_period() {
        let poller = ProgressPoller::default();
        let first = first_pod("10.0.0.1", "j");
        for i in 0..500 {
            poller.set_first_pod(&key(i), Some(first.clone()));
        }
        assert_eq!(poller.due(0).len(), 500);
        // Setting the same first pod again changes nothing.
        poller.set_first_pod(&key(0), Some(first.clone()));
        let ticks: Vec<_> = (0..PERIOD).map(|tick| poller.due(tick).len()).collect();
        assert_eq!(ticks.iter().sum::<usize>(), 500);
        let seconds: Vec<usize> = ticks.chunks(10).map(|polled| polled.iter().sum()).collect();
        assert!(seconds.iter().all(|polled| (17..67).contains(polled)), "evenly: {seconds:?}");
        poller.set_first_pod(&key(0), Some(first_pod("10.0.0.1", "j2")));
        let mut polled = (0..PERIOD).filter(|tick| poller.due(*tick).iter().any(|(polled, _)| *polled == key(0)));
        assert_eq!(polled.next(), Some(0));
    }

    #[test]
    fn large_fleet_is_polled_at_the_rate_of_a_small_one() {
        let periods = [0, 1, 500, 501, 1000, 1001, 10_000].map(|first_pods| period(first_pods) / PERIOD);
        assert_eq!(periods, [1, 1, 1, 2, 2, 4, 32]);
        let poller = ProgressPoller::default();
        for i in 0..4000 {
            poller.set_first_pod(&key(i), Some(first_pod("10.0.0.1", "j")));
        }
        assert_eq!(poller.due(0).len(), 4000);
        let polled: Vec<_> = (0..8 * PERIOD).map(|tick| poller.due(tick)).collect();
        let seconds: Vec<usize> = polled.chunks(10).map(|polled| polled.iter().map(Vec::len).sum()).collect();
        assert!(seconds.iter().all(|polled| (8..67).contains(polled)), "evenly: {seconds:?}");
        assert_eq!(seconds.iter().sum::<usize>(), 4000);
        let distinct: HashSet<_> = polled.into_iter().flatten().map(|(key, _)| key).collect();
        assert_eq!(distinct.len(), 4000, "each once");
    }

    #[test]
    fn url_of_an_ipv6_first_pod_has_brackets() {
        let poller = ProgressPoller::default();
        assert_eq!(poller.url(&first_pod("10.0.0.1", "")), "http://10.0.0.1:9400/progress");
        assert_eq!(poller.url(&first_pod("fd00::1", "")), "http://[fd00::1]:9400/progress");
    }
}
