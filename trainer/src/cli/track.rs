//! `simsiam track`.

use super::file::FileArgs;
use crate::agent::tracking;
use crate::error::Error;
use crate::runtime;
use crate::storage::Storage;
use crate::telemetry::track::{Failure, Session};
use crate::{agent::run_result, report};

/// Runs `simsiam track`.
pub fn execute(args: &FileArgs) -> Result<(), Error> {
    const FIELD: &str = "spec.track.mlflow";
    let run = args.load()?;
    let Some(track) = &run.recipe.track else { return Err(Error::missing("spec.track", "`simsiam track`")) };
    let text = args.text()?;
    let runtime = runtime::start()?;
    let storage = Storage::open(&run.recipe.output, runtime.handle().clone())?;
    let setup = tracking::setup(&track.mlflow, &run.name, &run.recipe, &text, false);
    let failed = |failure: Failure| match failure {
        Failure::Unreachable(message) => Error::Tracker { uri: track.mlflow.uri.clone(), message },
        Failure::Refused { message, .. } => Error::config(FIELD, message),
    };
    let mut session = Session::new(setup, storage).map_err(failed)?;
    session.finish(&[run_result::FILE, report::FILE]).map_err(failed)?;
    let page = session.page().unwrap_or_default();
    println!("{} values sent, {} refused: {page}", session.sent, session.refused);
    Ok(())
}
