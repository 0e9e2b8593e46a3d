//! How an attempt ended, from its Job's conditions and all its pods.
//!
//! Only pods that ended or were disrupted before the Job gave up ([`JobFacts::failing`]) and before the operator deleted
//! anything can be the cause: the SIGTERMs of the clean-up itself are no pre-emptions.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use simsiam_contract::{ExitCode, FailureReason};

use super::budget::RestartKind;
use super::time::after;
use crate::api::RestartPolicy;
use crate::observe::{JobFacts, OOM_KILLED, Observed, PodFacts, Termination, Waiting};

/// How an attempt whose Job is not complete ended, if it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// It has not ended.
    Active,
    /// It has ended; its cause may be known only at this time.
    Undetermined(Timestamp),
    /// A container cannot start: permanent, unless pods of the run have run before.
    BadStart(ExitCause),
    /// The storage denied access: permanent, unless the run has used it before.
    Denied(ExitCause),
    /// It failed permanently: another attempt would end the same way.
    Failed(ExitCause),
    /// Another attempt may succeed.
    Restart(RestartKind, ExitCause),
}

/// Why an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExitCause {
    /// The reason, one word.
    pub reason: String,
    /// The reason, one sentence.
    pub message: String,
    /// The pod that failed first.
    pub pod: Option<String>,
}

/// How long the node lifecycle controller may take to find a node dead after its peers lost it: Kubernetes' own grace
/// period (40 to 50 s) and a margin.
const NODE_LOSS_DELAY: Duration = Duration::from_secs(75);

/// The reason of a pod that starts.
pub const CONTAINER_CREATING: &str = "ContainerCreating";

/// Reasons of a waiting container that do not resolve on their own.
pub const BAD_STARTS: [&str; 9] = [
    "ImagePullBackOff",
    "ErrImagePull",
    "ErrImageNeverPull",
    "InvalidImageName",
    "ImageInspectError",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
    "CrashLoopBackOff",
];

/// Classifies the end of an attempt whose Job exists and is not complete.
///
/// Permanent failures come first, then disruptions and pre-emptions, then lost nodes and pods, then crashes.
pub fn classify_exit(
    job: &JobFacts,
    pods: &[&PodFacts],
    observed: &Observed,
    policy: &RestartPolicy,
    now: Timestamp,
) -> AttemptOutcome {
    let nodes = &observed.nodes;
    if job.suspended && job.failing.is_none() {
        return AttemptOutcome::Active;
    }
    if job.failing.is_none()
        && let Some(outcome) = classify_schedule(job, pods, observed, policy, now)
            .or_else(|| classify_start(job, pods, observed, policy, now))
    {
        return outcome;
    }
    let causes: Vec<&PodFacts> = pods.iter().copied().filter(|pod| is_cause(pod, job)).collect();
    if let Some((pod, ended)) = first(&causes, ExitCode::is_permanent) {
        let cause = cause_of(pod, ended);
        let is_denied = cause.reason == FailureReason::AccessDenied.name();
        return if is_denied { AttemptOutcome::Denied(cause) } else { AttemptOutcome::Failed(cause) };
    }
    // Whatever code the pods exited with when they were stopped: a suspension is no failure, although it fails the Job.
    if job.suspended {
        let message = format!("Job {} was suspended while its pods ran: its queue reclaimed the quota", job.name);
        return preempted(FailureReason::Preempted.name(), message, None);
    }
    for pod in &causes {
        if let Some(disruption) = &pod.disrupted {
            let reason = if disruption.reason.is_empty() { "Disrupted" } else { &disruption.reason };
            return preempted(reason, disruption.message.clone(), Some(pod));
        }
    }
    if let Some((pod, ended)) = first(&causes, |code| code == ExitCode::Preempted) {
        let mut cause = cause_of(pod, ended);
        if pod.deleting.is_some() && cause.message.is_empty() {
            cause.message = "the pod was deleted; a checkpoint was written".into();
        }
        return AttemptOutcome::Restart(RestartKind::Preempted, cause);
    }
    if let Some(pod) = pods.iter().find(|pod| is_lost(pod, nodes))
        && let Some(node) = &pod.node
    {
        return preempted("NodeLost", format!("node {node} is not ready"), Some(pod));
    }
    if let Some(pod) = causes.iter().find(|pod| pod.is_gone && pod.ended.is_none()) {
        return preempted("PodDeleted", "the pod was deleted before it had ended".into(), Some(pod));
    }
    let crash = first_crash(&causes).or_else(|| first(&causes, |code| code == ExitCode::Temporary));
    match (crash, &job.failing) {
        (Some((pod, ended)), _) => {
            // The peers of a dead node exit with 75 long before Kubernetes knows that the node is dead.
            let may_be_lost_node = causes.iter().filter_map(|pod| pod.ended.as_ref()).all(is_peer_exit)
                && pods.iter().any(|pod| pod.ended.is_none() && !pod.is_gone && pod.node.is_some());
            match ended.at.map(|at| after(at, NODE_LOSS_DELAY)) {
                Some(deadline) if may_be_lost_node && now < deadline => AttemptOutcome::Undetermined(deadline),
                _ => AttemptOutcome::Restart(RestartKind::Counted, cause_of(pod, ended)),
            }
        }
        (None, Some(failure)) => {
            let cause = ExitCause { reason: failure.reason.clone(), message: failure.message.clone(), pod: None };
            AttemptOutcome::Restart(RestartKind::Counted, cause)
        }
        (None, None) => AttemptOutcome::Active,
    }
}

fn preempted(reason: &str, message: String, pod: Option<&PodFacts>) -> AttemptOutcome {
    let cause = ExitCause { reason: reason.to_owned(), message, pod: pod.map(|pod| pod.name.clone()) };
    AttemptOutcome::Restart(RestartKind::Preempted, cause)
}

/// Classifies an attempt whose pods could not be created or scheduled, or lack an image or a Secret, within
/// `scheduleTimeout`.
fn classify_schedule(
    job: &JobFacts,
    pods: &[&PodFacts],
    observed: &Observed,
    policy: &RestartPolicy,
    now: Timestamp,
) -> Option<AttemptOutcome> {
    if now < after(job.started?, policy.schedule()) {
        return None;
    }
    let present: Vec<_> = pods.iter().filter(|pod| !pod.is_gone).collect();
    if let Some((pod, waiting)) = present.iter().find_map(|pod| Some((pod, bad_start(pod)?))) {
        let (reason, message) = (waiting.reason.clone(), waiting.message.clone());
        return Some(AttemptOutcome::BadStart(ExitCause { reason, message, pod: Some(pod.name.clone()) }));
    }
    let unscheduled = |cause| Some(AttemptOutcome::Restart(RestartKind::Unscheduled, cause));
    if let Some(pod) = present.iter().find(|pod| pod.node.is_none() && pod.ended.is_none()) {
        let message = pod.unschedulable.clone().unwrap_or_else(|| "the scheduler has not considered the pod".into());
        return unscheduled(ExitCause { reason: "Unschedulable".into(), message, pod: Some(pod.name.clone()) });
    }
    let missing = present.len() < job.pods as usize && pods.iter().all(|pod| pod.ended.is_none());
    if !missing {
        return None;
    }
    let count = format!("{} of {} pods were created", present.len(), job.pods);
    let message = match observed.warning(&job.uid) {
        Some(event) => format!("{count}: {}", event.message),
        None => {
            let name = &job.name;
            format!("{count}; `kubectl describe job {name}` shows why (for example a quota or Pod Security)")
        }
    };
    unscheduled(ExitCause { reason: "PodsNotCreated".into(), message, pod: None })
}

/// Classifies an attempt in which a scheduled pod has not started within `startTimeout`.
fn classify_start(
    job: &JobFacts,
    pods: &[&PodFacts],
    observed: &Observed,
    policy: &RestartPolicy,
    now: Timestamp,
) -> Option<AttemptOutcome> {
    let is_late = |pod: &&&PodFacts| start_deadline(job, pod, policy).is_some_and(|at| now >= at);
    let late: Vec<_> = pods.iter().filter(is_late).collect();
    let explained = late.iter().find(|pod| observed.warning(&pod.uid).is_some());
    let pod = explained.or(late.first())?;
    let (reason, words) = start_reason(pod, observed);
    let more = if words.is_empty() { String::new() } else { format!(": {words}") };
    let timeout = &policy.start_timeout;
    let message = format!("the pod has not started within {timeout} (spec.restartPolicy.startTimeout){more}");
    let cause = ExitCause { reason, message, pod: Some(pod.name.clone()) };
    Some(AttemptOutcome::Restart(RestartKind::Counted, cause))
}

/// When a pod must have started; `None` if it has, is not scheduled, or says why it cannot.
pub fn start_deadline(job: &JobFacts, pod: &PodFacts, policy: &RestartPolicy) -> Option<Timestamp> {
    let is_starting = pod.is_starting() && bad_start(pod).is_none();
    let since = pod.scheduled.or(job.started)?;
    is_starting.then(|| after(since, policy.start()))
}

/// Why a scheduled pod has not started, as reason and message: the words of its newest Event.
pub fn start_reason(pod: &PodFacts, observed: &Observed) -> (String, String) {
    match observed.events.get(&pod.uid) {
        Some(event) if event.warning => (event.reason.clone(), event.message.clone()),
        Some(event) => (CONTAINER_CREATING.into(), event.message.clone()),
        None => (CONTAINER_CREATING.into(), String::new()),
    }
}

/// The kubelet's reasons for not running a pod that lie in the node: its devices, its topology, its network, its container
/// runtime.
const NODE_FAULTS: [&str; 6] = [
    "UnexpectedAdmissionError",
    "TopologyAffinityError",
    "FailedCreatePodSandBox",
    "NetworkNotReady",
    "StartError",
    "ContainerCannotRun",
];
/// The beginning of the reasons of a kubelet that lacks a resource which the scheduler counted on, such as
/// OutOfnvidia.com/gpu.
const OUT_OF_RESOURCE: &str = "OutOf";

/// The node that failed an attempt which ended for `cause`, and the kubelet's reason.
pub fn faulty_node(cause: &ExitCause, pods: &[&PodFacts]) -> Option<(String, String)> {
    let pod = pods.iter().find(|pod| Some(&pod.name) == cause.pod.as_ref())?;
    // The reason of the cause is that of the exit code, if there is one.
    let reason = pod.ended.as_ref().map_or(&cause.reason, |ended| &ended.reason);
    let is_fault = NODE_FAULTS.contains(&reason.as_str()) || reason.starts_with(OUT_OF_RESOURCE);
    is_fault.then(|| Some((pod.node.clone()?, reason.clone())))?
}

/// Why a container does not start, if that does not resolve on its own.
pub fn bad_start(pod: &PodFacts) -> Option<&Waiting> {
    pod.waiting.as_ref().filter(|waiting| BAD_STARTS.contains(&waiting.reason.as_str()))
}

/// Whether this pod ended, or was disrupted, before the Job gave up and before the operator deleted the Job.
fn is_cause(pod: &PodFacts, job: &JobFacts) -> bool {
    let failing = job.failing.as_ref();
    // The Job controller names the pod that it fails the Job for.
    if failing.is_some_and(|failure| contains_word(&failure.message, &pod.name)) {
        return true;
    }
    let failed = pod.ended.as_ref().is_some_and(|ended| !ended.succeeded());
    if !failed && pod.disrupted.is_none() && !(pod.is_gone && pod.ended.is_none()) {
        return false;
    }
    let Some(cutoff) = [failing.map(|failure| failure.at), job.deleting].into_iter().flatten().min() else {
        return true;
    };
    if let Some(disruption) = &pod.disrupted {
        return disruption.at <= cutoff;
    }
    // Times are whole seconds: within the cut-off's second, only a deletion distinguishes the clean-up from a cause.
    let deleted_by_clean_up = pod.deleting.is_some_and(|at| at >= cutoff);
    let at = pod.ended.as_ref().and_then(|ended| ended.at);
    !deleted_by_clean_up && at.is_none_or(|at| at <= cutoff)
}

/// Whether a pod's name is a whole word of the text.
fn contains_word(text: &str, name: &str) -> bool {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).any(|word| word == name)
}

/// The earliest exit with such a code.
fn first<'a>(pods: &[&'a PodFacts], holds: impl Fn(ExitCode) -> bool) -> Option<(&'a PodFacts, &'a Termination)> {
    earliest(pods, |ended| ended.code.is_some_and(&holds))
}

/// The earliest exit that is neither a success nor a lost peer.
fn first_crash<'a>(pods: &[&'a PodFacts]) -> Option<(&'a PodFacts, &'a Termination)> {
    earliest(pods, |ended| !is_peer_exit(ended))
}

fn earliest<'a>(
    pods: &[&'a PodFacts],
    holds: impl Fn(&Termination) -> bool,
) -> Option<(&'a PodFacts, &'a Termination)> {
    pods.iter()
        .filter_map(|pod| Some((*pod, pod.ended.as_ref()?)))
        .filter(|(_, ended)| holds(ended))
        .min_by_key(|(pod, ended)| (ended.at, pod.index))
}

/// Whether a pod ended as the peers of a lost one do.
fn is_peer_exit(ended: &Termination) -> bool {
    matches!(ended.code, Some(ExitCode::Done | ExitCode::Temporary))
}

/// Whether a pod has not ended and its node is not ready.
pub fn is_lost(pod: &PodFacts, nodes: &BTreeMap<String, bool>) -> bool {
    let ready = pod.node.as_ref().and_then(|node| nodes.get(node));
    pod.ended.is_none() && !pod.is_gone && ready == Some(&false)
}

fn cause_of(pod: &PodFacts, ended: &Termination) -> ExitCause {
    let out_of_memory = ended.reason == OOM_KILLED;
    let reason = if out_of_memory { ended.reason.clone() } else { reason_of(ended) };
    let mut message = ended.message.message.clone();
    if out_of_memory {
        let more = if message.is_empty() { String::new() } else { format!(": {message}") };
        let cause = match &pod.memory_limit {
            Some(limit) if limit.by_limit_range => format!(
                "the pod exceeded its memory limit of {}, which a LimitRange of the namespace set because \
                    workers.resources.memory is not set",
                limit.quantity
            ),
            Some(limit) => {
                format!("the pod exceeded its memory limit of {} (workers.resources.memory)", limit.quantity)
            }
            None => "its node ran out of memory; workers.resources.memory is not set".to_owned(),
        };
        message = format!("a process was killed because {cause}{more}");
    } else if message.is_empty() {
        message = match ended.code {
            Some(ExitCode::Preempted) => String::new(),
            None => "the pod failed before its container could report why".into(),
            Some(ExitCode::Crash(code @ 129..=160)) => {
                format!("the trainer was killed by signal {} (exit code {code})", code - 128)
            }
            Some(code) => format!("the trainer exited with code {}", code.code()),
        };
    }
    ExitCause { reason, message, pod: Some(pod.name.clone()) }
}

/// The reason in the termination message; that of the exit code if the message has none, or is about another exit: an
/// agent that was killed after it had written its message.
fn reason_of(ended: &Termination) -> String {
    let Some(code) = ended.code else { return ended.reason.clone() };
    let is_same_exit = ended.message.code.is_none_or(|reported| reported == code.code());
    let reported = ended.message.reason.clone().filter(|_| is_same_exit);
    reported.unwrap_or_else(|| code.into()).name().to_owned()
}
