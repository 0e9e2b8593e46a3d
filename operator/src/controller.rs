//! The watches, the queue, and one reconciliation: observe, plan, write the status, apply.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::try_join_all;
use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use kube::api::Resource;
use kube::runtime::controller::{self, Action, Config, applier};
use kube::runtime::events::Reporter;
use kube::runtime::reflector;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use crate::api::{RunIdentity, RunKey, SimSiamRun, ValidatedRun};
use crate::apply::{Cluster, Written};
use crate::build::Settings;
use crate::error::Error;
use crate::events;
use crate::fair_queue::FairQueue;
use crate::metrics::{Metrics, RunGauges};
use crate::names;
use crate::observe::{Caches, EventFacts, Facts, Index, Observed, RecentEvents};
use crate::plan::{self, EventKind, Input, Plan};
use crate::progress::ProgressPoller;
use crate::sync::lock;

/// Every run is reconciled at least this often, in case events were missed.
const RESYNC_INTERVAL: Duration = Duration::from_secs(600);
/// Concurrent reconciliations. More of them would only wait for each other in the API server.
const CONCURRENT: u16 = 16;
/// A plan made from an outdated object is repeated after this time, when the watch has brought the new one.
const STALE_DELAY: Duration = Duration::from_millis(500);
/// The shortest time before a run is reconciled again.
const SHORTEST_DELAY: Duration = Duration::from_millis(200);

/// Everything that reconciliations share.
pub struct Context {
    client: Client,
    settings: Settings,
    caches: Caches,
    poller: ProgressPoller,
    metrics: Arc<Metrics>,
    reporter: Reporter,
    events: RecentEvents,
    validated: Mutex<HashMap<RunKey, Validated>>,
    /// Consecutive failures of each run's reconciliations.
    failures: Mutex<HashMap<RunKey, u32>>,
    queue: FairQueue,
}

/// A run's spec, validated once per generation.
#[derive(Debug, Clone)]
struct Validated {
    uid: String,
    generation: i64,
    run: Arc<Result<ValidatedRun, String>>,
}

impl Context {
    /// A context with empty caches.
    pub fn new(client: Client, settings: Settings, poller: ProgressPoller, metrics: Arc<Metrics>) -> Self {
        let reporter = Reporter { controller: names::OPERATOR.into(), instance: std::env::var("POD_NAME").ok() };
        Self {
            reporter,
            events: RecentEvents::default(),
            client,
            settings,
            caches: Caches::default(),
            poller,
            metrics,
            validated: Mutex::default(),
            failures: Mutex::default(),
            queue: FairQueue::new(usize::from(CONCURRENT)),
        }
    }

    /// Whether all first listings are complete.
    pub fn is_ready(&self) -> bool {
        self.caches.are_complete()
    }

    fn validate(&self, identity: &RunIdentity, object: &SimSiamRun) -> Arc<Result<ValidatedRun, String>> {
        let mut validated = lock(&self.validated);
        let (uid, generation) = (identity.uid.clone(), object.generation());
        if let Some(known) = validated.get(&identity.key).filter(|v| v.uid == uid && v.generation == generation) {
            return known.run.clone();
        }
        let run = Arc::new(ValidatedRun::read(object));
        validated.insert(identity.key.clone(), Validated { uid, generation, run: run.clone() });
        run
    }

    /// Forgets runs that were deleted while the watch was down.
    fn forget_all_except(&self, listed: &HashSet<RunKey>) {
        let known: Vec<_> = lock(&self.validated).keys().cloned().collect();
        for key in known.iter().filter(|key| !listed.contains(*key)) {
            self.forget(key);
        }
    }

    /// The newest Events of a run's unexplained objects, looked up if it is time.
    async fn events(&self, cluster: &Cluster<'_>, key: &RunKey, observed: &Observed) -> BTreeMap<String, EventFacts> {
        let now = Timestamp::now();
        let unexplained = observed.unexplained(now);
        if unexplained.is_empty() {
            return BTreeMap::new();
        }
        if let Some(recent) = self.events.of(key, now) {
            return recent;
        }
        let found: BTreeMap<_, _> = cluster.events(&key.namespace, unexplained).await.into_iter().collect();
        self.events.set(key, now, found.clone());
        found
    }

    fn forget(&self, key: &RunKey) {
        self.poller.set_first_pod(key, None);
        self.metrics.set_run(key, None);
        self.events.forget(key);
        lock(&self.validated).remove(key);
        lock(&self.failures).remove(key);
    }
}

/// Watches and reconciles until `stop` completes, and then finishes the reconciliations in progress.
///
/// No run is reconciled before every listing is complete: an object that is not listed yet would look deleted.
pub async fn run(context: Arc<Context>, namespace: Option<&str>, stop: impl Future<Output = ()> + Send + 'static) {
    let (wake, queue) = mpsc::unbounded_channel();
    let client = &context.client;
    let (store, writer) = reflector::store();
    let runs = watch_runs(api::<SimSiamRun>(client, namespace), writer, context.clone(), wake.clone());
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(runs);
    fn spawn<F: Facts>(
        tasks: &mut tokio::task::JoinSet<()>,
        context: &Arc<Context>,
        namespace: Option<&str>,
        wake: &mpsc::UnboundedSender<RunKey>,
        index: fn(&Caches) -> &Index<F>,
    ) where
        F::Object: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned
            + Send
            + 'static,
    {
        let api = api::<F::Object>(&context.client, namespace);
        tasks.spawn(watch(api, context.clone(), index, wake.clone()));
    }
    spawn(&mut tasks, &context, namespace, &wake, |caches| &caches.jobs);
    spawn(&mut tasks, &context, namespace, &wake, |caches| &caches.pods);
    spawn(&mut tasks, &context, namespace, &wake, |caches| &caches.services);
    spawn(&mut tasks, &context, namespace, &wake, |caches| &caches.policies);
    spawn(&mut tasks, &context, namespace, &wake, |caches| &caches.config_maps);
    match crate::progress::client() {
        Ok(client) => {
            tasks.spawn(context.poller.clone().poll(client, wake));
        }
        Err(e) => tracing::error!("cannot poll progress: {e}"),
    }
    while !context.is_ready() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tracing::info!("all caches are complete");
    let shared = context.clone();
    let queue = futures_util::stream::unfold((queue, Box::pin(stop)), move |(mut queue, mut stop)| {
        let context = shared.clone();
        async move {
            loop {
                tokio::select! {
                    () = &mut stop => return None,
                    key = queue.recv() => context.queue.enqueue(key?),
                    key = context.queue.next() => {
                        return Some((Ok::<_, std::convert::Infallible>(key.to_reference()), (queue, stop)));
                    }
                }
            }
        }
    });
    applier(
        |object, context| Box::pin(reconcile(object, context)),
        error_policy,
        context.clone(),
        store,
        Box::pin(queue),
        Config::default().concurrency(CONCURRENT),
    )
    .for_each(|result| {
        if let Err(controller::Error::ObjectNotFound(reference)) = result
            && let Some(namespace) = reference.namespace
        {
            context.queue.discard(&RunKey { namespace, name: reference.name });
        }
        std::future::ready(())
    })
    .await;
    tasks.shutdown().await;
}

fn api<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

async fn watch_runs(
    api: Api<SimSiamRun>,
    writer: reflector::store::Writer<SimSiamRun>,
    context: Arc<Context>,
    wake: mpsc::UnboundedSender<RunKey>,
) {
    let mut events = std::pin::pin!(
        watcher(api, watcher::Config::default()).default_backoff().modify(SimSiamRun::slim).reflect(writer)
    );
    let health = context.metrics.begin_watch("SimSiamRun");
    let mut listed = HashSet::new();
    while let Some(event) = events.next().await {
        health.observe(&event);
        match event {
            Ok(watcher::Event::Apply(object)) => {
                if let Some(key) = key_of(&object) {
                    let _ = wake.send(key);
                }
            }
            Ok(watcher::Event::Init) => listed.clear(),
            Ok(watcher::Event::InitApply(object)) => {
                listed.extend(key_of(&object));
            }
            // Only now are they in the store from which reconciliations read them.
            Ok(watcher::Event::InitDone) => {
                context.forget_all_except(&listed);
                for key in listed.drain() {
                    let _ = wake.send(key);
                }
            }
            Ok(watcher::Event::Delete(object)) => {
                if let Some(key) = key_of(&object) {
                    tracing::info!(run = key.name, namespace = key.namespace, "the run was deleted");
                    context.forget(&key);
                }
            }
            Err(e) => {
                context.metrics.count_watch_error("SimSiamRun");
                tracing::warn!("the watch of SimSiamRuns failed: {e}");
            }
        }
    }
}

async fn watch<F: Facts>(
    api: Api<F::Object>,
    context: Arc<Context>,
    index: fn(&Caches) -> &Index<F>,
    wake: mpsc::UnboundedSender<RunKey>,
) where
    F::Object: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Send + 'static,
{
    let config = watcher::Config::default().labels(&names::selector());
    let mut events = std::pin::pin!(watcher(api, config).default_backoff());
    let kind = F::Object::kind(&());
    let health = context.metrics.begin_watch(&kind);
    while let Some(event) = events.next().await {
        health.observe(&event);
        match event {
            Ok(event) => {
                for key in index(&context.caches).apply(event) {
                    let _ = wake.send(key);
                }
            }
            Err(e) => {
                context.metrics.count_watch_error(&kind);
                tracing::warn!("the watch of {kind}s failed: {e}");
            }
        }
    }
}

fn key_of(object: &SimSiamRun) -> Option<RunKey> {
    RunIdentity::of(object).inspect_err(|e| tracing::error!("a SimSiamRun is ignored: {e}")).ok().map(|run| run.key)
}

async fn reconcile(object: Arc<SimSiamRun>, context: Arc<Context>) -> Result<Action, Error> {
    let identity = RunIdentity::of(&object)?;
    let key = &identity.key;
    let _running = context.queue.start(key);
    let started = Instant::now();
    let result = reconcile_once(&identity, &object, &context).await;
    let seconds = started.elapsed().as_secs_f64();
    match &result {
        Ok((_, wrote)) => {
            context.metrics.observe_reconcile(if *wrote { "wrote" } else { "done" }, seconds);
            lock(&context.failures).remove(key);
        }
        Err(error) => {
            context.metrics.observe_reconcile("error", seconds);
            context.metrics.count_error(error.reason());
            tracing::warn!(run = key.name, namespace = key.namespace, reason = error.reason(), "{error}");
        }
    }
    result.map(|(action, _)| action)
}

/// Reconciles a run once. Returns when to do so again, and whether anything was written.
///
/// This function owns the invariant *status before action*: nothing is done before the status that announces it is
/// stored, so that an operator which is stopped in between neither repeats nor forgets an attempt.
async fn reconcile_once(
    identity: &RunIdentity,
    object: &SimSiamRun,
    context: &Context,
) -> Result<(Action, bool), Error> {
    let key = &identity.key;
    let cluster = Cluster { client: &context.client, metrics: &context.metrics };
    if let Err(error) = object.status() {
        let status = plan::unreadable_status(object, &error.to_string(), Timestamp::now());
        let written = cluster.write_status(identity, object, &status).await?;
        return Ok((Action::requeue(RESYNC_INTERVAL), written == Written::Yes));
    }
    let mut observed = context.caches.observe(key);
    observed.progress = context.poller.newest(key);
    observed.nodes = cluster.nodes(observed.suspect_nodes()).await.into_iter().collect();
    observed.events = context.events(&cluster, key, &observed).await;
    let validated = context.validate(identity, object);
    let input = Input {
        object,
        run: validated.as_ref().as_ref().map_err(String::as_str),
        observed: &observed,
        settings: &context.settings,
        now: Timestamp::now(),
    };
    let mut plan = plan::plan(&input);
    context.poller.set_first_pod(key, plan.first_pod.clone());
    let policy = input.run.ok().map(|run| &run.cluster.restart_policy);
    if let Some(gauges) = RunGauges::of(&plan.status, policy) {
        context.metrics.set_run(key, Some(gauges));
    }
    let wrote = match cluster.write_status(identity, object, &plan.status).await? {
        Written::Stale => return Ok((Action::requeue(STALE_DELAY), false)),
        Written::Yes => true,
        Written::Unchanged => false,
    };
    context.caches.forget(key, &observed);
    let ((), performed) =
        tokio::join!(publish(key, object, &plan, context), perform(&cluster, identity, &plan.actions));
    if let Err(error) = performed {
        // Shown to the user. If the status was written just now this write is refused as outdated, and the next
        // reconciliation repeats it.
        plan::set_reconciled(&mut plan.status, &input, Some((error.reason(), &error.to_string())));
        let _ = cluster.write_status(identity, object, &plan.status).await;
        return Err(error);
    }
    Ok((Action::requeue(delay(&plan, input.now)), wrote || !plan.actions.is_empty()))
}

/// Carries out the actions of a plan concurrently, but a Job after what its pods need.
async fn perform(cluster: &Cluster<'_>, run: &RunIdentity, actions: &[plan::Action]) -> Result<(), Error> {
    let (jobs, others): (Vec<_>, Vec<_>) =
        actions.iter().partition(|action| matches!(action, plan::Action::CreateJob(_)));
    for group in [others, jobs] {
        try_join_all(group.into_iter().map(|action| cluster.perform(run, action))).await?;
    }
    Ok(())
}

/// Publishes the events of a plan as log lines, metrics and Kubernetes Events.
async fn publish(key: &RunKey, object: &SimSiamRun, plan: &Plan, context: &Context) {
    for event in &plan.events {
        tracing::info!(run = key.name, namespace = key.namespace, reason = event.reason, "{}", event.message);
        match event.kind {
            EventKind::Restart => context.metrics.count_restart(&event.reason),
            EventKind::Failure => context.metrics.count_failure(plan.status.reason.as_deref().unwrap_or_default()),
            EventKind::Other => {}
        }
        context.metrics.count_request("create");
        let reference = object.object_ref(&());
        if let Err(e) = events::publish(&context.client, &context.reporter, &reference, event).await {
            tracing::warn!(run = key.name, namespace = key.namespace, "cannot publish an Event: {e}");
        }
    }
}

/// How long to wait before the run is reconciled again even if nothing happens.
fn delay(plan: &Plan, now: Timestamp) -> Duration {
    let Some(at) = plan.requeue_at else { return RESYNC_INTERVAL };
    // A time that has passed gives a negative duration.
    let delay = Duration::try_from(at.duration_since(now)).unwrap_or_default();
    delay.clamp(SHORTEST_DELAY, RESYNC_INTERVAL)
}

/// Waits longer after each consecutive failure of the same run.
fn error_policy(object: Arc<SimSiamRun>, _: &Error, context: Arc<Context>) -> Action {
    let Some(key) = key_of(&object) else { return Action::requeue(RESYNC_INTERVAL) };
    let mut failures = lock(&context.failures);
    let times = failures.entry(key).or_insert(0);
    *times = times.saturating_add(1);
    Action::requeue(Duration::from_secs(1 << (*times - 1).min(8)).min(Duration::from_secs(300)))
}
