//! A run that was killed and resumed ends bit-identical to one that was not.

#![allow(clippy::unwrap_used)] // The helpers here are tests too.

use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill as signal};
use nix::unistd::Pid;
use serde_json::json;
use simsiam_tests::{RunFile, cifar10, command, kill, output_of, run, run_ok, wait_until};

/// Three ranks and buckets so small that there are several: only then does the Reducer's rebuilt order show.
const RANKS: [&str; 6] = ["--nproc", "3", "--threads-per-rank", "1", "--bucket-bytes", "20000,60000"];

fn arguments(file: &str) -> Vec<&str> {
    let mut arguments = vec!["run", "-f", file, "--metrics-addr", "127.0.0.1:0"];
    arguments.extend(RANKS);
    arguments
}

#[test]
fn run_killed_mid_epoch_resumes_bit_identical() {
    // 900 images, 18 steps an epoch.
    let Some(data) = cifar10(90) else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut undisturbed = RunFile::new(folder.path(), &data, "test");
    undisturbed.set("/pretrain/epochs", 3.into()).set("/checkpoint", json!({"everySteps": 7}));
    run_ok(&arguments(undisturbed.write()));
    let expected = undisturbed.result();

    let mut killed = undisturbed.clone();
    killed.set("/output/uri", json!(folder.path().join("killed")));
    let file = killed.write().to_owned();
    let child = command(&arguments(&file)).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // Step 28 is in the second epoch and no checkpoint of an epoch's end.
    wait_until(Duration::from_secs(300), "the checkpoint of step 28", || {
        killed.checkpoints().iter().any(|c| c.starts_with("step-000000028")).then_some(())
    });
    kill(child);
    let left = killed.checkpoints();
    assert!(left.iter().all(|c| c < &"step-000000053".to_owned()), "killed too late to show anything: {left:?}");

    // A partial checkpoint must not be used, and must not get in the way.
    let torn = killed.output().join("checkpoints/step-000000050-a1");
    std::fs::create_dir_all(&torn).unwrap();
    std::fs::write(torn.join("model.safetensors"), b"half").unwrap();
    let (code, _, err) = run(&arguments(&file));
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("resumed after step"), "{err}");
    assert!(err.contains("step-000000050-a1: it has no manifest"), "{err}");
    assert!(torn.join("model.safetensors").exists(), "an invalid checkpoint is not ours to delete");
    let resumed = killed.result();
    assert_eq!(resumed["steps"], 54);
    assert_eq!(resumed["weightsSha256"], expected["weightsSha256"], "resumed from {left:?}");
    let attempts = killed.checkpoints();
    assert!(attempts.iter().all(|c| c.ends_with("-a2")), "keepLast 3 of the second attempt: {attempts:?}");
}

#[test]
fn sigterm_writes_a_checkpoint_and_ends_with_85() {
    let folder = tempfile::tempdir().unwrap();
    let data = simsiam_tests::synth(folder.path(), 48, 2);
    let mut file = RunFile::new(folder.path(), &data, "val");
    // Long enough not to end on its own, and without a checkpoint before it is stopped.
    file.set("/pretrain/epochs", 400.into()).set("/checkpoint", json!({"everyEpochs": 0}));
    let path = file.write();
    let arguments = ["run", "-f", path, "--nproc", "2", "--metrics-addr", "127.0.0.1:0"];
    let child = command(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_secs(8));
    signal(Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
    let (code, _, err) = output_of(child.wait_with_output().unwrap());
    assert_eq!(code, 85, "{err}");
    assert!(err.contains("the checkpoint") && err.contains("was written"), "{err}");
    assert_eq!(file.checkpoints().len(), 1, "{err}");
}

/// Computing the targets of an epoch takes long; a stop does not wait for it, and nothing is lost.
#[test]
fn sigterm_during_target_computation_writes_a_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let data = simsiam_tests::synth(folder.path(), 480, 2);
    let mut file = RunFile::new(folder.path(), &data, "val");
    // So wide that the targets of 100 steps take far longer than the signal.
    file.set("/pretrain/baseWidth", 64.into()).set("/pretrain/alternation", json!({"epoch": true}));
    let path = file.write();
    let arguments = ["run", "-f", path, "--nproc", "2", "--threads-per-rank", "1", "--metrics-addr", "127.0.0.1:0"];
    let child = command(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_secs(8));
    signal(Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
    let (code, _, err) = output_of(child.wait_with_output().unwrap());
    assert_eq!(code, 85, "{err}");
    assert_eq!(file.checkpoints(), ["step-000000000-a1"], "{err}");
}

#[test]
fn damaged_checkpoint_is_skipped() {
    let folder = tempfile::tempdir().unwrap();
    let data = simsiam_tests::synth(folder.path(), 20, 2);
    let mut file = RunFile::new(folder.path(), &data, "val");
    let arguments = |file: &RunFile| {
        let file = file.write().to_owned();
        run(&["run", "-f", &file, "--metrics-addr", "127.0.0.1:0"])
    };
    file.set("/pretrain/epochs", 3.into());
    let (code, _, err) = arguments(&file);
    assert_eq!(code, 0, "{err}");
    let expected = file.result()["weightsSha256"].clone();
    // One flipped bit in the last checkpoint: the one before is resumed, and the end is the same.
    let last = file.output().join("checkpoints").join(file.checkpoints().last().unwrap()).join("model.safetensors");
    let mut bytes = std::fs::read(&last).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&last, &bytes).unwrap();
    let (code, _, err) = arguments(&file);
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("SHA-256"), "{err}");
    assert!(err.contains("resumed after step 8"), "{err}");
    assert_eq!(file.result()["weightsSha256"], expected);
}

/// A deleted and re-applied run counts its attempts from 1 again, and a Job that its queue admits again keeps the number: pods of
/// both may still write, so they must not share folders.
#[test]
fn attempt_with_a_used_number_writes_to_folders_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let data = simsiam_tests::synth(folder.path(), 48, 2);
    let mut file = RunFile::new(folder.path(), &data, "val");
    file.set("/pretrain/epochs", 4000.into()).set("/checkpoint", json!({"everySteps": 5, "keepLast": 2}));
    let path = file.write();
    let arguments = ["worker", "-f", path, "--attempt", "1", "--nproc-per-node", "1", "--metrics-addr", "127.0.0.1:0"];
    let start = || command(&arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let first = start();
    let wait_for = |attempt: &str| {
        wait_until(Duration::from_secs(120), attempt, || {
            file.checkpoints().into_iter().find(|name| name.ends_with(attempt))
        })
    };
    wait_for("-a1");
    kill(first);
    let before: Vec<_> = file.checkpoints();
    let second = start();
    wait_for("-a2");
    kill(second);
    let after = file.checkpoints();
    let newest = |names: &[String], attempt: &str| names.iter().filter(|name| name.ends_with(attempt)).max().cloned();
    assert!(newest(&after, "-a1") <= newest(&before, "-a1"), "the second wrote to folders of the first: {after:?}");
    let journals = std::fs::read_dir(file.output().join("logs")).unwrap().flatten();
    let journals: Vec<_> = journals.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    assert!(journals.iter().any(|name| name.contains("-a2.")), "{journals:?}");
}
