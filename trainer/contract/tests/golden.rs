//! The wire format, as files: a change to it shows in review.
//!
//! `UPDATE_GOLDEN=1 cargo test -p simsiam-contract` rewrites the files after an intended change.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;
use simsiam_contract::names::{self, env, label};
use simsiam_contract::{
    Checkpoint, ClassifierScore, ExitCode, Exported, FailureReason, KnnScore, Progress, RankPhase, StageResult,
    TerminationMessage, WorkerCommand,
};

fn knn() -> Option<Vec<KnnScore>> {
    Some(vec![
        KnnScore { k: 20, temperature: 0.07, top1: 57.25, caveat: None },
        KnnScore { k: 200, temperature: 0.1, top1: 54.5, caveat: None },
    ])
}

fn score() -> Option<ClassifierScore> {
    Some(ClassifierScore {
        top1: 68.125,
        top5: 88.5,
        best_epoch: 90,
        last_top1: 68.0,
        images: 50_000,
        caveat: Some("with the labels of 10 % of the training images".into()),
    })
}

fn checkpoint(step: u64) -> Option<Checkpoint> {
    Some(Checkpoint { step, uri: format!("s3://models/run/checkpoints/step-{step:09}-a2") })
}

fn result() -> StageResult {
    StageResult {
        loss: Some(-0.9213),
        output_std: Some(0.0219),
        images_per_second: Some(11_800.5),
        epoch: Some(100),
        step: Some(250_200),
        checkpoint: Some("s3://models/run/checkpoints/step-000250200-a2".into()),
        weights_sha256: Some("ab".repeat(32)),
        knn: knn(),
        knn_untrained: knn(),
        knn_pixels: knn(),
        linear: score(),
        linear_untrained: score(),
        finetune: score(),
        exports: Some(vec![Exported {
            format: "torchvision".into(),
            file: "export/torchvision.pth".into(),
            bytes: 102_400,
            sha256: "cd".repeat(32),
        }]),
        report: Some("s3://models/run/report.html".into()),
    }
}

fn termination_message() -> TerminationMessage {
    TerminationMessage {
        code: Some(ExitCode::Diverged.code()),
        reason: Some(FailureReason::Collapsed),
        message: "the representation collapsed".into(),
        subject: Some("spec.pretrain.lr".into()),
        stage: "pretrain".into(),
        epoch: 37,
        step: 92_574,
        checkpoint: checkpoint(92_000),
        resumed_from: checkpoint(90_000),
        result: Some(result()),
    }
}

fn progress() -> Progress {
    Progress {
        run: "imagenet-r50".into(),
        stage: "pretrain".into(),
        phase: Some(RankPhase::Training),
        epoch: 37,
        epochs: 100,
        step: 92_574,
        steps: 250_200,
        loss: Some(-0.9213),
        output_std: Some(0.0219),
        healthy_std: Some(0.0221),
        images_per_second: Some(11_800.0),
        metrics: BTreeMap::from([("effectiveRank".into(), 210.5), ("loss".into(), -0.9213)]),
        knn_top1: Some(52.125),
        linear_top1: Some(60.5),
        checkpoint: checkpoint(92_000),
        resumed_from: checkpoint(90_000),
        eta: Some("2026-01-05T03:12:00Z".into()),
        corrupt: 3,
        result: Some(result()),
        quiet: true,
    }
}

/// Compares a document with its file and reads the file back.
fn assert_golden<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(name: &str, document: &T) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let text = format!("{}\n", serde_json::to_string_pretty(document).unwrap());
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text, golden, "{} no longer matches what is written", path.display());
    assert_eq!(
        &serde_json::from_str::<T>(&golden).unwrap(),
        document,
        "{} is not read back as written",
        path.display()
    );
}

#[test]
fn termination_message_matches_its_golden_file() {
    assert_golden("termination-message.json", &termination_message());
    let json = termination_message().to_json();
    assert_eq!(TerminationMessage::parse(&json), termination_message());
    assert!(json.len() < TerminationMessage::LIMIT, "a full message has room to spare: {} bytes", json.len());
}

#[test]
fn progress_matches_its_golden_file() {
    assert_golden("progress.json", &progress());
}

#[test]
fn progress_at_the_start_matches_its_golden_file() {
    let progress = Progress { run: "r".into(), stage: "prepare".into(), ..Progress::default() };
    assert_golden("progress-start.json", &progress);
}

#[test]
fn names_match_their_golden_file() {
    let reasons: Vec<_> = FailureReason::KNOWN.iter().map(FailureReason::name).collect();
    let phases: Vec<_> = RankPhase::KNOWN.iter().map(RankPhase::name).collect();
    let codes: Vec<_> = (0..=255u8)
        .map(ExitCode::from_code)
        .filter(|code| !matches!(code, ExitCode::Crash(_)))
        .map(|code| (code.code(), FailureReason::from(code).name().to_owned()))
        .collect();
    let command = WorkerCommand {
        file: "/run/simsiam/run.yaml".into(),
        stage: "pretrain".into(),
        attempt: 2,
        nnodes: 4,
        node_rank: "3".into(),
        nproc_per_node: 8,
        master_addr: "node0".into(),
        master_port: 29500,
        stall_timeout: 600,
        rendezvous_timeout: 900,
        stop_grace: 100,
        threads_per_rank: Some(2),
        mounts: vec![("data".into(), "/mnt/data".into())],
    };
    let names = serde_json::json!({
        "reasons": reasons, "phases": phases, "exitCodes": codes, "workerCommand": command.to_args(),
        "ports": [names::METRICS_PORT, names::RENDEZVOUS_PORT],
        "paths": [
            names::METRICS_PATH, names::PROGRESS_PATH, names::HEALTH_PATH, names::TERMINATION_LOG, names::CACHE_FOLDER,
        ],
        "environment": [
            env::RANK, env::WORLD_SIZE, env::LOCAL_RANK, env::MASTER_ADDR, env::MASTER_PORT, env::ATTEMPT, env::GPUS,
        ],
        "group": names::GROUP,
        "labels": [label::RUN, label::STAGE, label::ATTEMPT],
    });
    assert_golden("names.json", &names);
}
