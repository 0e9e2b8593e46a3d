//! How an attempt ended: judged from its Job's conditions and from all its pods.
//!
//! Causes are only pods that ended or were disrupted before the Job gave up ([`JobFacts::failing`]) and before any
//! deletion of ours: what the clean-up's own SIGTERMs bring about is no pre-emption.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::api::RestartPolicy;
use crate::observe::{Ended, JobFacts, PodFacts};

/// What is to be done after an attempt that did not finish its stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The run has failed: another attempt would end the same way.
    Fail(Cause),
    /// Restart, and count it.
    Counted(Cause),
    /// Restart: nobody's fault.
    Uncounted(Cause),
    /// The gang could not be scheduled whole: try again later.
    Unscheduled(Cause),
}

/// Why an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cause {
    /// In a word.
    pub reason: String,
    /// In a sentence.
    pub message: String,
    /// The pod that it began with.
    pub pod: Option<String>,
}

/// What is known so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// It goes on.
    GoesOn,
    /// It has ended, but the cause may show itself by this time.
    Until(Timestamp),
    /// It has ended.
    Ended(Verdict),
}

/// How long a node may take to be found dead after its peers lost it: Kubernetes' own grace (40 to 50 s) and a margin.
const LATE_NEWS: Duration = Duration::from_secs(75);
/// Reasons of a waiting container that time alone does not mend.
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

/// Judges an attempt whose Job exists and is not complete.
pub fn judge(
    job: &JobFacts,
    pods: &[&PodFacts],
    nodes: &BTreeMap<String, bool>,
    policy: &RestartPolicy,
    now: Timestamp,
) -> Judgement {
    if job.suspended && job.failing.is_none() {
        return Judgement::GoesOn;
    }
    if job.failing.is_none()
        && let Some(judgement) = before_the_start(job, pods, policy, now)
    {
        return judgement;
    }
    let causes: Vec<&&PodFacts> = pods.iter().filter(|pod| is_cause(pod, job)).collect();
    if let Some((pod, ended)) = first(&causes, |_, ended| matches!(ended.code, 64 | 65 | 78 | 86)) {
        return Judgement::Ended(Verdict::Fail(cause(pod, ended)));
    }
    // Whatever else its pods said as they were stopped: to be suspended is no mishap, but it fails a Job all the same.
    if job.suspended {
        let message = format!("Job {} was suspended while its pods ran: its queue took the quota back", job.name);
        return Judgement::Ended(Verdict::Uncounted(Cause { reason: "Preempted".into(), message, pod: None }));
    }
    if let Some(pod) = causes.iter().find(|pod| pod.disrupted.is_some()) {
        let (_, reason, message) = pod.disrupted.clone().unwrap_or_default();
        return uncounted(pod, if reason.is_empty() { "Disrupted".into() } else { reason }, message);
    }
    if let Some((pod, ended)) = first(&causes, |_, ended| ended.code == 85) {
        let mut cause = cause(pod, ended);
        if pod.deleting.is_some() && cause.message.is_empty() {
            cause.message = "the pod was deleted; a checkpoint was written".into();
        }
        return Judgement::Ended(Verdict::Uncounted(cause));
    }
    if let Some(pod) = pods.iter().find(|pod| is_lost(pod, nodes)) {
        let node = pod.node.clone().unwrap_or_default();
        return uncounted(pod, "NodeLost".into(), format!("node {node} is not ready"));
    }
    if let Some(pod) = causes.iter().find(|pod| pod.is_gone && pod.ended.is_none()) {
        return uncounted(pod, "PodDeleted".into(), "the pod was deleted before it had ended".into());
    }
    let crash =
        first(&causes, |_, ended| !matches!(ended.code, 0 | 75)).or_else(|| first(&causes, |_, e| e.code == 75));
    match (crash, &job.failing) {
        (Some((pod, ended)), _) => {
            // Peers of a dead node end with 75 long before anyone knows that it is dead.
            let only_lost_peers = causes.iter().filter_map(|p| p.ended.as_ref()).all(|e| matches!(e.code, 0 | 75));
            let silent = pods.iter().any(|pod| pod.ended.is_none() && !pod.is_gone && pod.node.is_some());
            let deadline = ended.at.map(|at| plus(at, LATE_NEWS));
            match deadline {
                Some(deadline) if only_lost_peers && silent && now < deadline => Judgement::Until(deadline),
                _ => Judgement::Ended(Verdict::Counted(cause(pod, ended))),
            }
        }
        (None, Some((_, reason, message))) => {
            let cause = Cause { reason: reason.clone(), message: message.clone(), pod: None };
            Judgement::Ended(Verdict::Counted(cause))
        }
        (None, None) => Judgement::GoesOn,
    }
}

fn uncounted(pod: &PodFacts, reason: String, message: String) -> Judgement {
    Judgement::Ended(Verdict::Uncounted(Cause { reason, message, pod: Some(pod.name.clone()) }))
}

/// What keeps pods from being scheduled or from starting, for too long.
fn before_the_start(job: &JobFacts, pods: &[&PodFacts], policy: &RestartPolicy, now: Timestamp) -> Option<Judgement> {
    let since = job.started?;
    if now < plus(since, policy.schedule()) {
        return None;
    }
    let present: Vec<_> = pods.iter().filter(|pod| !pod.is_gone).collect();
    if let Some(pod) = present.iter().find(|pod| bad_start(pod).is_some()) {
        let (reason, message) = pod.waiting.clone().unwrap_or_default();
        return Some(Judgement::Ended(Verdict::Fail(Cause { reason, message, pod: Some(pod.name.clone()) })));
    }
    if let Some(pod) = present.iter().find(|pod| pod.node.is_none() && pod.ended.is_none()) {
        let message = pod.unschedulable.clone().unwrap_or_else(|| "the scheduler has not looked at the pod".into());
        let cause = Cause { reason: "Unschedulable".into(), message, pod: Some(pod.name.clone()) };
        return Some(Judgement::Ended(Verdict::Unscheduled(cause)));
    }
    let missing = present.len() < job.pods as usize && pods.iter().all(|pod| pod.ended.is_none());
    missing.then(|| {
        let message = format!(
            "{} of {} pods were created; `kubectl describe job {}` says why (a quota, or Pod Security)",
            present.len(),
            job.pods,
            job.name
        );
        Judgement::Ended(Verdict::Unscheduled(Cause { reason: "PodsNotCreated".into(), message, pod: None }))
    })
}

/// Why a container does not start, if time alone will not mend it.
pub fn bad_start(pod: &PodFacts) -> Option<&(String, String)> {
    pod.waiting.as_ref().filter(|(reason, _)| BAD_STARTS.contains(&reason.as_str()))
}

/// Did this pod end, or was it disrupted, before the Job gave up and before we deleted the Job?
fn is_cause(pod: &PodFacts, job: &JobFacts) -> bool {
    let failing = job.failing.as_ref();
    // The Job's own word for what it fails of.
    if failing.is_some_and(|(_, _, message)| names_pod(message, &pod.name)) {
        return true;
    }
    let failed = pod.ended.as_ref().is_some_and(|ended| ended.code != 0);
    if !failed && pod.disrupted.is_none() && !(pod.is_gone && pod.ended.is_none()) {
        return false;
    }
    let Some(cutoff) = [failing.map(|(at, _, _)| *at), job.deleting].into_iter().flatten().min() else {
        return true;
    };
    if let Some((at, _, _)) = &pod.disrupted {
        return *at <= cutoff;
    }
    // Times have seconds only: within the cut-off's second, a deletion tells the clean-up from a cause.
    let deleted_by_clean_up = pod.deleting.is_some_and(|at| at >= cutoff);
    let at = pod.ended.as_ref().and_then(|ended| ended.at);
    !deleted_by_clean_up && at.is_none_or(|at| at <= cutoff)
}

/// Is the name a whole word of the text?
fn names_pod(text: &str, name: &str) -> bool {
    !name.is_empty() && text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).any(|word| word == name)
}

fn first<'a>(pods: &[&&'a PodFacts], holds: impl Fn(&PodFacts, &Ended) -> bool) -> Option<(&'a PodFacts, &'a Ended)> {
    pods.iter()
        .filter_map(|pod| pod.ended.as_ref().map(|ended| (**pod, ended)))
        .filter(|(pod, ended)| holds(pod, ended))
        .min_by_key(|(pod, ended)| (ended.at, pod.index))
}

/// A pod that has not ended and whose node is known not to be ready.
pub fn is_lost(pod: &PodFacts, nodes: &BTreeMap<String, bool>) -> bool {
    let ready = pod.node.as_ref().and_then(|node| nodes.get(node));
    pod.ended.is_none() && !pod.is_gone && ready == Some(&false)
}

fn cause(pod: &PodFacts, ended: &Ended) -> Cause {
    let killed = ended.reason == "OOMKilled";
    let reason = match ended.code {
        _ if killed => "OOMKilled".to_owned(),
        -1 => ended.reason.clone(),
        64 => "BadUsage".into(),
        65 => "BadData".into(),
        78 => "BadConfiguration".into(),
        75 => "Temporary".into(),
        85 => "Preempted".into(),
        86 if ended.word.message.contains("collapse") => "Collapsed".into(),
        86 => "Diverged".into(),
        _ => "Crashed".into(),
    };
    let mut message = ended.word.message.clone();
    if killed {
        let more = if message.is_empty() { String::new() } else { format!(": {message}") };
        message = format!("a process of the pod was killed for using more memory than workers.resources.memory{more}");
    } else if message.is_empty() && ended.code != 85 {
        message = match ended.code {
            -1 => "the pod failed before its container could tell why".into(),
            code @ 129..=160 => format!("the trainer was ended by signal {} (exit code {code})", code - 128),
            code => format!("the trainer ended with exit code {code}"),
        };
    }
    Cause { reason, message, pod: Some(pod.name.clone()) }
}

/// A time later by a duration.
pub fn plus(time: Timestamp, duration: Duration) -> Timestamp {
    SignedDuration::try_from(duration).ok().and_then(|d| time.checked_add(d).ok()).unwrap_or(Timestamp::MAX)
}
