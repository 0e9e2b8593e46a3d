//! Removing all that a cluster changed on the machine, in whatever state it is found.

use std::path::Path;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::sandbox::Sandbox;
use crate::state::State;
use crate::{cgroups, host, network};

const TIMEOUT: Duration = Duration::from_secs(10);

/// Removes everything but the state folder: processes (and by them mounts and networks), interfaces, control groups,
/// folders, and restores settings. Continues after an error and returns the first one.
pub fn remove(folder: &Path, state: Option<&State>) -> Result<()> {
    let (own, others): (Vec<_>, Vec<_>) = Sandbox::all().into_iter().partition(|sandbox| sandbox.state() == folder);
    let killed = own.iter().map(Sandbox::kill).fold(Ok(()), Result::and);
    if !others.is_empty() {
        // The bridge and the groups are theirs then: only one cluster has them at a time.
        return killed;
    }
    let links = network::remove();
    let groups = cgroups::remove(TIMEOUT);
    let settings = match state {
        Some(state) => {
            host::remove_made(&state.made);
            host::restore_sysctls(&state.sysctls)
        }
        None => Ok(()),
    };
    killed.and(links).and(groups).and(settings)?;
    let left = existing();
    if left.is_empty() { Ok(()) } else { Err(Error::Left(left)) }
}

/// What there is of any cluster on this machine, in words.
pub fn existing() -> Vec<String> {
    let boxes = Sandbox::all().into_iter().map(|sandbox| format!("processes of {}", sandbox.name()));
    let links = network::existing().into_iter().map(|link| format!("interface {link}"));
    let groups = cgroups::existing().into_iter().map(|group| format!("control group {}", group.display()));
    boxes.chain(links).chain(groups).collect()
}
