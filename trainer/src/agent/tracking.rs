//! The tracker of a command: when it has one, what it reports, and how the command ended for it.

use std::collections::BTreeMap;

use simsiam_contract::ExitCode;
use simsiam_recipe::{Mlflow, Recipe, Stage};

use super::{RunStatus, run_result};
use crate::error::Error;
use crate::report;
use crate::stage::StageRequest;
use crate::storage::Storage;
use crate::telemetry::track::params::params;
use crate::telemetry::track::{Ending, Setup, Status, Tracker, now};

/// What is tracked of a run; `is_live` if stages are about to run.
pub fn setup(mlflow: &Mlflow, run: &str, recipe: &Recipe, text: &str, is_live: bool) -> Setup {
    let tags = [
        ("mlflow.source.name", "simsiam"),
        ("mlflow.source.type", "JOB"),
        ("simsiam.run", run),
        ("simsiam.version", env!("CARGO_PKG_VERSION")),
        ("simsiam.output", &recipe.output.uri),
    ];
    Setup {
        mlflow: mlflow.clone(),
        run: run.to_owned(),
        params: params(recipe),
        tags: tags.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect::<BTreeMap<_, _>>(),
        text: text.to_owned(),
        is_live,
    }
}

/// Starts the tracker of a command whose stages are like `request`, if the run has one. Results of other weights are not the
/// run's and are not tracked. A tracker that cannot be started is a warning.
pub fn start(request: &StageRequest, world: usize, storage: &Storage, status: &RunStatus) -> Option<Tracker> {
    let track = request.recipe.track.as_ref().filter(|_| request.weights.is_none())?;
    let mut setup = setup(&track.mlflow, &request.run, &request.recipe, &request.text, true);
    setup.tags.insert("simsiam.worldSize".into(), world.to_string());
    let shown = status.clone();
    let tracker =
        Tracker::start(setup, storage.clone(), Box::new(move |pending, refused| shown.tracked(pending, refused)))
            .inspect_err(|e| tracing::warn!("this command is not tracked: {e}"))
            .ok()?;
    status.track(tracker.sender());
    Some(tracker)
}

/// Tells the tracker how the command ended. `is_last` if no other stage follows, `stages` are those that ran.
pub fn close(tracker: Tracker, ended: &Result<(), Error>, is_last: bool, stages: &[Stage]) {
    let mut artifacts = vec![run_result::FILE];
    if stages.contains(&Stage::Report) {
        artifacts.push(report::FILE);
    }
    tracker.close(ending(ended, is_last), artifacts);
}

fn ending(ended: &Result<(), Error>, is_last: bool) -> Ending {
    let status = match ended.as_ref().map_err(Error::exit_code) {
        Ok(()) => is_last.then_some(Status::Finished),
        Err(ExitCode::Preempted) => Some(Status::Killed),
        Err(_) => Some(Status::Failed),
    };
    let error = ended.as_ref().err();
    let (reason, message) = (error.map(|e| e.reason().to_string()), error.map(ToString::to_string));
    Ending { status, reason, message, time: now(), tags: BTreeMap::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_of_the_run_follows_how_the_command_ended() {
        let status = |ended: Result<(), Error>, is_last| ending(&ended, is_last).status;
        assert_eq!(status(Ok(()), true), Some(Status::Finished));
        assert_eq!(status(Ok(()), false), None, "another stage follows");
        let preempted = || Err(Error::Preempted { step: 7, uri: "c".into() });
        assert_eq!(status(preempted(), false), Some(Status::Killed));
        let failed = ending(&Err(Error::config("spec.pretrain.lr", "too high")), true);
        assert_eq!(
            (failed.status, failed.reason.as_deref(), failed.message.as_deref()),
            (Some(Status::Failed), Some("BadConfiguration"), Some("spec.pretrain.lr: too high"))
        );
    }
}
