//! Watches, the queue, and one reconciliation: observe, plan, write the status, apply.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::try_join_all;
use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use kube::api::Resource;
use kube::runtime::controller::{self, Action, Config, applier};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::runtime::reflector;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use crate::api::{Run, SimSiamRun};
use crate::apply::{Cluster, Written};
use crate::build::Settings;
use crate::error::Error;
use crate::metrics::{Metrics, Standing};
use crate::names;
use crate::observe::{Caches, Facts, Index, Key};
use crate::plan::{self, Input, Of, Plan};
use crate::progress::Reports;
use crate::turns::Turns;

/// At least so often every run is looked at again, whatever events were missed.
const AT_LEAST_EVERY: Duration = Duration::from_secs(600);
/// Reconciliations at a time. More of them would only wait for one another in the API server.
const CONCURRENT: u16 = 16;

/// Everything that reconciliations share.
pub struct Context {
    client: Client,
    settings: Settings,
    caches: Caches,
    reports: Reports,
    metrics: Arc<Metrics>,
    recorder: Recorder,
    parsed: Mutex<HashMap<Key, Parsed>>,
    failures: Mutex<HashMap<Key, u32>>,
    turns: Turns,
}

/// A run's spec, read once a generation.
#[derive(Debug, Clone)]
struct Parsed {
    uid: Option<String>,
    generation: Option<i64>,
    run: Arc<Result<Run, String>>,
}

impl Context {
    /// For a client and what the operator was started with.
    pub fn new(client: Client, settings: Settings, reports: Reports, metrics: Arc<Metrics>) -> Self {
        let reporter = Reporter { controller: names::OPERATOR.into(), instance: std::env::var("POD_NAME").ok() };
        Self {
            recorder: Recorder::new(client.clone(), reporter),
            client,
            settings,
            caches: Caches::default(),
            reports,
            metrics,
            parsed: Mutex::default(),
            failures: Mutex::default(),
            turns: Turns::new(usize::from(CONCURRENT)),
        }
    }

    /// Have all listings come?
    pub fn is_ready(&self) -> bool {
        self.caches.are_whole()
    }

    fn parsed(&self, key: &Key, object: &SimSiamRun) -> Arc<Result<Run, String>> {
        let Ok(mut parsed) = self.parsed.lock() else { return Arc::new(Run::read(object)) };
        let (uid, generation) = (object.uid(), object.metadata.generation);
        if let Some(there) = parsed.get(key).filter(|p| p.uid == uid && p.generation == generation) {
            return there.run.clone();
        }
        let run = Arc::new(Run::read(object));
        parsed.insert(key.clone(), Parsed { uid, generation, run: run.clone() });
        run
    }

    /// Forgets runs that went unseen while the watch was down.
    fn forget_all_but(&self, there: &HashSet<Key>) {
        let known: Vec<_> = match self.parsed.lock() {
            Ok(parsed) => parsed.keys().cloned().collect(),
            Err(_) => Vec::new(),
        };
        for key in known.iter().filter(|key| !there.contains(*key)) {
            self.forget(key);
        }
    }

    fn forget(&self, key: &Key) {
        self.reports.follow(key, None);
        self.metrics.stands(key, None);
        if let Ok(mut parsed) = self.parsed.lock() {
            parsed.remove(key);
        }
        if let Ok(mut failures) = self.failures.lock() {
            failures.remove(key);
        }
    }
}

/// Watches and reconciles until `stop` ends, and then finishes what is under way.
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
        wake: &mpsc::UnboundedSender<Key>,
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
            tasks.spawn(context.reports.clone().pull(client, wake));
        }
        Err(e) => tracing::error!("no progress will be shown: {e}"),
    }
    // Nothing may be taken for absent before all listings have come.
    while !context.is_ready() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tracing::info!("all caches are filled");
    let there = context.clone();
    let queue = futures_util::stream::unfold((queue, Box::pin(stop)), move |(mut queue, mut stop)| {
        let context = there.clone();
        async move {
            loop {
                tokio::select! {
                    () = &mut stop => return None,
                    key = queue.recv() => context.turns.wake(key?),
                    key = context.turns.next() => {
                        return Some((Ok::<_, std::convert::Infallible>(key.reference()), (queue, stop)));
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
        if let Err(controller::Error::ObjectNotFound(reference)) = result {
            context.turns.gone(&Key { namespace: reference.namespace.unwrap_or_default(), run: reference.name });
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
    wake: mpsc::UnboundedSender<Key>,
) {
    let mut events = std::pin::pin!(
        watcher(api, watcher::Config::default()).default_backoff().modify(SimSiamRun::slim).reflect(writer)
    );
    let mut listed = HashSet::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Apply(object)) => {
                let _ = wake.send(Key::of(&object));
            }
            Ok(watcher::Event::Init) => listed.clear(),
            Ok(watcher::Event::InitApply(object)) => {
                listed.insert(Key::of(&object));
            }
            // Only now are they in the store, from which the queue takes them.
            Ok(watcher::Event::InitDone) => {
                context.forget_all_but(&listed);
                for key in listed.drain() {
                    let _ = wake.send(key);
                }
            }
            Ok(watcher::Event::Delete(object)) => {
                let key = Key::of(&object);
                tracing::info!(run = key.run, namespace = key.namespace, "the run is gone");
                context.forget(&key);
            }
            Err(e) => tracing::warn!("watching SimSiamRuns: {e}"),
        }
    }
}

async fn watch<F: Facts>(
    api: Api<F::Object>,
    context: Arc<Context>,
    index: fn(&Caches) -> &Index<F>,
    wake: mpsc::UnboundedSender<Key>,
) where
    F::Object: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Send + 'static,
{
    let config = watcher::Config::default().labels(&names::selector());
    let mut events = std::pin::pin!(watcher(api, config).default_backoff());
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                for key in index(&context.caches).take(event) {
                    let _ = wake.send(key);
                }
            }
            Err(e) => tracing::warn!("watching {}: {e}", F::Object::kind(&())),
        }
    }
}

async fn reconcile(object: Arc<SimSiamRun>, context: Arc<Context>) -> Result<Action, Error> {
    let key = Key::of(&object);
    let _turn = context.turns.begin(&key);
    let begun = Instant::now();
    let result = step(&key, &object, &context).await;
    let seconds = begun.elapsed().as_secs_f64();
    match &result {
        Ok((_, wrote)) => {
            context.metrics.reconciled(if *wrote { "wrote" } else { "done" }, seconds);
            if let Ok(mut failures) = context.failures.lock() {
                failures.remove(&key);
            }
        }
        Err(error) => {
            context.metrics.reconciled("error", seconds);
            context.metrics.failed(error.reason());
            tracing::warn!(run = key.run, namespace = key.namespace, reason = error.reason(), "{error}");
        }
    }
    result.map(|(action, _)| action)
}

async fn step(key: &Key, object: &SimSiamRun, context: &Context) -> Result<(Action, bool), Error> {
    let cluster = Cluster { client: &context.client, metrics: &context.metrics };
    let mut observed = context.caches.observe(key);
    observed.progress = context.reports.of(key);
    observed.nodes = cluster.nodes(observed.doubtful_nodes()).await.into_iter().collect();
    let parsed = context.parsed(key, object);
    let input = Input {
        object,
        run: parsed.as_ref().as_ref().map_err(String::as_str),
        observed: &observed,
        settings: &context.settings,
        now: Timestamp::now(),
    };
    let mut plan = plan::plan(&input);
    context.reports.follow(key, plan.follow.clone());
    let policy = input.run.ok().map(|run| &run.cluster.restart_policy);
    if let Some(standing) = Standing::of(&plan.status, policy) {
        context.metrics.stands(key, Some(standing));
    }
    let wrote = match cluster.write_status(object, &plan.status).await? {
        // The plan was made from an old object; the watch will bring the new one.
        Written::Stale => return Ok((Action::requeue(Duration::from_millis(500)), false)),
        Written::Yes => true,
        Written::Unchanged => false,
    };
    context.caches.forget(key, &observed);
    let ((), done) = tokio::join!(tell(key, object, &plan, context), perform(&cluster, object, &plan.actions));
    if let Err(error) = done {
        // Where the user looks. If the status was written just now this fails, and comes with the next try.
        plan::reconciled(&mut plan.status, &input, Some((error.reason(), &error.to_string())));
        let _ = cluster.write_status(object, &plan.status).await;
        return Err(error);
    }
    Ok((Action::requeue(pause(&plan, input.now)), wrote || !plan.actions.is_empty()))
}

/// Does what a plan says, all at once; but a Job comes after what its pods need.
async fn perform(cluster: &Cluster<'_>, object: &SimSiamRun, actions: &[plan::Action]) -> Result<(), Error> {
    let (jobs, others): (Vec<_>, Vec<_>) =
        actions.iter().partition(|action| matches!(action, plan::Action::CreateJob(_)));
    for group in [others, jobs] {
        try_join_all(group.into_iter().map(|action| cluster.perform(object, action))).await?;
    }
    Ok(())
}

/// Tells people: logs, Events, metrics.
async fn tell(key: &Key, object: &SimSiamRun, plan: &Plan, context: &Context) {
    for note in &plan.notes {
        tracing::info!(run = key.run, namespace = key.namespace, reason = note.reason, "{}", note.message);
        match note.of {
            Of::Restart => context.metrics.restarted(&note.reason),
            Of::Failure => context.metrics.run_failed(plan.status.reason.as_deref().unwrap_or_default()),
            Of::Else => {}
        }
        let event = Event {
            type_: if note.warning { EventType::Warning } else { EventType::Normal },
            reason: note.reason.chars().take(128).collect(),
            note: Some(note.message.chars().take(1000).collect()),
            action: "Reconcile".into(),
            secondary: None,
        };
        context.metrics.requested("create");
        if let Err(e) = context.recorder.publish(&event, &object.object_ref(&())).await {
            tracing::warn!(run = key.run, namespace = key.namespace, "the Event was not recorded: {e}");
        }
    }
}

fn pause(plan: &Plan, now: Timestamp) -> Duration {
    let until = plan.again.map(|at| at.duration_since(now)).and_then(|d| Duration::try_from(d).ok());
    match (plan.again, until) {
        (Some(_), Some(pause)) => pause.clamp(Duration::from_millis(200), AT_LEAST_EVERY),
        // It is past already.
        (Some(_), None) => Duration::from_millis(200),
        (None, _) => AT_LEAST_EVERY,
    }
}

/// Waits longer with each failure of the same run.
fn error_policy(object: Arc<SimSiamRun>, _: &Error, context: Arc<Context>) -> Action {
    let Ok(mut failures) = context.failures.lock() else { return Action::requeue(Duration::from_secs(60)) };
    let times = failures.entry(Key::of(&object)).or_insert(0);
    *times = times.saturating_add(1);
    Action::requeue(Duration::from_secs(1 << (*times - 1).min(8)).min(Duration::from_secs(300)))
}
