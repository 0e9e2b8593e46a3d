//! A cluster in memory, as planning sees it: the effects of a plan, of the Job controller and of kubelets.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use serde_json::{Value, json};
use simsiam_contract::{ExitCode, Progress, TerminationMessage};
use simsiam_operator::api::{Json, SimSiamRun, Status, ValidatedRun};
use simsiam_operator::build::{Peer, Settings};
use simsiam_operator::names;
use simsiam_operator::observe::{
    Applied, ConfigMapFacts, Facts, JobFacts, JobFailure, Observed, PodFacts, Termination,
};
use simsiam_operator::plan::{Action, Input, Plan, plan, set_reconciled};
use simsiam_operator::progress::LiveProgress;

#[derive(Clone)]
pub struct World {
    pub object: SimSiamRun,
    pub observed: Observed,
    pub settings: Settings,
    pub now: Timestamp,
    jobs: u32,
}

pub fn spec() -> Value {
    json!({
        "dataset": {"train": "s3://data/train", "val": "s3://data/val"},
        "output": {"uri": "s3://models/r", "credentialsSecret": "keys"},
        "pretrain": {"epochs": 10},
        "knn": {},
        "export": ["safetensors"],
        "workers": {"nodes": 2, "gpusPerNode": 4},
    })
}

pub fn object(spec: &Value) -> SimSiamRun {
    serde_json::from_value(json!({
        "metadata": {"name": "r", "namespace": "n", "uid": "run-uid", "generation": 1, "resourceVersion": "1"},
        "spec": spec,
    }))
    .unwrap()
}

pub fn settings() -> Settings {
    Settings {
        trainer_image: "trainer:1".into(),
        namespace: "simsiam-system".into(),
        operator_labels: [("app.kubernetes.io/name".into(), "simsiam-operator".into())].into(),
        prometheus: Some(Peer {
            namespace: Some("monitoring".into()),
            labels: [("app.kubernetes.io/name".into(), "prometheus".into())].into(),
        }),
        ..Settings::default()
    }
}

fn run_uid() -> Option<String> {
    Some("run-uid".to_owned())
}

/// The Job as a server stores it.
fn with_uid(job: &Job, uid: &str) -> Job {
    let mut job = job.clone();
    job.metadata.uid = Some(uid.to_owned());
    job
}

/// A name without the part of the run's uid in it.
pub fn short(name: &str) -> String {
    name.replacen(&format!("-{}", names::suffix("run-uid")), "", 1)
}

impl World {
    pub fn new(spec: &Value) -> Self {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        Self { object: object(spec), observed: Observed::default(), settings: settings(), now, jobs: 0 }
    }

    /// Changes a field of `spec`, such as `workers.nodes`.
    pub fn set(&mut self, field: &str, value: Value) {
        let mut spec = self.object.spec.value();
        let (parents, last) = field.rsplit_once('.').map_or(("", field), |parts| parts);
        let pointer: String = parents.split('.').filter(|p| !p.is_empty()).map(|p| format!("/{p}")).collect();
        spec.pointer_mut(&pointer).unwrap()[last] = value;
        self.object.spec = Json::from(&spec);
        *self.object.metadata.generation.as_mut().unwrap() += 1;
    }

    /// Sets the annotation that reopens a failed run.
    pub fn retry(&mut self, value: &str) {
        let annotations = self.object.metadata.annotations.get_or_insert_default();
        annotations.insert(names::RETRY.into(), value.into());
    }

    pub fn after(&mut self, seconds: u64) {
        self.now = self.now.checked_add(SignedDuration::try_from(Duration::from_secs(seconds)).unwrap()).unwrap();
    }

    pub fn status(&self) -> Status {
        self.object.status().unwrap()
    }

    /// Plans once without carrying it out.
    pub fn plan(&self) -> Plan {
        self.with_input(plan)
    }

    /// The API server refuses an action of the plan.
    pub fn refuse(&self, plan: &mut Plan, reason: &str, message: &str) {
        self.with_input(|input| set_reconciled(&mut plan.status, input, Some((reason, message))));
    }

    fn with_input<R>(&self, f: impl FnOnce(&Input) -> R) -> R {
        let run = ValidatedRun::read(&self.object);
        f(&Input {
            object: &self.object,
            run: run.as_ref().map_err(String::as_str),
            observed: &self.observed,
            settings: &self.settings,
            now: self.now,
        })
    }

    /// Plans, writes the status, and does what the API server and the Job controller would do.
    pub fn step(&mut self) -> Plan {
        let plan = self.plan();
        self.object.status = Some(Json::from(&serde_json::to_value(&plan.status).unwrap()));
        for action in &plan.actions {
            match action {
                Action::ApplyService(service) => {
                    let json = Json::from(&serde_json::to_value(service).unwrap());
                    let name = service.metadata.name.clone().unwrap();
                    self.observed.services = vec![Applied { name, owner: run_uid(), json }];
                }
                Action::ApplyNetworkPolicy(policy) => {
                    let json = Json::from(&serde_json::to_value(policy).unwrap());
                    let name = policy.metadata.name.clone().unwrap();
                    self.observed.policies = vec![Applied { name, owner: run_uid(), json }];
                }
                Action::CreateConfigMap(map) => {
                    let name = map.metadata.name.clone().unwrap();
                    self.observed.config_maps.push(ConfigMapFacts { name, owner: run_uid() });
                }
                Action::CreateJob(job) => {
                    let spec = job.spec.clone().unwrap();
                    self.jobs += 1;
                    let name = job.metadata.name.clone().unwrap();
                    assert!(self.observed.job(&name).is_none(), "{name} is created twice");
                    let uid = format!("job-{}", self.jobs);
                    let pods = u32::try_from(spec.completions.unwrap()).unwrap();
                    let suspended = spec.suspend.unwrap();
                    let started = (!suspended).then_some(self.now);
                    let read = JobFacts::of(&with_uid(job, &uid)).unwrap();
                    let facts = JobFacts { name, uid, pods, suspended, started, ..read };
                    self.observed.jobs.push(facts.clone());
                    if !suspended {
                        self.pods(&facts);
                    }
                }
                Action::DeleteJob { uid, .. } => {
                    let now = self.now;
                    for job in self.observed.jobs.iter_mut().filter(|job| job.uid == *uid) {
                        job.deleting = Some(now);
                    }
                    // A pod that has ended is deleted at once.
                    self.observed.pods.retain(|pod| pod.owner.as_ref() != Some(uid) || pod.ended.is_none());
                    for pod in self
                        .observed
                        .pods
                        .iter_mut()
                        .filter(|pod| pod.owner.as_ref() == Some(uid) && pod.deleting.is_none())
                    {
                        pod.deleting = Some(now);
                        pod.deadline = now.checked_add(SignedDuration::from_secs(120)).ok();
                    }
                }
                Action::DeletePod { uid, .. } => {
                    let now = self.now;
                    for pod in self.observed.pods.iter_mut().filter(|pod| pod.uid == *uid) {
                        pod.deleting = Some(now);
                        pod.deadline = now.checked_add(SignedDuration::from_secs(120)).ok();
                    }
                }
                Action::ForceDeletePod { uid, .. } => self.observed.pods.retain(|pod| pod.uid != *uid),
                Action::DeleteRun => {
                    self.object.metadata.deletion_timestamp =
                        serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap()
                }
            }
        }
        plan
    }

    fn pods(&mut self, job: &JobFacts) {
        for index in 0..job.pods {
            let name = format!("{}-{index}-abcde", job.name);
            self.observed.pods.push(PodFacts {
                uid: format!("{name}-uid"),
                name,
                job: job.name.clone(),
                owner: Some(job.uid.clone()),
                index,
                ..PodFacts::default()
            });
        }
    }

    /// The newest Job.
    pub fn job(&mut self) -> &mut JobFacts {
        self.observed.jobs.last_mut().expect("a Job")
    }

    /// A pod of the newest Job.
    pub fn pod(&mut self, index: u32) -> &mut PodFacts {
        let owner = Some(self.job().uid.clone());
        self.observed.pods.iter_mut().rfind(|pod| pod.owner == owner && pod.index == index).expect("a pod")
    }

    /// All pods of the newest Job run.
    pub fn run(&mut self) {
        let job = self.job().clone();
        for pod in self.observed.pods.iter_mut().filter(|pod| pod.owner.as_ref() == Some(&job.uid)) {
            pod.node = Some(format!("node-{}", pod.index));
            pod.ip = Some(format!("10.0.0.{}", pod.index + 1));
            (pod.running, pod.ready) = (true, true);
        }
    }

    /// The queue admits the newest Job.
    pub fn admit(&mut self) {
        let now = self.now;
        (self.job().suspended, self.job().started) = (false, Some(now));
        let job = self.job().clone();
        self.pods(&job);
    }

    /// A pod's container ends now.
    pub fn ends(&mut self, index: u32, code: u8, message: &Value) {
        let now = self.now;
        let pod = self.pod(index);
        (pod.running, pod.ready) = (false, false);
        let message: TerminationMessage = serde_json::from_value(message.clone()).unwrap();
        let code = Some(ExitCode::from_code(code));
        pod.ended = Some(Termination { code, reason: "Error".into(), at: Some(now), message });
    }

    /// The Job controller gives up for a pod, and deletes the others.
    pub fn gives_up_for(&mut self, index: u32) {
        let now = self.now;
        let name = self.pod(index).name.clone();
        let message =
            format!("Container trainer for pod n/{name} failed with exit code 1 matching FailJob rule at index 1");
        self.job().failing = Some(JobFailure { at: now, reason: "PodFailurePolicy".into(), message });
        let owner = Some(self.job().uid.clone());
        for pod in self.observed.pods.iter_mut().filter(|pod| pod.owner == owner && pod.ended.is_none()) {
            pod.deleting = Some(now);
            pod.deadline = now.checked_add(SignedDuration::from_secs(120)).ok();
        }
    }

    /// Every pod succeeds, and the Job with them.
    pub fn succeeds(&mut self, result: &Value) {
        for index in 0..self.job().pods {
            self.ends(index, 0, &json!({"result": result}));
        }
        let now = self.now;
        self.job().complete = Some(now);
    }

    /// The deleted Job and its pods are gone.
    pub fn cleared(&mut self) {
        let gone: Vec<_> = self.observed.jobs.iter().filter(|j| j.deleting.is_some()).map(|j| j.uid.clone()).collect();
        assert!(!gone.is_empty(), "no Job is being deleted");
        self.observed.jobs.retain(|job| !gone.contains(&job.uid));
        self.observed.pods.retain(|pod| pod.owner.as_ref().is_none_or(|owner| !gone.contains(owner)));
    }

    /// The leader reports progress.
    pub fn reports(&mut self, phase: &str, step: u64) {
        let job = self.job().name.clone();
        let status = self.status();
        let progress: Progress = serde_json::from_value(json!({
            "stage": status.stage.unwrap().name(), "phase": phase, "step": step, "steps": 100, "epochs": 10, "loss": -0.5,
            "imagesPerSecond": 1234.567,
        }))
        .unwrap();
        self.observed.progress = Some(LiveProgress { job, received: self.now, progress });
    }

    /// A run that trains.
    pub fn training(spec: &Value) -> Self {
        let mut world = Self::new(spec);
        world.step();
        world.run();
        world.reports("training", 10);
        world.step();
        world
    }
}
